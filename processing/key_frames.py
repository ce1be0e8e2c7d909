"""Key frames: the sampled frames at which a new clip starts (supplement, section 3)."""

from dataclasses import dataclass

import numpy as np

from .frame_checks import checked_frames

DETECTORS = ("hsv", "histogram", "rgb")
"""The voters, in the order of the columns of `KeyFrameDetector.votes`."""

# PySceneDetect's default up to 0.6; later releases halve it, which moves correlations near the threshold.
_HISTOGRAM_BINS = 256


@dataclass(frozen=True)
class KeyFrameDetector:
    """Three PySceneDetect detectors vote on every sampled frame against the sampled frame before it.

    Args:
        hsv_threshold: `ContentDetector`: mean absolute difference of hue, saturation and value, from which on it votes.
            The supplement's 27 is PySceneDetect's default.
        histogram_threshold: `HistogramDetector`, in PySceneDetect's meaning: it votes where the correlation of the luma
            histograms is 1 - threshold or less. The supplement's is 0.15, so 0.85.
        rgb_threshold: `RGBDetector`: difference of mean intensity (0..255) above which it votes. Supplement: 12.
        min_votes: Votes that make a key frame, 1..3. The supplement's is 2.
        min_scene_len: Least number of sampled frames from one key frame to the next; a nearer one is dropped.

    Raises:
        TypeError, ValueError: A setting has the wrong type or lies outside its range.
    """

    hsv_threshold: float = 27.0
    histogram_threshold: float = 0.15
    rgb_threshold: float = 12.0
    min_votes: int = 2
    min_scene_len: int = 1

    def __post_init__(self):
        for name, highest in (("hsv_threshold", 255), ("histogram_threshold", 1), ("rgb_threshold", 255)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise TypeError(f"{name} must be a number, got {value!r}.")
            object.__setattr__(self, name, float(value))
            if not 0 <= value <= highest:
                raise ValueError(f"{name} must lie in 0..{highest}, got {value}.")
        for name in ("min_votes", "min_scene_len"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name} must be an integer, got {value!r}.")
            object.__setattr__(self, name, int(value))
        if not 1 <= self.min_votes <= len(DETECTORS):
            raise ValueError(f"min_votes must lie in 1..{len(DETECTORS)}, got {self.min_votes}.")
        if self.min_scene_len < 1:
            raise ValueError(f"min_scene_len must be at least 1 sampled frame, got {self.min_scene_len}.")

    def __call__(self, frames: np.ndarray) -> list[int]:
        """Find the key frames.

        Args:
            frames: (T, H, W, 3) uint8 RGB, the sampled frames.

        Returns:
            Increasing positions in 0..T-1. Frame 0 is always the first.

        Raises:
            TypeError, ValueError: The frames have another type or shape.
        """
        key_frames = [0]
        for position in np.flatnonzero(self.votes(frames).sum(axis=1) >= self.min_votes).tolist():
            if position - key_frames[-1] >= self.min_scene_len:
                key_frames.append(position)
        return key_frames

    def votes(self, frames: np.ndarray) -> np.ndarray:
        """Return (T, 3) bool: which of `DETECTORS` sees a cut right before each frame. Errors: as a call's."""
        from scenedetect import FrameTimecode
        from scenedetect.detectors import ContentDetector, HistogramDetector

        from .rgb_detector import RGBDetector

        frames = checked_frames(frames)
        # Its own minimum scene length delays and drops cuts in each detector; at 0 every frame gets its own vote.
        detectors = (
            ContentDetector(threshold=self.hsv_threshold, min_scene_len=0),
            HistogramDetector(threshold=self.histogram_threshold, bins=_HISTOGRAM_BINS, min_scene_len=0),
            RGBDetector(threshold=self.rgb_threshold, min_scene_len=0),
        )
        votes = np.zeros((len(frames), len(detectors)), dtype=bool)
        for position, frame in enumerate(frames):
            timecode = FrameTimecode(position, fps=1.0)
            frame_bgr = np.ascontiguousarray(frame[:, :, ::-1])
            for column, detector in enumerate(detectors):
                votes[position, column] = bool(detector.process_frame(timecode, frame_bgr))
        votes[0] = False
        return votes
