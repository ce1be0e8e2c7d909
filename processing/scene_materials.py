"""Surfaces of a named colour and a named material."""

import cv2
import numpy as np

from .scene_textures import COLOR_NAMES, Texture, load_photo

MATERIALS = ("plain", "striped", "spotted", "checkered", "brick", "grass", "gravel")

# How many pixels of the photo a pixel of the surface covers: enough bricks, blades or stones to be recognised.
_PHOTOGRAPHED = {"brick": 4.5, "grass": 2.5, "gravel": 2.5}
# How much lighter and darker than its colour a surface gets; photos have few extremes, so theirs are spread further.
_CONTRAST = 0.42
_PHOTO_DEVIATION = 0.3
_SHADING = 0.1
_PERIODS = (3.0, 4.0)


def paint_material(rng: np.random.Generator, color: str, material: str, size: int) -> Texture:
    """Draw a (size, size) texture whose mean colour is about that of `color`, lightened and darkened as `material`
    says.

    Raises ValueError for a colour that is not in COLOR_NAMES or a material that is not in MATERIALS.
    """
    if color not in COLOR_NAMES:
        raise ValueError(f"color {color!r} is not one of {', '.join(COLOR_NAMES)}")
    if material not in MATERIALS:
        raise ValueError(f"material {material!r} is not one of {', '.join(MATERIALS)}")
    relief = _photographed(rng, material, size) if material in _PHOTOGRAPHED else _drawn(rng, material, size)
    base = np.array(COLOR_NAMES[color], np.float32)
    pixels = np.clip(base * (1 + (relief - relief.mean()))[..., None], 0, 255)
    # Light channels lose some of their highlights; what is lost goes to all pixels, so that the mean nearly stays.
    pixels = np.clip(pixels + (base - pixels.mean((0, 1))), 0, 255).astype(np.float32)
    return Texture(pixels, material, color, material == "plain")


def _photographed(rng: np.random.Generator, material: str, size: int) -> np.ndarray:
    """Relative lightness (size, size) of a cut of a photo."""
    photo = load_photo(f"{material}.png")
    side = min(int(size * _PHOTOGRAPHED[material] * rng.uniform(0.8, 1.2)), *photo.shape[:2])
    top, left = (int(rng.integers(extent - side + 1)) for extent in photo.shape[:2])
    grey = cv2.cvtColor(photo[top : top + side, left : left + side], cv2.COLOR_RGB2GRAY)
    relief = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    relief = (relief - relief.mean()) / max(float(relief.std()), 1.0)
    return np.clip(_PHOTO_DEVIATION * relief, -0.7, 0.7)


def _drawn(rng: np.random.Generator, material: str, size: int) -> np.ndarray:
    """Relative lightness (size, size) of a pattern with three or four periods across, or of a soft light."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    if material == "plain":
        slope = rng.uniform(-_SHADING, _SHADING, 2).astype(np.float32)
        return slope[0] * ramp[None, :] + slope[1] * ramp[:, None]
    phase = rng.uniform(0, 1, 2).astype(np.float32)
    across = ramp * rng.uniform(*_PERIODS) / 2
    column, row = across[None, :] + phase[0], across[:, None] + phase[1]
    if material == "striped":
        vertical = rng.random() < 0.5
        dark = np.broadcast_to(column if vertical else row, (size, size)) % 1 < 0.5
    elif material == "checkered":
        dark = (column % 1 < 0.5) ^ (row % 1 < 0.5)
    else:
        dark = (column % 1 - 0.5) ** 2 + (row % 1 - 0.5) ** 2 < 0.3**2
    return np.where(dark, np.float32(-_CONTRAST), np.float32(_CONTRAST))
