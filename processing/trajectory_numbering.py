"""How trajectories are numbered: canonically from any labels, or with gaps closed and the order kept."""

import numpy as np

from .trajectory_checks import checked_volume


def canonical_ids(labels: np.ndarray) -> np.ndarray:
    """Number labels 1..M by first frame, then by area in it (larger first), then by label.

    Args:
        labels: (T, H, W) integers or bool; labels <= 0 are none.

    Returns:
        (T, H, W) int32.

    Raises:
        TypeError, ValueError: The labels are not integers or have another shape.
    """
    dense = dense_ids(checked_volume(labels))
    num_ids = int(dense.max()) + 1
    first_frame = np.zeros(num_ids, dtype=np.int64)
    first_area = np.zeros(num_ids, dtype=np.int64)
    for t, frame in enumerate(dense):
        area = np.bincount(frame.reshape(-1), minlength=num_ids)
        is_new = (first_area == 0) & (area > 0)
        first_frame[is_new] = t
        first_area[is_new] = area[is_new]
    # Dense ids keep the order of the labels, and lexsort is stable, so ties go to the smaller label.
    order = np.lexsort((-first_area[1:], first_frame[1:])) + 1
    new_id = np.zeros(num_ids, dtype=np.int32)
    new_id[order] = np.arange(1, num_ids)
    return new_id[dense]


def close_gaps(ids: np.ndarray) -> np.ndarray:
    """Renumber non-negative ids to 1..M, order kept and 0 staying 0, int32. Makes a table as long as the highest."""
    is_present = np.zeros(int(ids.max()) + 1, dtype=bool)
    is_present[ids] = True
    is_present[0] = False
    new_id = np.cumsum(is_present, dtype=np.int32)
    new_id[0] = 0
    return new_id[ids]


def dense_ids(labels: np.ndarray) -> np.ndarray:
    """Renumber any integer or bool labels to 1..M, order kept and labels <= 0 becoming 0, int32."""
    labels = np.where(labels > 0, labels, 0)
    if int(labels.max()) <= labels.size:
        return close_gaps(labels.astype(np.int32))
    present, dense = np.unique(labels, return_inverse=True)
    return (dense.reshape(labels.shape) + (0 if present[0] == 0 else 1)).astype(np.int32)
