"""Synthetic samples in a folder: rendered once, then read in microseconds by any number of runs and processes.

The folder holds `world.json` and, for every chunk of samples, `frames-00000.npy` (N, T, S, S, 3) uint8,
`facts-00000.json` (captions, things and cuts of each) and label volumes (N, T, S, S) uint8 by the name of what found
them: `exact-00000.npy`, which are the world's own, and others that `track_chunk` adds. A file is there whole or not at
all, so that work that was broken off goes on where it stopped.

Shape legend: N samples of a chunk, T frames, S pixels.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from trajvit.processing.atomic_files import move_into_place, unfinished, write_json
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.trajectories import Trajectories

from .samples import Clip, Row
from .synthetic import SyntheticSource, describe
from .synthetic_captions import captions
from .synthetic_rendering import FPS

CHUNK_SIZE = 128
EXACT = "exact"
_DESCRIPTION = "world.json"


class RenderedWorld:
    """Samples of a folder of `create_world` as a `Source`.

    Args:
        name: What messages call it.
        folder: Whose chunks are complete.
        trajectories: Whose label volumes are read: `exact`, or the name that `track_chunk` was given.
        num_samples: The first so many; None for all.

    Raises:
        ValueError: It is no such folder, lacks chunks, or has fewer samples; the message names it.
    """

    def __init__(self, name: str, folder: str | os.PathLike, trajectories: str = EXACT, num_samples: int | None = None):
        self.name = name
        self.folder = Path(folder)
        self.trajectories = trajectories
        description = read_description(self.folder)
        available = description["num_samples"]
        self.num_samples = available if num_samples is None else num_samples
        if not 1 <= self.num_samples <= available:
            raise ValueError(f"{name}: num_samples is {num_samples}; expected 1 to the {available} of {folder}")
        kinds = ("frames", trajectories)
        lacking = [part for kind in kinds for part in _parts(self.folder, kind, self.num_samples) if not part.exists()]
        if lacking:
            raise ValueError(f"{name}: {lacking[0]} is missing, one of {len(lacking)}; expected a complete world")

    @property
    def num_shards(self) -> int:
        """How many chunks it has."""
        return num_chunks(self.num_samples)

    def rows(self, shard: int) -> Iterator[Row]:
        """The numbers of a chunk's samples."""
        if not 0 <= shard < self.num_shards:
            raise ValueError(f"{self.name}: shard is {shard}; expected 0..{self.num_shards - 1}")
        for index in range(shard * CHUNK_SIZE, min((shard + 1) * CHUNK_SIZE, self.num_samples)):
            yield {"key": f"{self.name}/{index:06d}", "index": index}

    def read(self, row: Row) -> Clip:
        """A sample. Frames are copied out of the file, which stays mapped."""
        chunk, position = divmod(row["index"], CHUNK_SIZE)
        facts = self.facts(row["index"])
        frames = np.array(_mapped(_part(self.folder, "frames", chunk))[position])
        labels = np.array(_mapped(_part(self.folder, self.trajectories, chunk))[position])
        trajectories = Trajectories(labels, timestamps=np.arange(len(labels)) / FPS, key_frames=facts["key_frames"])
        return Clip(row["key"], frames, trajectories, tuple(facts["captions"]))

    def facts(self, index: int) -> dict[str, Any]:
        """What is known of a sample: `captions`, `key_frames` (first frames of its shots) and what `describe` tells."""
        chunk, position = divmod(index, CHUNK_SIZE)
        return _facts(_part(self.folder, "facts", chunk, ".json"))[position]


def create_world(folder: str | os.PathLike, source: SyntheticSource) -> None:
    """Begin a folder for the samples of a source, or go on with one.

    Raises `ValueError` where the folder holds those of another.
    """
    folder = Path(folder)
    wanted = _describe_source(source)
    if (folder / _DESCRIPTION).exists():
        found = read_description(folder)
        if found != wanted:
            different = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
            raise ValueError(f"{folder} holds another world, of other {', '.join(different)}; expected a new folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _DESCRIPTION, wanted, parts=folder)


def read_description(folder: str | os.PathLike) -> dict[str, Any]:
    """What a folder's samples are. Raises `ValueError` where it is no folder of `create_world`."""
    path = Path(folder) / _DESCRIPTION
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no rendered world ({error}); expected a folder of create_world") from None


def num_chunks(num_samples: int) -> int:
    return -(-num_samples // CHUNK_SIZE)


def render_chunk(folder: str | os.PathLike, chunk: int) -> None:
    """Render the samples of a chunk, unless they are there."""
    folder = Path(folder)
    path = _part(folder, "frames", chunk)
    if path.exists():
        return
    description = read_description(folder)
    source = SyntheticSource(**{**description, "name": str(folder)})
    rendered = [source.render(index) for index in _samples_of(chunk, source.num_samples)]
    trajectories = [sample.trajectories() for sample in rendered]
    facts = [
        {
            "captions": list(captions(sample.story, source.options.captions)),
            "key_frames": list(own.key_frames),
            **describe(sample),
        }
        for sample, own in zip(rendered, trajectories, strict=True)
    ]
    write_json(_part(folder, "facts", chunk, ".json"), facts, parts=folder)
    _save(_part(folder, EXACT, chunk), np.stack([own.ids.astype(np.uint8) for own in trajectories]))
    # Last: where frames are, the rest is.
    _save(path, np.stack([sample.frames for sample in rendered]))


def track_chunk(folder: str | os.PathLike, chunk: int, name: str, generator: Mapping[str, Any]) -> None:
    """Add label volumes that a trajectory generator finds in a rendered chunk, unless they are there.

    Args:
        folder, chunk: The chunk.
        name: Of the label volumes.
        generator: Settings of `TrajectoryGenerator`, of at most 255 trajectories.

    Raises:
        ValueError: It may find more trajectories, or a setting is not legal.
    """
    folder = Path(folder)
    path = _part(folder, name, chunk)
    if path.exists():
        return
    built = TrajectoryGenerator.from_dict(dict(generator))
    if built.max_trajectories > np.iinfo(np.uint8).max:
        raise ValueError(f"max_trajectories is {built.max_trajectories}; expected 255 or fewer")
    frames = _mapped(_part(folder, "frames", chunk))
    positions = np.arange(frames.shape[1])
    found = [built(sample, positions, timestamps=positions / FPS).resize(*frames.shape[2:4]).ids for sample in frames]
    _save(path, np.stack(found).astype(np.uint8))


def _describe_source(source: SyntheticSource) -> dict[str, Any]:
    fields = {name: getattr(source, name) for name in ("split", "media", "num_samples", "num_frames")}
    return json.loads(json.dumps({**fields, "options": asdict(source.options)}))


def _samples_of(chunk: int, num_samples: int) -> range:
    return range(chunk * CHUNK_SIZE, min((chunk + 1) * CHUNK_SIZE, num_samples))


def _part(folder: Path, kind: str, chunk: int, suffix: str = ".npy") -> Path:
    return folder / f"{kind}-{chunk:05d}{suffix}"


def _parts(folder: Path, kind: str, num_samples: int) -> list[Path]:
    return [_part(folder, kind, chunk) for chunk in range(num_chunks(num_samples))]


def _save(path: Path, values: np.ndarray) -> None:
    with unfinished(path.parent, ".npy") as part:
        with open(part, "wb") as file:
            np.save(file, values, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        move_into_place(part, path)


@lru_cache(maxsize=256)
def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


@lru_cache(maxsize=256)
def _facts(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))
