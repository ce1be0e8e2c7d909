"""The value that decoding returns, and what can go wrong on the way to it."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

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


class TimedFrame(NamedTuple):
    """One frame of a video that is read frame by frame.

    Attributes:
        number: Its number in the source, in which lost frames count.
        seconds: When it is shown, on a player's clock.
        pixels: (H, W, 3) uint8 RGB, upright.
    """

    number: int
    seconds: float
    pixels: np.ndarray


def frame_rate(timestamps: np.ndarray, default: float) -> float:
    """Mean frames per second of frames at these (N,) seconds; `default` where they span no time."""
    span = float(timestamps[-1] - timestamps[0])
    return (len(timestamps) - 1) / span if span > 0 else default


def warn_of_damage(name: str, num_used: int, num_frames: int | None) -> None:
    """Warn that only `num_used` frames of a source can be read, of `num_frames` or of who knows how many (None)."""
    lost = "it breaks off" if num_frames is None else f"{num_frames - num_used} of its {num_frames} frames are lost"
    warnings.warn(
        f"{name} is damaged: {lost}; the {num_used} frames that can be decoded are used",
        VideoDecodingWarning,
        stacklevel=2,
    )
