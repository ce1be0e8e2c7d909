"""The videos and images that a command is given: files, folders, glob patterns, URLs."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from urllib.parse import unquote, urlsplit

import typer

KINDS = ("any", "video", "image")


@dataclass(frozen=True)
class MediaInput:
    """A video or image.

    Attributes:
        source: Its path or URL, as it was given or found.
        name: Its path in the folder that was given; of a single file its name.
    """

    source: str
    name: str

    def output(self, folder: Path | None, suffix: str) -> Path:
        """Where a file made from it goes: into the folder, those of folders inside kept, or else beside it.

        What comes from a URL goes into the current folder where no other is given.
        """
        stem = os.path.splitext(self.name)[0] + suffix
        if folder is not None:
            return folder / stem
        if "://" in self.source:
            return Path(stem)
        return Path(self.source).with_name(os.path.basename(stem))


def find_media(given: Sequence[str], kind: str = "any") -> tuple[list[MediaInput], dict[str, str]]:
    """All media, each once, in the order given, and of what there is none the reason.

    Args:
        given: Files (of whatever name), folders (looked into at any depth), glob patterns and URLs.
        kind: Which files of a folder and of a pattern are meant: `any`, `video` or `image`.

    Raises:
        typer.BadParameter: There is no such kind.
    """
    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r}; expected one of {', '.join(KINDS)}", param_hint="--media")
    found: dict[str, MediaInput] = {}
    failures: dict[str, str] = {}
    for each in given:
        try:
            for media in _media(each, kind):
                found.setdefault(media.source if "://" in media.source else os.path.abspath(media.source), media)
        except ValueError as error:
            failures[each] = str(error)
    return list(found.values()), failures


def _media(given: str, kind: str) -> Iterator[MediaInput]:
    """Raises `ValueError` where there is nothing."""
    from trajvit.evaluation.media_index import MediaIndex
    from trajvit.processing.columns import SUFFIXES

    if "://" in given:
        yield MediaInput(given, os.path.basename(unquote(urlsplit(given).path)) or "video")
    elif os.path.isdir(given):
        paths = MediaIndex(given, kind).paths
        if not paths:
            wanted = "videos or images" if kind == "any" else f"{kind}s"
            raise ValueError(
                f"{given} has no {wanted}; expected files that end in {', '.join(SUFFIXES[kind][:4])}, ..."
            )
        for path in paths:
            yield MediaInput(os.path.join(given, path), path)
    elif os.path.exists(given):
        yield MediaInput(given, os.path.basename(given))
    else:
        endings = tuple(f".{suffix}" for suffix in SUFFIXES[kind])
        matches = sorted(path for path in glob(given, recursive=True) if os.path.isfile(path))
        fitting = [path for path in matches if path.lower().endswith(endings) and not path.endswith(".traj.png")]
        if not fitting:
            what = "matches no video or image" if "*" in given or "?" in given else "does not exist"
            raise ValueError(f"{given} {what}; expected a file, a folder, a pattern or a URL")
        for path in fitting:
            yield MediaInput(path, os.path.basename(path))
