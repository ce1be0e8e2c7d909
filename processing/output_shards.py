"""Writers of output shards: what was read, with the trajectories beside it, and perhaps small frames for the media."""

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from .atomic_files import new_part
from .columns import Media
from .shard_records import StoredFile
from .stored_values import Record, Shard
from .table_shards import HubShard, TableShard


@dataclass(frozen=True, eq=False)
class OutputClip:
    """What a writer gets of a clip.

    Attributes:
        key: Its key.
        record: What was read.
        media: Its media.
        trajectories: The trajectories file.
        frames: What is stored instead of the media; None keeps them.
        suffix: Of the frames.
    """

    key: str
    record: Record
    media: Media
    trajectories: bytes
    frames: bytes | None = None
    suffix: str | None = None


class OutputError(Exception):
    """The output cannot be written, such as on a full disk: not a clip's fault, so it ends the run."""


class ShardWriter(Protocol):
    """Writes the clips of one output shard, in order; nothing is at its final place before the record says so."""

    def write(self, clip: OutputClip) -> None:
        """Add a clip.

        Raises:
            SampleError: Something that the record refers to cannot be read; nothing was written.
            OutputError: The output cannot be written.
        """

    def close(self) -> dict[str, StoredFile]:
        """Complete and sync the files. Returns them by their paths in the output folder; raises `OutputError`."""

    def discard(self) -> None:
        """Remove all that was written."""


class HashedFile(io.RawIOBase):
    """A new file in the folder of unfinished files, whose checksum is known when it is complete."""

    def __init__(self, parts: Path, suffix: str):
        self.path = new_part(parts, suffix)
        self._digest = sha256()
        self._size = 0
        try:
            self._file: BinaryIO = open(self.path, "xb")  # noqa: SIM115 - closed by `finish` or `discard`
        except OSError as error:
            raise output_error(self.path, error) from error

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes. Raises `OutputError`."""
        view = memoryview(data).cast("B")
        try:
            self._file.write(view)
        except OSError as error:
            raise output_error(self.path, error) from error
        self._digest.update(view)
        self._size += len(view)
        return len(view)

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size

    def finish(self) -> StoredFile:
        """Sync and close it. Raises `OutputError`."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise output_error(self.path, error) from error
        return StoredFile(self._size, self._digest.hexdigest(), self.path.name)

    def discard(self) -> None:
        """Close and remove it."""
        # What is still in the buffer may not fit on the disk, and is not wanted.
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)


def open_writer(name: str, shard: Shard, output: Path, parts: Path, columns: Mapping[str, str]) -> ShardWriter:
    """The writer of an output shard.

    Args:
        name: The task's name, whose ending decides the format.
        shard: The input shard.
        output: The output folder.
        parts: The folder of unfinished files, on the same file system.
        columns: Of the run's settings.

    Raises:
        OutputError: The output cannot be written.
        SampleError: The input shard cannot be read.
    """
    trajectories = trajectories_name(name, columns)
    if name.endswith(".tar"):
        from .tar_writing import TarWriter

        return TarWriter(name, parts, trajectories)
    if name.endswith(".parquet"):
        from .parquet_writing import ParquetWriter

        schema = shard.schema() if isinstance(shard, (TableShard, HubShard)) else None
        return ParquetWriter(name, schema, shard.folder, output, parts, trajectories)
    from .folder_writing import FolderWriter

    return FolderWriter(output, parts, trajectories)


def trajectories_name(name: str, columns: Mapping[str, str]) -> str:
    """What the trajectories' column, or the ending of their files, is called in the output shard of this name."""
    return columns.get("trajectories") or ("trajectories" if name.endswith(".parquet") else "traj.png")


def frames_suffix(media: Media, suffix: str) -> str:
    """Ending of the file of stored frames: that of the media file, but for what it says of the format."""
    head, dot, _ = (media.column or "").rpartition(".")
    return f"{head}{dot}{suffix}"


def output_error(path: Path, error: OSError) -> OutputError:
    """What a failure to write a file means for the run."""
    return OutputError(f"{path} cannot be written: {error.strerror or error}")
