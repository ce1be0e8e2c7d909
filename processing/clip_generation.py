"""The work on one clip, the same in every process and on every machine: from stored media to stored trajectories."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from .frame_size import fit_short_side, scale_frame
from .generation_settings import GenerationSettings, StoredFrames
from .generator import TrajectoryGenerator
from .image_file import is_image_file
from .stored_media import decode_stored
from .stored_values import SampleError, bytes_or_path
from .trajectories import Trajectories
from .video_frames import VideoDecodingWarning, VideoFrames

# What PyTorch says of a GPU whose context is lost: all that the process does with it from then on fails too.
_LOST_DEVICE = "CUDA error"


class ClipError(Exception):
    """A clip that has no trajectories.

    Attributes:
        stage: Where it failed: `read`, `decode`, `track`, `encode`, or `worker` for a clip that ends processes.
        reason: Why.
    """

    def __init__(self, stage: str, reason: str):
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


@dataclass(frozen=True, eq=False)
class GeneratedClip:
    """What is stored of a clip.

    Attributes:
        trajectories: The trajectories file of its sampled frames.
        value: What it holds.
        frames: The sampled frames, encoded; None where the media are kept.
        suffix: Of the frames: `mp4`, or `jpg` for an image.
        warning: What was wrong with a clip that could be used nevertheless.
        seconds: Wall time by stage.
    """

    trajectories: bytes
    value: Trajectories
    frames: bytes | None = None
    suffix: str | None = None
    warning: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)


class ClipGenerator:
    """From the media of one record to what is stored of it.

    Args:
        settings: The run's.

    Raises:
        TypeError, ValueError: The generator's settings are not legal.
    """

    def __init__(self, settings: GenerationSettings):
        self._generator = TrajectoryGenerator.from_dict(settings.generator)
        self._num_frames = settings.num_frames
        self._stored_short_side = settings.stored_short_side
        self._stored_frames = settings.frames
        shown = settings.frames.short_side if settings.frames is not None else 0
        self._short_side = max(self._generator.frame_short_side, shown)

    def load(self) -> None:
        """Load the backend's weights now, so that what is wrong with them is not taken for a fault of each clip.

        Raises what the backend raises.
        """
        self._generator.load()

    def __call__(self, media: Any, folder: str | None) -> GeneratedClip:
        """Generate one clip.

        Args:
            media, folder: As for `decode_stored`.

        Raises:
            ClipError: It cannot be done.
        """
        seconds: dict[str, float] = {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with _stage("decode", seconds):
                video = decode_stored(media, folder, self._num_frames, self._generator.frame_interval, self._short_side)
        with _stage("track", seconds):
            trajectories = self._generator(
                video.frames,
                video.sample_indices,
                # Numbers of the frames that are stored, of which there are no others.
                frame_indices=None if self._stored_frames else video.frame_indices,
                timestamps=video.timestamps,
            )
        with _stage("encode", seconds):
            size = fit_short_side(trajectories.height, trajectories.width, self._stored_short_side)
            if size != (trajectories.height, trajectories.width):
                trajectories = trajectories.resize(*size)
            content = trajectories.to_bytes()
            frames, suffix = None, None
            if self._stored_frames is not None:
                is_still = len(video.sample_indices) == 1 and _is_image(media, folder)
                suffix = "jpg" if is_still else "mp4"
                frames = encode_frames(video, self._stored_frames, is_still)
        damage = [str(each.message) for each in caught if issubclass(each.category, VideoDecodingWarning)]
        return GeneratedClip(content, trajectories, frames, suffix, "; ".join(damage) or None, seconds)


def encode_frames(video: VideoFrames, stored: StoredFrames, is_still: bool) -> bytes:
    """The sampled frames as a JPEG image or an H.264 MP4 that plays them at their pace.

    The same frames give the same bytes.
    """
    sampled = video.sampled
    size = fit_short_side(sampled.shape[1], sampled.shape[2], stored.short_side)
    small = np.stack([scale_frame(frame, *size) for frame in sampled])
    if is_still:
        file = BytesIO()
        Image.fromarray(small[0]).save(file, "JPEG", quality=stored.quality)
        return file.getvalue()
    from .video_writing import encode_video

    span = float(video.timestamps[-1] - video.timestamps[0])
    fps = (len(small) - 1) / span if span > 0 else 1.0
    return encode_video(small, fps, stored.crf)


def _is_image(media: Any, folder: str | None) -> bool:
    source = bytes_or_path(media, folder, "media")
    if isinstance(source, str) and "://" in source:
        return False
    return is_image_file(lambda: BytesIO(source) if isinstance(source, bytes) else source, "the image")


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Whatever goes wrong with a clip is told with its stage, and costs that clip alone."""
    started = perf_counter()
    try:
        yield
    except SampleError as error:
        raise ClipError(name, str(error)) from error
    except Exception as error:
        if _LOST_DEVICE in str(error):
            raise
        raise ClipError(name, f"{type(error).__name__}: {error}") from error
    finally:
        seconds[name] = perf_counter() - started
