"""The size of frames: how small a video is made, and making one frame so small."""

import numpy as np


def fit_short_side(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width after scaling the shorter of them down to `short_side` pixels; never larger than before.

    Args:
        height: Pixels.
        width: Pixels.
        short_side: Pixels; None keeps the size.

    Returns:
        (height, width), aspect kept up to rounding, each at least 1.

    Raises:
        ValueError: If `short_side` is smaller than 1.
    """
    if short_side is None:
        return height, width
    if short_side < 1:
        raise ValueError(f"short_side must be at least 1 pixel, or None, got {short_side}")
    shorter = min(height, width)
    if shorter <= short_side:
        return height, width
    return round(height * short_side / shorter), round(width * short_side / shorter)


def scale_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale one (H, W, 3) uint8 frame to (height, width, 3): area average when smaller, bilinear when larger."""
    if frame.shape[:2] == (height, width):
        return frame
    import cv2

    smaller = height <= frame.shape[0] and width <= frame.shape[1]
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
