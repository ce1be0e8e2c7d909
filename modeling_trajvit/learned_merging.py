"""Merging by a learned assignment: what TokenMerge has where TrajViT has trajectories (supplement, section 2).

Every cell of a frame's feature map distributes itself over the tokens of the video, by a softmax: a soft label map. A
token then averages the features of a frame under its soft mask, and has a soft box there. Where every cell belongs to
one token alone and the masks are filled rectangles, both are what TrajViT computes.

The supplement shows the mechanism in a figure only. The choices here: the assignment depends on a cell's feature alone
(layer norm and one linear layer), so that it is the same function in every frame and the tokens of different frames
correspond; it is soft, so that gradients reach it; and every token is in every frame.

Shape letters: N frames, (h, w) feature grid, D width of the features, K tokens.
"""

import math

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import maybe_autocast

# A token with less than this share of one cell counts as absent from a frame: its features and box shrink to zeros.
SMALLEST_MASS = 1e-6


def soft_pooling(features: torch.Tensor, assignment: torch.Tensor) -> torch.Tensor:
    """Mean of `features` (N, h, w, D) under the soft mask of every token, in `assignment` (N, h, w, K): (N, K, D)."""
    sums = assignment.flatten(1, 2).transpose(1, 2) @ features.flatten(1, 2)
    return sums / assignment.sum((1, 2)).clamp(min=SMALLEST_MASS).unsqueeze(-1)


def soft_boxes(assignment: torch.Tensor) -> torch.Tensor:
    """Box of every token's soft mask, `assignment` (N, h, w, K) -> (N, K, 4), as `segment_boxes` gives those of masks.

    x1, y1, x2, y2 as shares of width and height: the mean position less and plus sqrt(3) standard deviations, which are
    the edges of a rectangle that is evenly filled.
    """
    spans = []
    for shares in (assignment.sum(1), assignment.sum(2)):  # over columns, (N, w, K), and over rows, (N, h, K)
        size = shares.shape[1]
        shares = shares / shares.sum(1, keepdim=True).clamp(min=SMALLEST_MASS)
        centres = (torch.arange(size, dtype=shares.dtype, device=shares.device).unsqueeze(-1) + 0.5) / size
        mean = (shares * centres).sum(1, keepdim=True)
        # A cell is not a point: its own width adds the variance of an even spread over it.
        variance = (shares * (centres - mean).square()).sum(1) + 1 / (12 * size**2)
        reach = math.sqrt(3) * variance.sqrt()
        spans.append(((mean.squeeze(1) - reach).clamp(0, 1), (mean.squeeze(1) + reach).clamp(0, 1)))
    (x1, x2), (y1, y2) = spans
    return torch.stack([x1, y1, x2, y2], dim=-1)


class MergingScores(nn.Linear):
    """How much a cell belongs to each token; starts with scores of unit variance for normed features.

    With much smaller ones every token would start as the mean of all cells.
    """

    def init_own_weights(self, std: float) -> None:
        init.normal_(self.weight, std=self.in_features**-0.5)


class LearnedMerging(GradientCheckpointingLayer):
    """The assignment of cells to tokens, and what the tokens are in each frame.

    The assignment is by far the largest tensor of the tower. Gradient checkpointing computes it again instead of
    keeping it.
    """

    def __init__(self, hidden_size: int, num_tokens: int, layer_norm_eps: float):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.scores = MergingScores(hidden_size, num_tokens)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`features` (N, h, w, D) -> every token's mean feature, (N, K, D), and its box, (N, K, 4) float32 or wider."""
        dtype = torch.promote_types(features.dtype, torch.float32)
        assignment = self.scores(self.norm(features)).softmax(-1, dtype=dtype)
        with maybe_autocast(device_type=features.device.type, enabled=False):
            return soft_pooling(features.to(dtype), assignment).to(features.dtype), soft_boxes(assignment)
