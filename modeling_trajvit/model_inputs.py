"""Checks of the model's inputs, which name the argument, the value and what was expected.

Shape letters: B batch, T frames, M trajectories.
"""

import torch

from .configuration_vision_tower import VisionTowerConfig

INTEGER_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_videos(
    pixel_values_videos: torch.Tensor | None, config: VisionTowerConfig, size_multiple: int | None = None
) -> torch.Tensor:
    """Returns the frames; raises `ValueError` unless they are finite, floating (B, T, channels, height, width).

    Height and width are `config.image_size`, or with `size_multiple` any multiples of it.
    """
    sides = f"{config.image_size}, {config.image_size}"
    if size_multiple is not None:
        sides = f"height, width: multiples of {size_multiple}"
    expected = f"(batch, frames, {config.num_channels}, {sides})"
    if pixel_values_videos is None:
        raise ValueError(f"pixel_values_videos is missing: expected a floating tensor {expected}.")
    shape = tuple(pixel_values_videos.shape)
    if size_multiple is None:
        has_size = shape[3:] == (config.image_size, config.image_size)
    else:
        has_size = all(side % size_multiple == 0 for side in shape[3:])
    if len(shape) != 5 or shape[2] != config.num_channels or not has_size or 0 in shape:
        raise ValueError(f"pixel_values_videos has shape {shape}: expected {expected} without an empty dimension.")
    if not pixel_values_videos.is_floating_point():
        raise ValueError(
            f"pixel_values_videos has dtype {pixel_values_videos.dtype}: expected normalised floating values."
        )
    if torch.compiler.is_compiling():
        return pixel_values_videos
    low, high = pixel_values_videos.detach().aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise ValueError(f"pixel_values_videos ranges from {low.item()} to {high.item()}: expected finite values.")
    return pixel_values_videos


def check_trajectories(
    trajectory_maps: torch.Tensor | None,
    trajectory_attention_mask: torch.Tensor | None,
    batch_size: int,
    num_frames: int,
    feature_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the maps as int64 (B, T, feature_size, feature_size) and the trajectory mask as bool (B, M).

    Without a mask, M is the largest id of the batch and every trajectory with pixels counts; compilation and export
    need the mask, because their shapes are fixed. Raises `ValueError` on wrong shapes and dtypes and on ids outside
    0..M; compiled code raises `RuntimeError` for such ids, without naming them.
    """
    expected = (batch_size, num_frames, feature_size, feature_size)
    if trajectory_maps is None:
        raise ValueError(f"trajectory_maps is missing: expected an integer tensor {expected}.")
    if tuple(trajectory_maps.shape) != expected:
        raise ValueError(
            f"trajectory_maps has shape {tuple(trajectory_maps.shape)}: expected {expected}, "
            "one map of feature_size x feature_size for each frame of pixel_values_videos."
        )
    if trajectory_maps.dtype not in INTEGER_TYPES:
        raise ValueError(
            f"trajectory_maps has dtype {trajectory_maps.dtype}: expected integer ids, 0 for no trajectory."
        )
    labels = trajectory_maps.long()
    compiling = torch.compiler.is_compiling()
    if trajectory_attention_mask is None:
        if compiling:
            raise ValueError("trajectory_attention_mask is missing: compilation and export need it to fix the shapes.")
        highest = int(labels.max()) if labels.numel() else 0
        trajectory_attention_mask = labels.new_ones(batch_size, max(highest, 0))
    elif trajectory_attention_mask.ndim != 2 or trajectory_attention_mask.shape[0] != batch_size:
        raise ValueError(
            f"trajectory_attention_mask has shape {tuple(trajectory_attention_mask.shape)}: "
            f"expected ({batch_size}, number of trajectories)."
        )
    num_trajectories = trajectory_attention_mask.shape[1]
    if compiling:
        in_range = ((labels >= 0) & (labels <= num_trajectories)).all()
        torch._assert_async(in_range, "trajectory_maps: expected ids from 0 to the width of trajectory_attention_mask")
    elif labels.numel():
        low, high = labels.aminmax()
        if low < 0 or high > num_trajectories:
            raise ValueError(
                f"trajectory_maps holds ids from {int(low)} to {int(high)}: expected 0 (no trajectory) to "
                f"{num_trajectories}, the width of trajectory_attention_mask."
            )
    return labels, trajectory_attention_mask.bool()


def check_frame_mask(
    frame_attention_mask: torch.Tensor | None, batch_size: int, num_frames: int, device: torch.device
) -> torch.Tensor:
    """Returns which frames a video has, bool (B, T), all where no mask is given.

    Raises `ValueError` on another shape and on a video without a frame.
    """
    if frame_attention_mask is None:
        return torch.ones(batch_size, num_frames, dtype=torch.bool, device=device)
    if tuple(frame_attention_mask.shape) != (batch_size, num_frames):
        raise ValueError(
            f"frame_attention_mask has shape {tuple(frame_attention_mask.shape)}: expected {(batch_size, num_frames)}, "
            "one value for each frame of pixel_values_videos."
        )
    frame_mask = frame_attention_mask.bool()
    if not torch.compiler.is_compiling() and not frame_mask.any(1).all():
        row = int((~frame_mask.any(1)).nonzero()[0])
        raise ValueError(f"frame_attention_mask[{row}] is all 0: expected at least one frame in every video.")
    return frame_mask
