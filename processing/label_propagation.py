"""Fine trajectories: the regions of a frame followed along the flow, with borders kept on image edges.

A frame's labels are pulled along the flow into the next frame. A strip along every border, and all pixels whose flow
is not reliable, are then decided anew by a watershed on the image gradient, so that borders do not drift off the edges.
Thick uncovered areas stay open until the next sampled frame, where they are segmented afresh and become new
trajectories.

Shape legend: H height, W width.
"""

import numpy as np

from .border_snapping import flood, snap_to_edges
from .frame_appearance import FrameFeatures
from .optical_flow import BackwardFlow, warp_labels
from .superpixels import segment_frame

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
            labels = snap_to_edges(warped, features.gradient)
            self._labels = self._fill_holes(labels, features) if is_sampled else labels
        return self._labels

    def _new_labels(self, labels: np.ndarray) -> np.ndarray:
        """Shift labels 1..n to numbers not used so far."""
        shifted = np.where(labels > 0, labels + self.num_labels, 0).astype(np.int32)
        self.num_labels += int(labels.max())
        return shifted

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
