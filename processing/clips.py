"""From key frames to clips, and from the clips' tracked regions back to one video (main paper: split, track, merge)."""

from collections.abc import Sequence

import numpy as np

from .backends import Clip
from .trajectory_numbering import dense_ids


def split_into_clips(
    frames: np.ndarray,
    sample_indices: np.ndarray,
    key_frames: Sequence[int],
    label_size: tuple[int, int] | None = None,
) -> list[Clip]:
    """Cut a video at its key frames; every clip but the last also gets the next clip's key frame.

    Args:
        frames: (N, H, W, 3) uint8 RGB dense frames. Those before the first and after the last sampled one are not used.
        sample_indices: (T,) increasing positions in `frames` of the sampled frames.
        key_frames: Increasing positions in 0..T-1, the first 0.
        label_size: (H, W) of the labels wanted, in pixels. Default: that of the frames.

    Returns:
        One clip per key frame; their frames are views of `frames`.
    """
    clips = []
    last = len(sample_indices) - 1
    label_height, label_width = frames.shape[1:3] if label_size is None else label_size
    for start, end in zip(key_frames, [*key_frames[1:], last], strict=True):
        in_video = sample_indices[start : end + 1]
        clip_frames = frames[in_video[0] : in_video[-1] + 1]
        has_boundary = start != key_frames[-1]
        clips.append(Clip(clip_frames, in_video - in_video[0], has_boundary, (label_height, label_width)))
    return clips


class ClipJoiner:
    """Labels that hold across clips, given clip by clip.

    A region on a clip's boundary frame and a region on the next clip's first frame, which are the same picture, become
    one trajectory where `match_regions` pairs them; all else starts anew. No label is ever used for another trajectory.

    Args:
        join_iou: Least IoU, in 0..1.
    """

    def __init__(self, join_iou: float = 0.5):
        self._join_iou = join_iou
        self._boundary: np.ndarray | None = None
        self._num_used = 0

    def add(self, volume: np.ndarray, has_boundary: bool) -> np.ndarray:
        """Relabel the next clip.

        Args:
            volume: Integer labels (n, H, W), <= 0 for none, as a backend returns them.
            has_boundary: Whether the last frame belongs to the next clip.

        Returns:
            (n, H, W) int64, 0 for none. Regions that go on have their labels of the clip before; the others' labels are
            higher than all so far, in the order of the volume's.
        """
        local_ids = dense_ids(volume)
        label_of = np.arange(int(local_ids.max()) + 1, dtype=np.int64) + self._num_used
        self._num_used = int(label_of[-1])
        label_of[0] = 0
        if self._boundary is not None:
            before, after = match_regions(self._boundary, local_ids[0], self._join_iou)
            label_of[after] = before
        labels = label_of[local_ids]
        # A view would keep the whole clip's labels in memory.
        self._boundary = labels[-1].copy() if has_boundary else None
        return labels


def join_clips(clips: Sequence[Clip], volumes: Sequence[np.ndarray], join_iou: float = 0.5) -> np.ndarray:
    """Join the clips' labels at their boundary frames into labels of the whole video, as `ClipJoiner` does.

    Args:
        clips: As `split_into_clips` returns them; T sampled frames in all, each boundary counted once.
        volumes: Per clip, integer labels (n_k, H, W), <= 0 for none, as a backend returns them.
        join_iou: Least IoU, in 0..1.

    Returns:
        (T, H, W) int64 labels, 0 for none. A boundary frame is labelled by the clip that it starts.
    """
    joiner = ClipJoiner(join_iou)
    joined = []
    for clip, volume in zip(clips, volumes, strict=True):
        labels = joiner.add(volume, clip.has_boundary)
        joined.append(labels[: len(labels) - clip.has_boundary])
    return np.concatenate(joined)


def match_regions(first: np.ndarray, second: np.ndarray, min_iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair the regions of two label maps whose IoU is the best for both and at least `min_iou`; none is used twice.

    Args:
        first, second: (H, W) integer labels, 0 for none. Of equally good regions the smaller label is the best.
        min_iou: In 0..1. Regions that do not overlap never pair.

    Returns:
        Two arrays (P,): the paired labels of `first`, increasing, and of `second`.
    """
    labels_1, dense_1, areas_1 = np.unique(first, return_inverse=True, return_counts=True)
    labels_2, dense_2, areas_2 = np.unique(second, return_inverse=True, return_counts=True)
    pairs, overlap = np.unique(dense_1.reshape(-1) * len(labels_2) + dense_2.reshape(-1), return_counts=True)
    index_1, index_2 = np.divmod(pairs, len(labels_2))
    iou = overlap / (areas_1[index_1] + areas_2[index_2] - overlap)
    is_candidate = (labels_1[index_1] != 0) & (labels_2[index_2] != 0) & (iou >= min_iou)
    index_1, index_2, iou = index_1[is_candidate], index_2[is_candidate], iou[is_candidate]
    is_best = _is_best(index_1, index_2, iou) & _is_best(index_2, index_1, iou)
    return labels_1[index_1[is_best]], labels_2[index_2[is_best]]


def keep_largest(labels: np.ndarray, max_trajectories: int) -> np.ndarray:
    """Set to 0 all but the `max_trajectories` labels with most space-time pixels (ties: the smaller label stays).

    Args:
        labels: (T, H, W) integers, 0 for none, none negative.
        max_trajectories: At least 1.
    """
    volumes = np.bincount(labels.reshape(-1))
    volumes[0] = 0
    keep = np.zeros(len(volumes), dtype=bool)
    keep[np.argsort(-volumes, kind="stable")[:max_trajectories]] = True
    return np.where(keep[labels], labels, 0)


def _is_best(index: np.ndarray, partner: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Whether each pair has the highest IoU (ties: the smallest partner) among those with the same index."""
    order = np.lexsort((partner, -iou, index))
    is_first = np.diff(index[order], prepend=-1) != 0
    is_best = np.zeros(len(index), dtype=bool)
    is_best[order] = is_first
    return is_best
