"""Videos whose every frame carries its own number, so that a test can tell which frame it got."""

from fractions import Fraction

import av
import numpy as np

BITS = 10

# Red, green, blue and black quarters: a frame whose orientation shows.
QUADRANTS = np.zeros((48, 80, 3), dtype=np.uint8)
QUADRANTS[:24, :40] = (255, 0, 0)
QUADRANTS[:24, 40:] = (0, 255, 0)
QUADRANTS[24:, :40] = (0, 0, 255)


def numbered(number: int, height: int = 48, width: int = 80) -> np.ndarray:
    """A frame that shows `number` as ten black or white columns, which survive lossy coding and scaling."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    columns = np.repeat(np.array(bits, dtype=np.uint8) * 255, -(-width // BITS))[:width]
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).copy()


def number_of(frame: np.ndarray) -> int:
    width = frame.shape[1]
    middles = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(int(frame[frame.shape[0] // 2, x].mean() > 127) << bit for bit, x in enumerate(middles))


def numbers_of(frames: np.ndarray) -> list[int]:
    return [number_of(frame) for frame in frames]


def write_video(
    target, frames, codec="libx264", pix_fmt="yuv420p", rate=24, times=None, options=None, file_format=None, muxing=None
):
    """Encode (H, W, 3) frames; `times` in milliseconds gives them an irregular rate."""
    with av.open(target, "w", format=file_format, options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for position, pixels in enumerate(frames):
            frame = pixels if isinstance(pixels, av.VideoFrame) else av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[position], stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target


def write_numbered(path, count, **settings):
    return write_video(str(path), [numbered(i) for i in range(count)], **settings)


def decode_all(path) -> np.ndarray:
    """Every frame, in order, by nothing but PyAV's plain loop."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
