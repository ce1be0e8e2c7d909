"""What the weights-free backend looks at in a frame: smoothed CIELAB colour, its gradient, luma and a colour histogram.

Shape legend: H height, W width.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SMOOTHING_SIGMA = 0.8  # pixels; removes sensor noise and block artefacts before colours are differentiated
HISTOGRAM_BINS = 8  # per CIELAB channel


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """Per-pixel features of one frame.

    Attributes:
        rgb: (H, W, 3) uint8.
        lab: (H, W, 3) float32 CIELAB of the smoothed frame (L in 0..100, a and b in about -127..127).
        gradient: (H, W) float32 length of the CIELAB gradient over all channels, in CIELAB units per pixel.
        luma: (H, W) uint8.
        histogram: (512,) float64 joint CIELAB histogram that sums to 1.
    """

    rgb: np.ndarray
    lab: np.ndarray
    gradient: np.ndarray
    luma: np.ndarray
    histogram: np.ndarray


def extract_features(rgb: np.ndarray) -> FrameFeatures:
    """Compute the features of one (H, W, 3) uint8 RGB frame."""
    smoothed = cv2.GaussianBlur(rgb, (0, 0), SMOOTHING_SIGMA)
    lab = cv2.cvtColor(smoothed.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    # Scharr's 3 x 3 kernel sums to 16 on each side of a 2 px step, hence 32.
    dx = cv2.Scharr(lab, cv2.CV_32F, 1, 0) / 32
    dy = cv2.Scharr(lab, cv2.CV_32F, 0, 1) / 32
    gradient = np.sqrt((dx * dx + dy * dy).sum(axis=2))
    return FrameFeatures(rgb, lab, gradient, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), colour_histogram(lab))


def colour_histogram(lab: np.ndarray) -> np.ndarray:
    """Joint CIELAB histogram of an (H, W, 3) float32 image: (512,) float64, summing to 1."""
    top = HISTOGRAM_BINS - 1
    lightness = np.clip(lab[..., 0] * (HISTOGRAM_BINS / 100), 0, top).astype(np.int64)
    green_red = np.clip((lab[..., 1] + 64) / 16, 0, top).astype(np.int64)
    blue_yellow = np.clip((lab[..., 2] + 64) / 16, 0, top).astype(np.int64)
    bins = (lightness * HISTOGRAM_BINS + green_red) * HISTOGRAM_BINS + blue_yellow
    return np.bincount(bins.ravel(), minlength=HISTOGRAM_BINS**3) / bins.size


def histogram_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Share of colour mass that differs between two histograms, in 0..1."""
    return 0.5 * float(np.abs(first - second).sum())
