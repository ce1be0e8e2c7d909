"""Dense optical flow between consecutive frames, both ways, and which of its vectors can be trusted.

Shape legend: H height, W width. Flow vectors are (x, y) in pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .frame_features import FrameFeatures

MIN_FLOW_SIDE = 32  # pixels; smaller frames are padded, because DIS refuses images without room for its pyramid
ROUND_TRIP_RELATIVE = 0.01  # of the squared flow lengths, as Sundaram, Brox and Keutzer (ECCV 2010) test flow
ROUND_TRIP_ABSOLUTE = 1.0  # squared pixels
RESIDUAL_WINDOW = 5  # pixels; side of the box over which the colour residual is averaged


@dataclass(frozen=True, eq=False)
class FlowPair:
    """Flow between two consecutive frames.

    Attributes:
        forward: (H, W, 2) float32, from a pixel of the earlier frame to its place in the later one.
        backward: (H, W, 2) float32, from a pixel of the later frame to its place in the earlier one.
        reliable: (H, W) bool on the later frame: the way back and forth closes, stays inside, and the colours agree.
    """

    forward: np.ndarray
    backward: np.ndarray
    reliable: np.ndarray


class FlowEstimator:
    """Dense inverse search flow (Kroeger et al., ECCV 2016) with forward-backward and colour checks."""

    def __init__(self, max_residual: float = 9.0) -> None:
        """Args: max_residual: CIELAB units by which a pixel may differ from where it came from, mean over 5 x 5."""
        self.max_residual = max_residual
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, earlier: FrameFeatures, later: FrameFeatures) -> FlowPair:
        """Estimate the flow between two frames of one size."""
        forward = self._estimate(earlier.luma, later.luma)
        backward = self._estimate(later.luma, earlier.luma)
        return FlowPair(forward, backward, self._check(earlier, later, forward, backward))

    def _estimate(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        height, width = source.shape
        pad = (0, max(0, MIN_FLOW_SIDE - height), 0, max(0, MIN_FLOW_SIDE - width))
        if any(pad):
            source, target = (cv2.copyMakeBorder(image, *pad, cv2.BORDER_REPLICATE) for image in (source, target))
        return self._dis.calc(source, target, None)[:height, :width]

    def _check(
        self, earlier: FrameFeatures, later: FrameFeatures, forward: np.ndarray, backward: np.ndarray
    ) -> np.ndarray:
        height, width = earlier.luma.shape
        x, y = sampling_positions(backward)
        inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        returned = sample(forward, x, y)
        gap = ((backward + returned) ** 2).sum(axis=2)
        lengths = (backward**2).sum(axis=2) + (returned**2).sum(axis=2)
        closes = gap < ROUND_TRIP_RELATIVE * lengths + ROUND_TRIP_ABSOLUTE
        residual = np.sqrt(((later.lab - sample(earlier.lab, x, y)) ** 2).sum(axis=2))
        return inside & closes & (cv2.blur(residual, (RESIDUAL_WINDOW, RESIDUAL_WINDOW)) < self.max_residual)


def sampling_positions(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's flow vector points: x and y, each (H, W) float32 pixels."""
    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :] + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    return x, y


def sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples of an (H, W, ...) float32 image at pixel positions; outside, its border repeats."""
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def warp_labels(labels: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Pull (H, W) labels along a flow that points from the result's pixels into `labels`; nearest neighbour."""
    height, width = labels.shape
    x, y = sampling_positions(flow)
    column = np.clip(np.rint(x), 0, width - 1).astype(np.intp)
    row = np.clip(np.rint(y), 0, height - 1).astype(np.intp)
    return labels[row, column]


def compose_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Flow from frame 0 to frame 2, given those from 0 to 1 and from 1 to 2."""
    return first + sample(second, *sampling_positions(first))
