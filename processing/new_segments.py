"""Where a frame shows something that no trajectory covers."""

import cv2
import numpy as np
from skimage.measure import label as connected_parts


def new_segments(
    segments: np.ndarray, covered: np.ndarray, max_segments: int, min_area: int = 64, min_width: int = 8
) -> np.ndarray:
    """Cut what a segmentation shows of the uncovered area into new segments.

    The gaps that tracked masks leave between each other are thin, and no new segments.

    Args:
        segments: (H, W) integers, 0 for none: the frame's segmentation.
        covered: (H, W) bool: what trajectories cover.
        max_segments: Most new segments; the largest stay. May be 0.
        min_area: Pixels; smaller parts of segments are not new.
        min_width: Pixels; an uncovered area is wide where a disc of this diameter fits in.

    Returns:
        (H, W) int32: 0 for none, 1.. for connected parts of uncovered segments that reach into a wide area, the largest
        first.
    """
    parts = connected_parts(np.where(covered, 0, segments), connectivity=1, background=0)
    # The frame's edge counts as uncovered: what comes into view is first seen as a strip there.
    distance = cv2.distanceTransform((~covered).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    areas = np.bincount(parts.reshape(-1))
    reaches_wide = np.zeros(len(areas), dtype=bool)
    reaches_wide[np.unique(parts[distance > min_width / 2])] = True
    reaches_wide[0] = False
    candidates = np.flatnonzero(reaches_wide & (areas >= min_area))
    chosen = candidates[np.argsort(-areas[candidates], kind="stable")][:max_segments]
    number = np.zeros(len(areas), dtype=np.int32)
    number[chosen] = np.arange(1, len(chosen) + 1)
    return number[parts]
