"""Greedy merging of regions: the cheapest contact first, every cost recomputed for the regions as they have become.

The cost of joining regions i and j that touch is

    (colour * |mean_i - mean_j| + gradient * edge + motion * difference)
        * size ** area_exponent / contact_share ** contact_exponent

with the mean CIELAB colours, the mean image gradient along their border, the cubic mean of their motion difference
there, their harmonic size in pixels per frame, and the border's share of the shorter contour. So small regions that lie
snugly against each other go first.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from .region_graph import RegionGraph

CONTACT_SHARE_FLOOR = 0.02  # keeps the cost finite for links, whose regions may touch nothing else


@dataclass(frozen=True)
class MergeWeights:
    """What makes two regions different; see the module's formula.

    Attributes:
        colour: Per CIELAB unit between the mean colours.
        gradient: Per CIELAB unit of gradient along the border.
        motion: Per pixel of motion difference along the border.
        area_exponent: How much larger regions cost more. 0 merges likeness alone; 1 keeps sizes alike.
        contact_exponent: How much a short common border costs more.
    """

    colour: float = 1.0
    gradient: float = 1.0
    motion: float = 2 / 3
    area_exponent: float = 0.15
    contact_exponent: float = 0.5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"Merge weight {name} must be at least 0, got {value}.")


@dataclass(frozen=True, eq=False)
class MergeHistory:
    """The merges in the order in which they were made.

    Attributes:
        num_regions: R regions before the first merge, counting only labels that occur.
        occurs: (R_all,) bool: which labels 1..R_all occur.
        steps: (K, 2) int64 rows: the second region was absorbed by the first.
        costs: (K,) float64 cost of each.
    """

    num_regions: int
    occurs: np.ndarray
    steps: np.ndarray
    costs: np.ndarray

    def labels_at(self, count: int) -> np.ndarray:
        """Labels once no more than `count` regions are left, or as few as the merges made allow.

        Returns:
            (R_all + 1,) int64: new label of every old one; 0 stays 0. A new label is the old one of a region it holds.
        """
        parent = np.arange(len(self.occurs))
        for kept, absorbed in self.steps[: max(0, self.num_regions - count)]:
            parent[absorbed] = kept
        # A region is absorbed once, so following parents ends; halving the paths makes that few rounds.
        while (parent != parent[parent]).any():
            parent = parent[parent]
        return np.concatenate([[0], parent + 1])


def merge_regions(
    graph: RegionGraph, weights: MergeWeights, min_regions: int = 1, max_cost: float = np.inf
) -> MergeHistory:
    """Merge until `min_regions` are left, no contact is left, or the cheapest merge costs `max_cost` or more."""
    alive = graph.pixels > 0
    state = _Regions(graph, weights)
    heap = [(state.cost(i, j), i, j, 0, 0) for i, j in graph.pairs.tolist()]
    heapq.heapify(heap)
    version = [0] * graph.num_regions
    absorbed = [False] * graph.num_regions
    left = int(alive.sum())
    steps: list[tuple[int, int]] = []
    costs: list[float] = []
    while heap and left > min_regions:
        cost, i, j, version_i, version_j = heapq.heappop(heap)
        if absorbed[i] or absorbed[j] or version[i] != version_i or version[j] != version_j:
            continue
        if cost >= max_cost:
            break
        if len(state.contacts[i]) < len(state.contacts[j]):
            i, j = j, i
        state.absorb(i, j)
        absorbed[j] = True
        version[i] += 1
        left -= 1
        steps.append((i, j))
        costs.append(cost)
        for k in state.contacts[i]:
            heapq.heappush(heap, (state.cost(i, k), i, k, version[i], version[k]))
    return MergeHistory(int(alive.sum()), alive, np.array(steps, dtype=np.int64).reshape(-1, 2), np.array(costs))


class _Regions:
    """The regions as merging changes them. Plain lists: at this size Python's floats beat small arrays."""

    def __init__(self, graph: RegionGraph, weights: MergeWeights) -> None:
        self.weights = weights
        self.num_frames = max(graph.num_frames, 1)
        self.pixels = graph.pixels.tolist()
        self.colour = graph.colour_sums.tolist()
        self.contour = graph.contour.tolist()
        self.contacts: list[dict[int, list[float]]] = [{} for _ in self.pixels]
        evidence = np.stack([graph.contact, graph.gradient_sums, graph.motion_sums], axis=1).tolist()
        for (i, j), sums in zip(graph.pairs.tolist(), evidence, strict=True):
            self.contacts[i][j] = self.contacts[j][i] = sums

    def cost(self, i: int, j: int) -> float:
        length, gradient, motion = self.contacts[i][j]
        pixels_i, pixels_j = self.pixels[i], self.pixels[j]
        (l_i, a_i, b_i), (l_j, a_j, b_j) = self.colour[i], self.colour[j]
        colour = (
            (l_i / pixels_i - l_j / pixels_j) ** 2
            + (a_i / pixels_i - a_j / pixels_j) ** 2
            + (b_i / pixels_i - b_j / pixels_j) ** 2
        ) ** 0.5
        weights = self.weights
        difference = (
            weights.colour * colour
            + weights.gradient * gradient / length
            + weights.motion * (motion / length) ** (1 / 3)
        )
        size = pixels_i * pixels_j / (pixels_i + pixels_j) / self.num_frames
        share = min(1.0, length / max(1.0, min(self.contour[i], self.contour[j]))) + CONTACT_SHARE_FLOOR
        return difference * size**weights.area_exponent / share**weights.contact_exponent

    def absorb(self, i: int, j: int) -> None:
        """Region i takes region j over."""
        self.pixels[i] += self.pixels[j]
        self.colour[i] = [a + b for a, b in zip(self.colour[i], self.colour[j], strict=True)]
        self.contour[i] += self.contour[j] - 2 * self.contacts[i][j][0]
        del self.contacts[i][j]
        for k, sums in self.contacts[j].items():
            if k == i:
                continue
            del self.contacts[k][j]
            known = self.contacts[i].get(k)
            if known is None:
                self.contacts[i][k] = self.contacts[k][i] = sums
            else:
                for n, value in enumerate(sums):
                    known[n] += value
        self.contacts[j] = {}
