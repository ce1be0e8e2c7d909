"""From a row of a data set to a `Clip`, in a worker: decoding, captions, stored or generated trajectories."""

import json
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from time import perf_counter
from typing import Any

import numpy as np

from trajvit.processing.captions import read_captions
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.stored_media import decode_stored
from trajvit.processing.stored_values import SampleError, bytes_or_path
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.trajectory_inputs import check_fit
from trajvit.processing.video_frames import VideoFrames

from .samples import Clip, Row

DECODED_SHORT_SIDE = 448
"""Pixels: frames of which a quarter is cropped to 224 x 224 are not scaled up, and larger ones cost only time."""


@dataclass(frozen=True)
class Reading:
    """What a run needs of every sample.

    Attributes:
        needs_trajectories: Whether its tower takes trajectories.
        generator: Settings of `TrajectoryGenerator.from_dict`, for samples without stored trajectories.
        max_trajectories: Cap of generated ones.
        short_side: Pixels to which larger frames are scaled down as they are decoded.
    """

    needs_trajectories: bool
    generator: dict[str, Any] = field(default_factory=dict)
    max_trajectories: int = 128
    short_side: int = DECODED_SHORT_SIDE


def read_clip(row: Row, num_frames: int, reading: Reading) -> Clip:
    """Decode a row of `Columns.row`, with its `key` and the `folder` of its paths.

    Args:
        row: The row.
        num_frames: Frames sampled, 1 for an image.
        reading: What is needed.

    Raises:
        SampleError: The row cannot be used; the message says why, without its key.
    """
    if row["error"] is not None:
        raise SampleError(row["error"])
    captions = read_captions(row["captions"], row["caption_fields"])
    video, trajectories = read_media(row["media"], row["folder"], row["trajectories"], num_frames, reading)
    return Clip(row["key"], video.sampled, trajectories, captions)


def read_media(
    media: Any,
    folder: str | None,
    stored_trajectories: Any,
    num_frames: int,
    reading: Reading,
    start: float | None = None,
    end: float | None = None,
) -> tuple[VideoFrames, Trajectories | None]:
    """Decode media with the trajectories of the sampled frames: the stored ones, or else generated ones.

    Args:
        media: As for `bytes_or_path`, or frames that are decoded already.
        folder: What paths are relative to; None for the current folder.
        stored_trajectories: A file of them, as for `bytes_or_path`, or themselves; None where there are none.
        num_frames: Frames sampled, 1 for an image.
        reading: What is needed. Where that is no trajectories, the second value returned is None.
        start, end: As for `decode_video`.

    Raises:
        SampleError: They cannot be used; the message says why.
    """
    stored = stored_trajectories if reading.needs_trajectories else None
    generator = trajectory_generator(reading) if reading.needs_trajectories and stored is None else None
    interval = None if generator is None else generator.frame_interval
    short_side = max(reading.short_side, 0 if generator is None else generator.frame_short_side)
    if isinstance(media, VideoFrames):
        video = media
    else:
        video = decode_stored(media, folder, num_frames, interval, short_side, start, end)
    if generator is not None:
        return video, _generate(generator, video)
    return video, None if stored is None else _stored(stored, folder, video)


def trajectory_generator(reading: Reading) -> TrajectoryGenerator:
    """The generator of these settings, built once in each process.

    Raises `TypeError` or `ValueError` where a setting is not legal.
    """
    return _generator(json.dumps({"max_trajectories": reading.max_trajectories, **reading.generator}, sort_keys=True))


@lru_cache(maxsize=4)
def _generator(settings: str) -> TrajectoryGenerator:
    return TrajectoryGenerator.from_dict(json.loads(settings))


def _stored(stored: Any, folder: str | None, video: VideoFrames) -> Trajectories:
    """Stored trajectories of the sampled frames, or of more frames among which these are."""
    content = stored if isinstance(stored, Trajectories) else bytes_or_path(stored, folder, "trajectories file")
    try:
        trajectories = _opened(content)
        wanted = np.searchsorted(trajectories.frame_indices, video.frame_indices)
        has_more = trajectories.num_frames > len(wanted) and wanted[-1] < trajectories.num_frames
        if has_more and np.array_equal(trajectories.frame_indices[wanted], video.frame_indices):
            trajectories = trajectories.select_frames(wanted)
        check_fit(trajectories, video, "the sample")
    except (OSError, ValueError) as error:
        raise SampleError(f"its trajectories cannot be used: {error}") from error
    return trajectories


def _opened(content: Trajectories | str | bytes) -> Trajectories:
    if isinstance(content, Trajectories):
        return content
    return Trajectories.load(content) if isinstance(content, str) else Trajectories.from_bytes(content)


def _generate(generator: TrajectoryGenerator, video: VideoFrames) -> Trajectories:
    started = perf_counter()
    try:
        trajectories = generator(
            video.frames, video.sample_indices, frame_indices=video.frame_indices, timestamps=video.timestamps
        )
    except ValueError as error:
        raise SampleError(f"no trajectories can be generated for it: {error}") from error
    _warn_of_cost(generator.backend.name, perf_counter() - started)
    return trajectories


_costs_told: set[str] = set()
"""Backends whose cost this process has told."""


def _warn_of_cost(backend: str, seconds: float) -> None:
    if backend not in _costs_told:
        _costs_told.add(backend)
        warnings.warn(
            f"a sample has no stored trajectories, so they are generated each time it is read: {seconds:.1f} s of a "
            f"worker for the first, by {backend!r}. Store them with the data (docs/data.md says how) to read them in "
            "milliseconds",
            stacklevel=2,
        )
