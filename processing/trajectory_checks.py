"""Validation of what a `Trajectories` is built from: errors name the array, its value and what was expected."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def checked_integers(values: np.ndarray | Sequence[int], name: str, ndim: int) -> np.ndarray:
    """Return the values as an integer array of `ndim` dimensions (int64 where there are none).

    Raises:
        TypeError: They are not integers.
        ValueError: They have another number of dimensions.
    """
    array = _rectangular(values, name)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got {array.dtype}.")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' if ndim > 1 else ''}, got shape {array.shape}.")
    return array if array.size else array.astype(np.int64)


def _rectangular(values: Any, name: str) -> np.ndarray:
    """As an array; raises `ValueError` for lists in lists of different lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be an array, or lists of one length; got lists that differ in it.") from None


def checked_volume(labels: np.ndarray) -> np.ndarray:
    """Return labels (T, H, W) as an integer or bool array with T, H, W >= 1.

    Raises:
        TypeError: They are neither integers nor bool.
        ValueError: They have another shape.
    """
    array = _rectangular(labels, "ids")
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"ids must be integers or bool, got {array.dtype}.")
    if array.ndim != 3 or not array.size:
        raise ValueError(f"ids must have shape (frames, height, width), each at least 1; got {array.shape}.")
    return array


def checked_ids(ids: np.ndarray) -> np.ndarray:
    """Return a C-contiguous int32 copy of ids (T, H, W) that are 1..M without holes, or 0.

    Raises:
        TypeError, ValueError: As `checked_volume`, or an id is negative or missing.
    """
    array = checked_volume(ids)
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0:
        raise ValueError(f"ids must be 0 (no trajectory) or more, got {lowest}; from_labels accepts any integers.")
    # More ids than pixels cannot be without holes; said before a table of that size is made.
    if highest > min(array.size, np.iinfo(np.int32).max):
        raise ValueError(
            f"ids must be 1..M without holes, got {highest} in {array.size} pixels; from_labels closes holes."
        )
    array = np.array(array, dtype=np.int32, order="C")
    is_missing = np.ones(highest + 1, dtype=bool)
    is_missing[array] = False
    is_missing[0] = False
    if is_missing.any():
        missing = np.flatnonzero(is_missing)
        raise ValueError(
            f"ids must be 1..M without holes: the highest is {highest}, but {len(missing)} of those below have no pixel"
            f" (the first is {missing[0]}); from_labels closes holes."
        )
    return array


def checked_frame_indices(frame_indices: np.ndarray | Sequence[int] | None, num_frames: int) -> np.ndarray:
    """Return frame indices as a strictly increasing int64 copy (T,) from 0 or more; None is 0..T-1."""
    if frame_indices is None:
        return np.arange(num_frames, dtype=np.int64)
    array = checked_integers(frame_indices, "frame_indices", ndim=1)
    if array.shape != (num_frames,):
        raise ValueError(f"frame_indices must have one entry per frame, shape ({num_frames},); got {array.shape}.")
    if int(array.min()) < 0 or int(array.max()) > np.iinfo(np.int64).max or (array[1:] <= array[:-1]).any():
        raise ValueError(f"frame_indices must increase strictly, from 0 or more; got {array.tolist()}.")
    return array.astype(np.int64)


def checked_timestamps(timestamps: np.ndarray | Sequence[float], num_frames: int) -> np.ndarray:
    """Return seconds as a finite, non-decreasing float64 copy (T,)."""
    array = _rectangular(timestamps, "timestamps")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise TypeError(f"timestamps must be real numbers (seconds), got {array.dtype}.")
    if array.shape != (num_frames,):
        raise ValueError(f"timestamps must have one entry per frame, shape ({num_frames},); got {array.shape}.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or (np.diff(array) < 0).any():
        raise ValueError(f"timestamps must be finite and must not decrease; got {array.tolist()}.")
    return array


def checked_positions(positions: np.ndarray | Sequence[int], name: str, num_frames: int) -> np.ndarray:
    """Return positions as a strictly increasing int64 copy (n,) within 0..num_frames-1, n >= 1."""
    array = checked_integers(positions, name, ndim=1)
    is_inside = bool(array.size) and int(array.min()) >= 0 and int(array.max()) < num_frames
    if not is_inside or (array[1:] <= array[:-1]).any():
        raise ValueError(f"{name} must increase strictly within 0..{num_frames - 1}; got {array.tolist()}.")
    return array.astype(np.int64)


def checked_key_frames(key_frames: np.ndarray | Sequence[int], num_frames: int) -> tuple[int, ...]:
    """Return key frames as a tuple of positions that start with 0 and increase strictly within 0..T-1."""
    positions = checked_positions(key_frames, "key_frames", num_frames)
    if positions[0] != 0:
        raise ValueError(f"key_frames must start with 0; got {positions.tolist()}.")
    return tuple(positions.tolist())
