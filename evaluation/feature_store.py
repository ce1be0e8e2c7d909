"""Features on disk, computed once: files of a fixed number of items, each there whole or not at all.

An item has any number of sequences of features, of any length: one vector of a video, the tokens of one, the tokens of
each of its regions. What is computed may be broken off and goes on with the files that are missing; several processes
write different files of one store. A file is named by what it is computed from: what changes is computed anew.

Shape letters: n items of a file, s sequences of all of them, k features of all sequences, D width.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from trajvit.processing.atomic_files import move_into_place, unfinished, write_json
from trajvit.processing.stored_values import FilePart
from trajvit.processing.trajectories import Trajectories

from .evaluation_data import MediaItem

ABOUT = "about.json"
_FAILURES = "failures"


class FeatureStore:
    """Features of items in a row, in a folder that may hold others.

    Args:
        folder: Its place; made where it is missing.
        item_hashes: What tells each item from others, see `hash_of_item`. A file is named by those of its items, so
            that one that changes costs its own file alone.
        chunk_size: Items of a file.
        about: What the features are of and by, for people.
    """

    def __init__(
        self, folder: str | os.PathLike, item_hashes: Sequence[str], chunk_size: int, about: Mapping[str, Any]
    ):
        self.folder = Path(folder)
        self.num_items = len(item_hashes)
        self.chunk_size = chunk_size
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / ABOUT).exists():
            write_json(self.folder / ABOUT, dict(about), parts=self.folder)
        self._names = [
            hash_of([item_hashes[position] for position in self.positions(chunk)]) for chunk in range(self.num_chunks)
        ]
        self._opened: dict[int, FeatureChunk] = {}

    @property
    def num_chunks(self) -> int:
        return -(-self.num_items // self.chunk_size)

    def positions(self, chunk: int) -> range:
        """The items of a file."""
        return range(chunk * self.chunk_size, min((chunk + 1) * self.chunk_size, self.num_items))

    def has(self, chunk: int) -> bool:
        return self._path(chunk).exists()

    def write(self, chunk: int, features: Mapping[int, Sequence[torch.Tensor]], failures: Mapping[int, str]) -> None:
        """Write a file.

        Args:
            chunk: Its number.
            features: For each item that could be used, its sequences, each (any number, D).
            failures: For each other item, why it could not.

        Raises:
            ValueError: Not all items of the file are in just one of both.
        """
        positions = self.positions(chunk)
        if sorted([*features, *failures]) != list(positions):
            raise ValueError(f"features of {len(features)} items and {len(failures)} failures: expected {positions}")
        counts = [len(features.get(position, ())) for position in positions]
        sequences = [sequence for position in positions for sequence in features.get(position, ())]
        tensors = {
            "counts": torch.tensor(counts, dtype=torch.int64),
            "lengths": torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64),
            "features": torch.cat(sequences).contiguous().cpu() if sequences else torch.empty(0, 0),
        }
        # Equal items may stand elsewhere in another set: what the file says of them counts from its own first.
        own = {str(position - positions.start): reason for position, reason in failures.items()}
        with unfinished(self.folder, ".safetensors") as part:
            save_file(tensors, part, metadata={_FAILURES: json.dumps(own)})
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            move_into_place(part, self._path(chunk))
        self._opened.pop(chunk, None)

    def read(self, chunk: int) -> "FeatureChunk":
        """Open a file; its features stay on disk until they are asked for. Raises `ValueError` for a damaged one."""
        if chunk not in self._opened:
            self._opened[chunk] = _open_chunk(self._path(chunk), self.positions(chunk).start)
        return self._opened[chunk]

    def chunks(self) -> Iterator["FeatureChunk"]:
        return (self.read(chunk) for chunk in range(self.num_chunks))

    def failures(self) -> dict[int, str]:
        """Positions of all items that could not be used, with the reason."""
        return {position: reason for chunk in self.chunks() for position, reason in chunk.failures.items()}

    def vectors(self) -> torch.Tensor:
        """(items that could be used, D) float32, of a store whose items have one vector each."""
        rows = [chunk.all_features().float() for chunk in self.chunks() if len(chunk.lengths)]
        return torch.cat(rows) if rows else torch.empty(0, 0)

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{self._names[chunk]}.safetensors"


@dataclass(frozen=True, eq=False)
class FeatureChunk:
    """A file of features.

    Attributes:
        path: The file.
        first: Position of its first item.
        counts: (n,) int64, sequences of each item, 0 for one that could not be used.
        lengths: (s,) int64, features of each sequence.
        offsets: (s + 1,) int64, where each sequence begins among all features.
        failures: Positions of the items that could not be used, with the reason.
    """

    path: Path
    first: int
    counts: torch.Tensor
    lengths: torch.Tensor
    offsets: torch.Tensor
    failures: dict[int, str]

    def sequence(self, number: int) -> torch.Tensor:
        """(length, D): the features of one of the s sequences."""
        begin, end = self.offsets[number : number + 2].tolist()
        with safe_open(self.path, "pt") as file:
            return file.get_slice("features")[begin:end]

    def all_features(self) -> torch.Tensor:
        """(k, D): those of all sequences, one after another."""
        with safe_open(self.path, "pt") as file:
            return file.get_tensor("features")


def _open_chunk(path: Path, first: int) -> FeatureChunk:
    try:
        with safe_open(path, "pt") as file:
            counts, lengths = file.get_tensor("counts"), file.get_tensor("lengths")
            failures = json.loads(file.metadata()[_FAILURES])
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path} holds no features ({error}); remove it, and they are computed again") from None
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return FeatureChunk(path, first, counts, lengths, offsets, {first + int(key): why for key, why in failures.items()})


def hash_of(*parts: Any) -> str:
    """A hash of JSON values, short enough for a folder's name."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return blake2b(text.encode("ascii"), digest_size=10).hexdigest()


def hash_of_item(item: MediaItem) -> str:
    """What tells that an item is the same as before: name, stretch, and the content or the state of its files."""
    media = item.identity if item.identity is not None else _state(item.media)
    return hash_of([item.key, item.start, item.end, media, _state(item.trajectories)])


def _state(media: Any) -> Any:
    """Of a file its path, size and time of change; of bytes, `VideoFrames` and `Trajectories` a hash."""
    if isinstance(media, dict):
        media = media.get("bytes") if media.get("bytes") is not None else media.get("path")
    if media is None:
        return None
    if isinstance(media, FilePart):
        return [*_state(media.path), media.offset, media.size]
    if isinstance(media, (str, os.PathLike)):
        path = os.path.abspath(media) if "://" not in str(media) else str(media)
        try:
            found = os.stat(path)
        except OSError:
            return [path]
        return [path, found.st_size, found.st_mtime_ns]
    if not isinstance(media, (bytes, bytearray, memoryview)):
        values = media.ids if isinstance(media, Trajectories) else media.frames
        media = values.tobytes()
    return blake2b(media, digest_size=16).hexdigest()
