"""From frames to tubelets and their learned space-time positions, for the towers that cut a video into tubelets.

Shape letters: B batch, T frames, C channels, s frames of a tubelet, p side of a patch, t x h x w tubelets of a video, D
width.
"""

from typing import NamedTuple

import torch
from torch import nn
from transformers import initialization as init

from .configuration_vision_tower import TubeletTowerConfig
from .model_inputs import check_frame_mask, check_videos


class Tubelets(NamedTuple):
    """The tubelets of a batch of videos."""

    pixels: torch.Tensor  # (B, t, h, w, s * C * p * p), frame by frame, channel by channel, row by row
    mask: torch.Tensor  # (B, t) bool: which positions in time hold a frame of the video, the first ones of each row
    frame_to_tubelet: torch.Tensor  # (B, T) int64: position in time of each frame's tubelet, -1 for padding frames


def check_and_cut(
    pixel_values_videos: torch.Tensor | None, frame_attention_mask: torch.Tensor | None, config: TubeletTowerConfig
) -> Tubelets:
    """A tower's inputs, checked (`check_videos`, `check_frame_mask`), as the tubelets of its configuration."""
    frames = check_videos(pixel_values_videos, config, size_multiple=config.patch_size)
    frame_mask = check_frame_mask(frame_attention_mask, frames.shape[0], frames.shape[1], frames.device)
    return cut_tubelets(frames, frame_mask, config.tubelet_size, config.patch_size)


def cut_tubelets(frames: torch.Tensor, frame_mask: torch.Tensor, tubelet_size: int, patch_size: int) -> Tubelets:
    """(B, T, C, H, W) frames and (B, T) bool -> tubelets of `tubelet_size` frames, each video's own frames in order.

    A last tubelet that lacks frames repeats the video's last frame, so that an image is a still of one tubelet. Padding
    frames are left out wherever they stand, and a video alone has the tubelets that it has in a batch.
    """
    num_frames = frames.shape[1]
    counts = frame_mask.sum(1, keepdim=True)
    time = -(-num_frames // tubelet_size)
    steps = torch.arange(time * tubelet_size, device=frames.device)
    # Own frames first, in order; beyond the last one, the last one again.
    order = frame_mask.long().argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, torch.minimum(steps, counts - 1))
    videos = torch.arange(len(frames), device=frames.device).unsqueeze(1)
    own = frames[videos, order].unflatten(1, (time, tubelet_size))
    own = own.unflatten(-1, (-1, patch_size)).unflatten(-3, (-1, patch_size))
    # B, t, s, C, h, p, w, p
    pixels = own.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4)
    mask = torch.arange(time, device=frames.device) * tubelet_size < counts
    rank = frame_mask.cumsum(1) - 1
    frame_to_tubelet = torch.where(frame_mask, torch.div(rank, tubelet_size, rounding_mode="floor"), -1)
    return Tubelets(pixels, mask, frame_to_tubelet)


class TubeletEmbedding(nn.Module):
    """One linear layer from a tubelet's pixels to the width of the transformer (the tubelet embedding of ViViT)."""

    def __init__(self, config: TubeletTowerConfig):
        super().__init__()
        self.projection = nn.Linear(
            config.tubelet_size * config.num_channels * config.patch_size**2, config.hidden_size
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(..., s * C * p * p) of any floating type -> (..., D) of the weights'."""
        return self.projection(pixels.to(self.projection.weight.dtype))


class SpaceTimePositions(nn.Module):
    """A learned vector for every tubelet of a video of the training size, interpolated linearly for other sizes.

    Time is a share of the video: a video of any length spreads its tubelets over the same learned positions, and has
    the same ones alone and in a batch with longer videos.
    """

    def __init__(self, grid: tuple[int, int, int], hidden_size: int):
        """`grid` (time, height, width) of the learned positions; a time of 1 makes positions in space alone."""
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(*grid, hidden_size))

    def init_own_weights(self, std: float) -> None:
        init.normal_(self.embedding, std=std)

    def forward(self, counts: torch.Tensor, time: int, height: int, width: int) -> torch.Tensor:
        """Positions (B, time, height, width, D) of videos that have `counts` (B,) tubelets in time."""
        return interpolate_time(self.in_space(height, width), counts, time)

    def in_space(self, height: int, width: int) -> torch.Tensor:
        """The learned positions, (learned time, height, width, D)."""
        if self.embedding.shape[1:3] == (height, width):
            return self.embedding
        maps = self.embedding.permute(0, 3, 1, 2)
        maps = nn.functional.interpolate(maps.float(), (height, width), mode="bilinear", align_corners=False)
        return maps.permute(0, 2, 3, 1).to(self.embedding.dtype)


def interpolate_time(learned: torch.Tensor, counts: torch.Tensor, time: int) -> torch.Tensor:
    """A table of `learned` rows (G, ...), spread over videos of `counts` (B,) rows each: (B, time, ...).

    Row i of n lies at (i + 0.5) * G / n - 0.5, as in `interpolate(..., align_corners=False)`; rows beyond a video's own
    repeat the table's last one.
    """
    rows = torch.arange(time, device=learned.device, dtype=torch.float32)
    return sample_rows(learned, (rows + 0.5) * (len(learned) / counts.float().unsqueeze(1)) - 0.5)


def sample_rows(learned: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """A table of `learned` rows (G, ...) at the fractional rows `source` (*S) float32: linear between rows, (*S, ...).

    Below the first row it is the first, beyond the last one the last.
    """
    size = len(learned)
    source = source.clamp(0, size - 1)
    low = source.floor().long()
    high = (low + 1).clamp(max=size - 1)
    fraction = (source - low).to(learned.dtype).view(*source.shape, *[1] * (learned.ndim - 1))
    return torch.lerp(learned[low], learned[high], fraction)
