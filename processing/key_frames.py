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
        is_key_frame = self.start()
        return [position for position, frame in enumerate(checked_frames(frames)) if is_key_frame(frame)]

    def start(self) -> "OnlineKeyFrames":
        """Begin a video whose frames come one by one."""
        return OnlineKeyFrames(self)

    def votes(self, frames: np.ndarray) -> np.ndarray:
        """Return (T, 3) bool: which of `DETECTORS` sees a cut right before each frame. Errors: as a call's."""
        vote = _Voters(self)
        return np.stack([vote(frame) for frame in checked_frames(frames)])


class OnlineKeyFrames:
    """Says of each frame of one video, in order, whether it is a key frame, as a call of `KeyFrameDetector` would.

    Args:
        detector: The settings.
    """

    def __init__(self, detector: KeyFrameDetector):
        self._detector = detector
        self._vote = _Voters(detector)
        self._since_key_frame: int | None = None

    def __call__(self, frame: np.ndarray) -> bool:
        """Judge the next frame, (H, W, 3) uint8 RGB of the size of those before. The first is always a key frame."""
        num_votes = int(self._vote(frame).sum())
        if self._since_key_frame is None:
            is_key_frame = True
        else:
            self._since_key_frame += 1
            is_key_frame = (
                num_votes >= self._detector.min_votes and self._since_key_frame >= self._detector.min_scene_len
            )
        if is_key_frame:
            self._since_key_frame = 0
        return is_key_frame


class _Voters:
    """The three detectors, fed frame by frame."""

    def __init__(self, settings: KeyFrameDetector):
        from scenedetect.detectors import ContentDetector, HistogramDetector

        from .rgb_detector import RGBDetector

        # Its own minimum scene length delays and drops cuts in each detector; at 0 every frame gets its own vote.
        self._detectors = (
            ContentDetector(threshold=settings.hsv_threshold, min_scene_len=0),
            HistogramDetector(threshold=settings.histogram_threshold, bins=_HISTOGRAM_BINS, min_scene_len=0),
            RGBDetector(threshold=settings.rgb_threshold, min_scene_len=0),
        )
        self._num_seen = 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """(3,) bool: which of `DETECTORS` sees a cut right before this frame; none before the first."""
        from scenedetect import FrameTimecode

        timecode = FrameTimecode(self._num_seen, fps=1.0)
        frame_bgr = np.ascontiguousarray(frame[:, :, ::-1])
        votes = np.array([bool(detector.process_frame(timecode, frame_bgr)) for detector in self._detectors])
        if self._num_seen == 0:
            votes[:] = False
        self._num_seen += 1
        return votes
