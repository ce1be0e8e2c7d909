"""Files that are there whole or not at all, whatever happens while they are written."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def sync_folder(folder: str | os.PathLike) -> None:
    """Make what was renamed into a folder, or removed from it, outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move_into_place(source: Path, target: Path) -> None:
    """Rename a complete, synced file of the same file system; missing folders of the target are made."""
    missing = [folder for folder in target.parents if not folder.is_dir()]
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
    for folder in (target.parent, *(folder.parent for folder in missing)):
        sync_folder(folder)


def write_json(path: Path, value: Any, parts: Path) -> None:
    """Write a JSON file: under another name in the folder `parts`, synced, then renamed."""
    with unfinished(parts) as part:
        with open(part, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        move_into_place(part, path)


@contextmanager
def unfinished(parts: Path, suffix: str = ".json") -> Iterator[Path]:
    """A new name in the folder of unfinished files, where nothing is left if it was not renamed away."""
    part = new_part(parts, suffix)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def new_part(parts: Path, suffix: str) -> Path:
    """A name in the folder of unfinished files that no other process takes, on any machine."""
    return parts / f"{os.urandom(8).hex()}{suffix}"
