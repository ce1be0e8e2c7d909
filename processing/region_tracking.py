"""One pass over a video's clips: features, flow, cuts and fine trajectories at every sampled frame.

Shape legend: T sampled frames over all clips, H height, W width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .backends import Clip, Progress
from .frame_appearance import FrameFeatures, extract_features, histogram_distance
from .label_propagation import LabelPropagator
from .optical_flow import BackwardFlow, FlowEstimator, compose_flow

LOST_SHARE = 0.25  # where no more pixels than this can be followed nothing goes on, whatever the colours
CUT_CHANGE, CUT_FOLLOWED_SHARE = 0.45, 0.6  # share of colour mass that changes, where no more pixels are followed
# Shots before one background share its colours, so pixels are followed by colour; but their way back does not close.
LIKELY_CHANGE, LIKELY_ROUND_TRIP_SHARE = 0.2, 0.25


@dataclass(frozen=True, eq=False)
class TrackedVideo:
    """Fine trajectories of a video and what merging needs to know of its frames.

    Attributes:
        labels: (T, H, W) int32, 1..num_labels everywhere; none spans a cut.
        num_labels: Labels given so far; some may occur at intermediate frames only.
        features: T sampled frames' features.
        flows: T flows (H, W, 2) float32 from each sampled frame to the one before; None for the first one of a shot.
        shots: (T,) int64 number of the shot of each sampled frame.
        camera: (T, 2) float64 accumulated median motion of the picture, in pixels.
    """

    labels: np.ndarray
    num_labels: int
    features: list[FrameFeatures]
    flows: list[np.ndarray | None]
    shots: np.ndarray
    camera: np.ndarray


def follow_regions(clips: Sequence[Clip], propagator: LabelPropagator, progress: Progress) -> TrackedVideo:
    """Track fine regions through all clips as one video, starting anew at every cut.

    A key frame is no reason to stop: where the picture goes on, so do its regions.
    """
    estimate_flow = FlowEstimator()
    total = sum(len(clip.frames) - clip.has_boundary for clip in clips)
    labels: list[np.ndarray] = []
    features: list[FrameFeatures] = []
    flows: list[np.ndarray | None] = []
    shots: list[int] = []
    camera: list[np.ndarray] = []
    previous: FrameFeatures | None = None
    since_sampled: np.ndarray | None = None
    shot, motion = 0, np.zeros(2)
    for position, (frame, is_sampled, goes_on) in enumerate(_frames(clips)):
        current = extract_features(frame)
        flow = None if previous is None or not goes_on else estimate_flow(current, previous)
        if previous is not None and (flow is None or is_cut(previous, current, flow, estimate_flow)):
            propagator.restart()
            shot, flow, since_sampled = shot + 1, None, None
        if flow is not None:
            motion = motion - np.median(flow.vectors[::8, ::8].reshape(-1, 2), axis=0)
            if since_sampled is not None:
                since_sampled = compose_flow(flow.vectors, since_sampled)
        frame_labels = propagator.step(current, flow, is_sampled)
        if is_sampled:
            assert frame_labels is not None
            labels.append(frame_labels)
            features.append(current)
            flows.append(since_sampled)
            shots.append(shot)
            camera.append(motion)
            since_sampled = np.zeros((*frame.shape[:2], 2), np.float32)
        previous = current
        progress("track", position + 1, total)
    return TrackedVideo(
        np.stack(labels), propagator.num_labels, features, flows, np.array(shots), np.stack(camera).astype(np.float64)
    )


def is_cut(earlier: FrameFeatures, later: FrameFeatures, flow: BackwardFlow, estimator: FlowEstimator) -> bool:
    """Whether nothing of the earlier frame goes on in the later one."""
    followed = float(flow.reliable.mean())
    changed = histogram_distance(earlier.histogram, later.histogram)
    if followed < LOST_SHARE or (changed > CUT_CHANGE and followed < CUT_FOLLOWED_SHARE):
        return True
    return changed > LIKELY_CHANGE and estimator.round_trip_share(later, earlier, flow) < LIKELY_ROUND_TRIP_SHARE


def _frames(clips: Sequence[Clip]) -> Iterator[tuple[np.ndarray, bool, bool]]:
    """Every frame once, with whether it is sampled and whether it may continue the one before."""
    goes_on = False
    for clip in clips:
        sampled = set(clip.sampled.tolist())
        for position in range(1 if goes_on else 0, len(clip.frames)):
            yield clip.frames[position], position in sampled, goes_on or position > 0
        goes_on = clip.has_boundary
