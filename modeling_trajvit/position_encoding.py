"""Parameter-free codes of where and when: sinusoidal boxes and rotary time (supplement, Table 2, rows 3 and 4).

Shape letters: P (trajectory, frame) pairs, D width, H heads, d width of a head.
"""

import math

import torch
from torch import nn


def geometric_frequencies(low: float, high: float, count: int, device: torch.device) -> torch.Tensor:
    """`count` frequencies in equal ratios from `low` to `high`: (count,) float32."""
    steps = torch.arange(count, device=device, dtype=torch.float32) / max(count - 1, 1)
    return low * (high / low) ** steps


class SinusoidalBoxEncoder(nn.Module):
    """Turns box coordinates into sines and cosines, each coordinate with the full set of frequencies.

    Coordinates are shares of the frame. The slowest wave spans two frames, so that it is monotone over one; the fastest
    spans four cells of the feature grid, the finest step that a box can take and a wave can still tell apart.
    """

    def __init__(self, hidden_size: int, feature_size: int):
        super().__init__()
        self.hidden_size = hidden_size
        self.highest_frequency = max(feature_size / 4, 0.5)

    def forward(self, boxes: torch.Tensor) -> torch.Tensor:
        """`boxes` (P, 4) float32 x1, y1, x2, y2 in 0..1 -> (P, D) float32."""
        frequencies = geometric_frequencies(0.5, self.highest_frequency, self.hidden_size // 8, boxes.device)
        angles = 2 * math.pi * boxes.unsqueeze(-1) * frequencies
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def frame_times(frame_mask: torch.Tensor) -> torch.Tensor:
    """Where every uniformly sampled frame lies in its video: (B, T) float32 in -1/2..1/2, 0 in the middle.

    `frame_mask` (B, T) bool: which frames a video has; the others are padding, and their times mean nothing. Frames are
    the middles of equal segments, so time is a share of the video whatever T is: 16 and 64 frames of one video agree on
    it, and an image, the video of one frame, lies at 0, where a rotation does nothing.
    """
    counts = frame_mask.sum(1, keepdim=True).clamp(min=1)
    return (frame_mask.cumsum(1) - 0.5) / counts - 0.5
