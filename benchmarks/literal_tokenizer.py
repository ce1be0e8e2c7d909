"""The trajectory tokenizer as the paper's Table 2 reads, step by step, with the weights of a `TrajectoryTokenizer`.

Every stage is projected and enlarged to the 56 x 56 grid, masks are one-hot volumes, boxes are read off the masks, and
the resamplers run over every (trajectory, frame) pair with a mask. It is what the project's tokenizer is measured
against; both give the same tokens.

Shape letters: T frames, M trajectories, D width of the resamplers, H heads, (h, w) feature grid. One video.
"""

import math

import torch
from torch import nn

from trajvit.modeling_trajvit.modeling_trajvit import TrajectoryTokenizer
from trajvit.modeling_trajvit.perceiver_resampler import (
    HIGHEST_TIME_FREQUENCY,
    LOWEST_TIME_FREQUENCY,
    PerceiverResampler,
    ResamplerAttention,
    turning_heads,
)
from trajvit.modeling_trajvit.position_encoding import frame_times, geometric_frequencies


def enlarge_and_sum(stages: list[torch.Tensor], projections: nn.ModuleList, size: int) -> torch.Tensor:
    """Row 1: each stage to width D by a linear layer and to (h, w) by a bilinear resize, summed: (T, D, h, w)."""
    total = None
    for stage, projection in zip(stages, projections, strict=True):
        projected = projection(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if stage.shape[-1] != size:
            projected = nn.functional.interpolate(projected, size=size, mode="bilinear", align_corners=False)
        total = projected if total is None else total + projected
    assert total is not None
    return total


def one_hot_masks(labels: torch.Tensor, num_trajectories: int) -> torch.Tensor:
    """(T, h, w) ids -> (T, M, h, w) float masks."""
    ids = torch.arange(1, num_trajectories + 1, device=labels.device)
    return (labels[:, None] == ids[:, None, None]).float()


def masked_mean(features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Row 2: (T, D, h, w) features under (T, M, h, w) masks -> (T, M, D)."""
    sums = torch.einsum("tmhw,tdhw->tmd", masks.to(features.dtype), features)
    return sums / masks.sum((2, 3)).clamp(min=1).unsqueeze(-1).to(features.dtype)


def boxes_of_masks(masks: torch.Tensor) -> torch.Tensor:
    """Extent of every mask (T, M, h, w): (T, M, 4) x1, y1, x2, y2 as shares of the frame, maxima exclusive."""
    height, width = masks.shape[2:]
    inside = masks > 0
    x = torch.arange(width, device=masks.device).expand(height, width)
    y = torch.arange(height, device=masks.device)[:, None].expand(height, width)
    x1 = torch.where(inside, x, width).amin((2, 3))
    y1 = torch.where(inside, y, height).amin((2, 3))
    x2 = torch.where(inside, x + 1, 0).amax((2, 3))
    y2 = torch.where(inside, y + 1, 0).amax((2, 3))
    boxes = torch.stack([x1 / width, y1 / height, x2 / width, y2 / height], dim=-1)
    return boxes * inside.any(3).any(2).unsqueeze(-1)


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turns channel pairs (i, i + d / 2) of `x` (M, T, H, d) by `angles` (T, 1 or H, d / 2)."""
    pairs = torch.stack([angles, angles], dim=-2).flatten(-2)
    first, second = x.chunk(2, dim=-1)
    return x * pairs.cos().to(x.dtype) + torch.cat([-second, first], dim=-1) * pairs.sin().to(x.dtype)


def attend(
    layer: ResamplerAttention, query: torch.Tensor, features: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Multi-head cross attention of `query` (M, D) over `features` (M, T, D) where `present` (M, T)."""
    heads, half = (layer.num_heads, layer.head_dim), layer.head_dim // 2
    turning = turning_heads(layer.num_heads)
    slowest_to_fastest = (LOWEST_TIME_FREQUENCY, HIGHEST_TIME_FREQUENCY)
    turns = 2 * math.pi * frame_times(present[:1].new_ones(1, features.shape[1]))[0, :, None, None]
    key_speeds = geometric_frequencies(*slowest_to_fastest, half, features.device)
    value_speeds = geometric_frequencies(*slowest_to_fastest, turning * half, features.device).view(turning, half)
    value_speeds = torch.cat([value_speeds.new_zeros(layer.num_heads - turning, half), value_speeds])
    queries = layer.q_proj(query).unflatten(-1, heads)
    keys = rotate(layer.k_proj(features).unflatten(-1, heads), turns * key_speeds)
    values = rotate(layer.v_proj(features).unflatten(-1, heads), turns * value_speeds)
    scores = torch.einsum("mhd,mthd->mht", queries, keys) * layer.head_dim**-0.5
    scores = scores.float().masked_fill(~present[:, None], -math.inf)
    weights = scores.softmax(-1).nan_to_num(0.0).to(values.dtype)
    return layer.o_proj(torch.einsum("mht,mthd->mhd", weights, values).flatten(1))


def resample(resampler: PerceiverResampler, features: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Row 4: (M, T, D) features where `present` (M, T) -> (M, D)."""
    features = resampler.input_norm(features)
    query = resampler.query.expand(features.shape[0], -1)
    for norm, layer in zip(resampler.query_norms, resampler.layers, strict=True):
        query = query + attend(layer, norm(query), features, present)
    return resampler.output_norm(query)


def literal_tokens(
    tokenizer: TrajectoryTokenizer, frames: torch.Tensor, labels: torch.Tensor, num_trajectories: int
) -> torch.Tensor:
    """Rows 1 to 5: (T, 3, H, W) frames and (T, h, w) ids of one video -> (M, hidden_size), zeros for absent ones."""
    stages = tokenizer.frame_features(frames)
    features = enlarge_and_sum(list(stages), tokenizer.frame_features.projections, labels.shape[-1])
    del stages
    masks = one_hot_masks(labels, num_trajectories)
    appearance = masked_mean(features, masks)
    present = masks.any(3).any(2).T
    boxes = boxes_of_masks(masks)
    del features, masks
    positions = tokenizer.box_encoder(boxes.flatten(0, 1)).view(*boxes.shape[:2], -1).to(appearance.dtype)
    tokens = tokenizer.appearance_mlp(resample(tokenizer.appearance_resampler, appearance.transpose(0, 1), present))
    tokens = tokens + tokenizer.position_mlp(resample(tokenizer.position_resampler, positions.transpose(0, 1), present))
    return tokens * present.any(1, keepdim=True)
