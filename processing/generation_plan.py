"""What a generation run has to do: the shards of its input, and the output shards that are made of each.

A task is one output shard: a part of an input shard, of at most `shard_size` records where the input can be read from
any record on, else all of it. Which tasks there are, and what they are called, depends on the input and the settings
alone.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from .columns import Columns
from .dataset_files import find_shards
from .generation_settings import GenerationSettings
from .media_folders import MediaShard
from .stored_values import Record, SampleError, Shard
from .table_shards import HubShard, TableShard, TextTableShard
from .tar_shards import TarShard

_KINDS: dict[str, Any] = {
    "tar": TarShard,
    "table": TableShard,
    "text": TextTableShard,
    "hub": HubShard,
    "media": MediaShard,
}
_FILES_AT_ONCE = 16
_TAR_ENDINGS = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar")


@dataclass(frozen=True)
class InputShard:
    """A shard of the input, as a run has planned it.

    Attributes:
        shard: The shard.
        num_records: How many records it has; None where that is not known before it is read.
        size: Bytes of its file; None where there is no single local one.
    """

    shard: Shard
    num_records: int | None = None
    size: int | None = None

    @property
    def identity(self) -> str:
        """What tells it from others, wherever the input is mounted."""
        return f"{kind_of(self.shard)} {self.shard.name}"


@dataclass(frozen=True)
class ShardTask:
    """The work of making one output shard.

    Attributes:
        name: Path of the output shard in the output folder; of one that is a folder's files, a name for it.
        shard: What is read.
        start: Its first record.
        stop: The record after its last; None for all that there are.
    """

    name: str
    shard: Shard
    start: int = 0
    stop: int | None = None

    def records(self) -> Iterator[Record]:
        """The records. Raises `SampleError` where the shard cannot be read any further."""
        return islice(self.shard.records(self.start), None if self.stop is None else self.stop - self.start)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data for `from_dict`."""
        return {**vars(self), "shard": shard_to_dict(self.shard)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ShardTask":
        """The task that `to_dict` described."""
        return cls(**{**values, "shard": shard_from_dict(values["shard"])})


def kind_of(shard: Shard) -> str:
    """Which kind of shard it is: `tar`, `table`, `text`, `hub` or `media`."""
    return next(kind for kind, shard_class in _KINDS.items() if type(shard) is shard_class)


def shard_to_dict(shard: Shard) -> dict[str, Any]:
    """JSON-able data for `shard_from_dict`."""
    values = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(shard).items()  # type: ignore[call-overload]
    }
    return {"kind": kind_of(shard), **values}


def shard_from_dict(values: dict[str, Any]) -> Shard:
    """The shard that `shard_to_dict` described."""
    given = {name: value for name, value in values.items() if name != "kind"}
    if values["kind"] == "tar":
        given["suffixes"] = frozenset(given["suffixes"])
    if values["kind"] == "media":
        given = {**given, "files": tuple(given["files"]), "sidecars": tuple(given["sidecars"])}
    return _KINDS[values["kind"]](**given)


def find_input(path: str | Sequence[str], settings: GenerationSettings) -> list[InputShard]:
    """The shards of the input.

    Raises:
        ValueError: There is nothing that can be read, or two media files of a folder have one name but for the ending.
    """
    columns = Columns(settings.columns, settings.media)
    shards = find_shards(path, settings.split, columns, dict(settings.options))
    if isinstance(path, str) and os.path.isdir(path):
        shards = [_named_in(path, shard) for shard in shards]
    files = [(shard, file) for shard in shards if isinstance(shard, MediaShard) for file in shard.files]
    if files:
        _check_names([file for _, file in files])
        shards = _media_shards(files, media_shard_size(settings))
    return [InputShard(shard, shard.num_records, _size_of(shard)) for shard in shards]


def media_shard_size(settings: GenerationSettings) -> int:
    """How many media files of a folder are one shard: few where they become no file, so that many workers have one."""
    return settings.shard_size if settings.pack else min(settings.shard_size, _FILES_AT_ONCE)


def count_records(shard: Shard) -> int:
    """How many records a shard has, up to where it can be read."""
    count = 0
    try:
        for _ in shard.records():
            count += 1
    except SampleError:
        # Whoever reads the last part of the shard tells of it.
        pass
    return count


def extended(
    before: Sequence[InputShard], found: Sequence[InputShard], shard_size: int, may_change: bool
) -> tuple[list[InputShard], set[str]]:
    """The shards that an earlier run planned, at the places where they are now, and behind them what is new.

    Args:
        before, found: Those of the earlier run, and those that are there now.
        shard_size: Most media files of a new shard.
        may_change: Whether one of another size than before is legal.

    Returns:
        The shards, and the identities of those that have changed.

    Raises:
        ValueError: One of the earlier ones is no longer there, or has another size.
    """
    if any(isinstance(each.shard, MediaShard) for each in (*before, *found)):
        return _extended_folder(before, found, shard_size), set()
    now = {each.identity: each for each in found}
    shards, changed = [], set()
    for old in before:
        new = now.pop(old.identity, None)
        if new is None:
            raise ValueError(f"{old.shard.name} was part of the input when this output was begun and is not there now")
        if new.size == old.size:
            shards.append(replace(old, shard=new.shard))
            continue
        if not may_change:
            raise ValueError(
                f"{old.shard.name} had {old.size} bytes when this output was begun and has {new.size} now; "
                "expected the same input, or retry_failures to make its shards anew"
            )
        shards.append(new)
        changed.add(old.identity)
    return shards + list(now.values()), changed


