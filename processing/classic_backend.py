"""The weights-free tracking backend: over-segment, follow every region densely, then merge whole trajectories.

Shape legend: T sampled frames over all clips, n sampled frames of a clip, H height, W width.
"""

from collections.abc import Sequence
from operator import index

import numpy as np

from .backends import Clip, Progress, no_progress
from .border_snapping import absorb_fragments
from .label_propagation import LabelPropagator
from .occlusion_links import find_occlusion_links, measure_lives
from .region_graph import RegionGraphBuilder
from .region_merging import MergeHistory, MergeWeights, merge_regions
from .region_tracking import TrackedVideo, follow_regions

MAX_SIDE = 32_766  # pixels of a frame's side that OpenCV can warp
LINK_GRADIENT = 3.0  # CIELAB units per pixel that an occlusion link counts as boundary evidence


class ClassicBackend:
    """Panoptic trajectories from OpenCV and scikit-image alone: no weights, no download, deterministic.

    Every pixel of every sampled frame belongs to a trajectory (boundary frames at a cut excepted), and no trajectory
    spans a cut. One budget is shared by all clips: contacts are merged in the order of their cost, wherever they lie. A
    video with more shots than `max_trajectories` still gets one trajectory per shot, of which the generator then keeps
    the largest.
    """

    name = "classic"
    frame_interval: float | None = 1 / 8

    def __init__(
        self,
        *,
        num_superpixels: int = 400,
        occlusion_links: bool = True,
        colour_weight: float = 1.0,
        gradient_weight: float = 1.0,
        motion_weight: float = 2 / 3,
        area_exponent: float = 0.15,
        min_fragment: int = 24,
    ) -> None:
        """Configure the backend.

        Args:
            num_superpixels: About how many regions a frame is cut into before tracking; at least 1.
            occlusion_links: Whether a region that ended may be merged with one born later nearby that it never touched.
                Identities then survive short occlusions, and a trajectory may lie in several places at once.
            colour_weight: Cost of merging per CIELAB unit between mean colours.
            gradient_weight: Cost per CIELAB unit of gradient along the common border.
            motion_weight: Cost per pixel of motion difference along the common border, between sampled frames.
            area_exponent: How much more merging large regions costs than merging small ones.
            min_fragment: Pixels; smaller separate pieces of a trajectory go to their neighbours. 0 keeps them.

        Raises:
            TypeError, ValueError: An option is no number of its kind, or out of range.
        """
        if index(num_superpixels) < 1:
            raise ValueError(f"num_superpixels must be at least 1, got {num_superpixels}.")
        if index(min_fragment) < 0:
            raise ValueError(f"min_fragment must be at least 0 pixels, got {min_fragment}.")
        self.num_superpixels = num_superpixels
        self.occlusion_links = occlusion_links
        self.weights = MergeWeights(colour_weight, gradient_weight, motion_weight, area_exponent)
        self.min_fragment = min_fragment

    def track(self, clips: Sequence[Clip], max_trajectories: int, progress: Progress | None = None) -> list[np.ndarray]:
        """See `TrackingBackend.track`. Regions that live on through a key frame keep their label in both clips.

        Raises:
            ValueError: A side of the frames is longer than MAX_SIDE, or `max_trajectories` is below 1.
        """
        if max_trajectories < 1:
            raise ValueError(f"max_trajectories must be at least 1, got {max_trajectories}.")
        if not clips:
            return []
        height, width = clips[0].frames.shape[1:3]
        if max(height, width) > MAX_SIDE:
            raise ValueError(f"Frames of {height} x {width} cannot be followed; expected sides of at most {MAX_SIDE}.")
        report = progress if progress is not None else no_progress
        video = follow_regions(clips, LabelPropagator(self.num_superpixels), report)
        report("merge", 0, 1)
        history = self._merge(video)
        report("merge", 1, 1)
        count = max_trajectories
        while True:
            volumes = self._volumes(video, history.labels_at(count), clips)
            excess = count_joined(volumes, clips) - max_trajectories
            if excess <= 0 or count == 1:
                return volumes
            # A trajectory that is hidden at a boundary comes out of the join as two, so fewer may be made.
            count = max(1, count - excess)

    def _merge(self, video: TrackedVideo) -> MergeHistory:
        builder = RegionGraphBuilder(video.num_labels)
        for labels, features, flow in zip(video.labels, video.features, video.flows, strict=True):
            builder.add_frame(labels, features, flow)
        graph = builder.build()
        if self.occlusion_links:
            lives = measure_lives(video.labels, [features.lab for features in video.features], video.num_labels)
            links, lengths = find_occlusion_links(lives, video.shots, video.camera, min(video.labels.shape[1:]))
            graph = graph.with_links(links, lengths, LINK_GRADIENT)
        return merge_regions(graph, self.weights)

    def _volumes(self, video: TrackedVideo, merged: np.ndarray, clips: Sequence[Clip]) -> list[np.ndarray]:
        """The merged labels clip by clip; nothing on a boundary frame that a cut parts from its clip."""
        labels = merged[video.labels]
        for position, features in enumerate(video.features):
            labels[position] = absorb_fragments(labels[position], features.gradient, self.min_fragment)
        volumes = []
        start = 0
        for clip in clips:
            end = start + len(clip.sampled)
            volume = labels[start:end].astype(np.int32)
            if clip.has_boundary and video.shots[end - 1] != video.shots[end - 2]:
                volume[-1] = 0
            volumes.append(volume)
            start = end - clip.has_boundary
        return volumes


def count_joined(volumes: Sequence[np.ndarray], clips: Sequence[Clip]) -> int:
    """How many trajectories the volumes make when equal labels on a boundary frame are joined, and nothing else."""
    count = 0
    for volume, clip in zip(volumes, clips, strict=True):
        count += int(np.count_nonzero(np.unique(volume)))
        if clip.has_boundary:
            count -= int(np.count_nonzero(np.unique(volume[-1])))
    return count
