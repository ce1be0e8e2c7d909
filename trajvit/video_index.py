"""Which videos a search knows, and in which file of features each of them lies.

The features themselves are a `FeatureStore`'s; this keeps one JSON file beside its files.

Shape letters: N videos, d width.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trajvit.evaluation.feature_extraction import ITEMS_PER_CHUNK
from trajvit.evaluation.feature_store import FeatureStore
from trajvit.processing.atomic_files import write_json

VERSION = 1


@dataclass(frozen=True)
class Segment:
    """Videos whose features lie in one file.

    Attributes:
        hashes: What tells each video from others; together they name the file.
        paths: Its place; None for a video that has left, or has changed and lies in another segment by now.
    """

    hashes: tuple[str, ...]
    paths: tuple[str | None, ...]


class VideoIndex:
    """The videos in a folder of features.

    Args:
        folder: Of a `FeatureStore` with one vector for each item.

    Attributes:
        hashes: Of each video's path what told it apart when it was read.
        failures: Of each path that could not be used, the reason.
        paths: (N,) those that could be used.
        vectors: (N, d) float32.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._read_state: Any = None
        self._rows: list[torch.Tensor] = []
        self._forget()
        self.read()

    @property
    def file(self) -> Path:
        """What is read when an index is opened."""
        return self.folder / "videos.json"

    @property
    def vectors(self) -> torch.Tensor:
        if len(self._rows) > 1:
            self._rows = [torch.cat(self._rows)]
        return self._rows[0] if self._rows else torch.empty(0, 0)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from changing the index meanwhile; what they have changed before is read.

        Raises:
            ValueError: Another process is at it.
        """
        with open(self.folder / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process is changing the index in {self.folder}; expected one at a time"
                ) from None
            self.read()
            yield

    def read(self) -> None:
        """Read what is on disk, unless it is known already.

        Videos whose features are missing or damaged are not in the index, and so are computed when they are added.

        Raises:
            ValueError: The file is damaged, or of another version.
        """
        state = _state(self.file)
        if state == self._read_state:
            return
        self._forget()
        for segment in _segments(self.file) if state else ():
            self._take(segment)
        self._read_state = state

    def put(self, segments: Iterable[Segment]) -> None:
        """Add videos and save that; those of segments whose features the store does not have are left out."""
        taken = [self._take(segment) for segment in segments]
        if any(taken):
            self._save()

    def remove(self, paths: Iterable[str]) -> None:
        """Take videos out, and remove files of features of which no video is left."""
        gone = set(paths) & self.hashes.keys()
        if not gone:
            return
        kept = []
        for segment in self._segments:
            left = tuple(None if path in gone else path for path in segment.paths)
            if any(path is not None for path in left):
                kept.append(Segment(segment.hashes, left))
        emptied = self._files.keys() - {segment.hashes for segment in kept}
        files = [self._files[hashes] for hashes in emptied]
        self._forget()
        for segment in kept:
            self._take(segment)
        self._save()
        for file in files:
            file.unlink(missing_ok=True)

    def _forget(self) -> None:
        self._segments: list[Segment] = []
        self._files: dict[tuple[str, ...], Path] = {}
        self._rows = []
        self.hashes: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.paths: list[str] = []

    def _take(self, segment: Segment) -> bool:
        try:
            chunk = FeatureStore(self.folder, segment.hashes, ITEMS_PER_CHUNK, {}).read(0)
        except ValueError:
            return False
        first_rows = (chunk.counts.cumsum(0) - chunk.counts).tolist()
        rows = []
        for position, path in enumerate(segment.paths):
            if path is None:
                continue
            self.hashes[path] = segment.hashes[position]
            if position in chunk.failures:
                self.failures[path] = chunk.failures[position]
            else:
                self.paths.append(path)
                rows.append(first_rows[position])
        if rows:
            self._rows.append(chunk.all_features().float()[rows])
        self._segments.append(segment)
        self._files[segment.hashes] = chunk.path
        return True

    def _save(self) -> None:
        segments = [{"hashes": segment.hashes, "paths": segment.paths} for segment in self._segments]
        write_json(self.file, {"version": VERSION, "segments": segments}, parts=self.folder)
        self._read_state = _state(self.file)


def _segments(file: Path) -> list[Segment]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']!r}, this release reads {VERSION}")
        return [Segment(tuple(each["hashes"]), tuple(each["paths"])) for each in content["segments"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no index of videos ({error}); remove it, and the videos are read again") from error


def _state(file: Path) -> Any:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
