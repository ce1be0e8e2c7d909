"""From any source of a video to RGB frames: the sampled ones, and denser ones between them for trackers."""

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .frame_arrays import FrameSequence, is_frame_array, is_pil_image
from .frame_size import fit_short_side, scale_frame
from .image_file import ImageFile, is_image_file
from .sampling import MAX_FRAMES_BETWEEN, Pace, dense_indices
from .video_frames import TimedFrame, VideoDecodingError, VideoFrames, frame_rate
from .video_stretch import VideoStretch

DEFAULT_ARRAY_FPS = 24.0
"""Frames per second of frames that come without times, as in transformers' video metadata."""


def decode_video(
    source: Any,
    num_frames: int | None = 16,
    frame_interval: float | None = None,
    short_side: int | None = None,
    *,
    max_between: int = MAX_FRAMES_BETWEEN,
    fps: float | None = None,
    data_format: str | None = None,
    threads: int | None = None,
    start: float | None = None,
    end: float | None = None,
) -> VideoFrames:
    """Sample a video, or a stretch of one, uniformly, and take denser frames between the samples.

    Args:
        source: A path or URL of a video or image file; its bytes; a binary file object (read from its start; one that
            cannot seek is read into memory first); an array or tensor (T, H, W, C), (T, C, H, W) or grey (T, H, W); a
            list of arrays, tensors, PIL images or paths of images, which are its frames (a list of one path is that
            file, all of it where it is an animation); one image as array, tensor or PIL image, which is a video of one
            frame. Array values are integers in 0..255 or floats in 0..1.
        num_frames: T, the frames to sample: those in the middle of T equal segments of all frames, by number even where
            the frame rate varies. A shorter video gives all its frames, so T may be smaller; None always does.
        frame_interval: Seconds between the frames of the dense stack; None for the sampled frames alone.
        short_side: Pixels; larger frames are scaled down so that their shorter side has so many (area average, aspect
            kept). None keeps the size.
        max_between: Frames of the dense stack between two sampled ones at most; it bounds memory for long videos.
        fps: Frames per second of arrays and lists, 24 unless given; files have their own.
        data_format: "channels_first" or "channels_last" for arrays; unless given, the shape decides
            (see `frame_arrays`).
        threads: Of a video's decoder, and of the conversion to RGB, at least 1; None for as many as FFmpeg finds fit.
            One is best where several processes decode. It does not change the frames.
        start, end: Seconds on a player's clock; only the frames whose times lie in [start, end) are sampled, as if they
            were all of the video. None for the video's own start or end. Of a file that can be sought in, little that
            lies outside is decoded. Numbers, times and frame rate stay those of the whole video.

    Returns:
        `VideoFrames`. Rotation metadata is applied; transparency is laid over white.

    Raises:
        VideoDecodingError: If the source is missing, is no video or image, has no frame that can be decoded or none in
            the stretch, or is an array of another shape or range; the message names it. Where only some frames are
            lost, the others are sampled and a `VideoDecodingWarning` says how many are missing.
        ValueError: If an argument is out of its range.
    """
    if fps is not None and not fps > 0:
        raise ValueError(f"fps must be more than 0, got {fps}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, or None, got {threads}")
    stretch = VideoStretch(start, end)
    if isinstance(source, (list, tuple)) and len(source) == 1 and isinstance(source[0], (str, os.PathLike)):
        source = source[0]
    name = source_name(source)
    if isinstance(source, (list, tuple)):
        frames: Sequence[np.ndarray] = FrameSequence([_frame_of_list(item, name) for item in source], name, data_format)
    elif is_frame_array(source) or is_pil_image(source):
        frames = FrameSequence(source, name, data_format)
    else:
        opener = _opener(source, name)
        if _is_url(source) or not is_image_file(opener, name):
            from .video_file import VideoFile

            return VideoFile(opener, name, threads).read(num_frames, frame_interval, short_side, max_between, stretch)
        with closing(ImageFile(opener, name)) as animation:
            times = animation.timestamps
            return _take(animation, times, num_frames, frame_interval, short_side, max_between, stretch, name)
    timestamps = np.arange(len(frames)) / (fps or DEFAULT_ARRAY_FPS)
    return _take(frames, timestamps, num_frames, frame_interval, short_side, max_between, stretch, name)


