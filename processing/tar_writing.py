"""Output shards that are tar archives: the files of each sample, and its trajectories behind them."""

import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

from .output_shards import HashedFile, OutputClip, frames_suffix
from .shard_records import StoredFile
from .stored_values import FilePart, SampleError


class TarWriter:
    """Writes samples as WebDataset has them; equal samples give equal bytes.

    Args:
        name: Path of the archive in the output folder.
        parts: The folder of unfinished files.
        trajectories_suffix: Ending of the trajectories' files.

    Raises:
        OutputError: The output cannot be written.
    """

    def __init__(self, name: str, parts: Path, trajectories_suffix: str):
        self._name = name
        self._suffix = trajectories_suffix
        self._keys: set[str] = set()
        self._file = HashedFile(parts, ".tar")
        # Closed with its file.
        self._archive = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)

    def write(self, clip: OutputClip) -> None:
        """See `ShardWriter.write`."""
        # The key of a sample is its files' base name, and not a column's.
        key = clip.record.key
        if key in self._keys:
            raise SampleError("has the key of an earlier sample; expected one key for each")
        left_out = {self._suffix} if clip.frames is None else {self._suffix, clip.media.column}
        members = {suffix: _content(value) for suffix, value in clip.record.values.items() if suffix not in left_out}
        if clip.frames is not None:
            members = {**members, frames_suffix(clip.media, str(clip.suffix)): clip.frames}
        for suffix, content in {**members, self._suffix: clip.trajectories}.items():
            header = tarfile.TarInfo(f"{key}.{suffix}")
            header.size = len(content)
            self._archive.addfile(header, BytesIO(content))
        self._keys.add(key)

    def close(self) -> dict[str, StoredFile]:
        """See `ShardWriter.close`."""
        self._archive.close()
        return {self._name: self._file.finish()}

    def discard(self) -> None:
        """See `ShardWriter.discard`."""
        self._file.discard()


def _content(value: Any) -> bytes:
    content = value.read() if isinstance(value, FilePart) else value
    if not isinstance(content, bytes):
        raise SampleError(f"holds {type(content).__name__}: expected the bytes of a file")
    return content
