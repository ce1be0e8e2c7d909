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
    labels = checked_volume(labels)
    dense = _dense_ids(np.where(labels > 0, labels, 0))
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
    """Renumber non-negative ids (any shape, as many as fit in memory) to 1..M, order kept and 0 staying 0, int32."""
    is_present = np.zeros(int(ids.max()) + 1, dtype=bool)
    is_present[ids] = True
    is_present[0] = False
    new_id = np.cumsum(is_present, dtype=np.int32)
    new_id[0] = 0
    return new_id[ids]


def _dense_ids(labels: np.ndarray) -> np.ndarray:
    """`close_gaps` for non-negative labels of any size: a table where it is no longer than the volume, else a sort."""
    if int(labels.max()) <= labels.size:
        return close_gaps(labels.astype(np.int64))
    present, dense = np.unique(labels, return_inverse=True)
    return dense.reshape(labels.shape) + (0 if present[0] == 0 else 1)
