"""`Trajectories`: the trajectory of every pixel of a video's sampled frames.

`Trajectories.from_labels`, and so everything the generator makes, numbers trajectories by the first frame they appear
in, then by their area there (larger first; ties: the smaller label first). What is derived from a `Trajectories`
(resized, cropped, flipped, selected) keeps that order and only closes the gaps of trajectories that have no pixel left,
so that the ids of both can be matched.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from operator import index
from typing import Any

import numpy as np

from .trajectory_checks import (
    checked_frame_indices,
    checked_ids,
    checked_integers,
    checked_key_frames,
    checked_positions,
    checked_timestamps,
)
from .trajectory_numbering import canonical_ids, close_gaps


class Trajectories:
    """The trajectory of each pixel of T frames, and where these frames came from. Immutable.

    Two trajectories never own one pixel. Per-trajectory arrays have trajectory m in row m - 1.

    Args:
        ids: (T, H, W) integers (or bool): the trajectory of each pixel, 0 for none, 1..M without holes. Copied.
        frame_indices: (T,) integers, strictly increasing: positions of the frames in the source. Default 0..T-1.
        timestamps: (T,) seconds, finite and non-decreasing. Default: the frame indices.
        key_frames: Increasing positions in 0..T-1 at which a clip starts; the first is 0.

    Raises:
        TypeError: An array is not of integers (timestamps: of real numbers).
        ValueError: An array breaks one of the rules above; the message names it, its value and the expectation.
    """

    _ids: np.ndarray
    _frame_indices: np.ndarray
    _timestamps: np.ndarray
    _key_frames: tuple[int, ...]

    def __init__(
        self,
        ids: np.ndarray,
        frame_indices: np.ndarray | Sequence[int] | None = None,
        timestamps: np.ndarray | Sequence[float] | None = None,
        key_frames: np.ndarray | Sequence[int] = (0,),
    ):
        ids = checked_ids(ids)
        frame_indices = checked_frame_indices(frame_indices, len(ids))
        timestamps = checked_timestamps(frame_indices if timestamps is None else timestamps, len(ids))
        vars(self).update(
            _ids=_read_only(ids),
            _frame_indices=_read_only(frame_indices),
            _timestamps=_read_only(timestamps),
            _key_frames=checked_key_frames(key_frames, len(ids)),
        )

    @classmethod
    def from_labels(cls, labels: np.ndarray, **where: Any) -> "Trajectories":
        """Number any integer labels canonically.

        Args:
            labels: (T, H, W) integers; equal positive labels are one trajectory, labels <= 0 are none.
            where: `frame_indices`, `timestamps`, `key_frames` as for the class.

        Raises:
            TypeError, ValueError: As for the class.
        """
        return cls(canonical_ids(labels), **where)

    @property
    def ids(self) -> np.ndarray:
        """(T, H, W) int32, read-only: the trajectory of each pixel, 0 for none."""
        return self._ids

    @property
    def frame_indices(self) -> np.ndarray:
        """(T,) int64, read-only: positions of the frames in the source."""
        return self._frame_indices

    @property
    def timestamps(self) -> np.ndarray:
        """(T,) float64, read-only: seconds."""
        return self._timestamps

    @property
    def key_frames(self) -> tuple[int, ...]:
        """Positions in 0..T-1 at which a clip starts."""
        return self._key_frames

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        num_frames, height, width = self._ids.shape
        return num_frames, height, width

    @property
    def num_frames(self) -> int:
        """T."""
        return self.shape[0]

    @property
    def height(self) -> int:
        """H in pixels."""
        return self.shape[1]

    @property
    def width(self) -> int:
        """W in pixels."""
        return self.shape[2]

    @cached_property
    def num_trajectories(self) -> int:
        """M."""
        return int(self._ids.max())

    @cached_property
    def areas(self) -> np.ndarray:
        """(M, T) int64, read-only: pixels of each trajectory in each frame."""
        return self._areas_and_boxes[0]

    @cached_property
    def boxes(self) -> np.ndarray:
        """(M, T, 4) float32, read-only: x0, y0, x1, y1 as shares of width and height, maxima exclusive, 0 if absent."""
        return self._areas_and_boxes[1]

    @cached_property
    def presence(self) -> np.ndarray:
        """(M, T) bool, read-only: whether a trajectory has a pixel in a frame."""
        return _read_only(self.areas > 0)

    @cached_property
    def lifetimes(self) -> np.ndarray:
        """(M,) int64, read-only: the number of frames in which each trajectory is present."""
        return _read_only(self.presence.sum(axis=1, dtype=np.int64))

    @cached_property
    def coverage(self) -> float:
        """Share of all pixels that belong to a trajectory."""
        return float(np.count_nonzero(self._ids) / self._ids.size)

    def resize(self, height: int, width: int) -> "Trajectories":
        """Scale to (height, width): each new pixel takes the id under its centre (torch's "nearest-exact").

        Trajectories without a pixel left disappear and the gaps close, order kept.
        """
        return self._with_ids(close_gaps(self._scaled_ids(height, width)))

    def ids_at(self, height: int, width: int) -> np.ndarray:
        """(m,) the ids that still have a pixel at another size, increasing: `resize` numbers them 1..m."""
        present = np.unique(self._scaled_ids(height, width))
        return present[present > 0]

    def crop(self, top: int, left: int, height: int, width: int) -> "Trajectories":
        """Cut out `height` rows from row `top` and `width` columns from column `left`, all inside the frame.

        Trajectories without a pixel left disappear and the gaps close, order kept.
        """
        for axis, start, extent, limit in (("rows", top, height, self.height), ("columns", left, width, self.width)):
            if start < 0 or extent < 1 or start + extent > limit:
                raise ValueError(f"The crop's {axis} must be a part of 0..{limit}, got {extent} from {start}.")
        return self._with_ids(close_gaps(self._ids[:, top : top + height, left : left + width]))

    def hflip(self) -> "Trajectories":
        """Mirror left and right; ids stay."""
        return self._with_ids(self._ids[:, :, ::-1])

    def select(self, which: np.ndarray | Sequence[int] | Sequence[bool]) -> "Trajectories":
        """Keep some trajectories; the pixels of the others belong to none, and the gaps close, order kept.

        Args:
            which: A boolean mask (M,) with trajectory m at m - 1, or ids in 1..M (in any order).
        """
        chosen = np.asarray(which)
        keep = np.zeros(self.num_trajectories + 1, dtype=bool)
        if chosen.dtype == bool:
            if chosen.shape != (self.num_trajectories,):
                raise ValueError(f"A mask must have shape ({self.num_trajectories},) here, got {chosen.shape}.")
            keep[1:] = chosen
        else:
            chosen = checked_integers(chosen, "The selected ids", ndim=1)
            if chosen.size and (chosen.min() < 1 or chosen.max() > self.num_trajectories):
                raise ValueError(f"The selected ids must lie in 1..{self.num_trajectories}, got {chosen.tolist()}.")
            keep[chosen] = True
        return self._with_ids(close_gaps(np.where(keep[self._ids], self._ids, 0)))

    def select_frames(self, positions: np.ndarray | Sequence[int]) -> "Trajectories":
        """Keep some frames. The first kept frame of each clip becomes its key frame; ids close up, order kept.

        Args:
            positions: Strictly increasing positions in 0..T-1, at least one.
        """
        chosen = checked_positions(positions, "positions", self.num_frames)
        clip_of_frame = np.searchsorted(self._key_frames, chosen, side="right")
        key_frames = np.flatnonzero(np.diff(clip_of_frame, prepend=0))
        return Trajectories(
            close_gaps(self._ids[chosen]), self._frame_indices[chosen], self._timestamps[chosen], key_frames
        )

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes."""
        from .trajectory_format import encode

        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Trajectories":
        """Read what `to_bytes` returned.

        Raises:
            ValueError: The bytes are not a trajectories file, are damaged, or declare too large a size.
        """
        from .trajectory_format import decode

        return decode(data)

    def save(self, path: str | os.PathLike) -> None:
        """Write a lossless PNG; an existing file is replaced only once the new one is complete."""
        from .trajectory_format import write_file

        write_file(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Trajectories":
        """Read a file that `save` wrote.

        Raises:
            OSError: The file cannot be opened.
            ValueError: As for `from_bytes`; the message names the file.
        """
        from .trajectory_format import read_file

        return read_file(path)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Trajectories are immutable; {name} cannot be set.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trajectories):
            return NotImplemented
        return (
            self._key_frames == other._key_frames
            and np.array_equal(self._ids, other._ids)
            and np.array_equal(self._frame_indices, other._frame_indices)
            and np.array_equal(self._timestamps, other._timestamps)
        )

    # Equality compares pixels, which is too slow for a hash.
    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple:
        # Through the constructor, so that the arrays a worker process receives are read-only again.
        return Trajectories, (self._ids, self._frame_indices, self._timestamps, self._key_frames)

    def __repr__(self) -> str:
        return (
            f"Trajectories({self.num_trajectories} in {self.num_frames} frames of {self.height} x {self.width},"
            f" {self._timestamps[0]:.2f}-{self._timestamps[-1]:.2f} s, key frames {list(self._key_frames)},"
            f" coverage {self.coverage:.3f})"
        )

    def _with_ids(self, ids: np.ndarray) -> "Trajectories":
        return Trajectories(ids, self._frame_indices, self._timestamps, self._key_frames)

    def _scaled_ids(self, height: int, width: int) -> np.ndarray:
        height, width = index(height), index(width)
        if height < 1 or width < 1:
            raise ValueError(f"The new height and width must be at least 1 pixel, got {height} x {width}.")
        # The centre of new pixel i lies at (i + 1/2) * old / new; integers keep it exact.
        rows = (2 * np.arange(height, dtype=np.int64) + 1) * self.height // (2 * height)
        columns = (2 * np.arange(width, dtype=np.int64) + 1) * self.width // (2 * width)
        return self._ids[:, rows[:, None], columns]

    @cached_property
    def _areas_and_boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """Areas (M, T) and boxes (M, T, 4), from the horizontal runs of equal ids: far fewer than pixels."""
        num_frames, height, width = self.shape
        starts_run = np.ones(self.shape, dtype=bool)
        np.not_equal(self._ids[:, :, 1:], self._ids[:, :, :-1], out=starts_run[:, :, 1:])
        start = np.flatnonzero(starts_run)
        length = np.diff(start, append=self._ids.size)
        row, x0 = np.divmod(start, width)
        frame, y = np.divmod(row, height)
        # One key per (trajectory, frame); the zeroth rows are the pixels of no trajectory and are cut off at the end.
        key = self._ids.reshape(-1)[start].astype(np.int64) * num_frames + frame
        num_keys = (self.num_trajectories + 1) * num_frames
        areas = np.bincount(key, weights=length, minlength=num_keys).astype(np.int64)
        corners = np.empty((num_keys, 4), dtype=np.int64)
        corners[:, :2] = (width, height)
        corners[:, 2:] = 0
        np.minimum.at(corners[:, 0], key, x0)
        np.minimum.at(corners[:, 1], key, y)
        np.maximum.at(corners[:, 2], key, x0 + length)
        np.maximum.at(corners[:, 3], key, y + 1)
        corners[areas == 0] = 0
        boxes = (corners / np.array([width, height, width, height])).astype(np.float32)
        return (
            _read_only(areas.reshape(-1, num_frames)[1:]),
            _read_only(boxes.reshape(-1, num_frames, 4)[1:]),
        )


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
