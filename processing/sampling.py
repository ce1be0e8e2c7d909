"""Which frames of a video are looked at: the uniformly sampled ones, and the denser ones between them.

The sampled frames become the model's frames. Trackers may want more: a stack that also holds frames from between the
samples, about `frame_interval` seconds apart. Shape legend: N frames in the source, T sampled frames.
"""

from itertools import pairwise

import numpy as np

_TIME_ROUNDING = 0.02  # of an interval

MAX_FRAMES_BETWEEN = 8
"""Frames taken between two sampled ones at most: the dense stack of an hour is then no larger than that of a minute."""


def uniform_sample_indices(num_available: int, num_frames: int | None) -> np.ndarray:
    """Indices of the frames in the middle of `num_frames` equal segments of a video (supplement, Table 1).

    Segments are equal in frames, not in seconds: of a video with a variable frame rate, its busier parts are sampled
    more densely. The middle of segment i, (i + 1/2) N / T, lies within frame floor((i + 1/2) N / T).

    Args:
        num_available: N, the frames in the source, at least 1.
        num_frames: T, the frames wanted, at least 1; None for all. A video with no more than T frames gives all its
            frames, once each: T is then N.

    Returns:
        int64 array (min(T, N),), strictly increasing.

    Raises:
        ValueError: If either number is smaller than 1.
    """
    if num_available < 1:
        raise ValueError(f"num_available must be at least 1, got {num_available}: there is no frame to sample")
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, or None for all frames, got {num_frames}")
    if num_frames is None or num_frames >= num_available:
        return np.arange(num_available, dtype=np.int64)
    doubled_middles = 2 * np.arange(num_frames, dtype=np.int64) + 1
    return doubled_middles * num_available // (2 * num_frames)


def dense_indices(
    timestamps: np.ndarray,
    sampled: np.ndarray,
    frame_interval: float | None,
    max_between: int = MAX_FRAMES_BETWEEN,
) -> np.ndarray:
    """Indices of the sampled frames and of the frames between them, about `frame_interval` seconds apart.

    Each gap between neighbouring samples is divided evenly in time, so a gap that is not a multiple of the interval has
    no short rest. Nothing is taken before the first sample or after the last.

    Args:
        timestamps: (N,) seconds of the source's frames, non-decreasing.
        sampled: (T,) indices of the sampled frames, strictly increasing.
        frame_interval: Seconds wanted between frames, more than 0; None for the sampled frames alone.
        max_between: Frames taken in one gap at most; gaps that would need more are divided more coarsely.

    Returns:
        int64 array (at most T + (T - 1) max_between,), strictly increasing, with every element of `sampled` in it.

    Raises:
        ValueError: If the interval is not positive or `max_between` is negative.
    """
    if frame_interval is not None and not frame_interval > 0:
        raise ValueError(f"frame_interval must be more than 0 seconds, or None, got {frame_interval}")
    if max_between < 0:
        raise ValueError(f"max_between must not be negative, got {max_between}")
    sampled = np.asarray(sampled, dtype=np.int64)
    if frame_interval is None or max_between == 0:
        return sampled
    between = [_divide_gap(timestamps, a, b, frame_interval, max_between) for a, b in pairwise(sampled)]
    return np.unique(np.concatenate([sampled, *between]))


class Pace:
    """Picks frames about `frame_interval` seconds apart from a stream of them; None picks all.

    A frame is picked at or after each multiple of the interval, counted from the first frame, so that the interval is
    kept on the average. Where frames lie farther apart than that, each is picked once.

    Raises:
        ValueError: If the interval is not positive.
    """

    def __init__(self, frame_interval: float | None):
        if frame_interval is not None and not frame_interval > 0:
            raise ValueError(f"frame_interval must be more than 0 seconds, or None, got {frame_interval}")
        self._interval = frame_interval
        self._first: float | None = None
        self._num_due = 0

    def picks(self, seconds: float) -> bool:
        """Whether the next frame, shown at `seconds`, is picked."""
        if self._interval is None:
            return True
        if self._first is None:
            self._first = seconds
        # Times are rounded to their container's time base, often milliseconds.
        num_passed = int((seconds - self._first) / self._interval + _TIME_ROUNDING)
        is_picked = num_passed >= self._num_due
        if is_picked:
            self._num_due = num_passed + 1
        return is_picked


def _divide_gap(timestamps: np.ndarray, first: int, last: int, frame_interval: float, max_between: int) -> np.ndarray:
    """Frames strictly between `first` and `last` that are nearest to an even division of their time."""
    inner = timestamps[first + 1 : last]
    span = float(timestamps[last] - timestamps[first])
    count = min(round(span / frame_interval) - 1, max_between, len(inner))
    if count < 1:
        return np.empty(0, dtype=np.int64)
    targets = timestamps[first] + span * np.arange(1, count + 1) / (count + 1)
    right = np.searchsorted(inner, targets).clip(1, len(inner) - 1) if len(inner) > 1 else np.zeros(count, dtype=int)
    left = np.maximum(right - 1, 0)
    nearer = np.where(targets - inner[left] <= inner[right] - targets, left, right)
    return first + 1 + nearer.astype(np.int64)
