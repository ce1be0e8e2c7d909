"""Frames as SAM 2 sees them, and their encoded features, computed once for segmentation and tracking alike.

Shape legend: F frames, S image size (square), C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

# ImageNet statistics, in 0..1, as SAM 2 was trained with.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """Encoded frames.

    Attributes:
        stride_4: (F, 32, S/4, S/4), already projected for the mask decoder.
        stride_8: (F, 64, S/8, S/8), likewise.
        stride_16: (F, 256, S/16, S/16), what memories and prompts act on.
    """

    stride_4: torch.Tensor
    stride_8: torch.Tensor
    stride_16: torch.Tensor

    def __len__(self) -> int:
        return len(self.stride_16)

    def __getitem__(self, frames: slice | Sequence[int] | torch.Tensor) -> FrameFeatures:
        """Return some of the frames, by a slice (a view), by positions (L,) or by a mask (F,)."""
        return FrameFeatures(self.stride_4[frames], self.stride_8[frames], self.stride_16[frames])

    @staticmethod
    def concatenate(parts: Sequence[FrameFeatures]) -> FrameFeatures:
        """Return the frames of all parts, in order; at least one part."""
        return FrameFeatures(
            torch.cat([part.stride_4 for part in parts]),
            torch.cat([part.stride_8 for part in parts]),
            torch.cat([part.stride_16 for part in parts]),
        )


def prepare_frames(frames: np.ndarray, image_size: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Scale frames to SAM 2's square and normalise them.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
        image_size: S, pixels.
        device: Where the work is done.

    Returns:
        (F, 3, S, S) float32. The aspect ratio is not kept, as SAM 2 does it; scaling is bilinear with antialiasing.
    """
    scaled = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float() / 255
    if scaled.shape[-2:] != (image_size, image_size):
        size = (image_size, image_size)
        scaled = F.interpolate(scaled, size=size, mode="bilinear", align_corners=False, antialias=True)
    mean = scaled.new_tensor(_MEAN).view(3, 1, 1)
    std = scaled.new_tensor(_STD).view(3, 1, 1)
    return (scaled - mean) / std


@torch.inference_mode()
def encode_frames(
    model: SAM2Base, frames: np.ndarray, batch_size: int | None = None, autocast_dtype: torch.dtype | None = None
) -> FrameFeatures:
    """Run SAM 2's image encoder on every frame once.

    Args:
        model: SAM 2, in evaluation mode.
        frames: (F, H, W, 3) uint8 RGB, F at least 1.
        batch_size: Frames that go through the encoder together. None: one on a CPU, whose cache holds no more, else 16.
        autocast_dtype: Precision of the matrix products; None for the model's own.

    Returns:
        Features of the F frames, on the model's device.
    """
    device = model.device
    if batch_size is None:
        batch_size = 1 if device.type == "cpu" else 16
    parts = []
    for start in range(0, len(frames), batch_size):
        batch = prepare_frames(frames[start : start + batch_size], model.image_size, device)
        with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            levels = model.forward_image(batch)["backbone_fpn"][-3:]
        parts.append(FrameFeatures(*levels))
    return parts[0] if len(parts) == 1 else FrameFeatures.concatenate(parts)
