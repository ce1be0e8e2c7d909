"""The value that decoding returns, and what can go wrong on the way to it."""

import warnings
from dataclasses import dataclass

import numpy as np


class VideoDecodingError(ValueError):
    """A source that cannot be turned into frames; the message names it, what was found, and what was expected."""


class VideoDecodingWarning(UserWarning):
    """A source of which some frames are missing or damaged, and the others were used."""


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames of one video: the T sampled ones, and any denser ones from between them.

    Attributes:
        frames: (N, H, W, 3) uint8 RGB, upright, in order of time.
        sample_indices: (T,) int64, positions of the sampled frames in `frames`, strictly increasing.
        frame_indices: (T,) int64, numbers of the sampled frames in the source, strictly increasing.
        timestamps: (T,) float64, seconds of the sampled frames on a player's clock.
        fps: The source's mean number of frames per second.
    """

    frames: np.ndarray
    sample_indices: np.ndarray
    frame_indices: np.ndarray
    timestamps: np.ndarray
    fps: float

    @property
    def sampled(self) -> np.ndarray:
        """(T, H, W, 3) uint8, the sampled frames alone."""
        return self.frames[self.sample_indices]


def frame_rate(timestamps: np.ndarray, default: float) -> float:
    """Mean frames per second of frames at these (N,) seconds; `default` where they span no time."""
    span = float(timestamps[-1] - timestamps[0])
    return (len(timestamps) - 1) / span if span > 0 else default


def warn_of_damage(name: str, num_lost: int, num_frames: int) -> None:
    """Warn that `num_lost` of the `num_frames` frames of a source cannot be read and the others are used."""
    warnings.warn(
        f"{name} is damaged: {num_lost} of its {num_frames} frames cannot be decoded; the other "
        f"{num_frames - num_lost} are used",
        VideoDecodingWarning,
        stacklevel=2,
    )
