"""What decides the output of a generation run: a second run goes on only if all of it is the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .columns import SUFFIXES

DEFAULT_SHARD_SIZE = 256

DEFAULT_STORED_SHORT_SIDE = 64
"""Pixels: more than the 56 cells of the models' grid, and a quarter of the bytes that 256 pixels take."""

_COLUMNS = ("media", "key", "trajectories")


@dataclass(frozen=True)
class StoredFrames:
    """How the sampled frames are encoded where they are stored instead of the media.

    Attributes:
        short_side: Pixels; frames with a longer short side are scaled down to it (area average).
        crf: x264's constant rate factor for videos, 0 (lossless) to 51.
        quality: JPEG's for images, 1 to 100.
    """

    short_side: int = 256
    crf: int = 23
    quality: int = 90

    def __post_init__(self) -> None:
        _require_integer("frames short_side", self.short_side, 1)
        _require_integer("frames crf", self.crf, 0, 51)
        _require_integer("frames quality", self.quality, 1, 100)


@dataclass(frozen=True)
class GenerationSettings:
    """The settings of a run, all of which its output depends on.

    Attributes:
        generator: `TrajectoryGenerator.to_dict()`.
        num_frames: Frames sampled from a video; one shorter gives all that it has, an image its one.
        stored_short_side: Pixels to which trajectories with a longer short side are scaled down before they are stored.
        frames: How sampled frames are stored in place of the media; None keeps the media as they are.
        shard_size: Most clips of an output shard, where the input can be read from any place on.
        pack: Whether media files of a folder become tar shards; else trajectories lie beside each file.
        media: `video`, `image` or `any`.
        columns: Names of a record's `media`, `key` and `trajectories`, where they are not usual ones.
        split: Read of a Hub data set, and of a folder that has a folder of this name.
        options: Keyword arguments of `datasets.load_dataset`.

    Raises:
        TypeError, ValueError: A setting has another type or is out of its range; the message names it.
    """

    generator: dict[str, Any]
    num_frames: int = 16
    stored_short_side: int = DEFAULT_STORED_SHORT_SIDE
    frames: StoredFrames | None = None
    shard_size: int = DEFAULT_SHARD_SIZE
    pack: bool = False
    media: str = "any"
    columns: dict[str, str] = field(default_factory=dict)
    split: str = "train"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_integer("num_frames", self.num_frames, 1)
        _require_integer("stored_short_side", self.stored_short_side, 1)
        _require_integer("shard_size", self.shard_size, 1)
        if self.media not in SUFFIXES:
            raise ValueError(f"media must be one of {', '.join(SUFFIXES)}, got {self.media!r}.")
        unknown = sorted(set(self.columns) - set(_COLUMNS))
        if unknown:
            raise ValueError(f"columns has {', '.join(unknown)}; expected names for {', '.join(_COLUMNS)} alone.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data for `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GenerationSettings":
        """The settings that `to_dict` described."""
        frames = values.get("frames")
        return cls(**{**values, "frames": None if frames is None else StoredFrames(**frames)})


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two settings differ, as texts such as `generator.short_side was 256, is 128`."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name} was {old!r}, is {new!r}")
    return found


def _require_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least or (most is not None and value > most):
        expected = f"at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name} must be {expected}, got {value}.")
