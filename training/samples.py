"""The values that pass from a data source to a training step.

    Source.rows (main process) -> row -> Source.read (worker) -> Clip -> transform (worker) -> Sample -> batch

Shape legend: T frames, S pixels, G cells of the feature grid, M trajectories.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from trajvit.processing.trajectories import Trajectories

Row = dict[str, Any]
"""One record as its data set stores it, undecoded, with a "key" that names it in messages; it can go to a worker."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded sample.

    Attributes:
        key: Names it in messages.
        frames: (T, H, W, 3) uint8 RGB, T = 1 for an image.
        trajectories: Those of the frames, of the same aspect; None where there are none (or none are wanted).
        captions: At least one, none empty.
    """

    key: str
    frames: np.ndarray
    trajectories: Trajectories | None
    captions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample as a step takes it.

    Attributes:
        key: Names it in messages.
        pixels: (T, 3, S, S) uint8, not yet normalised.
        trajectory_map: (T, G, G) int16 ids, 1..M without holes, 0 for none; None for towers without trajectories.
        num_trajectories: M.
        captions: As many as a step uses.
    """

    key: str
    pixels: torch.Tensor
    trajectory_map: torch.Tensor | None
    num_trajectories: int
    captions: tuple[str, ...]


class Source(Protocol):
    """A data set, split in shards that are read front to back. The object can be sent to worker processes."""

    name: str

    @property
    def num_shards(self) -> int:
        """How many shards it has."""

    @property
    def num_samples(self) -> int | None:
        """How many samples it has, None where that is not known."""

    def rows(self, shard: int) -> Iterator[Row]:
        """The rows of a shard, in the same order at every call; runs in the training process, so it decodes nothing.

        Raises `SampleError` from the iterator where the shard cannot be read any further.
        """

    def read(self, row: Row) -> Clip:
        """Decode a row; runs in a worker. Raises `SampleError`."""
