"""Regular shapes that people have words for, cut from a texture."""

import numpy as np

from .scene_sprites import Sprite, fill_outlines
from .scene_textures import Texture

NAMED_SHAPES = ("disc", "square", "triangle", "star", "cross", "ring", "heart", "crescent")

_REACH = 0.95


def cut_shape(shape: str, texture: Texture) -> Sprite:
    """Cut a shape out of a whole texture; it nearly fills the square.

    Raises ValueError for a shape that is not in NAMED_SHAPES.
    """
    alpha = shape_coverage(shape, texture.pixels.shape[0])
    return Sprite(np.dstack([np.rint(texture.pixels).astype(np.uint8), alpha]), shape, (texture,), (1.0,))


def shape_coverage(shape: str, size: int) -> np.ndarray:
    """Return how much of each pixel of a (size, size) square a shape covers, 0..255 uint8.

    Raises ValueError for a shape that is not in NAMED_SHAPES.
    """
    if shape not in NAMED_SHAPES:
        raise ValueError(f"shape {shape!r} is not one of {', '.join(NAMED_SHAPES)}")
    return fill_outlines(_outlines(shape), size)


def _outlines(shape: str) -> list[np.ndarray]:
    """Return the outlines (K, 2) of a shape, x y in [-0.95, 0.95] with y downwards; the second is a hole."""
    if shape == "ring":
        return [_circle(_REACH), _circle(0.45)]
    if shape == "disc":
        return [_circle(_REACH)]
    if shape == "square":
        return [0.85 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])]
    if shape == "triangle":
        return [np.array([(0, -0.9), (_REACH, 0.8), (-_REACH, 0.8)])]
    if shape == "cross":
        quarter = np.array([(-0.32, -0.9), (0.32, -0.9), (0.32, -0.32)])
        quarter_turn = np.array([[0, 1], [-1, 0]])
        return [np.concatenate([quarter @ np.linalg.matrix_power(quarter_turn, turn) for turn in range(4)])]
    if shape == "star":
        radius = np.where(np.arange(10) % 2, 0.42, _REACH)
        return [radius[:, None] * _directions(10, -np.pi / 2)]
    if shape == "heart":
        t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        return [np.stack([x, y - 2.5], axis=1) * _REACH / 16]
    return [_crescent()]


def _crescent() -> np.ndarray:
    """A disc without what a smaller disc covers of its right half."""
    turn = np.linspace(0.22 * np.pi, 1.78 * np.pi, 40)
    outer = _REACH * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    # The inner arc joins the ends of the outer one around a centre that lies to the right.
    center = np.array([0.5, 0.0])
    end = outer[0] - center
    radius, angle = np.hypot(*end), np.arctan2(end[1], end[0])
    turn = np.linspace(2 * np.pi - angle, angle, 30)
    return np.concatenate([outer, center + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)])


def _circle(radius: float) -> np.ndarray:
    return radius * _directions(64)


def _directions(count: int, start: float = 0.0) -> np.ndarray:
    turn = start + np.arange(count) * 2 * np.pi / count
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)
