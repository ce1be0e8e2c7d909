"""Image files, still and animated, read by Pillow.

Pillow composes the frames of GIF, WebP and PNG animations and keeps their transparency, orientation and palettes right,
which FFmpeg's image demuxers do only in part.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .frame_arrays import pil_to_rgb
from .video_frames import VideoDecodingError, warn_of_damage

STILL_FORMATS = ("JPEG", "JPEG2000", "BMP", "TIFF", "PPM")
ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")

DEFAULT_DURATION_MS = 100.0
"""Milliseconds that a frame of an animation stays when its file gives none or zero, as web browsers show it."""


class ImageFile(Sequence[np.ndarray]):
    """The frames of an image file; a still image is one frame, and so is a file of several unrelated pages.

    Args:
        image: An image that `open_image` opened.
        name: What error messages call the file.

    Raises:
        VideoDecodingError: If not even the first frame can be read. An animation that breaks off later gives the frames
            before that, and a `VideoDecodingWarning`.

    Attributes:
        timestamps: (N,) float64 seconds at which the frames appear; the first is 0.
    """

    def __init__(self, image: Any, name: str):
        self._image = image
        self._name = name
        declared = getattr(image, "n_frames", 1) if image.format in ANIMATED_FORMATS else 1
        durations = []
        try:
            for position in range(declared):
                image.seek(position)
                image.load()
                durations.append(image.info.get("duration") or DEFAULT_DURATION_MS)
        except _pillow_errors() as error:
            if not durations:
                raise VideoDecodingError(f"{name} is a damaged {image.format} image ({error})") from error
            warn_of_damage(name, declared - len(durations), declared)
        self.timestamps = np.concatenate([[0.0], np.cumsum(durations[:-1])]) / 1000

    def __len__(self) -> int:
        return len(self.timestamps)

    def __getitem__(self, position):
        """Frame `position` as (H, W, 3) uint8 RGB."""
        self._image.seek(position)
        return pil_to_rgb(self._image)


def open_image(source: str | Path | BinaryIO, name: str) -> Any | None:
    """Open a file as a PIL image; None when it is not of a format listed in this module.

    Raises:
        VideoDecodingError: If it cannot be read, or is so large an image that it may be a decompression bomb.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [format for format in STILL_FORMATS + ANIMATED_FORMATS if format in Image.OPEN]
    try:
        return Image.open(source, formats=formats)
    except UnidentifiedImageError:
        return None
    except (OSError, Image.DecompressionBombError) as error:
        raise VideoDecodingError(f"{name} cannot be opened ({error}); expected a video or image file") from error


def _pillow_errors() -> tuple[type[Exception], ...]:
    from PIL import Image

    return (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError)
