"""Dense optical flow back to the previous frame, by fusing two proposals, and which of its vectors can be trusted.

A coarse-to-fine method loses what is small and moves unlike its surroundings: under a fast pan the object that the
camera follows vanishes at the coarse scales. An exhaustive search over displacements has no such prior but no precision
either. Each pixel takes the proposal under which the two frames agree better.

Shape legend: H height, W width. Flow vectors are (x, y) in pixels, from the later frame into the earlier one.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .frame_appearance import FrameFeatures

MIN_FLOW_SIDE = 32  # pixels; smaller frames are padded, because DIS refuses images without room for its pyramid
SEARCH_CELL = 4  # pixels; the search compares frames shrunk by this factor
SEARCH_RADIUS = (12, 8)  # cells, horizontally and vertically: 48 x 32 pixels
SEARCH_WINDOW = 3  # cells; side of the box over which the search compares
SEARCH_CONTRAST_DOUBLINGS = 2  # of the 8-bit colour difference; saturating, they bound outliers to 64 units
SEARCH_LENGTH_COST = 0.25  # per cell of displacement, against flat areas' drifting
FUSION_SCALE = 2  # proposals are compared on frames shrunk by this factor
RESIDUAL_WINDOW = 5  # pixels; side of the box over which colour residuals are averaged
RESIDUAL_CAP = 30.0  # CIELAB units; also what a vector out of the frame costs
ROUND_TRIP_RELATIVE = 0.01  # of the squared flow lengths, as Sundaram, Brox and Keutzer (ECCV 2010) test flow
ROUND_TRIP_ABSOLUTE = 1.0  # squared pixels
SEARCH_GAIN, SEARCH_MARGIN = 0.9, 0.2  # the search's residual must be below gain * other - margin: it is less precise


@dataclass(frozen=True, eq=False)
class BackwardFlow:
    """Flow from a frame to the previous one.

    Attributes:
        vectors: (H, W, 2) float32, from a pixel to its place in the previous frame.
        reliable: (H, W) bool: that place lies inside the frame and has the pixel's colour.
    """

    vectors: np.ndarray
    reliable: np.ndarray


class FlowEstimator:
    """Dense inverse search flow (Kroeger et al., ECCV 2016) fused with an exhaustive search."""

    def __init__(self, max_residual: float = 9.0) -> None:
        """Args: max_residual: CIELAB units by which a pixel may differ from where it came from, mean over 5 x 5."""
        self.max_residual = max_residual
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, current: FrameFeatures, previous: FrameFeatures) -> BackwardFlow:
        """Estimate the flow between two frames of one size."""
        smooth = self._coarse_to_fine(current.luma, previous.luma)
        vectors = _fuse(smooth, search_displacements(current.lab, previous.lab), current.lab, previous.lab)
        residual = colour_residual(current.lab, previous.lab, vectors)
        return BackwardFlow(vectors, residual < self.max_residual)

    def round_trip_share(self, current: FrameFeatures, previous: FrameFeatures, flow: BackwardFlow) -> float:
        """Share of pixels that reliably lead to the previous frame and from there back to themselves, in 0..1."""
        forward = self._coarse_to_fine(previous.luma, current.luma)
        returned = sample(forward, *sampling_positions(flow.vectors))
        gap = ((flow.vectors + returned) ** 2).sum(axis=2)
        lengths = (flow.vectors**2).sum(axis=2) + (returned**2).sum(axis=2)
        closes = gap < ROUND_TRIP_RELATIVE * lengths + ROUND_TRIP_ABSOLUTE
        return float((flow.reliable & closes).mean())

    def _coarse_to_fine(self, current: np.ndarray, previous: np.ndarray) -> np.ndarray:
        height, width = current.shape
        pad = (0, max(0, MIN_FLOW_SIDE - height), 0, max(0, MIN_FLOW_SIDE - width))
        if any(pad):
            current, previous = (cv2.copyMakeBorder(luma, *pad, cv2.BORDER_REPLICATE) for luma in (current, previous))
        start = np.zeros((*current.shape, 2), np.float32)
        return np.asarray(self._dis.calc(current, previous, start))[:height, :width]


def search_displacements(current: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Best displacement of every cell over a window of displacements, by truncated absolute colour difference.

    Args:
        current, previous: (H, W, 3) float32 CIELAB.

    Returns:
        (H / SEARCH_CELL, W / SEARCH_CELL, 2) float32, rounded sizes, at least 1: pixels, into `previous`.
    """
    height, width = current.shape[:2]
    cells = [_shrink(_as_bytes(lab), SEARCH_CELL) for lab in (current, previous)]
    rows, columns = cells[0].shape[:2]
    reach_x, reach_y = SEARCH_RADIUS
    # One plane a channel: saturating sums of planes are faster than sums over interleaved channels.
    here = cv2.split(cells[0])
    there = cv2.split(cv2.copyMakeBorder(cells[1], reach_y, reach_y, reach_x, reach_x, cv2.BORDER_REPLICATE))
    displacements = np.array([(x, y) for y in range(-reach_y, reach_y + 1) for x in range(-reach_x, reach_x + 1)])
    length_costs = np.rint(SEARCH_LENGTH_COST * np.hypot(*displacements.T)).tolist()
    least = np.full((rows, columns), 255, np.uint8)
    best = np.zeros((rows, columns), np.uint16)
    for number, ((x, y), length_cost) in enumerate(
        zip((displacements + SEARCH_RADIUS).tolist(), length_costs, strict=True)
    ):
        lightness, green_red, blue_yellow = (
            cv2.absdiff(plane, other[y : y + rows, x : x + columns]) for plane, other in zip(here, there, strict=True)
        )
        difference = cv2.add(cv2.add(lightness, green_red), blue_yellow)
        for _ in range(SEARCH_CONTRAST_DOUBLINGS):
            difference = cv2.add(difference, difference)
        cost = cv2.add(cv2.blur(difference, (SEARCH_WINDOW, SEARCH_WINDOW)), length_cost)
        is_less = cv2.compare(cost, least, cv2.CMP_LT)
        cv2.copyTo(np.full_like(best, number), is_less, best)
        cv2.min(cost, least, least)
    cell = np.array((width / columns, height / rows), np.float32)
    return displacements.astype(np.float32)[best] * cell


