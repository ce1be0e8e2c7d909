"""The clips of a finished output shard, read again when the shard is made anew for those that failed."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .columns import TRAJECTORIES, Columns, Media
from .output_shards import frames_suffix
from .shard_records import ShardRecord
from .stored_values import FilePart, Record
from .table_shards import TableShard
from .tar_shards import TarShard
from .trajectories import Trajectories

_FRAMES_SUFFIXES = ("mp4", "jpg")


@dataclass(frozen=True, eq=False)
class StoredClip:
    """What an output shard holds of a clip.

    Attributes:
        content: The trajectories file.
        value: Its trajectories.
        frames: Frames that are stored instead of the media; None where those are kept.
        suffix: Of the frames.
    """

    content: bytes
    value: Trajectories
    frames: bytes | None = None
    suffix: str | None = None


class KeptClips:
    """Goes through an output shard beside its input shard.

    Args:
        record: The finished shard, whose files are intact.
        output: The output folder.
        columns: As the input is read.
        trajectories: What the trajectories' column, or the ending of their files, is called.
        has_frames: Whether frames are stored instead of the media.
    """

    def __init__(self, record: ShardRecord, output: Path, columns: Columns, trajectories: str, has_frames: bool):
        self._output = output
        self._trajectories = trajectories
        self._has_frames = has_frames
        self._failed = {failure.position for failure in record.failures}
        self._records = self._stored(record, columns)

    def at(self, position: int, source: Record, media: Media) -> StoredClip | None:
        """The stored clip of a record of the input, which are asked for in order; None where it failed.

        Args:
            position: The record's number.
            source: The record.
            media: Its media.
        """
        if position in self._failed:
            return None
        record = next(self._records, None)
        if record is None:
            # The input broke off here, and reaches further now.
            return None
        values = record.values if record.key else self._files(source, media)
        content = _bytes(values[self._trajectories])
        frames, suffix = self._frames(values, source, media) if self._has_frames else (None, None)
        return StoredClip(content, Trajectories.from_bytes(content), frames, suffix)

    def _stored(self, record: ShardRecord, columns: Columns) -> Iterator[Record]:
        if record.name.endswith(".tar"):
            given = Media(columns.given.get("media"), None)
            frames = {frames_suffix(given, suffix) for suffix in _FRAMES_SUFFIXES}
            suffixes = columns.suffixes | frames | {*TRAJECTORIES, self._trajectories}
            yield from TarShard(record.name, str(self._output / record.name), suffixes).records()
        elif record.name.endswith(".parquet"):
            yield from TableShard(record.name, str(self._output / record.name), "parquet").records()
        else:
            # Single files are found by the names of their input.
            for _ in range(record.statistics.clips):
                yield Record("", {})

    def _files(self, source: Record, media: Media) -> dict[str, Any]:
        suffixes = [self._trajectories, *(frames_suffix(media, suffix) for suffix in _FRAMES_SUFFIXES)]
        paths = {suffix: str(self._output / f"{source.key}.{suffix}") for suffix in suffixes}
        return {suffix: FilePart(path) for suffix, path in paths.items() if os.path.isfile(path)}

    def _frames(self, values: dict[str, Any], source: Record, media: Media) -> tuple[bytes, str]:
        for suffix in _FRAMES_SUFFIXES:
            name = frames_suffix(media, suffix)
            # What lay beside the media in the input is still there, and is not the frames.
            if name in values and (name == media.column or name not in source.values):
                return _bytes(values[name]), suffix
        stored = values[media.column or "media"]
        path = stored.get("path", "") if isinstance(stored, dict) else ""
        return _bytes(stored), path.rpartition(".")[2]


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        return value["bytes"]
    return value.read() if isinstance(value, FilePart) else value
