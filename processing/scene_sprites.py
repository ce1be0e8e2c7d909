"""Sprites of synthetic scenes: an outline filled with one to three differently textured parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .scene_textures import Texture, draw_texture

SHAPES = ("blob", "disc", "capsule", "triangle", "square", "pentagon", "hexagon", "star")
_CORNERS = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6}
_FIXED_POINT_BITS = 4


@dataclass(frozen=True, eq=False)
class Sprite:
    """A textured cut-out.

    `rgba` is (S, S, 4) uint8, colour not multiplied by alpha. `shape` is one of SHAPES; `parts` are the textures
    inside the outline, largest first, each with the share of the sprite it covers in `part_shares`.
    """

    rgba: np.ndarray
    shape: str
    parts: tuple[Texture, ...]
    part_shares: tuple[float, ...]

    @property
    def size(self) -> int:
        return self.rgba.shape[0]

    @property
    def color(self) -> str:
        """Name of the colour of the largest part."""
        return self.parts[0].color


def draw_sprite(rng: np.random.Generator, size: int, max_parts: int = 3) -> Sprite:
    """Draw a random sprite in a square of `size` pixels with 1..max_parts parts."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    alpha = fill_outlines([_outline(rng, shape)], size)
    num_parts = int(rng.integers(1, max_parts + 1))
    textures = [draw_texture(rng, size) for _ in range(num_parts)]
    # Parts are the cells of a Voronoi diagram: straight seams that need not follow any edge of the photos.
    seeds = rng.uniform(0.2 * size, 0.8 * size, (num_parts, 2))
    y, x = np.ogrid[:size, :size]
    part = np.argmin([(y - sy) ** 2 + (x - sx) ** 2 for sy, sx in seeds], axis=0)
    color = textures[0].pixels
    for index in range(1, num_parts):
        color = np.where((part == index)[..., None], textures[index].pixels, color)
    areas = np.bincount(part[alpha > 127], minlength=num_parts)
    order = [int(index) for index in np.argsort(-areas, kind="stable") if areas[index] > 0]
    return Sprite(
        rgba=np.dstack([np.rint(color).astype(np.uint8), alpha]),
        shape=shape,
        parts=tuple(textures[index] for index in order),
        part_shares=tuple(float(areas[index] / areas.sum()) for index in order),
    )


def material_points(rng: np.random.Generator, sprite: Sprite, count: int) -> np.ndarray:
    """Draw up to `count` points (P, 2) float64, x y in sprite pixels, at least two pixels inside the sprite's
    outline."""
    inside = cv2.erode((sprite.rgba[..., 3] > 230).astype(np.uint8), np.ones((5, 5), np.uint8))
    y, x = np.nonzero(inside)
    chosen = rng.permutation(len(y))[:count]
    return np.stack([x[chosen], y[chosen]], axis=1).astype(np.float64)


def _outline(rng: np.random.Generator, shape: str) -> np.ndarray:
    """Return the outline (K, 2) of a shape, x y in [-0.95, 0.95]."""
    if shape in _CORNERS:
        corners = _CORNERS[shape]
        angle = np.arange(corners) * 2 * np.pi / corners + rng.normal(0, 0.12, corners)
        radius = rng.uniform(0.7, 0.95, corners)
    elif shape == "star":
        angle = np.arange(10) * np.pi / 5
        radius = np.where(np.arange(10) % 2, rng.uniform(0.4, 0.6), 0.95)
    else:
        angle = np.arange(64) * 2 * np.pi / 64
        if shape == "blob":
            radius = np.ones(64)
            for harmonic in range(2, 6):
                radius += rng.normal(0, 0.35 / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
            radius = np.maximum(radius, 0.35)
            radius *= 0.95 / np.max(radius)
        elif shape == "disc":
            radius = np.full(64, 0.95)
        else:
            # A superellipse of power four reads as a capsule, or as a rounded bar.
            flatness = rng.uniform(0.3, 0.6)
            radius = 0.95 * (np.cos(angle) ** 4 + (np.sin(angle) / flatness) ** 4) ** -0.25
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def fill_outlines(outlines: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Rasterise outlines (K, 2), x y in [-1, 1], to a (size, size) uint8 coverage map; an outline inside another is a
    hole."""
    # Smoothed by drawing at twice the size.
    double = np.zeros((2 * size, 2 * size), np.uint8)
    corners = [np.rint(((outline + 1) * size - 0.5) * 2**_FIXED_POINT_BITS).astype(np.int32) for outline in outlines]
    cv2.fillPoly(double, corners, 255, shift=_FIXED_POINT_BITS)
    return cv2.resize(double, (size, size), interpolation=cv2.INTER_AREA)
