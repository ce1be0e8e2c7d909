"""Image files, still and animated, read by Pillow.

Pillow composes the frames of GIF, WebP and PNG animations and keeps their transparency, orientation and palettes right,
which FFmpeg's image demuxers do only in part.
"""

from collections.abc import Callable, Sequence
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
        opener: Gives the file's path, or a file object at its start, anew at each call.
        name: What error messages call the file.

    Raises:
        VideoDecodingError: If not even the first frame can be read. An animation that breaks off later gives the frames
            before that, and a `VideoDecodingWarning`.

    Attributes:
        timestamps: (N,) float64 seconds at which the frames appear; the first is 0.
    """

    def __init__(self, opener: Callable[[], str | BinaryIO], name: str):
        self._opener = opener
        self._name = name
        self._image: Any = open_image(opener(), name)
        self._position = -1
        durations: list[float] = []
        while not durations or self._image.format in ANIMATED_FORMATS:
            try:
                self._step()
            except EOFError:
                break
            # On damaged data Pillow's parsers raise whatever they trip over.
            except Exception as error:
                if not durations:
                    self.close()
                    raise VideoDecodingError(f"{name} is a damaged {self._image.format} image ({error})") from error
                warn_of_damage(name, len(durations), None)
                break
            durations.append(self._image.info.get("duration") or DEFAULT_DURATION_MS)
        if not durations:
            raise VideoDecodingError(f"{name} is a {self._image.format} image without any frame")
        self.timestamps = np.concatenate([[0.0], np.cumsum(durations[:-1])]) / 1000
        self._reopen()

    def __len__(self) -> int:
        return len(self.timestamps)

    def __getitem__(self, position):
        """Frame `position` as (H, W, 3) uint8 RGB; fast where the positions asked for increase."""
        if position < self._position:
            self._reopen()
        # Step by step, as the frames were found: none can then fail that did not before.
        while self._position < position:
            self._step()
        return pil_to_rgb(self._image, self._name)

    def close(self) -> None:
        """Close the file where Pillow opened it; a file object stays open."""
        with self._image:
            pass

    def _reopen(self) -> None:
        self.close()
        self._image = open_image(self._opener(), self._name)
        self._position = -1

    def _step(self) -> None:
        self._image.seek(self._position + 1)
        self._image.load()
        self._position += 1


def is_image_file(opener: Callable[[], str | BinaryIO], name: str) -> bool:
    """Whether a file is of a format listed in this module. Errors: as of `open_image`."""
    image = open_image(opener(), name)
    if image is None:
        return False
    with image:
        return True


def open_image(source: str | Path | BinaryIO, name: str) -> Any:
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
    except Exception as error:
        raise VideoDecodingError(f"{name} cannot be opened ({error}); expected a video or image file") from error
