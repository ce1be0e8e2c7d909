"""Video files and streams, read by PyAV (FFmpeg): only the wanted frames are converted and kept.

The packets of a file say when its frames are shown, without any decoding; so the wanted frames are known before the
first is decoded, memory holds these alone, at their final size, and stretches between them that contain whole groups
of pictures are skipped by seeking. Where packets do not tell (elementary streams, some AVI files), or where a wanted
frame turns out to be damaged, everything is decoded once to see which frames there are.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any, BinaryIO

import av
import numpy as np

from .frame_conversion import FrameConverter
from .sampling import Pace, dense_indices
from .video_frames import TimedFrame, VideoDecodingError, VideoFrames, frame_rate, warn_of_damage
from .video_stretch import VideoStretch

MIN_FRAMES_SKIPPED = 16
"""A seek throws the decoder's state away; fewer frames than this are decoded faster than skipped."""

DEFAULT_RATE = 25.0
"""Frames per second of a stream that tells neither times nor a rate, as FFmpeg takes them."""

URL_TIMEOUT_SECONDS = 30.0
"""How long a server may keep silent."""

# Before release 19, PyAV refused a file for a title that is no UTF-8, unless told otherwise.
_TAG_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

# FFmpeg's demuxers for text art take any text file for a video.
_TEXT_ART_CODECS = frozenset({"ansi", "bintext", "xbin", "idf"})

# Files that name other files or addresses, which FFmpeg would read: a video must not reach for what is not in it.
_LISTS_OF_FILES = frozenset({"concat", "dash", "hls", "image2", "imf", "rtsp", "sdp", "webm_dash_manifest"})
_SELF_CONTAINED = {"format_whitelist": ",".join(sorted(av.formats_available - _LISTS_OF_FILES))}

MAX_FRAMES = 2**22
"""Most frames of a video that is sampled, 48 hours at 24 per second: a server may send without end."""

MAX_FRAME_PIXELS = 2**27
"""Most pixels of a frame, 16,384 x 8,192: a small file may tell of frames that fill the memory."""


class _FrameMissing(Exception):
    """A frame that the packets promise does not come out of the decoder."""


@dataclass(frozen=True)
class Timeline:
    """When the frames of a stream are shown.

    Attributes:
        pts: (N,) int64 presentation times in units of the stream's time base, strictly increasing.
        seconds: (N,) float64 of the same on a player's clock, which starts when the file's first stream does.
        keys: (K, 2) int64, a row for each frame at which decoding can start: its position among the N, and its
            decoding time in units of the time base, by which containers seek.
    """

    pts: np.ndarray
    seconds: np.ndarray
    keys: np.ndarray


