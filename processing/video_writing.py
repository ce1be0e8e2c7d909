"""Writes frames to an H.264 MP4 file."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

MAX_SIDE = 16_384
"""Most pixels of a side that H.264's encoder takes."""


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float | Fraction, crf: int = 18) -> Path:
    """Encode frames to an MP4 (H.264, yuv420p) that browsers play, and return its path.

    Args:
        path: the file to write; missing folders are made.
        frames: (H, W, 3) uint8 RGB arrays of one size, an array of them or any iterable. An odd last row or column is
            repeated, because
            yuv420p needs even sizes.
        fps: frames per second.
        crf: x264's constant rate factor, 0 (lossless) to 51.

    Raises ValueError when there is no frame, a frame has another size or type than expected, or the rate is not
    positive.
    """
    if not fps > 0:
        raise ValueError(f"fps is {fps}; expected a positive rate")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"no frames to write to {path}; expected at least one")
    shape = _checked_shape(first)
    if max(shape[:2]) > MAX_SIDE:
        raise ValueError(f"{path} cannot hold frames of {shape[0]} x {shape[1]}; expected sides of at most {MAX_SIDE}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same frames give the same bytes: one thread, no creation time, and no macroblock tree, which reads memory that
    # was never written when a side is no multiple of 16. The index comes first, so that a browser can start at once.
    container_options = {"fflags": "+bitexact", "movflags": "+faststart"}
    encoder_options = {"crf": str(crf), "preset": "veryfast", "x264-params": "mbtree=0"}
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(unfinished), "w", format="mp4", options=container_options) as container:
            rate = Fraction(fps).limit_denominator(100_000)
            stream = container.add_stream("libx264", rate=rate, options=encoder_options)
            stream.pix_fmt = "yuv420p"
            stream.thread_count = 1
            stream.height, stream.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
            for index, frame in enumerate(chain([first], iterator)):
                if frame.shape != shape or frame.dtype != np.uint8:
                    raise ValueError(f"frame {index} is {frame.dtype} {frame.shape}; expected uint8 {shape}")
                even = np.pad(frame, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
            container.mux(stream.encode())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def encode_video(frames: Iterable[np.ndarray], fps: float | Fraction, crf: int = 18) -> bytes:
    """The content of the file that `write_video` would write; arguments and errors are its."""
    with TemporaryDirectory() as folder:
        return write_video(Path(folder) / "video.mp4", frames, fps, crf).read_bytes()


def _checked_shape(frame: np.ndarray) -> tuple[int, ...]:
    if frame.ndim != 3 or frame.shape[2] != 3 or min(frame.shape) < 1:
        raise ValueError(f"frame 0 has shape {frame.shape}; expected (H, W, 3)")
    return frame.shape
