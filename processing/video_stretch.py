"""The part of a video that is looked at, between two moments on a player's clock."""

from dataclasses import dataclass

import numpy as np

from .sampling import uniform_sample_indices
from .video_frames import VideoDecodingError, frame_rate

_CLOCK_ROUNDING = 1e-6
"""Seconds by which a frame's time, a multiple of its container's time base, may differ from the same as a decimal."""


@dataclass(frozen=True)
class VideoStretch:
    """The frames of a video whose times lie in [start, end): neighbouring stretches share no frame and lose none.

    Attributes:
        start: Seconds, at least 0; None for the video's own start.
        end: Seconds, more than `start`; None for the video's own end.

    Raises:
        ValueError: If one is out of its range.
    """

    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        if self.start is not None and not self.start >= 0:
            raise ValueError(f"start must be at least 0 seconds, or None, got {self.start}")
        if self.end is not None and not self.end > (self.start or 0):
            raise ValueError(f"end must be more than start ({self.start or 0} seconds), or None, got {self.end}")

    def sample(self, timestamps: np.ndarray, num_frames: int | None, name: str, default_rate: float) -> np.ndarray:
        """Sample the stretch as `uniform_sample_indices` samples a video.

        Args:
            timestamps: (N,) seconds of all the video's frames, non-decreasing.
            num_frames: T, the frames wanted; None for all of the stretch.
            name: What error messages call the video.
            default_rate: Frames per second of a video whose times do not tell.

        Returns:
            int64 array (at most T,), numbers among all N frames, strictly increasing.

        Raises:
            VideoDecodingError: If the stretch has no frame.
            ValueError: If `num_frames` is smaller than 1.
        """
        first = 0 if self.start is None else int(np.searchsorted(timestamps, self.start - _CLOCK_ROUNDING))
        stop = len(timestamps) if self.end is None else int(np.searchsorted(timestamps, self.end - _CLOCK_ROUNDING))
        if first == stop:
            duration = timestamps[-1] + 1 / frame_rate(timestamps, default_rate)
            until = "its end" if self.end is None else f"{self.end} s"
            raise VideoDecodingError(
                f"{name} lasts {duration:.2f} s and has no frame in the stretch from {self.start or 0} s to {until}"
            )
        return first + uniform_sample_indices(stop - first, num_frames)
