"""Captioned videos and images that are made on the fly, with the exact trajectory of every pixel.

docs/synthetic_world.md describes what they show. A sample is a function of the options, the split, the media and its
index.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from .samples import Clip, Row
from .synthetic_captions import NEGATIVES, captions, hard_negatives
from .synthetic_rendering import Rendered, render_sample
from .synthetic_stories import MIN_FRAMES
from .synthetic_world import MEDIA, SPLITS, WorldOptions

if TYPE_CHECKING:
    import datasets

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

    def render(self, index: int) -> Rendered:
        """The sample of this number with all that is known of it."""
        return render_sample(index, self.split, self.media, self.num_frames, self.options)

    def read(self, row: Row) -> Clip:
        """Render a sample."""
        rendered = self.render(row["index"])
        texts = captions(rendered.story, self.options.captions)
        return Clip(row["key"], rendered.frames, rendered.trajectories(), texts)


def load_synthetic(
    split: str = "train",
    media: str = "video",
    num_samples: int | None = None,
    num_frames: int = 16,
    **options: Any,
) -> "datasets.IterableDataset":
    """The synthetic world as a streamed data set of HF Datasets, in 64 shards that workers and nodes can share.

    Columns: `key`; `frames`, a (T, S, S, 3) uint8 array; `trajectories`, what `Trajectories.from_bytes` reads;
    `captions`; `negatives`, wrong captions by what is wrong ("motion", "color", "order", "role"), None where a sample
    has no such one; `things`, with the `trajectory` of each, 0 if it is never seen, its `shot` and its attributes.
    Asked for another format, such as "torch", HF Datasets makes 64-bit integers of the frames.

    Args:
        split, media, num_samples, num_frames, options: As for `SyntheticSource`.

    Raises:
        ValueError: As for `SyntheticSource`.
    """
    import datasets

    source = SyntheticSource("synthetic", split, media, num_samples, num_frames, options)
    side = source.options.image_size
    text = datasets.Value("string")
    thing = {"trajectory": datasets.Value("int32"), "shot": datasets.Value("int32")}
    thing |= dict.fromkeys(("shape", "color", "material", "size"), text) | {"motions": [text]}
    features = datasets.Features(
        {
            "key": text,
            "frames": datasets.Array4D((source.num_frames, side, side, 3), "uint8"),
            "trajectories": datasets.Value("binary"),
            "captions": [text],
            "negatives": dict.fromkeys(NEGATIVES, text),
            "things": [thing],
        }
    )
    shards = {"source": source, "shards": list(range(source.num_shards))}
    return datasets.IterableDataset.from_generator(_examples, features=features, gen_kwargs=shards)


def describe(rendered: Rendered) -> dict[str, Any]:
    """What is known of a sample beside its captions: plain values, as JSON holds them."""
    ids = rendered.trajectories().ids
    negatives = hard_negatives(rendered.story)
    things = []
    for number, (shot, thing, motions) in enumerate(rendered.things, start=1):
        seen = np.flatnonzero(rendered.masks == number)
        trajectory = int(ids.flat[seen[0]]) if len(seen) else 0
        things.append({"trajectory": trajectory, "shot": shot, **asdict(thing), "motions": list(motions)})
    return {"negatives": {kind: negatives.get(kind) for kind in NEGATIVES}, "things": things}


def _examples(source: SyntheticSource, shards: list[int]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        for row in source.rows(shard):
            rendered = source.render(row["index"])
            yield {
                "key": row["key"],
                "frames": rendered.frames,
                "trajectories": rendered.trajectories().to_bytes(),
                "captions": list(captions(rendered.story, source.options.captions)),
                **describe(rendered),
            }


def _checked_options(name: str, options: Mapping[str, Any]) -> WorldOptions:
    known = [field.name for field in fields(WorldOptions)]
    for option in options:
        if option not in known:
            raise ValueError(f"{name}: options.{option} is not known; expected some of {known}")
    try:
        return WorldOptions(**options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
