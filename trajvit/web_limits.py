"""What the web page takes from a visitor, and the words in which it says no."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from trajvit.processing.video_writing import MAX_SIDE

# How files of the containers that cameras and browsers write begin, as (offset, bytes). Others are not opened at all:
# FFmpeg would follow a playlist that is renamed to .mp4 to any file or address that it names.
_CONTAINER_MARKS = (
    *((4, mark) for mark in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI "),
    (0, b"OggS"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x00\x00\x01\xb3"),
    (0, b"\x47\x40"),
    (0, b"FLV\x01"),
    (0, b"GIF87a"),
    (0, b"GIF89a"),
)
_WANTED = "Expected a video, for example MP4, WebM, MOV or AVI."
_DAMAGED = "This video is damaged, or breaks off: it cannot be opened. Please try another."


class VisitorError(ValueError):
    """Something that a visitor can put right; the message is shown to them as it is, and names no path."""


@dataclass(frozen=True)
class PageLimits:
    """What one visitor may ask for.

    Attributes:
        seconds: Longest video.
        megabytes: Largest file, of 10^6 bytes.
        pixels: Most pixels of a frame; a 4K frame has 8.3 million.
        source_frames: Most frames of a video: all of them may have to be decoded.
        phrase_letters: Longest phrase.

    Raises:
        ValueError: A limit is not positive.
    """

    seconds: float = 60.0
    megabytes: float = 100.0
    pixels: int = 8_850_000
    source_frames: int = 7_200
    phrase_letters: int = 200

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; expected more than 0")

    @property
    def sentence(self) -> str:
        """The limits of a video in words."""
        return f"Up to {self.seconds:g} s and {self.megabytes:g} MB, at most 4K. Sound is not used."

    def check_file(self, path: Path) -> None:
        """Open a visitor's file as far as it takes to say whether it is a video within the limits.

        Raises:
            VisitorError: It is not.
        """
        size = os.path.getsize(path)
        if size == 0:
            raise VisitorError("This file is empty (0 bytes). " + _WANTED)
        if size > self.megabytes * 1e6:
            raise VisitorError(f"This file has {size / 1e6:.1f} MB; at most {self.megabytes:g} MB are taken here.")
        with open(path, "rb") as file:
            start = file.read(16)
        if not any(start[offset : offset + len(mark)] == mark for offset, mark in _CONTAINER_MARKS):
            raise VisitorError("This file is not a video, whatever its name says. " + _WANTED)
        width, height, frames, seconds = _measures(path)
        # The overlay is a video too.
        if max(width, height) > MAX_SIDE:
            raise VisitorError(f"Its frames are {width} x {height}; at most {MAX_SIDE:,} on a side are taken here.")
        if width * height > self.pixels:
            raise VisitorError(f"Its frames are {width} x {height}; at most {self.pixels:,} pixels are taken here.")
        if seconds > self.seconds:
            raise VisitorError(
                f"This video lasts {_length(seconds)}; at most {self.seconds:g} s are taken here. "
                "Please cut it, or record a shorter one."
            )
        if frames > self.source_frames:
            raise VisitorError(f"This video has more than {self.source_frames:,} frames, which is the most taken here.")

    def check_phrase(self, phrase: str | None) -> str:
        """The phrase without spaces around it.

        Raises:
            VisitorError: There is none, or it is too long.
        """
        words = " ".join((phrase or "").split())
        if not words:
            raise VisitorError("Type what to look for first, for example: a red circle.")
        if len(words) > self.phrase_letters:
            raise VisitorError(f"This phrase has {len(words)} letters; at most {self.phrase_letters} are taken here.")
        return words


def _measures(path: Path) -> tuple[int, int, int, float]:
    """Width, height, frames and seconds of a video, from its packets and not from what its header promises."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                if not container.streams.audio:
                    raise VisitorError(_DAMAGED)
                raise VisitorError("This file has sound but no picture. " + _WANTED)
            stream = container.streams.video[0]
            if stream.codec_context is None or not stream.codec_context.width:
                raise VisitorError("This video cannot be decoded here. Please convert it to MP4 (H.264).")
            first, last, frames = math.inf, -math.inf, 0
            for packet in container.demux(stream):
                frames += packet.size > 0
                # AVI files tell the time of decoding alone.
                shown = packet.dts if packet.pts is None else packet.pts
                if packet.size and shown is not None:
                    first, last = min(first, shown), max(last, shown + (packet.duration or 0))
            if not frames:
                raise VisitorError(_DAMAGED)
            seconds = float((last - first) * stream.time_base) if last >= first and stream.time_base else 0.0
            return stream.codec_context.width, stream.codec_context.height, frames, seconds
    except (av.error.FFmpegError, IndexError) as error:
        raise VisitorError(_DAMAGED) from error


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} minutes"