def colour_residual(current: np.ndarray, previous: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """How far the colours at the ends of each vector are apart, mean over a window.

    Args:
        current, previous: (H, W, 3) float32 CIELAB.
        vectors: (H, W, 2) float32 pixels.

    Returns:
        (H, W) float32 CIELAB units; RESIDUAL_CAP at most.
    """
    height, width = current.shape[:2]
    x, y = sampling_positions(vectors)
    difference = current - sample(previous, x, y)
    residual = np.minimum(np.sqrt((difference * difference).sum(axis=2)), RESIDUAL_CAP)
    residual[(x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)] = RESIDUAL_CAP
    return cv2.blur(residual, (RESIDUAL_WINDOW, RESIDUAL_WINDOW))


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
    """Flow from frame 2 to frame 0, given those from 2 to 1 and from 1 to 0."""
    return first + sample(second, *sampling_positions(first))


def _fuse(smooth: np.ndarray, searched: np.ndarray, current: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """The full-resolution flow, with the cells' displacement wherever that explains the colours clearly better."""
    height, width = smooth.shape[:2]
    here, there = _shrink(current, FUSION_SCALE), _shrink(previous, FUSION_SCALE)
    size = here.shape[1::-1]
    scale = np.array((size[0] / width, size[1] / height), np.float32)
    smooth_residual = colour_residual(here, there, cv2.resize(smooth, size) * scale)
    cells = cv2.resize(searched, size, interpolation=cv2.INTER_NEAREST)
    searched_residual = colour_residual(here, there, cells * scale)
    better = searched_residual < SEARCH_GAIN * smooth_residual - SEARCH_MARGIN
    is_better = cv2.resize(better.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    searched = cv2.resize(searched, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.where(is_better[..., None], searched, smooth)


def _shrink(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = image.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _as_bytes(lab: np.ndarray) -> np.ndarray:
    return np.clip(lab + np.array((0, 128, 128), np.float32), 0, 255).astype(np.uint8)
