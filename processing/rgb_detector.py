"""PySceneDetect detector of cuts in a frame's mean intensity, the third vote of the supplement's section 3."""

import numpy as np
from scenedetect import FrameTimecode, SceneDetector


class RGBDetector(SceneDetector):
    """Cut where a frame's intensity, the mean of R, G and B over all pixels, differs from the previous frame's.

    Args:
        threshold: In intensity levels (0-255); a cut needs a difference above it, up or down. The supplement's is 12.
        min_scene_len: Frames that must pass after a cut (or the first frame) before the next one.
    """

    FRAME_SCORE_KEY = "delta_intensity"

    def __init__(self, threshold: float = 12.0, min_scene_len: int = 15):
        super().__init__()
        self._threshold = threshold
        self._min_scene_len = min_scene_len
        self._last_intensity: float | None = None
        self._last_cut: FrameTimecode | None = None

    def process_frame(self, timecode: FrameTimecode, frame_img: np.ndarray) -> list[FrameTimecode]:
        """Compare one frame with the one before; frames come in order.

        Args:
            timecode: The frame's time.
            frame_img: (H, W, 3) uint8; the order of the channels does not matter.

        Returns:
            `[timecode]` at a cut, else nothing.
        """
        if self._last_cut is None:
            self._last_cut = timecode
        intensity = float(frame_img.mean(dtype=np.float64))
        difference = 0.0 if self._last_intensity is None else abs(intensity - self._last_intensity)
        self._last_intensity = intensity
        if self.stats_manager is not None:
            self.stats_manager.set_metrics(timecode, {self.FRAME_SCORE_KEY: difference})
        if difference > self._threshold and (timecode - self._last_cut) >= self._min_scene_len:
            self._last_cut = timecode
            return [timecode]
        return []

    def get_metrics(self) -> list[str]:
        """Return the key under which a stats manager keeps the differences."""
        return [self.FRAME_SCORE_KEY]
