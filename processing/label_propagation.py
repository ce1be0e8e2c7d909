"""Fine trajectories: the regions of a frame followed along the flow, with borders kept on image edges.

A frame's labels are pulled along the flow into the next frame. A strip along every border, and all pixels whose flow
is not reliable, are then decided anew by a watershed on the image gradient, so that borders do not drift off the edges.
Thick uncovered areas stay open until the next sampled frame, where they are segmented afresh and become new
trajectories.

Shape legend: H height, W width.
"""

import cv2
import numpy as np
from skimage.measure import label as connected_pieces
from skimage.segmentation import watershed

from .frame_features import FrameFeatures
from .optical_flow import BackwardFlow, warp_labels
from .superpixels import segment_frame

BORDER_STRIP = 2  # pixels on each side of a border that are decided anew
HOLE_RADIUS = 3  # pixels; an uncovered area must hold a square of this half side to become something new
MIN_BIRTH_AREA = 40  # pixels


class LabelPropagator:
    """Follows regions from frame to frame. Labels are never reused; 0 is not (yet) known."""

    def __init__(self, num_superpixels: int = 400) -> None:
        self.num_superpixels = num_superpixels
        self.num_labels = 0
        self._labels: np.ndarray | None = None

    def restart(self) -> None:
        """Forget the previous frame: the next sampled frame is segmented afresh."""
        self._labels = None

    def step(self, features: FrameFeatures, flow: BackwardFlow | None, is_sampled: bool) -> np.ndarray | None:
        """Label the next frame.

        Args:
            features: The frame.
            flow: Between the previous frame and this one; needed unless `restart` was called.
            is_sampled: Whether every pixel must get a label.

        Returns:
            (H, W) int32 labels, without 0 at a sampled frame; None at an intermediate frame after `restart`.
        """
        if self._labels is None:
            if is_sampled:
                self._labels = self._new_labels(segment_frame(features, self.num_superpixels))
        else:
            if flow is None:
                raise ValueError("The flow from the previous frame is needed to follow its regions.")
            warped = np.where(flow.reliable, warp_labels(self._labels, flow.vectors), 0)
            labels = self._snap(warped, features.gradient)
            self._labels = self._fill_holes(labels, features) if is_sampled else labels
        return self._labels

    def _new_labels(self, labels: np.ndarray) -> np.ndarray:
        """Shift labels 1..n to numbers not used so far."""
        shifted = np.where(labels > 0, labels + self.num_labels, 0).astype(np.int32)
        self.num_labels += int(labels.max())
        return shifted

    def _snap(self, labels: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Decide the strip along borders and thin gaps anew; thick gaps compete as one region and stay 0."""
        hole_label = self.num_labels + 1
        seeds = border_free_seeds(labels, BORDER_STRIP)
        hole = thick_gaps(labels)
        seeds[cv2.erode(hole.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = hole_label
        snapped = flood(seeds, gradient)
        snapped[snapped == hole_label] = 0
        return snapped

    def _fill_holes(self, labels: np.ndarray, features: FrameFeatures) -> np.ndarray:
        hole = labels == 0
        if not hole.any():
            return labels
        pieces = np.where(hole, segment_frame(features, self.num_superpixels), 0)
        area = np.bincount(pieces.ravel())
        area[0] = 0
        born = (area >= MIN_BIRTH_AREA)[pieces]
        if not born.any() and hole.all():
            born = hole
        values, numbers = np.unique(pieces[born], return_inverse=True)
        births = np.zeros_like(labels)
        births[born] = numbers + 1
        seeds = np.where(hole, self._new_labels(births) if len(values) else 0, labels)
        return flood(seeds.astype(np.int32), features.gradient)


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
