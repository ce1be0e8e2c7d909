"""From a decoded FFmpeg frame to upright RGB pixels of the wanted size."""

from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from .frame_arrays import over_white
from .frame_size import fit_short_side

# Colour matrices, by FFmpeg's number, that PyAV before 17 does not apply unless they are named and differ from those of
# the result; RGB has none, so its own may be said to be any.
_MATRICES = {1: "ITU709", 7: "SMPTE240M"}


# From release 17 on PyAV scales with several threads, and takes their number.
_HAS_THREADS = int(av.__version__.split(".")[0]) >= 17


class FrameConverter:
    """Converts the frames of one video to (H, W, 3) uint8 RGB, all of one size.

    Pixel formats of any depth, range and matrix become 8-bit RGB; transparency is laid over white; frames are scaled
    (area average) and then turned upright as their display matrix says. The first frame decides the size: should the
    resolution change within the video, later frames are scaled to it. Pixels that are not square are taken as they are,
    and so are the brightness curves of HDR video.

    Args:
        short_side: Pixels; a larger first frame is scaled down to it. None keeps the size.
        threads: None for as many as FFmpeg finds fit.
    """

    def __init__(self, short_side: int | None, threads: int | None = None):
        self._short_side = short_side
        self._threads = {"threads": threads or 0} if _HAS_THREADS else {}
        self._size: tuple[int, int] | None = None
        # One reformatter for all frames keeps FFmpeg's scaler, which is costly to set up.
        self._reformatter: Any = VideoReformatter()

    def __call__(self, frame: Any) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one `av.VideoFrame`; may raise `av.error.FFmpegError`."""
        quarter_turn, flip_rows, flip_columns = _orientation(frame)
        if self._size is None:
            shown = (frame.width, frame.height) if quarter_turn else (frame.height, frame.width)
            self._size = fit_short_side(*shown, self._short_side)
        height, width = self._size[::-1] if quarter_turn else self._size
        has_alpha = any(component.is_alpha for component in frame.format.components)
        image = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgba" if has_alpha else "rgb24",
            src_colorspace=_MATRICES.get(frame.colorspace),
            dst_colorspace="ITU601",
            interpolation="AREA",
            **self._threads,
        ).to_ndarray()
        if has_alpha:
            image = over_white(image)
        if quarter_turn:
            image = image.transpose(1, 0, 2)
        if flip_rows:
            image = image[::-1]
        if flip_columns:
            image = image[:, ::-1]
        return image


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """How to turn a frame upright: whether to swap rows and columns, and then to reverse the rows, and the columns.

    A display matrix [a b u; c d v; x y w] takes a stored pixel (p, q) to the shown (a p + c q, b p + d q); turns that
    are not by quarters are rounded to them.
    """
    side_data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if side_data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(side_data, dtype=np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0
