"""From the path of a data set to its shards."""

import os
from collections.abc import Sequence
from glob import glob
from importlib.util import find_spec
from typing import Any

from .columns import SUFFIXES, TRAJECTORIES, Columns
from .media_folders import media_shards
from .stored_values import Shard
from .table_shards import HubShard, TableShard, TextTableShard
from .tar_shards import TarShard

_TAR = ("tar", "tar.gz", "tgz", "tar.bz2", "tar.xz")
_STREAMED = ("parquet", "arrow", "json")
_LINES = ("csv", "tsv", "jsonl")
_HF_FORMATS = {"tsv": "csv", "jsonl": "json"}
_FORMATS = (*_TAR, *_STREAMED, *_LINES)
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def find_shards(path: str | Sequence[str], split: str, columns: Columns, options: dict[str, Any]) -> list[Shard]:
    """The shards of a data set, in the order of their names; a list's in its order.

    Args:
        path: A file, a glob pattern, a folder, a URL (with a pattern), or a list of these; or a Hub id.
        split: Read of a Hub data set, and of a folder that has a folder of this name.
        columns: Which files are parts of a sample.
        options: Keyword arguments of `datasets.load_dataset`; of CSV files `sep` alone.

    Raises:
        ValueError: There is nothing under the path, or nothing that can be read; the message names it.
        ImportError: It takes HF Datasets to read it, which are not installed.
    """
    if isinstance(path, str) and _may_be_on_the_hub(path):
        return hub_shards(path, split, columns, options)
    files = [file for each in ([path] if isinstance(path, str) else path) for file in _files(each, split, columns)]
    folder = _shared_folder(files)
    if all(_is_media(file, columns) for file in files):
        given = [name for part, name in columns.given.items() if part != "media"]
        return list(media_shards(folder, [_name(file, folder) for file in files], given))
    return [_shard(file, _name(file, folder), columns, options) for file in files]


def hub_shards(path: str, split: str, columns: Columns, options: dict[str, Any]) -> list[Shard]:
    """The shards of a data set as HF Datasets finds them.

    Raises `ValueError` where there is no such data set or split.
    """
    _require_datasets(path)
    import datasets
    from datasets.packaged_modules.webdataset.webdataset import WebDataset

    try:
        builder = datasets.load_dataset_builder(path, **options)
        files = (getattr(builder.config, "data_files", None) or {}).get(split)
        if isinstance(builder, WebDataset) and files:
            return [TarShard(_name(file, _shared_folder(files)), file, columns.suffixes) for file in files]
        num_shards = builder.as_streaming_dataset(split=split).num_shards
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"path={path!r}, split={split!r}: there is no such file or folder here, and as an id of the Hub it cannot "
            f"be opened ({type(error).__name__}: {error})"
        ) from error
    info = (builder.info.splits or {}).get(split)
    # Only the sum over all shards is of interest, so the first may stand for all of them.
    counts = [None] * num_shards if info is None else [info.num_examples] + [0] * (num_shards - 1)
    return [HubShard(f"{path}, part {k}", path, split, k, num_shards, options, counts[k]) for k in range(num_shards)]


def _may_be_on_the_hub(path: str) -> bool:
    is_local = os.path.exists(path) or "://" in path or glob(path, recursive=True)
    return not is_local and path.count("/") <= 1 and not path.startswith((".", "/", "~")) and not _has_format(path)


def _files(path: str, split: str, columns: Columns) -> list[str]:
    """All files of a path, which may be a pattern or a folder."""
    if "://" in path:
        import fsspec

        found = [file.full_name for file in fsspec.open_files(path)] if "*" in path else [path]
    elif os.path.isdir(path):
        found = _files_of_folder(path, split, columns)
    else:
        found = sorted(file for file in glob(path, recursive=True) if os.path.isfile(file))
    if not found:
        raise ValueError(f"path={path!r}: found no file there; expected one, a pattern, a folder, a URL or a Hub id")
    return found


def _files_of_folder(folder: str, split: str, columns: Columns) -> list[str]:
    """The files that hold a folder's samples: the kind that is there, archives before tables before single files."""
    if os.path.isdir(os.path.join(folder, split)):
        folder = os.path.join(folder, split)
    for name in _METADATA:
        if os.path.isfile(os.path.join(folder, name)):
            return [os.path.join(folder, name)]
    files = []
    for place, folders, names in os.walk(folder):
        # Hidden ones, and those like `__pycache__`, which HF Datasets passes over too.
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        files += [os.path.join(place, name) for name in names if not name.startswith(".")]
    files.sort()
    for is_kind in (
        lambda file: file.lower().endswith(tuple(f".{suffix}" for suffix in _TAR)),
        lambda file: file.lower().endswith(".parquet"),
        lambda file: file.lower().endswith(".arrow"),
        lambda file: _is_media(file, columns),
        lambda file: _has_format(file),
    ):
        if found := [file for file in files if is_kind(file)]:
            return found
    return []


def _shard(file: str, name: str, columns: Columns, options: dict[str, Any]) -> Shard:
    lower = file.lower()
    if lower.endswith(tuple(f".{suffix}" for suffix in _TAR)):
        return TarShard(name, file, columns.suffixes)
    suffix = lower.rsplit(".", 1)[-1]
    if suffix in _LINES and "://" not in file:
        if set(options) - {"sep"}:
            raise ValueError(f"options {sorted(options)} of {name}: expected sep alone for {suffix} files")
        return TextTableShard(name, file, options.get("sep", "\t" if suffix == "tsv" else ","))
    if suffix in _FORMATS:
        _require_datasets(file)
        separator = {"sep": "\t"} if suffix == "tsv" else {}
        return TableShard(name, file, _HF_FORMATS.get(suffix, suffix), {**separator, **options})
    raise ValueError(f"{file} is of no known format: expected one of {', '.join(_FORMATS)}, or media files alone")


def _require_datasets(path: str) -> None:
    if find_spec("datasets") is None:
        raise ImportError(f"{path} is read by HF Datasets, which is not installed; expected: pip install datasets")


def _has_format(path: str) -> bool:
    return path.lower().endswith(tuple(f".{suffix}" for suffix in _FORMATS))


def _is_media(path: str, columns: Columns) -> bool:
    lower = path.lower()
    if lower.endswith(tuple(f".{suffix}" for suffix in TRAJECTORIES)) or "://" in path:
        return False
    return lower.endswith(tuple(f".{suffix}" for suffix in SUFFIXES[columns.kind]))


def _shared_folder(files: Sequence[str]) -> str:
    shared = []
    for parts in zip(*(file.split("/")[:-1] for file in files), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def _name(file: str, folder: str) -> str:
    return file[len(folder) :].lstrip("/") if folder else file
