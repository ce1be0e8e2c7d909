"""Affine motion of every region of a label map, fitted to dense flow.

Shape legend: H height, W width, R regions.
"""

import numpy as np

SHRINKAGE = 60.0  # squared pixels added to the spatial variances: regions narrower than this mostly translate


def fit_affine_motion(labels: np.ndarray, flow: np.ndarray, num_regions: int) -> np.ndarray:
    """Least-squares affine motion per region, shrunk towards a translation where a region is small.

    Args:
        labels: (H, W) integers 0..R, 0 for no region.
        flow: (H, W, 2) pixels.
        num_regions: R.

    Returns:
        (R + 1, 3, 2) float64: (u, v) = (1, x, y) @ motion[label]; zeros for regions without pixels.
    """
    row, column = np.nonzero(labels)
    label = labels[row, column]

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(label, values, num_regions + 1) / count

    count = np.maximum(np.bincount(label, minlength=num_regions + 1), 1).astype(np.float64)
    mean_x, mean_y = mean(column), mean(row)
    dx, dy = column - mean_x[label], row - mean_y[label]
    xx, xy, yy = mean(dx * dx) + SHRINKAGE, mean(dx * dy), mean(dy * dy) + SHRINKAGE
    determinant = xx * yy - xy * xy

    motion = np.zeros((num_regions + 1, 3, 2))
    for axis in (0, 1):
        component = flow[row, column, axis].astype(np.float64)
        offset = mean(component)
        deviation = component - offset[label]
        along_x, along_y = mean(dx * deviation), mean(dy * deviation)
        slope_x = (yy * along_x - xy * along_y) / determinant
        slope_y = (xx * along_y - xy * along_x) / determinant
        motion[:, 1, axis], motion[:, 2, axis] = slope_x, slope_y
        motion[:, 0, axis] = offset - slope_x * mean_x - slope_y * mean_y
    return motion