def plan_tasks(shards: Iterable[InputShard], settings: GenerationSettings) -> list[ShardTask]:
    """All tasks of a run, in order.

    Raises:
        ValueError: Two output shards would have one name.
    """
    tasks: dict[str, ShardTask] = {}
    for number, each in enumerate(shards):
        for task in _tasks_of(number, each, settings):
            if task.name in tasks:
                raise ValueError(
                    f"{tasks[task.name].shard.name} and {task.shard.name} would both become {task.name}; "
                    "expected other names, or another shard_size"
                )
            tasks[task.name] = task
    return list(tasks.values())


def _tasks_of(number: int, each: InputShard, settings: GenerationSettings) -> list[ShardTask]:
    name, ending = _output_name(number, each.shard, settings)
    num_records = each.num_records
    if not each.shard.is_divisible or num_records is None or num_records <= settings.shard_size:
        return [ShardTask(f"{name}{ending}", each.shard)]
    starts = range(0, num_records, settings.shard_size)
    # The last part reads on to the end, where it sees what is wrong with it.
    stops = [*starts[1:], None]
    return [
        ShardTask(f"{name}-{part:05d}{ending}", each.shard, start, stop)
        for part, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


def _output_name(number: int, shard: Shard, settings: GenerationSettings) -> tuple[str, str]:
    """Name and ending of the output shard of an input shard."""
    if isinstance(shard, MediaShard):
        return f"{number:05d}", ".tar" if settings.pack else ""
    path = PurePosixPath(shard.name)
    is_plain = "://" not in shard.name and not path.is_absolute() and ".." not in path.parts
    if isinstance(shard, TarShard):
        name = next((shard.name[: -len(end)] for end in _TAR_ENDINGS if shard.name.endswith(end)), shard.name)
        return (name if is_plain else f"{number:05d}"), ".tar"
    if isinstance(shard, HubShard) or not is_plain:
        return f"{number:05d}", ".parquet"
    return str(path.with_suffix("")), ".parquet"


def _size_of(shard: Shard) -> int | None:
    path = getattr(shard, "path", None)
    return os.path.getsize(path) if path is not None and os.path.isfile(path) else None


def _named_in(folder: str, shard: Shard) -> Shard:
    """A shard of a folder, named by its place in it, which does not change when the folder grows."""
    if isinstance(shard, MediaShard):
        files = tuple(os.path.relpath(os.path.join(shard.folder, file), folder) for file in shard.files)
        return replace(shard, folder=folder, files=files)
    if isinstance(shard, (TarShard, TableShard, TextTableShard)):
        return replace(shard, name=os.path.relpath(shard.path, folder))
    return shard


def _media_shards(files: Sequence[tuple[MediaShard, str]], shard_size: int) -> list[Shard]:
    """Media files, each with a shard that it is of, in shards of a run's size."""
    return [
        replace(files[start][0], files=tuple(file for _, file in files[start : start + shard_size]))
        for start in range(0, len(files), shard_size)
    ]


def _check_names(files: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        base = os.path.splitext(file)[0]
        if base in seen:
            raise ValueError(
                f"{seen[base]} and {file} would share one trajectories file; expected other names, "
                "or media='video' or 'image' to take one kind of them alone"
            )
        seen[base] = file


def _extended_folder(before: Sequence[InputShard], found: Sequence[InputShard], shard_size: int) -> list[InputShard]:
    """Files that were added to a folder become shards of their own."""
    if not all(isinstance(each.shard, MediaShard) for each in (*before, *found)):
        raise ValueError("the input was a folder of media files when this output was begun, or is one now: not both")
    now = {file: each.shard for each in found if isinstance(each.shard, MediaShard) for file in each.shard.files}
    shards = []
    for old in before:
        missing = next((file for file in _files(old.shard) if file not in now), None)
        if missing is not None:
            raise ValueError(f"{missing} was part of the input when this output was begun and is not there now")
        folder = now[_files(old.shard)[0]].folder
        shards.append(replace(old, shard=replace(old.shard, folder=folder)))  # type: ignore[type-var]
    known = {file for each in before for file in _files(each.shard)}
    added = [(shard, file) for file, shard in now.items() if file not in known]
    return shards + [InputShard(shard, shard.num_records) for shard in _media_shards(added, shard_size)]


def _files(shard: Shard) -> tuple[str, ...]:
    return shard.files if isinstance(shard, MediaShard) else ()
