"""Reads any data set of HF Datasets as a retrieval or a classification set.

It may be on the Hub, in a folder, in Parquet, CSV or JSON files, or saved to disk. Code that a data set brings is
never run. Media stay in its files until their items are asked for.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from importlib.util import find_spec
from typing import Any

from .captioned_items import captioned_set, on_one_line
from .evaluation_data import AnnotationError, ClassificationSet, RetrievalSet
from .table_items import TableItems, value_fault

Path = str | os.PathLike
_FORMATS = {"parquet": "parquet", "csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json", "arrow": "arrow"}
_MEDIA = ("video", "image", "video_path", "image_path", "file_name", "path", "media")
_TEXTS = ("captions", "caption", "sentences", "texts", "text")
_LABELS = ("label", "labels", "class")


def read_hub_retrieval(
    annotations: Path,
    media_folder: Path | None = None,
    *,
    split: str = "test",
    name: str | None = None,
    configuration: str | None = None,
    media_column: str | None = None,
    text_column: str | None = None,
    key_column: str | None = None,
    trajectories_column: str | None = None,
) -> RetrievalSet:
    """Any captioned data set: a row for each video or image, with one text or a list of them.

    Args:
        annotations: An id of the Hub; a folder that HF Datasets reads or has saved; or a Parquet, CSV or JSON file.
        media_folder: What paths of media are relative to. Default: the folder of the file, or the folder.
        split: Its split; a file is one alone, whatever it is called.
        name: Of the data set in results. Default: the last part of `annotations`.
        configuration: Of a data set on the Hub that has several.
        media_column: Media as bytes, as a mapping of bytes and path, or as paths. Default: the column whose type is a
            video or an image, else the first of a usual name.
        text_column: Default: the first of captions, caption, sentences, texts and text.
        key_column: What names a row. Default: its number.
        trajectories_column: Stored trajectories, as paths or bytes. Default: none.

    Raises:
        AnnotationError: The data set cannot be read or its columns cannot be used.
        ImportError: HF Datasets are not installed.
    """
    table = _Table(annotations, media_folder, split, configuration)
    media = table.media_column(media_column)
    texts = table.column(text_column, _TEXTS, "text_column")
    items = table.items(media, key_column, trajectories_column)
    found = []
    for place, given in table.values(texts):
        captions = [given] if isinstance(given, str) else given
        if not isinstance(captions, Sequence) or not captions:
            raise value_fault(place, texts, given, "a text, or a list of texts")
        for caption in captions:
            if not isinstance(caption, str) or not caption.strip():
                raise value_fault(place, texts, caption, "a text")
        found.append([on_one_line(caption) for caption in captions])
    return captioned_set(name or table.name, items, found)


def read_hub_classification(
    annotations: Path,
    media_folder: Path | None = None,
    *,
    split: str = "test",
    name: str | None = None,
    configuration: str | None = None,
    media_column: str | None = None,
    label_column: str | None = None,
    class_names: Sequence[str] | None = None,
    key_column: str | None = None,
    trajectories_column: str | None = None,
) -> ClassificationSet:
    """Any labelled data set: a row for each video or image, with the name of its class or its number.

    Args:
        annotations, media_folder, split, name, configuration, media_column, key_column, trajectories_column: As for
            `read_hub_retrieval`.
        label_column: Default: the first of label, labels and class.
        class_names: By number. Default: those of the column's type `ClassLabel`; else the texts that the column has, in
            the order of the alphabet.

    Raises:
        AnnotationError: The data set cannot be read or its columns cannot be used.
        ImportError: HF Datasets are not installed.
    """
    table = _Table(annotations, media_folder, split, configuration)
    media = table.media_column(media_column)
    column = table.column(label_column, _LABELS, "label_column")
    items = table.items(media, key_column, trajectories_column)
    given = list(table.values(column))
    names = list(class_names or getattr(table.features[column], "names", None) or _texts_of(given, column))
    numbers = {class_name: number for number, class_name in enumerate(names)}
    if len(numbers) < len(names):
        raise AnnotationError(f"{table.place}: two classes have one name among {names!r:.80}; expected each name once")
    labels = []
    for place, value in given:
        label = numbers.get(value, value) if isinstance(value, str) else value
        if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(names):
            expected = f"a class of {', '.join(names)!r:.80}, or its number from 0 to {len(names) - 1}"
            raise value_fault(place, column, value, expected)
        labels.append(label)
    return ClassificationSet(name or table.name, items, tuple(labels), tuple(names))


class _Table:
    """A split of a data set, with media undecoded."""

    def __init__(self, path: Path, media_folder: Path | None, split: str, configuration: str | None):
        path = os.fspath(path)
        if find_spec("datasets") is None:
            raise ImportError(f"{path} is read by HF Datasets, which is not installed; expected: pip install datasets")
        self.name = os.path.splitext(os.path.basename(path.rstrip("/")))[0]
        self.place = f"{path}, split {split}"
        is_file, is_folder = os.path.isfile(path), os.path.isdir(path)
        self._folder = os.fspath(media_folder) if media_folder is not None else None
        if self._folder is None and (is_file or is_folder):
            self._folder = os.path.dirname(path) if is_file else path
        loaded = _loaded(path, split, configuration)
        self._identity = _identity(loaded, path)
        self._table = _undecoded(loaded)
        self.features = self._table.features
        if not len(self._table):
            raise AnnotationError(f"{self.place} has no row; expected at least one")

    def media_column(self, given: str | None) -> str:
        """The column of media. Raises `AnnotationError` where there is none, or several are of such a type."""
        typed = [column for column, feature in self.features.items() if type(feature).__name__ in ("Video", "Image")]
        if given is None and len(typed) > 1:
            raise AnnotationError(f"{self.place} has media in {', '.join(typed)}; expected one of them in media_column")
        return self.column(given, (*typed, *_MEDIA), "media_column")

    def column(self, given: str | None, usual: Iterable[str], option: str) -> str:
        """A column by its name, or the first usual one. Raises `AnnotationError` where there is none."""
        wanted = list(usual) if given is None else [given]
        for column in wanted:
            if column in self.features:
                return column
        raise AnnotationError(
            f"{self.place} has the columns {', '.join(self.features)}, and none is {' or '.join(wanted)}; expected the "
            f"name of one in {option}"
        )

    def items(self, media: str, key_column: str | None, trajectories_column: str | None) -> TableItems:
        """The rows as items, checked. Raises `AnnotationError`."""
        optional = {"key_column": key_column, "trajectories_column": trajectories_column}
        for option, column in optional.items():
            if column is not None:
                self.column(column, (), option)
        items = TableItems(
            self._table, self.place, self._folder, self._identity, media, key_column, trajectories_column
        )
        items.check()
        return items

    def values(self, column: str) -> Iterator[tuple[str, Any]]:
        """What each row has in a column, with the row's place."""
        for number, row in enumerate(self._table.select_columns([column])):
            yield f"{self.place}, row {number}", row[column]


