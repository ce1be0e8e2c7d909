"""Finds the media of an annotation, and stored trajectories, in a folder by their names."""

import os
from collections.abc import Iterator, Sequence

from trajvit.processing.columns import SUFFIXES

from .evaluation_data import AnnotationError, MediaItem, MissingMediaError

_TRAJECTORIES = ".traj.png"


class MediaIndex:
    """The media files under a folder and the trajectories stored beside them, listed once.

    Folders inside are looked into, also those behind links, and not those whose names start with `.` or `__`.

    Args:
        folder: Where the media are.
        kind: `video` or `image`.
        trajectories_folder: Where the trajectories are. Default: beside the media.

    Attributes:
        paths: The media files relative to the folder, with `/`, sorted.

    Raises:
        MissingMediaError: There is no such folder, or it cannot be listed.
    """

    def __init__(self, folder: str | os.PathLike, kind: str, trajectories_folder: str | os.PathLike | None = None):
        self.folder = os.fspath(folder)
        self.kind = kind
        self._suffixes = frozenset(SUFFIXES[kind])
        files = _files(self.folder, f"the {kind}s")
        self.paths = sorted(path for path in files if self._is_media(path))
        self._media = _by_name((path, self._without_suffix(path)) for path in self.paths)
        self._trajectories_folder = self.folder
        if trajectories_folder is not None:
            self._trajectories_folder = os.fspath(trajectories_folder)
            files = _files(self._trajectories_folder, "stored trajectories")
        stored = sorted(path for path in files if path.lower().endswith(_TRAJECTORIES))
        self._trajectories = _by_name((path, path[: -len(_TRAJECTORIES)]) for path in stored)

    def item(self, key: str, *names: str, start: float | None = None, end: float | None = None) -> MediaItem:
        """The media of an annotation, whether they are there or not.

        A whole file takes the trajectories that lie in its own place, or else have its name; a stretch of one those
        that have the name of its key, since the whole file's are of other frames.

        Args:
            key: Names the item.
            names: Paths in the folder, with or without suffix, that the file may have. It is the one that lies at one
                of these; else the one that has the name, in whatever folder.
            start, end: Seconds, of a stretch.

        Raises:
            AnnotationError: Several files have the name, and none lies where it is looked for.
        """
        path = self._find(names)
        if path is None:
            expected = f"{self.kind} {self._without_suffix(names[0])}.* in {self.folder}"
            return MediaItem(key, None, start, end, expected=expected)
        is_stretch = start is not None or end is not None
        trajectories = self._stored(key if is_stretch else self._without_suffix(path))
        return MediaItem(key, os.path.join(self.folder, path), start, end, trajectories)

    def _find(self, names: Sequence[str]) -> str | None:
        for name in names:
            candidates = self._media.get(_stem(self._without_suffix(name)), [])
            exact = [path for path in candidates if path == name] or [
                path for path in candidates if self._without_suffix(path) == self._without_suffix(name)
            ]
            if exact:
                return self._only(exact, self.folder)
        for name in names:
            candidates = self._media.get(_stem(self._without_suffix(name)), [])
            if candidates:
                return self._only(candidates, self.folder)
        return None

    def _stored(self, name: str) -> str | None:
        candidates = self._trajectories.get(_stem(name), [])
        found = [path for path in candidates if path[: -len(_TRAJECTORIES)] == name] or candidates
        return os.path.join(self._trajectories_folder, self._only(found, self._trajectories_folder)) if found else None

    def _only(self, paths: list[str], folder: str) -> str:
        if len(paths) > 1:
            raise AnnotationError(
                f"{folder} has {len(paths)} files of one name, {paths[0]} and {paths[1]}; expected one, or one at the "
                "place that the annotations name"
            )
        return paths[0]

    def _is_media(self, path: str) -> bool:
        return self._without_suffix(path) != path and not path.lower().endswith(_TRAJECTORIES)

    def _without_suffix(self, path: str) -> str:
        name, _, suffix = path.rpartition(".")
        return name if suffix.lower() in self._suffixes else path


def _files(folder: str, what: str) -> list[str]:
    if not os.path.isdir(folder):
        raise MissingMediaError(f"there is no folder {folder}; expected the one with {what}")
    return list(_walk(folder, what))


def _walk(folder: str, what: str) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise MissingMediaError(f"{error.filename} cannot be listed ({error.strerror}); expected a folder with {what}")

    # Links are followed, and may lead back to a folder that holds them.
    seen = {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        inside = []
        for name in folders:
            real = os.path.realpath(os.path.join(place, name))
            if not name.startswith((".", "__")) and real not in seen:
                seen.add(real)
                inside.append(name)
        folders[:] = inside
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        yield from (name if relative == "." else f"{relative}/{name}" for name in names if not name.startswith("."))


def _by_name(paths: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """Paths by the last part of their names without suffix."""
    found: dict[str, list[str]] = {}
    for path, name in paths:
        found.setdefault(_stem(name), []).append(path)
    return found


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1]
