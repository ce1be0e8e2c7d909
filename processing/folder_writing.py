"""Output that is a folder of media files: each with its trajectories, and what else belongs to it, beside it."""

import os
from pathlib import Path

from .output_shards import HashedFile, OutputClip, frames_suffix
from .shard_records import StoredFile
from .stored_values import FilePart


class FolderWriter:
    """Writes files at the places that they have in the input folder; where they lie there already, they stay.

    Args:
        output: The output folder.
        parts: The folder of unfinished files.
        trajectories_suffix: Ending of the trajectories' files.
    """

    def __init__(self, output: Path, parts: Path, trajectories_suffix: str):
        self._output = output
        self._parts = parts
        self._suffix = trajectories_suffix
        self._files: dict[str, StoredFile] = {}

    def write(self, clip: OutputClip) -> None:
        """See `ShardWriter.write`."""
        base = clip.record.key
        contents: dict[str, bytes] = {}
        for suffix, value in clip.record.values.items():
            is_replaced = clip.frames is not None and suffix == clip.media.column
            if suffix == self._suffix or is_replaced or not isinstance(value, FilePart):
                continue
            name = base + os.path.splitext(value.path)[1] if suffix == clip.media.column else f"{base}.{suffix}"
            if not _is_same(self._output / name, value.path):
                contents[name] = value.read()
        if clip.frames is not None:
            contents[f"{base}.{frames_suffix(clip.media, str(clip.suffix))}"] = clip.frames
        contents[f"{base}.{self._suffix}"] = clip.trajectories
        for name, content in contents.items():
            file = HashedFile(self._parts, os.path.splitext(name)[1])
            try:
                file.write(content)
                self._files[name] = file.finish()
            except BaseException:
                file.discard()
                raise

    def close(self) -> dict[str, StoredFile]:
        """See `ShardWriter.close`."""
        return self._files

    def discard(self) -> None:
        """See `ShardWriter.discard`."""
        for file in self._files.values():
            (self._parts / str(file.part)).unlink(missing_ok=True)


def _is_same(path: Path, other: str) -> bool:
    return path.exists() and os.path.samefile(path, other)