class VideoFile:
    """A video file, URL or file object.

    Args:
        opener: Gives what PyAV opens: a path, a URL, or a file object at its start. Called once for each reading.
        name: What error messages and warnings call it.
        threads: Of the decoder, and of the conversion to RGB; None for as many as FFmpeg finds fit.

    Raises:
        VideoDecodingError: If it cannot be opened, or holds no frame of video.
    """

    def __init__(self, opener: Callable[[], str | BinaryIO], name: str, threads: int | None = None):
        self._opener = opener
        self._name = name
        self._threads = threads
        shown: list[Any] = []
        num_hidden = 0
        with open_video(self._opener, self._name) as (container, stream):
            for packet in _packets(container, stream):
                if packet.is_discard:
                    num_hidden += 1
                elif packet.size > 0:
                    shown.append((packet.pts, packet.dts, packet.is_keyframe))
                if len(shown) > MAX_FRAMES:
                    raise VideoDecodingError(
                        f"{name} has more than {MAX_FRAMES} frames, or no end; expected fewer to sample from "
                        "(iterate_video reads videos of any length)"
                    )
            if not shown:
                raise _without_frames(name, stream)
            self._rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
            self._time_base = float(stream.time_base)
            self._start = None if container.start_time is None else container.start_time / av.time_base
            self._num_expected = max(stream.frames - num_hidden, len(shown))
        self._timeline = self._timeline_of(shown)

    def read(
        self,
        num_frames: int | None,
        frame_interval: float | None,
        short_side: int | None,
        max_between: int,
        stretch: VideoStretch,
    ) -> VideoFrames:
        """Decode the sampled frames of a stretch and the denser ones between them; the arguments are `decode_video`'s.

        Raises:
            VideoDecodingError: If no frame, or none of the stretch, can be decoded.
        """

        def plan(timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
            sampled = stretch.sample(timeline.seconds, num_frames, self._name, self._rate)
            return dense_indices(timeline.seconds, sampled, frame_interval, max_between), sampled

        timeline = self._timeline
        if timeline is not None:
            positions, sampled = plan(timeline)
            try:
                frames = self._convert(self._frames_at(timeline, positions), len(positions), short_side)
            except _FrameMissing:
                pass
            else:
                self._warn_if_fewer(len(timeline.pts))
                return _assemble(frames, positions, sampled, sampled, timeline, self._rate)

        decodable = self._decodable()
        self._warn_if_fewer(len(decodable.pts))
        positions, sampled = plan(decodable)
        frames = self._convert(self._frames_numbered(positions), len(positions), short_side)
        return _assemble(frames, positions, sampled, self._numbers(decodable, sampled), decodable, self._rate)

    def _timeline_of(self, packets: list[Any]) -> Timeline | None:
        """The timeline that (pts, dts, is key) of all packets tell, or None when they do not."""
        times = [pts for pts, _, _ in packets if pts is not None]
        pts = np.array(sorted(times), dtype=np.int64)
        if len(pts) < len(packets) or (np.diff(pts) == 0).any():
            return None
        keys = [(pts.searchsorted(time), time if dts is None else dts) for time, dts, is_key in packets if is_key]
        return Timeline(pts, self._seconds(pts), np.array(sorted(keys), dtype=np.int64).reshape(-1, 2))

    def _seconds(self, pts: np.ndarray) -> np.ndarray:
        seconds = pts * self._time_base
        return seconds - (seconds[0] if self._start is None else self._start)

    def _frames_at(self, timeline: Timeline, positions: np.ndarray) -> Iterator[Any]:
        """The frames at these positions of the timeline, seeking to them where that skips enough."""
        with open_video(self._opener, self._name, self._threads) as (container, stream):
            decoded = _decoded(container, stream)
            next_position = 0
            for position in positions:
                key = np.searchsorted(timeline.keys[:, 0], position, side="right") - 1
                if key >= 0 and timeline.keys[key, 0] - next_position >= MIN_FRAMES_SKIPPED:
                    try:
                        container.seek(int(timeline.keys[key, 1]), stream=stream)
                    except av.error.FFmpegError as error:
                        raise _FrameMissing from error
                    decoded = _decoded(container, stream)
                wanted = timeline.pts[position]
                frame = next((frame for frame in decoded if frame.pts is not None and frame.pts >= wanted), None)
                if frame is None or frame.pts != wanted:
                    raise _FrameMissing
                yield frame
                next_position = position + 1

    def _decodable(self) -> Timeline:
        """The frames that do come out of the decoder, found by decoding all."""
        # Frame threads may lose other frames of a damaged file in each run.
        with open_video(self._opener, self._name, threads=1) as (container, stream):
            times = [frame.pts for frame in _decoded(container, stream)]
        if not times:
            raise VideoDecodingError(f"{self._name} is damaged: none of its {self._num_expected} frames can be decoded")
        no_keys = np.empty((0, 2), dtype=np.int64)
        if None in times or any(b <= a for a, b in pairwise(times)):
            order = np.arange(len(times), dtype=np.int64)
            return Timeline(order, order / self._rate, no_keys)
        pts = np.array(times, dtype=np.int64)
        return Timeline(pts, self._seconds(pts), no_keys)

    def _frames_numbered(self, positions: np.ndarray) -> Iterator[Any]:
        """The frames at these positions among those that `_decodable` found."""
        wanted = iter(positions.tolist())
        next_wanted = next(wanted, None)
        with open_video(self._opener, self._name, threads=1) as (container, stream):
            for position, frame in enumerate(_decoded(container, stream)):
                if position == next_wanted:
                    yield frame
                    next_wanted = next(wanted, None)
                if next_wanted is None:
                    return

    def _numbers(self, decodable: Timeline, sampled: np.ndarray) -> np.ndarray:
        """The sampled frames' numbers in the file, in which lost frames count where it is known when they were."""
        if self._timeline is None or not np.isin(decodable.pts, self._timeline.pts).all():
            return sampled
        return np.searchsorted(self._timeline.pts, decodable.pts[sampled])

    def _convert(self, frames: Iterator[Any], count: int, short_side: int | None) -> np.ndarray:
        """Convert frames to one (count, H, W, 3) uint8 array as they come, so that each is in memory once."""
        convert = FrameConverter(short_side, self._threads)
        stack = None
        num_converted = 0
        for frame in frames:
            image = _converted(convert, frame, self._name)
            if stack is None:
                stack = np.empty((count, *image.shape), dtype=np.uint8)
            stack[num_converted] = image
            num_converted += 1
        if stack is None or num_converted < count:
            raise VideoDecodingError(f"{self._name} gave other frames when it was read again; was it still written to?")
        return stack

    def _warn_if_fewer(self, num_available: int) -> None:
        if num_available < self._num_expected:
            warn_of_damage(self._name, num_available, self._num_expected)


def frames_in_turn(
    opener: Callable[[], str | BinaryIO], name: str, frame_interval: float | None, short_side: int | None
) -> Generator[TimedFrame, None, None]:
    """Decode a video from its start in one pass, holding one frame: for videos too long to be looked over before.

    Args:
        opener, name: As of `VideoFile`.
        frame_interval, short_side: As of `decoding.iterate_video`.

    Raises:
        VideoDecodingError: As of `VideoFile`, or no frame can be decoded.
    """
    pace, convert = Pace(frame_interval), FrameConverter(short_side)
    with open_video(opener, name) as (container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
        start = None if container.start_time is None else container.start_time / av.time_base
        count = _PacketCount()
        seconds = None
        for frame in _decoded(container, stream, count):
            number = count.number_of(frame)
            if frame.time is None:
                seconds = 0.0 if seconds is None else seconds + 1 / rate
            else:
                start = frame.time if start is None else start
                # Some files tell times that go back; a player's clock does not.
                seconds = max(frame.time - start, -np.inf if seconds is None else seconds)
            if pace.picks(seconds):
                yield TimedFrame(number, seconds, _converted(convert, frame, name))
        if count.num_shown == 0:
            raise _without_frames(name, stream)
        num_expected = max(stream.frames - count.num_hidden, count.num_shown)
    if count.num_decoded == 0:
        raise VideoDecodingError(f"{name} is damaged: none of its {num_expected} frames can be decoded")
    if count.num_decoded < num_expected:
        warn_of_damage(name, count.num_decoded, num_expected)


class _PacketCount:
    """Counts packets as they pass, so that decoded frames know their numbers although some were lost before them."""

    def __init__(self) -> None:
        self.num_hidden = self.num_shown = self.num_decoded = 0
        self._next_number = 0
        self._pending: list[int] = []

    def add(self, packet: Any) -> None:
        if packet.is_discard:
            self.num_hidden += 1
        elif packet.size > 0:
            self.num_shown += 1
            if packet.pts is not None:
                heappush(self._pending, packet.pts)

    def number_of(self, frame: Any) -> int:
        """The number of the next decoded frame. The packets of all frames shown before it have passed by now."""
        while frame.pts is not None and self._pending and self._pending[0] < frame.pts:
            heappop(self._pending)
            self._next_number += 1
        if self._pending and self._pending[0] == frame.pts:
            heappop(self._pending)
        self.num_decoded += 1
        self._next_number += 1
        return self._next_number - 1


@contextmanager
def open_video(
    opener: Callable[[], str | BinaryIO], name: str, threads: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream that is neither a cover picture nor text."""
    # With PyAV's log on, as torchvision 0.21 turns it on, a thread of FFmpeg's that has a message waits for Python's
    # lock, which whoever waits for that thread may hold: for ever.
    if av.logging.get_level() is not None:
        av.logging.set_level(None)
    source = opener()
    # FFmpeg keeps what an address leads to away from this machine's files by itself.
    options = {} if isinstance(source, str) and "://" in source else _SELF_CONTAINED
    try:
        container = av.open(source, timeout=URL_TIMEOUT_SECONDS, options=options, **_TAG_OPTIONS)
    except (av.error.FFmpegError, OSError) as error:
        is_list = options and isinstance(error, av.error.ArgumentError)
        reason = "it may list other files, which are not followed" if is_list else error.strerror or error
        raise VideoDecodingError(
            f"{name} cannot be opened ({reason}); expected a video or an image that FFmpeg or Pillow can read"
        ) from error
    with container:
        stream = _video_stream(container, name)
        # FFmpeg takes 0 threads for as many as there are cores.
        stream.thread_count = threads or 0
        stream.thread_type = "NONE" if threads == 1 else "AUTO"
        yield container, stream


def _video_stream(container: Any, name: str) -> Any:
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
        and (stream.codec_context is None or stream.codec_context.name not in _TEXT_ART_CODECS)
    ]
    if not streams:
        others = sorted({stream.type for stream in container.streams if stream.type != "video"})
        found = f"only {' and '.join(others)}" if others else "nor any other"
        raise VideoDecodingError(f"{name} has no video stream ({found}); expected one")
    if streams[0].codec_context is None:
        raise VideoDecodingError(f"{name} holds video of a codec that this build of FFmpeg cannot decode")
    codec = streams[0].codec_context
    if codec.width * codec.height > MAX_FRAME_PIXELS:
        raise VideoDecodingError(
            f"{name} has frames of {codec.width} x {codec.height} pixels; expected at most {MAX_FRAME_PIXELS} in all"
        )
    # The stream itself may tell another size later.
    codec.options = {**codec.options, "max_pixels": str(MAX_FRAME_PIXELS)}
    return streams[0]


def _without_frames(name: str, stream: Any) -> VideoDecodingError:
    return VideoDecodingError(f"{name} has a video stream ({stream.codec_context.name}) without any frame")


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets from where the container stands; of a file that breaks off, those before that."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        # At the end of a file in which further streams appeared midway, PyAV raises IndexError.
        except (StopIteration, av.error.FFmpegError, IndexError):
            return
        yield packet


def _decoded(container: Any, stream: Any, count: _PacketCount | None = None) -> Iterator[Any]:
    """Frames in order of presentation from where the container stands; damaged ones are left out."""
    for packet in _packets(container, stream):
        if count is not None:
            count.add(packet)
        with suppress(av.error.FFmpegError):
            yield from (frame for frame in packet.decode() if not frame.is_corrupt)


def _converted(convert: FrameConverter, frame: Any, name: str) -> np.ndarray:
    try:
        return convert(frame)
    except av.error.FFmpegError as error:
        raise VideoDecodingError(
            f"{name} has frames of pixel format {frame.format.name}, which cannot be converted to RGB"
        ) from error


def _assemble(
    frames: np.ndarray,
    positions: np.ndarray,
    sampled: np.ndarray,
    numbers: np.ndarray,
    timeline: Timeline,
    rate: float,
) -> VideoFrames:
    return VideoFrames(
        frames=frames,
        sample_indices=np.searchsorted(positions, sampled),
        frame_indices=numbers.astype(np.int64),
        timestamps=timeline.seconds[sampled],
        fps=frame_rate(timeline.seconds, default=rate),
    )
