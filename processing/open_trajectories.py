"""The trajectories of a stream that may still go on, and the numbering of all of them."""

from dataclasses import dataclass, field, replace

import numpy as np

from .streamed_trajectory import StreamedTrajectory
from .trajectories import Trajectories


@dataclass
class _Open:
    """A trajectory that has not ended, and what was seen of it since its last piece: a part for each clip."""

    id: int
    is_continued: bool = False
    parts: list[StreamedTrajectory] = field(default_factory=list)
    num_frames: int = 0


class OpenTrajectories:
    """Collects trajectories clip by clip until they end.

    Args:
        max_frames_per_piece: A trajectory of more frames is given away in pieces of so many.
    """

    def __init__(self, max_frames_per_piece: int):
        self._max_frames = max_frames_per_piece
        self._open: dict[int, _Open] = {}
        self._num_ids = 0

    def add(self, clip: Trajectories, labels: np.ndarray, boundary: np.ndarray) -> list[StreamedTrajectory]:
        """Take in the next clip.

        Args:
            clip: Its own frames, numbered canonically.
            labels: (T, H, W) the same as `ClipJoiner` labels them.
            boundary: (1, H, W) labels of its boundary frame; (0, H, W) without one. What is not on it has ended.

        Returns:
            Pieces that are full and trajectories that have ended, ordered by id; pieces of one id in their order.
        """
        label_of = np.zeros(clip.num_trajectories + 1, dtype=np.int64)
        label_of[clip.ids] = labels
        finished = []
        # The canonical order, by first frame and area, is also that in which new trajectories get their ids.
        for region, label in enumerate(label_of[1:].tolist(), start=1):
            if label not in self._open:
                self._num_ids += 1
                self._open[label] = _Open(self._num_ids)
            finished += self._extend(self._open[label], clip, region)
        going_on = set(np.unique(boundary).tolist())
        for label in [label for label in self._open if label not in going_on]:
            trajectory = self._open.pop(label)
            trajectory.parts[-1] = replace(trajectory.parts[-1], continues=False)
            finished.append(StreamedTrajectory.concatenate(trajectory.parts))
        return sorted(finished, key=lambda piece: piece.id)

    def _extend(self, trajectory: _Open, clip: Trajectories, region: int) -> list[StreamedTrajectory]:
        """Append what a clip holds of a trajectory; a full piece is finished only once a further frame comes."""
        part = StreamedTrajectory.from_clip(
            clip, region, trajectory.id, is_continued=trajectory.is_continued, continues=True
        )
        trajectory.is_continued = True
        full = []
        start = 0
        while start < len(part):
            if trajectory.num_frames == self._max_frames:
                full.append(StreamedTrajectory.concatenate(trajectory.parts))
                trajectory.parts, trajectory.num_frames = [], 0
            stop = min(len(part), start + self._max_frames - trajectory.num_frames)
            trajectory.parts.append(part.take(start, stop))
            trajectory.num_frames += stop - start
            start = stop
        return full
