"""Textures for synthetic scenes, cut from the photographs that scikit-image's wheel carries (nothing is downloaded)."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import skimage

# Every name is a file of the wheel itself, not of scikit-image's download registry. Drawings, text and binary
# pictures are left out.
PHOTOS = (
    "astronaut.png",
    "brick.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "color.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)

# Good to cut pieces from but no place for objects to stand in: pictures on black or white, and a second view of the
# same place.
_NO_BACKGROUND = ("color.png", "hubble_deep_field.jpg", "motorcycle_right.png", "retina.jpg")
BACKGROUND_PHOTOS = tuple(name for name in PHOTOS if name not in _NO_BACKGROUND)

_LONGEST_SIDE = 768

COLOR_NAMES = {
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (200, 40, 40),
    "orange": (230, 130, 40),
    "yellow": (230, 210, 60),
    "green": (60, 150, 60),
    "cyan": (70, 190, 200),
    "blue": (50, 80, 190),
    "purple": (130, 60, 170),
    "pink": (230, 130, 170),
    "brown": (120, 80, 50),
}


@dataclass(frozen=True, eq=False)
class Texture:
    """A square patch of surface: `pixels` (S, S, 3) float32 in 0..255, the photo it was cut from, and its nearest
    basic colour."""

    pixels: np.ndarray
    photo: str
    color: str
    plain: bool


@cache
def load_photo(name: str) -> np.ndarray:
    """Return a bundled photo as read-only (H, W, 3) uint8 RGB, at most 768 pixels on its longest side.

    Raises ValueError for a name that is not in PHOTOS and FileNotFoundError when the installed scikit-image lacks the
    file.
    """
    if name not in PHOTOS:
        raise ValueError(f"photo {name!r} is not one of {', '.join(PHOTOS)}")
    path = Path(skimage.__file__).parent / "data" / name
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f"{path} is missing from the installed scikit-image; reinstall it")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    scale = _LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image.setflags(write=False)
    return image


def color_name(rgb: np.ndarray) -> str:
    """Return the basic colour nearest to `rgb` (3,) in 0..255, by distance in CIE Lab."""
    palette = np.array([*COLOR_NAMES.values(), np.clip(rgb, 0, 255)], np.float32)[None] / 255
    lab = cv2.cvtColor(palette, cv2.COLOR_RGB2Lab)[0]
    return tuple(COLOR_NAMES)[int(np.linalg.norm(lab[:-1] - lab[-1], axis=1).argmin())]


def draw_texture(rng: np.random.Generator, size: int, plain_share: float = 0.35) -> Texture:
    """Draw a random (size, size) texture: a shaded nearly plain colour with probability `plain_share`, else a
    recoloured cut."""
    name = PHOTOS[rng.integers(len(PHOTOS))]
    photo = load_photo(name)
    side = int(min(photo.shape[:2]) * rng.uniform(0.25, 0.6))
    top = rng.integers(photo.shape[0] - side + 1)
    left = rng.integers(photo.shape[1] - side + 1)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    cut = photo[top : top + side, left : left + side]
    pixels: np.ndarray = cv2.resize(cut, (size, size), interpolation=interpolation).astype(np.float32)
    mean = pixels.mean((0, 1))
    plain = bool(rng.random() < plain_share)
    if plain:
        # Painted surfaces: what tells them from their neighbours is colour and a soft light, not detail.
        ramp = np.linspace(-1, 1, size, dtype=np.float32)
        slope = rng.uniform(-25, 25, 2)
        shading = slope[0] * ramp[None, :] + slope[1] * ramp[:, None]
        pixels = rng.uniform(20, 235, 3) + shading[..., None] + 0.15 * (pixels - mean)
    else:
        pixels = (pixels - mean) * rng.uniform(0.5, 1.0) + mean + rng.uniform(-40, 40, 3)
    pixels = np.clip(pixels, 0, 255).astype(np.float32)
    return Texture(pixels, Path(name).stem, color_name(pixels.mean((0, 1))), plain)


def draw_background(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, str]:
    """Draw a photo that covers (height, width), as (H, W, 3) uint8 with H >= height and W >= width, mirrored at
    random, and its name."""
    name = BACKGROUND_PHOTOS[rng.integers(len(BACKGROUND_PHOTOS))]
    mirrored = bool(rng.random() < 0.5)
    return fit_background(name, height, width, mirrored), Path(name).stem


def fit_background(name: str, height: int, width: int, mirrored: bool = False) -> np.ndarray:
    """Scale the photo `name` to the least size that covers (height, width), as (H, W, 3) uint8."""
    photo = load_photo(name)
    if mirrored:
        photo = np.ascontiguousarray(photo[:, ::-1])
    scale = max(height / photo.shape[0], width / photo.shape[1])
    size = (max(width, round(photo.shape[1] * scale)), max(height, round(photo.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(photo, size, interpolation=interpolation)
