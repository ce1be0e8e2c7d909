"""From masks that overlap and leave gaps to one label for every pixel.

Shape legend: N masks, H height, W width.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import label as connected_parts


def panoptic_map(
    masks: Iterable[np.ndarray],
    size: tuple[int, int],
    max_segments: int = 128,
    min_area: int = 16,
    max_gap: int = 8,
    min_hole: int = 64,
) -> np.ndarray:
    """Turn masks into a segmentation of the whole frame.

    Small masks lie on top; of masks with equal areas, the first. What is left of a mask falls into its connected parts
    (across edges, not corners), each a segment. Areas that no part covers become segments where they are wide, and
    fall to the nearest segment where they are thin.

    Args:
        masks: (N, H, W) bool, or any iterable of (H, W) bool; each is looked at once, so they need not exist together.
        size: (H, W) in pixels.
        max_segments: Most segments; the smallest give their pixels to the nearest of the others.
        min_area: Pixels; masks and parts of at most this size are no segments (main paper's public code: 16).
        max_gap: Pixels; an uncovered area is wide where a disc wider than this fits in.
        min_hole: Pixels; a wide uncovered area needs this size to become a segment.

    Returns:
        (H, W) int32 labels 1..K, the largest segment 1; K is at least 1, since a frame where nothing was found is
        one segment.

    Raises:
        ValueError: A mask is not bool or not `size`; an option is out of range.
    """
    _check_options(size, max_segments, min_area, max_gap, min_hole)
    parts = _without_small(connected_parts(_paint(masks, size, min_area), connectivity=1, background=0), min_area + 1)
    holes = _without_small(connected_parts(_wide(parts == 0, max_gap), connectivity=1, background=0), min_hole)
    labels = np.where(holes > 0, holes + parts.max(), parts)
    return _numbered_by_area(_fill_from_nearest(_keep_largest(labels, max_segments)))


def _check_options(size: tuple[int, int], max_segments: int, min_area: int, max_gap: int, min_hole: int) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be a (height, width) of at least 1 x 1 pixels, got {size!r}")
    for name, value, least in (
        ("max_segments", max_segments, 1),
        ("min_area", min_area, 0),
        ("max_gap", max_gap, 0),
        ("min_hole", min_hole, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}")


def _paint(masks: Iterable[np.ndarray], size: tuple[int, int], min_area: int) -> np.ndarray:
    """(H, W) int32: the smallest mask of each pixel, counted from 1, in one pass over masks in any order."""
    owner = np.zeros(size, np.int32)
    area_of_owner = np.full(size, np.iinfo(np.int64).max)
    for number, mask in enumerate(masks, start=1):
        if mask.dtype != np.bool_ or mask.shape != tuple(size):
            raise ValueError(f"mask {number} must be bool of shape {tuple(size)}, got {mask.dtype} of {mask.shape}")
        area = np.count_nonzero(mask)
        if area <= min_area:
            continue
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        box = np.s_[top : top + height, left : left + width]
        is_on_top = mask[box] & (area_of_owner[box] > area)
        owner[box][is_on_top] = number
        area_of_owner[box][is_on_top] = area
    return owner


def _without_small(labels: np.ndarray, min_pixels: int) -> np.ndarray:
    """Labels with at least `min_pixels`, renumbered 1.. in their order; the others become 0."""
    is_kept = np.bincount(labels.ravel()) >= min_pixels
    is_kept[0] = False
    return np.where(is_kept, np.cumsum(is_kept), 0)[labels]


def _wide(uncovered: np.ndarray, max_gap: int) -> np.ndarray:
    """(H, W) uint8: what discs of `max_gap` + 1 pixels that fit into the uncovered pixels cover together."""
    if max_gap >= min(uncovered.shape):
        return np.zeros(uncovered.shape, np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (max_gap + 1, max_gap + 1))
    anchor = max_gap // 2
    # What lies outside the frame counts as covered: a thin strip along the frame's edge is thin.
    centres = cv2.erode(uncovered.astype(np.uint8), disc, anchor=(anchor, anchor), borderValue=0)
    mirrored = max_gap - anchor
    return cv2.dilate(centres, np.ascontiguousarray(disc[::-1, ::-1]), anchor=(mirrored, mirrored))


def _keep_largest(labels: np.ndarray, max_segments: int) -> np.ndarray:
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    is_kept = np.zeros(len(areas), bool)
    is_kept[np.argsort(-areas, kind="stable")[:max_segments]] = True
    return np.where(is_kept, np.arange(len(areas)), 0)[labels]


def _fill_from_nearest(labels: np.ndarray) -> np.ndarray:
    uncovered = labels == 0
    if uncovered.all():
        return np.ones_like(labels)
    if not uncovered.any():
        return labels
    nearest = distance_transform_edt(uncovered, return_distances=False, return_indices=True)
    return labels[tuple(nearest)]


def _numbered_by_area(labels: np.ndarray) -> np.ndarray:
    areas = np.bincount(labels.ravel())
    order = np.argsort(-areas, kind="stable")[: np.count_nonzero(areas)]
    number_of = np.zeros(len(areas), np.int32)
    number_of[order] = np.arange(1, len(order) + 1)
    return number_of[labels]
