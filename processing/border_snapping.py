"""Label maps whose borders follow the image's edges: a watershed on the gradient decides borders, gaps and fragments.

Shape legend: H height, W width. Labels are positive; 0 is not known.
"""

import cv2
import numpy as np
from skimage.measure import label as connected_pieces
from skimage.segmentation import watershed

BORDER_STRIP = 2  # pixels on each side of a border that are decided anew
HOLE_RADIUS = 3  # pixels; an uncovered area must hold a square of this half side to become something new


def snap_to_edges(labels: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Decide anew the strip along the borders of (H, W) labels, and thin gaps in them, by the (H, W) image gradient.

    Thick gaps compete as a region of their own and stay 0.
    """
    hole_label = int(labels.max()) + 1
    seeds = border_free_seeds(labels, BORDER_STRIP)
    seeds[cv2.erode(thick_gaps(labels).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = hole_label
    snapped = flood(seeds, gradient)
    snapped[snapped == hole_label] = 0
    return snapped


def border_free_seeds(labels: np.ndarray, strip: int) -> np.ndarray:
    """Labels without the pixels nearer than `strip` to another label; a region too thin for that keeps its middle."""
    seeds = np.where(_near_border(labels, strip), 0, labels)
    thin = np.setdiff1d(labels, seeds)
    if len(thin):
        is_thin = np.isin(labels, thin)
        middle = is_thin & ~_near_border(labels, 1)
        seeds[middle] = labels[middle]
        without_middle = is_thin & ~np.isin(labels, labels[middle])
        seeds[without_middle] = labels[without_middle]
    return seeds


def _near_border(labels: np.ndarray, distance: int) -> np.ndarray:
    window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    # OpenCV's morphology has no int32; float64 holds every label exactly.
    values = labels.astype(np.float64)
    return cv2.dilate(values, window) != cv2.erode(values, window)


def thick_gaps(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: the parts of unlabelled areas that squares of half side HOLE_RADIUS cover, and one pixel around."""
    gap = (labels == 0).astype(np.uint8)
    opened = cv2.morphologyEx(gap, cv2.MORPH_OPEN, np.ones((2 * HOLE_RADIUS + 1, 2 * HOLE_RADIUS + 1), np.uint8))
    return (cv2.dilate(opened, np.ones((3, 3), np.uint8)) > 0) & (gap > 0)


def flood(seeds: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Give every unlabelled pixel a label by a watershed on the gradient.

    Only the unlabelled pixels and the labelled rim around them take part: the result is that of the whole frame, for a
    fraction of the queue.
    """
    unknown = seeds == 0
    if not unknown.any() or unknown.all():
        return seeds
    taking_part = cv2.dilate(unknown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    flooded = watershed(gradient, np.where(taking_part, seeds, 0), mask=taking_part)
    return np.where(unknown, flooded, seeds).astype(np.int32)


def absorb_fragments(labels: np.ndarray, gradient: np.ndarray, min_fragment: int) -> np.ndarray:
    """Give separate pieces of a label that are smaller than `min_fragment` pixels to their neighbours.

    A label keeps its small pieces where it has no larger one in the frame. Pixels connect across edges, not corners.
    """
    pieces = connected_pieces(labels, connectivity=1, background=-1)
    is_small = (np.bincount(pieces.ravel()) < min_fragment)[pieces]
    is_fragment = is_small & np.isin(labels, labels[~is_small])
    return flood(np.where(is_fragment, 0, labels).astype(np.int32), gradient)
