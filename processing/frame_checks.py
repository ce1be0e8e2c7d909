"""Validation of video frames where they enter processing."""

import numpy as np


def checked_frames(frames: np.ndarray) -> np.ndarray:
    """Return frames (T, H, W, 3) uint8 RGB unchanged, with T, H, W >= 1.

    Raises:
        TypeError: They are not an array of uint8.
        ValueError: They have another shape; the message says so where the channels come first or the time axis lacks.
    """
    if not isinstance(frames, np.ndarray):
        raise TypeError(f"frames must be a numpy array (T, H, W, 3) of uint8 RGB, got {type(frames).__name__}.")
    expected = f"frames must have shape (T, H, W, 3), got {frames.shape}"
    if frames.ndim == 3 and frames.shape[-1] == 3:
        raise ValueError(f"{expected}; one image is frames[None].")
    if frames.ndim == 4 and frames.shape[1] == 3 and frames.shape[-1] != 3:
        raise ValueError(f"{expected}, whose channels come first; transpose with frames.transpose(0, 2, 3, 1).")
    if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(f"{expected}; T, H and W are at least 1.")
    if frames.dtype != np.uint8:
        raise TypeError(f"frames must be uint8 (0..255), got {frames.dtype}.")
    return frames


def checked_frame(frame: np.ndarray, number: int, size: tuple[int, int] | None) -> np.ndarray:
    """Return frame `number` of a stream, (H, W, 3) uint8 RGB, unchanged; `size` is that of the first frame (None: any).

    Raises:
        TypeError: It is not an array of uint8.
        ValueError: It has another shape or size.
    """
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"frame {number} must be a numpy array (H, W, 3) of uint8 RGB, got {type(frame).__name__}.")
    if frame.ndim != 3 or frame.shape[-1] != 3 or not frame.size:
        raise ValueError(f"frame {number} must have shape (H, W, 3), H and W at least 1; got {frame.shape}.")
    if frame.dtype != np.uint8:
        raise TypeError(f"frame {number} must be uint8 (0..255), got {frame.dtype}.")
    if size is not None and frame.shape[:2] != size:
        raise ValueError(
            f"frame {number} is {frame.shape[0]} x {frame.shape[1]} pixels, those before are {size[0]} x {size[1]}; "
            "expected the frames of a stream to be of one size."
        )
    return frame
