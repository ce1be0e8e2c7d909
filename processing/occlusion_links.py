"""Candidate re-identifications: regions that ended, and later ones that may be the same surface come back.

A link makes two regions that never touch mergeable; whether they are merged is decided by their likeness like any other
contact's.

Shape legend: T sampled frames, H height, W width, R regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_GAP = 15  # sampled frames between the end of one and the start of the other
MAX_DISTANCE = 0.3  # of the frame's short side, after subtracting the camera's median motion
MAX_COLOUR_DISTANCE = 7.0  # CIELAB units between the mean colours
DISTANCE_WEIGHT = 10.0  # CIELAB units that the largest distance counts as, in choosing the likest
LINK_LENGTH = 4.0  # a link weighs as a border this many times as long as the smaller region is wide


@dataclass(frozen=True, eq=False)
class RegionLives:
    """When and where every region begins and ends. Row r is label r + 1.

    Attributes:
        first, last: (R,) int64 positions of the first and last frame with a pixel; T and -1 where there is none.
        first_centre, last_centre: (R, 2) float64 (x, y) centroids there, in pixels.
        colour: (R, 3) float64 mean CIELAB over the whole life.
        largest_area: (R,) int64 pixels.
    """

    first: np.ndarray
    last: np.ndarray
    first_centre: np.ndarray
    last_centre: np.ndarray
    colour: np.ndarray
    largest_area: np.ndarray


def measure_lives(labels: np.ndarray, labs: Sequence[np.ndarray], num_regions: int) -> RegionLives:
    """Follow every region of a (T, H, W) label volume through its life; `labs` are the frames in CIELAB."""
    num_frames, height, width = labels.shape
    y, x = (axis.ravel().astype(np.float64) for axis in np.mgrid[:height, :width])
    size = num_regions + 1
    first, last = np.full(size, num_frames), np.full(size, -1)
    first_centre, last_centre = np.zeros((size, 2)), np.zeros((size, 2))
    colour, pixels, largest = np.zeros((size, 3)), np.zeros(size), np.zeros(size, np.int64)
    for position, (frame_labels, lab) in enumerate(zip(labels, labs, strict=True)):
        flat = frame_labels.ravel()
        area = np.bincount(flat, minlength=size)
        present = area > 0
        centre = (
            np.stack([np.bincount(flat, x, size), np.bincount(flat, y, size)], axis=1) / np.maximum(area, 1)[:, None]
        )
        new = present & (first == num_frames)
        first[new], first_centre[new] = position, centre[new]
        last[present], last_centre[present] = position, centre[present]
        for channel in range(3):
            colour[:, channel] += np.bincount(flat, lab[..., channel].ravel(), size)
        pixels += area
        np.maximum(largest, area, out=largest)
    colour /= np.maximum(pixels, 1)[:, None]
    return RegionLives(*(values[1:] for values in (first, last, first_centre, last_centre, colour, largest)))


def find_occlusion_links(
    lives: RegionLives, shots: np.ndarray, camera: np.ndarray, short_side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pair each later-born region with the likest of those that ended near where it appears, if any is like it.

    Args:
        lives: Of every region.
        shots: (T,) number of the shot of each frame; links stay within a shot.
        camera: (T, 2) float accumulated median motion of the picture, in pixels.
        short_side: Of the frame, in pixels.

    Returns:
        pairs: (K, 2) int64 region rows, the ended one first.
        lengths: (K,) float64 border length that each link stands for, in pixel edges.
    """
    num_frames = len(shots)
    reach = MAX_DISTANCE * short_side
    ended = np.nonzero((lives.last >= 0) & (lives.last < num_frames - 1))[0]
    pairs: list[tuple[int, int]] = []
    lengths: list[float] = []
    for born in np.nonzero((lives.first > 0) & (lives.first < num_frames))[0].tolist():
        start = lives.first[born]
        gap = start - lives.last[ended]
        candidates = ended[(gap > 0) & (gap <= MAX_GAP) & (shots[lives.last[ended]] == shots[start])]
        expected = lives.last_centre[candidates] + camera[start] - camera[lives.last[candidates]]
        distance = np.linalg.norm(expected - lives.first_centre[born], axis=1)
        colour = np.linalg.norm(lives.colour[candidates] - lives.colour[born], axis=1)
        near = (distance < reach) & (colour < MAX_COLOUR_DISTANCE)
        if not near.any():
            continue
        unlikeness = np.where(near, colour + DISTANCE_WEIGHT * distance / reach, np.inf)
        candidate = int(candidates[np.argmin(unlikeness)])
        pairs.append((candidate, born))
        smaller = min(lives.largest_area[candidate], lives.largest_area[born])
        lengths.append(LINK_LENGTH * float(np.sqrt(smaller)))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(lengths)