def _loaded(path: str, split: str, configuration: str | None) -> Any:
    import datasets

    options = {"keep_in_memory": False}
    # Later versions run no code of data sets at all, and refuse the argument.
    if int(datasets.__version__.split(".")[0]) < 4:
        options["trust_remote_code"] = False
    suffix = path.rsplit(".", 1)[-1].lower()
    try:
        if os.path.isfile(path):
            if suffix not in _FORMATS:
                raise AnnotationError(f"{path} is of no known format; expected a file in {', '.join(_FORMATS)}")
            separator = {"sep": "\t"} if suffix == "tsv" else {}
            return datasets.load_dataset(
                _FORMATS[suffix], data_files={split: path}, split=split, keep_in_memory=False, **separator
            )
        if _is_saved(path):
            saved = datasets.load_from_disk(path, keep_in_memory=False)
            if isinstance(saved, datasets.DatasetDict):
                if split not in saved:
                    raise AnnotationError(f"{path} has no split {split!r}; expected one of {', '.join(saved)}")
                return saved[split]
            return saved
        return datasets.load_dataset(path, configuration, split=split, **options)
    except AnnotationError:
        raise
    # What the libraries raise of a damaged file or of a missing split is of many types.
    except Exception as error:
        raise AnnotationError(
            f"{path}, split {split}: HF Datasets cannot read it ({type(error).__name__}: {str(error)[:300]}); expected "
            "an id of the Hub, a folder, or a Parquet, CSV or JSON file"
        ) from error


def _is_saved(path: str) -> bool:
    return any(os.path.isfile(os.path.join(path, name)) for name in ("dataset_dict.json", "state.json"))


def _undecoded(table: Any) -> Any:
    for column, feature in table.features.items():
        if type(feature).__name__ in ("Video", "Image"):
            table = table.cast_column(column, replace(feature, decode=False))
    return table


def _identity(table: Any, path: str) -> str:
    """What tells a table from others, the same each time it is loaded.

    HF Datasets' fingerprint has the path, time and version of the files that a table was made of. One saved to disk
    keeps the fingerprint it was saved with, which need not tell of its content.
    """
    state = [table._fingerprint]
    if _is_saved(path):
        for file in table.cache_files:
            found = os.stat(file["filename"])
            state += [os.path.basename(file["filename"]), str(found.st_size), str(found.st_mtime_ns)]
    return blake2b("/".join(state).encode(), digest_size=10).hexdigest()


def _texts_of(given: Iterable[tuple[str, Any]], column: str) -> list[str]:
    texts = set()
    for place, value in given:
        if not isinstance(value, str) or not value.strip():
            raise value_fault(place, column, value, "the name of a class; numbers need their names in class_names")
        texts.add(value)
    return sorted(texts)
