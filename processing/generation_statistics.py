"""What a generation run made, as counts that add up over clips, shards and runs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .trajectories import Trajectories

_COUNTERS = ("trajectories", "lifetimes", "coverage", "shots")


@dataclass
class GenerationStatistics:
    """Counts over clips.

    Attributes:
        clips: Clips with trajectories.
        frames: Their sampled frames.
        trajectories: How many clips have so many trajectories, by that number.
        lifetimes: How many trajectories are present in so many frames, by that number.
        coverage: How many clips have so much of their pixels in a trajectory, by per cent, rounded down.
        shots: How many clips have so many key frames, by that number.
        trajectory_bytes: Of all trajectories files.
        frame_bytes: Of all stored frames.
        seconds: Of worker time, by stage. Not a part of what has to be equal in two runs.
    """

    clips: int = 0
    frames: int = 0
    trajectories: Counter[int] = field(default_factory=Counter)
    lifetimes: Counter[int] = field(default_factory=Counter)
    coverage: Counter[int] = field(default_factory=Counter)
    shots: Counter[int] = field(default_factory=Counter)
    trajectory_bytes: int = 0
    frame_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def count(self, trajectories: Trajectories, trajectory_bytes: int, frame_bytes: int) -> None:
        """Add a clip."""
        self.clips += 1
        self.frames += trajectories.num_frames
        self.trajectories[trajectories.num_trajectories] += 1
        frames, counts = np.unique(trajectories.lifetimes, return_counts=True)
        self.lifetimes.update(dict(zip(frames.tolist(), counts.tolist(), strict=True)))
        self.coverage[int(100 * trajectories.coverage)] += 1
        self.shots[len(trajectories.key_frames)] += 1
        self.trajectory_bytes += trajectory_bytes
        self.frame_bytes += frame_bytes

    def add(self, other: "GenerationStatistics") -> None:
        """Add the clips of other statistics."""
        self.clips += other.clips
        self.frames += other.frames
        self.trajectory_bytes += other.trajectory_bytes
        self.frame_bytes += other.frame_bytes
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.spend(other.seconds)

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Add seconds of worker time, by stage."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data for `from_dict`."""
        values: dict[str, Any] = dict(vars(self))
        for name in _COUNTERS:
            values[name] = {str(number): count for number, count in sorted(values[name].items())}
        return {**values, "seconds": {stage: round(spent, 6) for stage, spent in sorted(self.seconds.items())}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "GenerationStatistics":
        """The statistics that `to_dict` described."""
        counters = {name: Counter({int(number): count for number, count in values[name].items()}) for name in _COUNTERS}
        return cls(**{**values, **counters, "seconds": dict(values["seconds"])})


def mean_of(counts: Counter[int]) -> float:
    """Mean of the numbers that were counted; not a number where there are none."""
    total = sum(counts.values())
    return sum(number * count for number, count in counts.items()) / total if total else float("nan")


def quantile_of(counts: Counter[int], share: float) -> int:
    """The smallest number that at least a share (0..1) of those counted does not exceed.

    Raises `ValueError` where nothing was counted.
    """
    total = sum(counts.values())
    if not total:
        raise ValueError("there is no quantile of nothing")
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= share * total:
            return number
    return max(counts)
