"""What the synthetic world is made of, and which of its combinations are left to the test split.

Every word of the test split occurs in training; what does not are its pairs of a shape and a colour, and its pairs of a
shape and a motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trajvit.processing.scene_shapes import NAMED_SHAPES

SPLITS = ("train", "test")
MEDIA = ("video", "image")
CAPTION_STYLES = ("short", "full", "paraphrase")

COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")

SIZES = {"small": (0.2, 0.24), "large": (0.34, 0.4)}
"""Extent of a thing in frame heights."""

MOTIONS = (
    *("left", "right", "up", "down", "toward", "away", "clockwise", "counterclockwise", "bounce", "still"),
    *("stop_left", "stop_right", "enter_left", "enter_right", "leave_left", "leave_right"),
    *("pass_front", "pass_behind", "hit", "struck"),
)
"""All motions of a thing in the picture; the last four take another thing."""

STEPS = ("left", "right", "up", "down", "toward", "away")
"""Motions that can follow one another."""

RELATIONS = ("left_of", "right_of", "above", "below")
"""Where one thing of an image is, seen from another."""

CAMERAS = ("still", "pan_left", "pan_right", "pan_up", "pan_down", "zoom_in", "zoom_out")

# Neighbouring shapes have different pairs held out; each shape keeps three quarters of all colours and motions.
_HELD_OUT_SHARE = 4


@dataclass(frozen=True)
class WorldOptions:
    """Settings of the synthetic world.

    Args:
        image_size: Height and width of the frames in pixels.
        seed: Of all samples; the splits and media of a seed have none in common.
        num_objects: Fewest and most things that a shot shows.
        cut_share: Share of the videos that have a cut.
        moving_camera_share: Share of the shots whose camera pans or zooms, where that leaves their captions true.
        captions: Which captions a sample has, of `short`, `full` and `paraphrase`.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    image_size: int = 112
    seed: int = 0
    num_objects: tuple[int, int] = (1, 3)
    cut_share: float = 0.15
    moving_camera_share: float = 0.4
    captions: tuple[str, ...] = CAPTION_STYLES

    def __post_init__(self) -> None:
        _require(_is_whole(self.image_size) and self.image_size >= 48, "image_size", self.image_size, "48 or more")
        _require(_is_whole(self.seed) and self.seed >= 0, "seed", self.seed, "a whole number, 0 or more")
        low_high = _as_tuple("num_objects", self.num_objects)
        is_range = len(low_high) == 2 and all(map(_is_whole, low_high)) and 1 <= low_high[0] <= low_high[1] <= 3
        _require(is_range, "num_objects", self.num_objects, "[fewest, most] within 1..3")
        for name in ("cut_share", "moving_camera_share"):
            share = getattr(self, name)
            is_share = isinstance(share, (int, float)) and not isinstance(share, bool) and 0 <= share <= 1
            _require(is_share, name, share, "a share, 0 to 1")
        captions = _as_tuple("captions", self.captions)
        is_choice = captions and set(captions) <= set(CAPTION_STYLES) and len(set(captions)) == len(captions)
        _require(bool(is_choice), "captions", self.captions, f"some of {list(CAPTION_STYLES)}, each once")
        object.__setattr__(self, "num_objects", low_high)
        object.__setattr__(self, "captions", captions)


def is_held_out_color(shape: str, color: str) -> bool:
    """Whether things of this shape and colour are in the test split only; the others are in training only."""
    return (COLORS.index(color) - NAMED_SHAPES.index(shape)) % _HELD_OUT_SHARE == 0


def is_held_out_motion(shape: str, motion: str) -> bool:
    """Whether things of this shape move so in the test split only; the others do in training only."""
    return (MOTIONS.index(motion) - NAMED_SHAPES.index(shape)) % _HELD_OUT_SHARE == 0


def shapes_for(split: str, motions: Sequence[str]) -> list[str]:
    """The shapes that make all these motions in a split."""
    held_out = split == "test"
    return [shape for shape in NAMED_SHAPES if all(is_held_out_motion(shape, m) == held_out for m in motions)]


def colors_for(split: str, shape: str) -> list[str]:
    """The colours that a shape has in a split."""
    return [color for color in COLORS if is_held_out_color(shape, color) == (split == "test")]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _as_tuple(name: str, value: Any) -> tuple:
    _require(isinstance(value, (list, tuple)), name, value, "a list")
    return tuple(value)


def _require(holds: bool, name: str, value: Any, expected: str) -> None:
    if not holds:
        raise ValueError(f"options.{name} is {value!r}; expected {expected}")
