"""Draws trajectories over the frames they belong to."""

import cv2
import numpy as np

from .trajectories import Trajectories
from .trajectory_colors import trajectory_colors

# Lines are this share of the frame's short side wide, at least one pixel: two at 720.
_LINE_SHARE = 1 / 360
_LINE_COLOR = (255, 255, 255)
_LINE_OPACITY = 0.75
_SHADOW_COLOR = (20, 20, 20)
_SHADOW_OPACITY = 0.45
# An id is written where a disc of this share of the short side fits into its region, and not smaller.
_LABEL_RADIUS_SHARE = 1 / 48
_LABEL_RADIUS_PIXELS = 6.0


def draw_overlay(
    frames: np.ndarray,
    trajectories: Trajectories,
    alpha: float = 0.55,
    ids: bool = False,
    boundaries: bool = True,
) -> np.ndarray:
    """Colour each frame by its trajectories.

    Args:
        frames: (T, H, W, 3) uint8 RGB, of any size; the trajectories are scaled to it by nearest neighbour.
        trajectories: of the same T frames.
        alpha: opacity of the colours, 0 to 1. Pixels without a trajectory keep the frame's own colour.
        ids: write the number of each trajectory into its region wherever it fits.
        boundaries: draw a light line between regions.

    Returns:
        (T, H, W, 3) uint8.

    Raises ValueError for frames of another shape or type, another number of frames, or an alpha outside 0..1.
    """
    check_frames(frames, trajectories)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; expected 0 to 1")
    colors = trajectory_colors(trajectories.num_trajectories)
    height, width = frames.shape[1:3]
    drawn = np.empty_like(frames)
    for index, frame in enumerate(frames):
        region = cv2.resize(trajectories.ids[index], (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        drawn[index] = _tint(frame, region, colors, alpha)
        if boundaries:
            _draw_boundaries(drawn[index], region)
        if ids:
            _write_ids(drawn[index], region)
    return drawn


def check_frames(frames: np.ndarray, trajectories: Trajectories) -> None:
    """Raise ValueError unless `frames` is (T, H, W, 3) uint8 with as many frames as the trajectories."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames are {frames.dtype} of shape {frames.shape}; expected uint8 (T, H, W, 3)")
    if len(frames) != trajectories.num_frames:
        raise ValueError(
            f"there are {len(frames)} frames and trajectories of {trajectories.num_frames}; expected as many"
        )


def _tint(frame: np.ndarray, region: np.ndarray, colors: np.ndarray, alpha: float) -> np.ndarray:
    tinted = cv2.addWeighted(frame, 1 - alpha, colors[region], alpha, 0)
    np.copyto(tinted, frame, where=(region == 0)[..., None])
    return tinted


def _draw_boundaries(image: np.ndarray, region: np.ndarray) -> None:
    """Draw anti-aliased light lines with a soft shadow along the borders of `region` (H, W) into `image` in place."""
    border: np.ndarray = np.zeros(region.shape, np.uint8)
    border[:, 1:] |= region[:, 1:] != region[:, :-1]
    border[1:] |= region[1:] != region[:-1]
    thickness = max(1, round(min(region.shape) * _LINE_SHARE))
    if thickness > 1:
        border = cv2.dilate(border, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thickness, thickness)))
    # Regions found at a lower resolution have staircase borders: a slight blur of the line hides the steps. The shadow,
    # blurred more, sets the line off from bright surroundings.
    for color, opacity, spread in ((_SHADOW_COLOR, _SHADOW_OPACITY, 1.2), (_LINE_COLOR, _LINE_OPACITY, 0.4)):
        strength = cv2.GaussianBlur(border.astype(np.float32), (0, 0), spread * thickness)
        weight = opacity * np.minimum(1.4 * strength, 1.0)
        image[:] = cv2.blendLinear(np.full_like(image, color), image, weight, 1 - weight)


def _write_ids(image: np.ndarray, region: np.ndarray) -> None:
    """Write each id at the point of its region that is farthest from its border."""
    short_side = min(region.shape)
    least_radius = max(short_side * _LABEL_RADIUS_SHARE, _LABEL_RADIUS_PIXELS)
    # The distance to the nearest pixel of another id, for all ids at once: borders of both sides count as outside.
    inside: np.ndarray = np.ones(region.shape, np.uint8)
    inside[:, 1:] &= region[:, 1:] == region[:, :-1]
    inside[1:] &= region[1:] == region[:-1]
    inside = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    deepest = np.zeros(int(region.max()) + 1, np.float32)
    np.maximum.at(deepest, region.ravel(), distance.ravel())
    scale = short_side / 1100
    weight = max(1, round(short_side / 480))
    for label in np.flatnonzero(deepest >= least_radius):
        if label == 0:
            continue
        y, x = np.unravel_index(np.argmax(np.where(region == label, distance, -1)), region.shape)
        text = str(label)
        (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, weight)
        origin = (int(x) - text_width // 2, int(y) + text_height // 2)
        for color, thickness in (((20, 20, 20), weight + 2), ((255, 255, 255), weight)):
            cv2.putText(image, text, origin, cv2.FONT_HERSHEY_DUPLEX, scale, color, thickness, cv2.LINE_AA)
