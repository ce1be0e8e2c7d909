"""The graph that merging works on: regions with pooled colour, contacts with pooled boundary evidence.

Everything is a sum over the frames added, so a trajectory is described by its whole life at once.

Shape legend: H height, W width, R regions, E contacts (pairs of regions that touch in some frame).
"""

from dataclasses import dataclass, replace

import numpy as np

from .frame_appearance import FrameFeatures
from .region_motion import fit_affine_motion


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Regions and their contacts. Row r of the region arrays is label r + 1.

    Attributes:
        num_frames: Frames the sums run over.
        pixels: (R,) float64 pixels over all frames; 0 for a label that never occurs.
        colour_sums: (R, 3) float64 sums of CIELAB over those pixels.
        contour: (R,) float64 length of the region's border with other regions, in pixel edges over all frames.
        pairs: (E, 2) int64 region rows, smaller first, each pair once.
        contact: (E,) float64 length of the common border, in pixel edges over all frames.
        gradient_sums: (E,) float64 sums of the image gradient along it.
        motion_sums: (E,) float64 sums along it of the cubed difference, in pixels, of the two regions' motions.
    """

    num_frames: int
    pixels: np.ndarray
    colour_sums: np.ndarray
    contour: np.ndarray
    pairs: np.ndarray
    contact: np.ndarray
    gradient_sums: np.ndarray
    motion_sums: np.ndarray

    @property
    def num_regions(self) -> int:
        """R, with labels that never occur."""
        return len(self.pixels)

    def with_links(self, pairs: np.ndarray, lengths: np.ndarray, gradient: float) -> "RegionGraph":
        """Add contacts between regions that never touch, as if they had one of that length and mean gradient.

        Args:
            pairs: (K, 2) region rows. Pairs that already touch, and repeated pairs, are left as they are.
            lengths: (K,) pixel edges.
            gradient: CIELAB units per pixel along each of them.
        """
        known = set(map(tuple, self.pairs.tolist()))
        fresh: dict[tuple[int, int], float] = {}
        for (first, second), length in zip(pairs.tolist(), lengths.tolist(), strict=True):
            pair = (min(first, second), max(first, second))
            if pair not in known:
                fresh.setdefault(pair, length)
        if not fresh:
            return self
        added_pairs, added = np.array(list(fresh), dtype=np.int64), np.array(list(fresh.values()))
        return replace(
            self,
            contour=self.contour + np.bincount(added_pairs.ravel(), np.repeat(added, 2), self.num_regions),
            pairs=np.concatenate([self.pairs, added_pairs]),
            contact=np.concatenate([self.contact, added]),
            gradient_sums=np.concatenate([self.gradient_sums, gradient * added]),
            motion_sums=np.concatenate([self.motion_sums, np.zeros(len(added))]),
        )


class RegionGraphBuilder:
    """Pools label maps, frame by frame, into a RegionGraph."""

    def __init__(self, num_regions: int) -> None:
        """Args: num_regions: R, the largest label that any frame will have."""
        self.num_regions = num_regions
        self._num_frames = 0
        self._pixels = np.zeros(num_regions + 1)
        self._colour_sums = np.zeros((num_regions + 1, 3))
        # Per frame: contact keys, and the sums of one, of the gradient and of the motion difference along each.
        self._contacts: list[tuple[np.ndarray, np.ndarray]] = []

    def add_frame(self, labels: np.ndarray, features: FrameFeatures, flow: np.ndarray | None = None) -> None:
        """Add one frame.

        Args:
            labels: (H, W) integers 0..R, 0 for no region.
            features: The frame.
            flow: (H, W, 2) pixels to the frame added before; None where nothing is known.
        """
        flat = labels.ravel()
        self._num_frames += 1
        self._pixels += np.bincount(flat, minlength=self.num_regions + 1)
        for channel in range(3):
            colour = features.lab[..., channel].ravel()
            self._colour_sums[:, channel] += np.bincount(flat, colour, self.num_regions + 1)
        motion = None if flow is None else fit_affine_motion(labels, flow, self.num_regions)
        for axis in (0, 1):
            self._add_borders(labels, features.gradient, motion, axis)

    def _add_borders(self, labels: np.ndarray, gradient: np.ndarray, motion: np.ndarray | None, axis: int) -> None:
        step_y, step_x = (1, 0) if axis == 0 else (0, 1)
        height, width = labels.shape
        before, after = labels[: height - step_y, : width - step_x], labels[step_y:, step_x:]
        row, column = np.nonzero((before != after) & (before > 0) & (after > 0))
        first, second = before[row, column], after[row, column]
        edge = np.maximum(gradient[row, column], gradient[row + step_y, column + step_x])
        if motion is None:
            difference = np.zeros(len(row))
        else:
            change = motion[first] - motion[second]
            difference = np.hypot(*(change[:, 0] + change[:, 1] * column[:, None] + change[:, 2] * row[:, None]).T)
        key = np.minimum(first, second).astype(np.int64) * (self.num_regions + 1) + np.maximum(first, second)
        keys, inverse = np.unique(key, return_inverse=True)
        length = np.bincount(inverse, minlength=len(keys)).astype(np.float64)
        mean_difference = np.bincount(inverse, difference, len(keys)) / np.maximum(length, 1)
        sums = [length, np.bincount(inverse, edge, len(keys)), length * mean_difference**3]
        self._contacts.append((keys, np.stack(sums, axis=1)))

    def build(self) -> RegionGraph:
        """The graph of the frames added so far."""
        keys = np.concatenate([keys for keys, _ in self._contacts] or [np.zeros(0, np.int64)])
        sums = np.concatenate([sums for _, sums in self._contacts] or [np.zeros((0, 3))])
        unique, inverse = np.unique(keys, return_inverse=True)
        pooled = np.stack([np.bincount(inverse, column, len(unique)) for column in sums.T], axis=1)
        pairs = np.stack([unique // (self.num_regions + 1), unique % (self.num_regions + 1)], axis=1) - 1
        contour = np.bincount(pairs.ravel(), np.repeat(pooled[:, 0], 2), self.num_regions)
        return RegionGraph(
            self._num_frames, self._pixels[1:], self._colour_sums[1:], contour, pairs, *pooled.T.astype(np.float64)
        )
