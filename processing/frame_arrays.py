"""Frames that are in memory already: NumPy arrays, PyTorch tensors, PIL images, and lists of them.

One rule for the order of axes, so that nothing is ever transposed by guess. The channel axis has 1, 3 or 4 entries and
is the last one (channels last) or the one before height and width (channels first), whichever has such a size. Where
both have, the custom of the type decides: channels last for NumPy, first for PyTorch; or the caller says.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .video_frames import VideoDecodingError

CHANNEL_COUNTS = (1, 3, 4)
CHANNELS_FIRST = "channels_first"
CHANNELS_LAST = "channels_last"

# Resampling in floating point overshoots by rounding errors; more than this outside 0..1 is another scale.
_FLOAT_TOLERANCE = 1e-3


def is_frame_array(source: Any) -> bool:
    """Whether this is a NumPy array or a PyTorch tensor."""
    return isinstance(source, np.ndarray) or _is_tensor(source)


def is_pil_image(source: Any) -> bool:
    """Whether this is a PIL image."""
    from PIL import Image

    return isinstance(source, Image.Image)


def is_single_frame(source: Any) -> bool:
    """Whether this is one image: a PIL image, or an array or tensor of the shape of one."""
    if is_pil_image(source):
        return True
    if not is_frame_array(source):
        return False
    shape = tuple(source.shape)
    if len(shape) == 3:
        return shape[-1] in CHANNEL_COUNTS or (_is_tensor(source) and shape[0] in CHANNEL_COUNTS)
    return len(shape) == 2


class FrameSequence(Sequence[np.ndarray]):
    """Frames in memory, each converted to RGB when it is asked for, so that unsampled frames cost nothing.

    Args:
        source: One array or tensor, (T, H, W, C), (T, C, H, W) or grey (T, H, W); or one image, (H, W, C), (C, H, W) as
            a tensor, (H, W), or a PIL image; or a list of images of one size. C is 1, 3 (RGB) or 4 (RGBA). Values are
            integers in 0..255, or floats in 0..1. Transparent pixels are laid over white.
        name: What error messages call the source.
        data_format: "channels_first" or "channels_last" for arrays and tensors; None goes by the rule above.

    Raises:
        VideoDecodingError: If it is empty, or no such shape; and, when a frame is asked for, if its values are of
            another type or range, or not numbers.
    """

    def __init__(self, source: Any, name: str, data_format: str | None = None):
        if data_format not in (None, CHANNELS_FIRST, CHANNELS_LAST):
            raise ValueError(f"data_format must be {CHANNELS_FIRST!r}, {CHANNELS_LAST!r} or None, got {data_format!r}")
        self._name = name
        if isinstance(source, (list, tuple)):
            self._frames: Any = [
                frame
                for position, item in enumerate(source)
                for frame in _frames_of(item, f"frame {position} of {name}", data_format)
            ]
            _require_one_size(self._frames, name)
        else:
            self._frames = _frames_of(source, name, data_format)
        if len(self._frames) == 0:
            raise VideoDecodingError(f"{name} holds no frame; expected at least one")

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, position):
        """Frame `position` as (H, W, 3) uint8 RGB."""
        return _to_rgb(self._frames[position], f"frame {position} of {self._name}")


def _is_tensor(source: Any) -> bool:
    # There are no tensors before PyTorch is imported.
    return "torch" in sys.modules and isinstance(source, sys.modules["torch"].Tensor)


def _frames_of(source: Any, name: str, data_format: str | None) -> Any:
    """A sequence of (H, W, C) arrays in their own type."""
    if is_pil_image(source):
        return [pil_to_rgb(source, name)]
    if not is_frame_array(source):
        raise VideoDecodingError(
            f"{name} is of type {type(source).__name__}; expected a NumPy array, a PyTorch tensor or a PIL image"
        )
    is_tensor = _is_tensor(source)
    if is_tensor:
        source = source.detach().cpu()
        # NumPy has no bfloat16.
        source = (source.float() if source.is_floating_point() else source).numpy()
    if 0 in source.shape:
        raise VideoDecodingError(f"{name} has shape {source.shape} and so no pixel; expected at least one frame")
    return _channels_last(source, is_tensor, name, data_format)


def _channels_last(array: np.ndarray, is_tensor: bool, name: str, data_format: str | None) -> np.ndarray:
    """View an array of one of the legal shapes as (T, H, W, C)."""
    if array.ndim == 2:
        return array[None, :, :, None]
    if array.ndim not in (3, 4):
        raise VideoDecodingError(
            f"{name} has shape {array.shape}; expected frames (T, H, W, C), (T, C, H, W) or (T, H, W), or one image"
        )
    could_be_last = array.shape[-1] in CHANNEL_COUNTS and data_format != CHANNELS_FIRST
    could_be_first = array.shape[-3] in CHANNEL_COUNTS and data_format != CHANNELS_LAST
    if array.ndim == 3:
        return _one_image_or_grey_video(array, could_be_first, could_be_last, is_tensor, name, data_format)
    if could_be_last and could_be_first:
        could_be_last = not is_tensor
    if could_be_last:
        return array
    if could_be_first:
        return np.moveaxis(array, 1, 3)
    raise VideoDecodingError(
        f"{name} has shape {array.shape}"
        + (f" and is said to be {data_format}" if data_format else "")
        + "; expected frames (T, H, W, C) or (T, C, H, W) with C of 1, 3 or 4 channels"
    )


def _one_image_or_grey_video(
    array: np.ndarray,
    could_be_first: bool,
    could_be_last: bool,
    is_tensor: bool,
    name: str,
    data_format: str | None,
) -> np.ndarray:
    if could_be_last and not (could_be_first and is_tensor):
        return array[None]
    if could_be_first and (is_tensor or data_format is not None):
        return np.moveaxis(array, 0, 2)[None]
    if data_format is None and array.shape[0] in CHANNEL_COUNTS[1:]:
        raise VideoDecodingError(
            f"{name} has shape {array.shape}, which may be an image (C, H, W) or {array.shape[0]} grey frames; "
            "expected data_format='channels_first' for the one, or shape (T, H, W, 1) for the other"
        )
    if data_format is not None:
        raise VideoDecodingError(f"{name} has shape {array.shape} and is said to be {data_format}; no axis of it fits")
    return array[..., None]


def _require_one_size(frames: Sequence[Any], name: str) -> None:
    for position, frame in enumerate(frames):
        if frame.shape[:2] != frames[0].shape[:2]:
            raise VideoDecodingError(
                f"frame {position} of {name} is {frame.shape[0]} x {frame.shape[1]} pixels, frame 0 is "
                f"{frames[0].shape[0]} x {frames[0].shape[1]}; expected the frames of a video to be of one size "
                "(give unrelated images as images)"
            )


def pil_to_rgb(image: Any, name: str = "the PIL image") -> np.ndarray:
    """(H, W, 3) uint8 of a PIL image of any mode, upright by its EXIF orientation, transparency laid over white.

    Raises `VideoDecodingError`, with the image's name, if it holds floats outside 0..1.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        return _to_rgb(np.asarray(image)[..., None], name)
    if image.mode.startswith("I"):
        # 16-bit greyscale: PIL's own conversion would clip at 255.
        grey = (np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        return over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay (H, W, 4) uint8 RGBA over white, as image processors in transformers do: (H, W, 3) uint8."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _to_rgb(frame: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) uint8 from (H, W, C) of any legal type."""
    if np.issubdtype(frame.dtype, np.floating):
        frame = _from_unit_range(frame, name)
    elif not np.issubdtype(frame.dtype, np.integer):
        raise VideoDecodingError(f"{name} has dtype {frame.dtype}; expected uint8, or floats in 0..1")
    elif frame.dtype != np.uint8:
        if frame.min() < 0 or frame.max() > 255:
            raise VideoDecodingError(
                f"{name} has {frame.dtype} values from {frame.min()} to {frame.max()}; expected integers in 0..255"
            )
        frame = frame.astype(np.uint8)
    if frame.shape[-1] == 4:
        return over_white(frame)
    if frame.shape[-1] == 1:
        return np.repeat(frame, 3, axis=-1)
    return frame


def _from_unit_range(frame: np.ndarray, name: str) -> np.ndarray:
    low, high = float(frame.min()), float(frame.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise VideoDecodingError(f"{name} has values that are NaN or infinite; expected floats in 0..1")
    if low < -_FLOAT_TOLERANCE or high > 1 + _FLOAT_TOLERANCE:
        raise VideoDecodingError(
            f"{name} has {frame.dtype} values from {low:.4g} to {high:.4g}; expected floats in 0..1 before any "
            "normalisation, or integers in 0..255"
        )
    return np.rint(frame.clip(0, 1) * 255).astype(np.uint8)
