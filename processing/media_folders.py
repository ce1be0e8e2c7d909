"""Shards of a folder in which each sample is a media file, with its captions and trajectories in files beside it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .columns import TRAJECTORIES
from .stored_values import FilePart, Record

FILES_PER_SHARD = 256
"""Media files that are one shard: few, since shards are what is shuffled over the whole data set."""

SIDECARS = ("txt", "json", *TRAJECTORIES)


@dataclass(frozen=True)
class MediaShard:
    """Some media files; `clip.mp4` has captions in `clip.txt` or `clip.json`, trajectories in `clip.traj.png`.

    Attributes:
        name: What messages call it.
        folder: What the files' paths, and samples' keys, are relative to.
        files: The media files.
        sidecars: Suffixes of the files beside them.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    sidecars: tuple[str, ...] = SIDECARS
    is_divisible = True

    @property
    def num_records(self) -> int:
        """How many samples it has."""
        return len(self.files)

    def records(self, start: int = 0) -> Iterator[Record]:
        """Its samples, from number `start` on, by the media files' paths without suffix."""
        for file in self.files[start:]:
            base, suffix = os.path.splitext(file)
            values = {suffix[1:].lower(): FilePart(os.path.join(self.folder, file))}
            for sidecar in self.sidecars:
                path = os.path.join(self.folder, f"{base}.{sidecar}")
                if os.path.isfile(path):
                    values[sidecar] = FilePart(path)
            yield Record(base, values)


def media_shards(folder: str, files: Sequence[str], given: Sequence[str]) -> list[MediaShard]:
    """Split media files, by their paths in a folder, into shards.

    Args:
        folder: The folder.
        files: Their paths in it.
        given: Suffixes of files beside them, apart from the usual ones.
    """
    sidecars = tuple(dict.fromkeys((*SIDECARS, *given)))
    parts = [tuple(files[start : start + FILES_PER_SHARD]) for start in range(0, len(files), FILES_PER_SHARD)]
    return [MediaShard(os.path.basename(folder) or ".", folder, part, sidecars) for part in parts]
