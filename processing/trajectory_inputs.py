"""From frames and trajectories of single videos to the padded tensors of a batch.

Shape legend: B videos, T frames, M trajectories, (h, w) the grid of features.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .trajectories import Trajectories
from .video_frames import VideoFrames

# Trajectories may be made at another resolution, of which both sides are rounded.
_ASPECT_TOLERANCE = 0.02


def check_fit(trajectories: Trajectories, video: VideoFrames, name: str) -> None:
    """Check that given trajectories are those of a video's sampled frames.

    Raises:
        TypeError: If they are not `Trajectories`.
        ValueError: If their number of frames, their frames' numbers (where both are told) or their aspect differ.
    """
    if not isinstance(trajectories, Trajectories):
        raise TypeError(f"The trajectories of {name} are of type {type(trajectories).__name__}; expected Trajectories.")
    num_frames, height, width = trajectories.shape
    if num_frames != len(video.frame_indices):
        raise ValueError(
            f"The trajectories of {name} have {num_frames} frames, but {len(video.frame_indices)} frames of it are "
            "used; expected as many (num_frames sets how many are sampled, do_sample_frames=False takes all)."
        )
    in_order = np.arange(num_frames)
    are_told = not (
        np.array_equal(video.frame_indices, in_order) or np.array_equal(trajectories.frame_indices, in_order)
    )
    if are_told and not np.array_equal(trajectories.frame_indices, video.frame_indices):
        raise ValueError(
            f"The trajectories of {name} belong to its frames {trajectories.frame_indices.tolist()}, but its frames "
            f"{video.frame_indices.tolist()} are sampled; expected the same."
        )
    expected_width = height * video.frames.shape[2] / video.frames.shape[1]
    if abs(width - expected_width) > max(1.0, _ASPECT_TOLERANCE * expected_width):
        raise ValueError(
            f"The trajectories of {name} are {height} x {width}, its frames {video.frames.shape[1]} x "
            f"{video.frames.shape[2]}; expected the same aspect, a width of about {expected_width:.0f}."
        )


def pad_batch(
    pixel_values: Sequence[torch.Tensor], maps: Sequence[Trajectories] | None = None
) -> dict[str, torch.Tensor]:
    """Join videos that may differ in their numbers of frames and of trajectories.

    A video with fewer frames than the longest is padded at its end with zeros and empty maps.

    Args:
        pixel_values: B tensors (t, 3, height, width), of one height and width.
        maps: B trajectories at the resolution of the feature grid, with the same t; None for frames alone.

    Returns:
        `pixel_values_videos` (B, T, 3, height, width). Where `maps` are given, `trajectory_maps` (B, T, h, w) int64 and
        `trajectory_attention_mask` (B, M) int64 with 1 for a trajectory. Only where the numbers of frames differ,
        `frame_attention_mask` (B, T) int64 with 1 for a frame.
    """
    batch_size, num_frames = len(pixel_values), max(len(frames) for frames in pixel_values)
    inputs = {"pixel_values_videos": pixel_values[0].new_zeros(batch_size, num_frames, *pixel_values[0].shape[1:])}
    if maps is not None:
        most = max(trajectories.num_trajectories for trajectories in maps)
        grid = (maps[0].height, maps[0].width)
        inputs["trajectory_maps"] = torch.zeros(batch_size, num_frames, *grid, dtype=torch.int64)
        inputs["trajectory_attention_mask"] = torch.zeros(batch_size, most, dtype=torch.int64)
        for row, trajectories in enumerate(maps):
            ids = torch.from_numpy(trajectories.ids.astype(np.int64))
            inputs["trajectory_maps"][row, : len(ids)] = ids
            inputs["trajectory_attention_mask"][row, : trajectories.num_trajectories] = 1
    if any(len(frames) < num_frames for frames in pixel_values):
        inputs["frame_attention_mask"] = torch.zeros(batch_size, num_frames, dtype=torch.int64)
    for row, frames in enumerate(pixel_values):
        inputs["pixel_values_videos"][row, : len(frames)] = frames
        if "frame_attention_mask" in inputs:
            inputs["frame_attention_mask"][row, : len(frames)] = 1
    return inputs
