"""The interface between key frames and the segments that are tracked from them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .sam2_features import FrameFeatures


class KeyFrameSegmenter(Protocol):
    """What cuts key frames into segments: `AutomaticMaskSegmenter`, `EdgeSegmenter`, or any callable like this."""

    def __call__(self, frames: np.ndarray, features: FrameFeatures | None, size: tuple[int, int]) -> list[np.ndarray]:
        """Segment frames.

        Args:
            frames: (F, H, W, 3) uint8 RGB.
            features: SAM 2's features of the same frames, for segmenters that can use them; None where there are none.
            size: (h, w) of the maps in pixels.

        Returns:
            Per frame, an integer array (h, w): 0 for no segment, else 1..K.
        """
        ...
