"""One colour per trajectory id: the same id always has the same colour, and ids that follow each other differ
clearly."""

import numpy as np

_NEUTRAL = (64, 64, 64)
# The golden ratio's fraction spreads hues, that of the root of two lightness: together they fill the plane evenly.
# Of the starting points tried, this one keeps the first colours farthest apart.
_HUE_STEP = 0.6180339887498949
_LIGHTNESS_STEP = 0.4142135623730951
_LIGHTNESS_START = 0.6
_LIGHTNESS_RANGE = (0.5, 0.82)
_CHROMA_STEPS = np.linspace(0.04, 0.24, 41)


def trajectory_colors(num_trajectories: int) -> np.ndarray:
    """Return (num_trajectories + 1, 3) uint8 sRGB colours, row m for trajectory m and a neutral grey in row 0.

    Hues step by the golden angle in Oklab, with alternating lightness and as much chroma as sRGB allows, so a prefix of
    the ids always has well separated colours. Raises ValueError for a negative number.
    """
    if num_trajectories < 0:
        raise ValueError(f"num_trajectories is {num_trajectories}; expected 0 or more")
    number = np.arange(num_trajectories)
    hue = 2 * np.pi * (number * _HUE_STEP % 1)
    low, high = _LIGHTNESS_RANGE
    lightness = low + (high - low) * ((number * _LIGHTNESS_STEP + _LIGHTNESS_START) % 1)
    # The most vivid colour of this hue and lightness that sRGB can show: try all chromas, keep the last inside.
    candidates = _oklch_to_linear_srgb(lightness[:, None], _CHROMA_STEPS[None, :], hue[:, None])
    inside = ((candidates >= 0) & (candidates <= 1)).all(-1)
    best = np.maximum(inside.cumprod(axis=1).sum(1) - 1, 0)
    linear = np.clip(candidates[number, best], 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colors = np.empty((num_trajectories + 1, 3), np.uint8)
    colors[0] = _NEUTRAL
    colors[1:] = np.rint(255 * srgb)
    return colors


def _oklch_to_linear_srgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Return linear sRGB (..., 3) of Oklab colours in polar form (Ottosson 2020); values outside 0..1 are out of
    gamut."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lightness = np.broadcast_to(lightness, a.shape)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    matrix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    return cone**3 @ matrix.T
