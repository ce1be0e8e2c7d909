"""Writes synthetic samples to tar shards as video2dataset and img2dataset write them, with trajectories beside."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from trajvit.processing.video_writing import encode_video

from .synthetic import SyntheticSource, describe
from .synthetic_captions import captions
from .synthetic_rendering import FPS, Rendered

_CRF = 12


def write_shards(
    folder: str | os.PathLike, source: SyntheticSource, samples_per_shard: int = 1000, crf: int = _CRF
) -> list[Path]:
    """Write all samples of a source to `folder/00000.tar`, `00001.tar`, ...; the same source gives the same bytes.

    A sample's members are `{key}.mp4` (an image: `.png`), `.txt` (its first caption), `.json` (`key`, `caption`,
    `captions`, `status`, and what `describe` tells) and `.traj.png` (what `Trajectories.to_bytes` gives). H.264 changes
    colours a little, but trajectories stay exact, and so do images.

    Args:
        folder: Made where it is missing. Shards of the same names are replaced, each once it is complete.
        source: What to write; its `num_samples` counts.
        samples_per_shard: 1 to 10,000, which the keys have digits for.
        crf: x264's constant rate factor.

    Raises:
        ValueError: `samples_per_shard` is out of its range.
    """
    if not 1 <= samples_per_shard <= 10_000:
        raise ValueError(f"samples_per_shard is {samples_per_shard}; expected 1 to 10000")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for shard, first in enumerate(range(0, source.num_samples, samples_per_shard)):
        path = folder / f"{shard:05d}.tar"
        unfinished = path.with_name(f".{path.name}.part")
        try:
            with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
                for number in range(min(samples_per_shard, source.num_samples - first)):
                    rendered = source.render(first + number)
                    for suffix, data in _members(f"{shard:05d}{number:04d}", rendered, source, crf):
                        member = tarfile.TarInfo(f"{shard:05d}{number:04d}.{suffix}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        written.append(path)
    return written


def _members(key: str, rendered: Rendered, source: SyntheticSource, crf: int) -> Iterator[tuple[str, bytes]]:
    texts = captions(rendered.story, source.options.captions)
    facts = {"key": key, "caption": texts[0], "captions": list(texts), "status": "success", **describe(rendered)}
    yield _encoded(rendered, crf)
    yield "txt", texts[0].encode()
    yield "json", json.dumps(facts).encode()
    yield "traj.png", rendered.trajectories().to_bytes()


def _encoded(rendered: Rendered, crf: int) -> tuple[str, bytes]:
    if len(rendered.frames) == 1:
        stream = io.BytesIO()
        Image.fromarray(rendered.frames[0]).save(stream, format="PNG")
        return "png", stream.getvalue()
    return "mp4", encode_video(rendered.frames, FPS, crf)
