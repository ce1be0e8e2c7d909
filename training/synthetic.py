"""Captioned videos and images that are made on the fly, with the exact trajectory of every pixel.

docs/synthetic_world.md describes what they show. A sample is a function of the options, the split, the media and its
index.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from .samples import Clip, Row
from .synthetic_captions import captions
from .synthetic_rendering import render_sample
from .synthetic_stories import MIN_FRAMES
from .synthetic_world import MEDIA, SPLITS, WorldOptions

NUM_SAMPLES = 100_000
"""Samples of an epoch where no number is given; making them costs nothing before they are read."""

_MOST_SHARDS = 64


class SyntheticSource:
    """The synthetic world as a `Source`.

    Args:
        name: What messages call it.
        split: `train` or `test`.
        media: `video` or `image`.
        num_samples: Samples of an epoch; None for `NUM_SAMPLES`.
        num_frames: Frames of a video.
        options: Fields of `WorldOptions`.

    Raises:
        ValueError: A value is not legal; the message names the source, the value and what was expected.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        media: str = "video",
        num_samples: int | None = None,
        num_frames: int = 16,
        options: Mapping[str, Any] | None = None,
    ):
        self.name = name
        self.split = split
        self.media = media
        self.num_samples = NUM_SAMPLES if num_samples is None else num_samples
        self.num_frames = 1 if media == "image" else num_frames
        if split not in SPLITS:
            raise ValueError(f"{name}: split is {split!r}; expected one of {list(SPLITS)}")
        if media not in MEDIA:
            raise ValueError(f"{name}: media is {media!r}; expected one of {list(MEDIA)}")
        if self.num_samples < 1:
            raise ValueError(f"{name}: num_samples is {num_samples}; expected 1 or more")
        if media == "video" and num_frames < MIN_FRAMES:
            raise ValueError(f"{name}: num_frames is {num_frames}; expected {MIN_FRAMES} or more, or images")
        self.options = _checked_options(name, options or {})

    @property
    def num_shards(self) -> int:
        """How many shards it has: 64, or as many as samples."""
        return min(_MOST_SHARDS, self.num_samples)

    def rows(self, shard: int) -> Iterator[Row]:
        """The numbers of a shard's samples: every 64th."""
        if not 0 <= shard < self.num_shards:
            raise ValueError(f"{self.name}: shard is {shard}; expected 0..{self.num_shards - 1}")
        for index in range(shard, self.num_samples, self.num_shards):
            yield {"key": f"{self.name}/{self.split}-{index:06d}", "index": index}

    def read(self, row: Row) -> Clip:
        """Render a sample."""
        rendered = render_sample(row["index"], self.split, self.media, self.num_frames, self.options)
        texts = captions(rendered.story, self.options.captions)
        return Clip(row["key"], rendered.frames, rendered.trajectories(), texts)


def _checked_options(name: str, options: Mapping[str, Any]) -> WorldOptions:
    known = [field.name for field in fields(WorldOptions)]
    for option in options:
        if option not in known:
            raise ValueError(f"{name}: options.{option} is not known; expected some of {known}")
    try:
        return WorldOptions(**options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
