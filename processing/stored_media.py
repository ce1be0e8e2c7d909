"""From a record's media, as a data set stores them, to frames."""

from typing import Any

from .decoding import decode_video
from .stored_values import SampleError, bytes_or_path
from .video_frames import VideoFrames


def decode_stored(
    media: Any,
    folder: str | None,
    num_frames: int,
    frame_interval: float | None,
    short_side: int,
    start: float | None = None,
    end: float | None = None,
) -> VideoFrames:
    """Decode media, or a stretch of them, in one thread, as one of many processes.

    Args:
        media: As for `bytes_or_path`.
        folder: What paths are relative to; None for the current folder.
        num_frames, frame_interval, short_side, start, end: As for `decode_video`.

    Raises:
        SampleError: There is nothing that can be decoded; the message says why.
    """
    from av import FFmpegError

    source = bytes_or_path(media, folder, "media")
    try:
        return decode_video(source, num_frames, frame_interval, short_side, threads=1, start=start, end=end)
    # Of damaged files the libraries raise what they trip over; whatever it is, this sample alone is lost.
    except (OSError, ValueError, ArithmeticError, LookupError, FFmpegError) as error:
        raise SampleError(f"its media cannot be decoded: {error}") from error
