"""Trajectories of videos of any length: clip by clip, in bounded memory, each given away when it has ended.

What `TrajectoryGenerator` does with a whole video happens here one clip at a time: the same key frames, the same joins
at the boundary frames, the same numbering. Held at any time are the frames of two clips at most, and the packed masks
of the trajectories that are still in the picture.

Shape legend: N frames of a clip, H height, W width, n frames in which a trajectory is present.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from .backends import Clip, Progress, no_progress
from .clips import ClipJoiner, keep_largest
from .decoding import iterate_video
from .frame_checks import checked_frame
from .frame_size import fit_short_side, scale_frame
from .key_frames import KeyFrameDetector
from .open_trajectories import OpenTrajectories
from .streamed_trajectory import StreamedTrajectory
from .trajectories import Trajectories
from .trajectory_numbering import dense_ids
from .video_frames import TimedFrame

if TYPE_CHECKING:
    from .generator import TrajectoryGenerator

DEFAULT_CLIP_FRAMES = 32
DEFAULT_FRAMES_PER_PIECE = 1024


def stream_video(
    source: Any,
    generator: "TrajectoryGenerator",
    *,
    clip_frames: int = DEFAULT_CLIP_FRAMES,
    max_frames_per_piece: int = DEFAULT_FRAMES_PER_PIECE,
    frame_interval: float | None = None,
    progress: Progress | None = None,
) -> Generator[StreamedTrajectory, None, None]:
    """Decode a video of any length as it is needed, and yield its trajectories as they end.

    Args:
        source: A path or URL of a video or image file, its bytes, or a binary file object.
        generator: What finds the trajectories.
        clip_frames, max_frames_per_piece, progress: As of `TrajectoryGenerator.stream`.
        frame_interval: Seconds between the frames that are looked at; None for every frame of the source.

    Returns:
        An iterator of `StreamedTrajectory` with the source's frame numbers and seconds. Closing it, or its end, closes
        the source.

    Raises:
        VideoDecodingError: As of `decoding.iterate_video`.
        TypeError, ValueError: As of `TrajectoryGenerator.stream`, or the interval is not positive.
    """
    frames = iterate_video(source, frame_interval, generator.frame_short_side)
    trajectories = stream_frames(frames, generator, clip_frames, max_frames_per_piece, progress)

    def run() -> Generator[StreamedTrajectory, None, None]:
        with closing(frames), closing(trajectories):
            yield from trajectories

    return run()


def stream_frames(
    frames: Iterable[TimedFrame],
    generator: "TrajectoryGenerator",
    clip_frames: int = DEFAULT_CLIP_FRAMES,
    max_frames_per_piece: int = DEFAULT_FRAMES_PER_PIECE,
    progress: Progress | None = None,
) -> Generator[StreamedTrajectory, None, None]:
    """Yield the trajectories of frames that come with their numbers and times; see `TrajectoryGenerator.stream`."""
    for name, value in (("clip_frames", clip_frames), ("max_frames_per_piece", max_frames_per_piece)):
        if index(value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if not isinstance(generator.key_frame_detector, KeyFrameDetector):
        raise TypeError(
            f"A stream needs a KeyFrameDetector, got {type(generator.key_frame_detector).__name__}: "
            "its frames are judged one by one."
        )
    return _trajectories(frames, generator, clip_frames, max_frames_per_piece, progress or no_progress)


def _trajectories(
    frames: Iterable[TimedFrame],
    generator: "TrajectoryGenerator",
    clip_frames: int,
    max_frames_per_piece: int,
    report: Progress,
) -> Generator[StreamedTrajectory, None, None]:
    joiner = ClipJoiner(generator.join_iou)
    open_trajectories = OpenTrajectories(max_frames_per_piece)
    num_done = 0
    with closing(_clips(frames, generator, clip_frames)) as clips:
        for clip, numbers, seconds in clips:
            (volume,) = generator.track([clip], report)
            labels = joiner.add(keep_largest(dense_ids(volume), generator.max_trajectories), clip.has_boundary)
            num_own = len(numbers)
            own = Trajectories.from_labels(labels[:num_own], frame_indices=numbers, timestamps=seconds)
            finished = open_trajectories.add(own, labels[:num_own], labels[num_own:])
            num_done += num_own
            report("stream", num_done, num_done + clip.has_boundary)
            # What has ended may be looked at for long; the clip is not held meanwhile.
            del clip, volume, labels, own
            yield from finished


def _clips(
    frames: Iterable[TimedFrame], generator: "TrajectoryGenerator", clip_frames: int
) -> Generator[tuple[Clip, np.ndarray, np.ndarray], None, None]:
    """Clips of at most `clip_frames` frames, and a boundary frame, each with the numbers and seconds of those (N,)."""
    is_key_frame = generator.key_frame_detector.start()
    size: tuple[int, int] | None = None
    collected = _ClipFrames()
    for number, seconds, frame in frames:
        height, width, _ = checked_frame(frame, number, size).shape
        size = (height, width)
        label_size = fit_short_side(*size, generator.short_side)
        scaled = scale_frame(frame, *fit_short_side(*size, generator.frame_short_side))
        if scaled is frame:
            scaled = frame.copy()  # many sources fill one buffer again and again
        starts_clip = is_key_frame(scaled if scaled.shape[:2] == label_size else scale_frame(frame, *label_size))
        if collected.pixels and (starts_clip or len(collected.pixels) == clip_frames):
            yield collected.take(label_size, boundary=scaled)
        collected.pixels.append(scaled)
        collected.times.append((number, seconds))
    if size is None:
        raise ValueError("There is no frame in the stream; expected at least one.")
    yield collected.take(label_size, boundary=None)


class _ClipFrames:
    """The frames of the clip that is being read."""

    def __init__(self) -> None:
        self.pixels: list[np.ndarray] = []
        self.times: list[tuple[int, float]] = []

    def take(self, label_size: tuple[int, int], boundary: np.ndarray | None) -> tuple[Clip, np.ndarray, np.ndarray]:
        """The clip, with the next one's first frame unless it is the last, and its numbers and seconds; forget it."""
        stack = np.stack(self.pixels if boundary is None else [*self.pixels, boundary])
        clip = Clip(stack, np.arange(len(stack)), boundary is not None, label_size)
        numbers, seconds = zip(*self.times, strict=True)
        self.pixels, self.times = [], []
        return clip, np.array(numbers, dtype=np.int64), np.array(seconds, dtype=np.float64)