def iterate_video(
    source: Any, frame_interval: float | None = None, short_side: int | None = None
) -> Generator[TimedFrame, None, None]:
    """Decode a video of any length frame by frame, in order; memory holds one frame, however many there are.

    Args:
        source: A path or URL of a video or image file, its bytes, or a binary file object, as for `decode_video`.
        frame_interval: Seconds between the frames wanted; None for every frame.
        short_side: Pixels; as for `decode_video`.

    Returns:
        An iterator of `TimedFrame`. Closing it, or its end, closes the file.

    Raises:
        VideoDecodingError: At once, if the source is missing or of another kind; at the first frame, if it is no video
            or no frame can be decoded. Where only some frames are lost, a `VideoDecodingWarning` says at the end how
            many.
        ValueError: At the first frame, if an argument is out of its range.
    """
    name = source_name(source)
    opener = _opener(source, name)
    if _is_url(source) or not is_image_file(opener, name):
        from .video_file import frames_in_turn

        return frames_in_turn(opener, name, frame_interval, short_side)
    return _images_in_turn(opener, name, frame_interval, short_side)


def source_name(source: Any) -> str:
    """How messages call a source: its path or URL, or what kind of object it is."""
    if isinstance(source, (str, os.PathLike)):
        return _printable(os.fsdecode(source)) if source else "the empty path"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"the video of {len(source)} bytes"
    if isinstance(source, (list, tuple)):
        return f"the list of {len(source)} frames"
    if hasattr(source, "shape"):
        return f"the {type(source).__name__} of shape {tuple(source.shape)}"
    if hasattr(source, "read"):
        return f"the file object {getattr(source, 'name', type(source).__name__)}"
    return f"the {type(source).__name__}"


def _printable(path: str) -> str:
    """A path on one line that any terminal takes: new lines and bytes that are no text are escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in path)


def _take(
    frames: Sequence[np.ndarray],
    timestamps: np.ndarray,
    num_frames: int | None,
    frame_interval: float | None,
    short_side: int | None,
    max_between: int,
    stretch: VideoStretch,
    name: str,
) -> VideoFrames:
    """Pick from frames that can be had in any order."""
    sampled = stretch.sample(timestamps, num_frames, name, DEFAULT_ARRAY_FPS)
    positions = dense_indices(timestamps, sampled, frame_interval, max_between)
    first = frames[0]
    height, width = fit_short_side(first.shape[0], first.shape[1], short_side)
    stack = np.empty((len(positions), height, width, 3), dtype=np.uint8)
    for slot, position in enumerate(positions.tolist()):
        stack[slot] = scale_frame(frames[position], height, width)
    return VideoFrames(
        frames=stack,
        sample_indices=np.searchsorted(positions, sampled),
        frame_indices=sampled,
        timestamps=timestamps[sampled],
        fps=frame_rate(timestamps, default=DEFAULT_ARRAY_FPS),
    )


def _images_in_turn(
    opener: Any, name: str, frame_interval: float | None, short_side: int | None
) -> Generator[TimedFrame, None, None]:
    pace = Pace(frame_interval)
    with closing(ImageFile(opener, name)) as animation:
        for number, seconds in enumerate(animation.timestamps.tolist()):
            if pace.picks(seconds):
                pixels = animation[number]
                size = fit_short_side(pixels.shape[0], pixels.shape[1], short_side)
                yield TimedFrame(number, seconds, scale_frame(pixels, *size))


def _frame_of_list(item: Any, name: str) -> Any:
    """A frame given as the path of an image is read; others pass."""
    if not isinstance(item, (str, os.PathLike)):
        return item
    opener = _opener(item, source_name(item))
    if not is_image_file(opener, source_name(item)):
        raise VideoDecodingError(f"{source_name(item)}, in {name}, is not an image; expected the frames of one video")
    with closing(ImageFile(opener, source_name(item))) as image:
        return image[0]


def _is_url(source: Any) -> bool:
    return isinstance(source, str) and "://" in source


def _opener(source: Any, name: str) -> Any:
    """A function that gives what FFmpeg and Pillow open, anew at each call."""
    if _is_url(source):
        return lambda: source
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        try:
            is_file = path.is_file()
            found = "is no regular file" if is_file or path.exists() else "does not exist"
        # Names that are too long or hold a zero byte, folders that are closed to us.
        except (OSError, ValueError) as error:
            is_file, found = False, f"cannot be looked for ({getattr(error, 'strerror', None) or error})"
        if not is_file:
            raise VideoDecodingError(f"{name} {found}; expected a video or image file")
        return lambda: str(path)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return lambda: BytesIO(source)
    if hasattr(source, "read"):
        return _file_opener(source, name)
    raise VideoDecodingError(
        f"{name} is no video; expected a path, URL, bytes, file object, array, tensor, PIL image, or a list of frames"
    )


def _file_opener(file: BinaryIO, name: str) -> Any:
    if not (hasattr(file, "seekable") and file.seekable()):
        data = file.read()
        if not isinstance(data, bytes):
            raise VideoDecodingError(f"{name} is opened as text; expected it opened as binary")
        return lambda: BytesIO(data)
    if isinstance(file.read(0), str):
        raise VideoDecodingError(f"{name} is opened as text; expected it opened as binary")

    def rewound() -> BinaryIO:
        file.seek(0)
        return file

    return rewound
