"""From key frames to clips, and from the clips' tracked regions back to one video (main paper: split, track, merge)."""

from collections.abc import Sequence

import numpy as np

from .backends import Clip
from .trajectory_numbering import dense_ids


def split_into_clips(frames: np.ndarray, sample_indices: np.ndarray, key_frames: Sequence[int]) -> list[Clip]:
    """Cut a video at its key frames; every clip but the last also gets the next clip's key frame.

    Args:
        frames: (N, H, W, 3) uint8 RGB dense frames. Those before the first and after the last sampled one are not used.
        sample_indices: (T,) increasing positions in `frames` of the sampled frames.
        key_frames: Increasing positions in 0..T-1, the first 0.

    Returns:
        One clip per key frame; their frames are views of `frames`.
    """
    clips = []
    last = len(sample_indices) - 1
    for start, end in zip(key_frames, [*key_frames[1:], last], strict=True):
        in_video = sample_indices[start : end + 1]
        clip_frames = frames[in_video[0] : in_video[-1] + 1]
        clips.append(Clip(clip_frames, in_video - in_video[0], has_boundary=start != key_frames[-1]))
    return clips


def join_clips(clips: Sequence[Clip], volumes: Sequence[np.ndarray], join_iou: float = 0.5) -> np.ndarray:
    """Join the clips' labels at their boundary frames into labels of the whole video.

    A region of clip k on the boundary frame and a region of clip k + 1 on its first frame, which are the same picture,
    become one trajectory where `match_regions` pairs them; all else starts anew.

    Args:
        clips: As `split_into_clips` returns them; T sampled frames in all, each boundary counted once.
        volumes: Per clip, integer labels (n_k, H, W), <= 0 for none, as a backend returns them.
        join_iou: Least IoU, in 0..1.

    Returns:
        (T, H, W) int64 labels, 0 for none. A boundary frame is labelled by the clip that it starts.
    """
    joined = []
    boundary: np.ndarray | None = None
    num_used = 0
    for clip, volume in zip(clips, volumes, strict=True):
        local_ids = dense_ids(volume)
        labels = np.where(local_ids > 0, local_ids.astype(np.int64) + num_used, 0)
        num_used += int(local_ids.max())
        if boundary is not None:
            before, after = match_regions(boundary, labels[0], join_iou)
            joined_label = np.arange(num_used + 1)
            joined_label[after] = before
            labels = joined_label[labels]
        boundary = labels[-1] if clip.has_boundary else None
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
