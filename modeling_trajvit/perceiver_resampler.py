"""Perceiver resampler: one query turns a trajectory's frames into one vector (supplement, Table 2, row 4).

It runs over packed (trajectory, frame) pairs, so that absent frames cost nothing; with fixed shapes (compilation,
export) every pair is listed and the absent ones are masked. Both are the same code.

Shape letters: P pairs, S segments (batch * trajectories), D width, H heads, d width of a head.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from transformers import initialization as init

from .position_encoding import geometric_frequencies

# Cycles over the whole video: the slowest wave is monotone over it, the fastest alternates between 16 sampled frames.
LOWEST_TIME_FREQUENCY, HIGHEST_TIME_FREQUENCY = 0.5, 8.0


class TrajectoryPairs(NamedTuple):
    """The (trajectory, frame) pairs of a batch, one row each."""

    segment: torch.Tensor  # (P,) int64 in 0..S-1: batch index * M + trajectory
    frame: torch.Tensor  # (P,) int64, row of `times`
    present: torch.Tensor  # (P,) bool: the trajectory has pixels in that frame
    num_segments: int
    times: torch.Tensor  # (N,) float32, the time of every frame of the batch as a share of its video


class TimeRotation(NamedTuple):
    """Cosines and sines that turn the keys and values of every pair."""

    key: tuple[torch.Tensor, torch.Tensor]  # (P, 1, d / 2) each, the same for all heads
    value: tuple[torch.Tensor, torch.Tensor]  # (P, turning heads, d / 2) each


def turning_heads(num_heads: int) -> int:
    """Heads, the last ones, whose values turn with time."""
    return num_heads - num_heads // 2


def time_rotation(pairs: TrajectoryPairs, num_heads: int, head_dim: int, dtype: torch.dtype) -> TimeRotation:
    """Cosines and sines of every pair's frame, the same for all layers of a resampler."""
    turns = 2 * math.pi * pairs.times

    def table(heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        count = heads * (head_dim // 2)
        frequencies = geometric_frequencies(LOWEST_TIME_FREQUENCY, HIGHEST_TIME_FREQUENCY, count, turns.device)
        angles = torch.outer(turns, frequencies).view(-1, heads, head_dim // 2)
        return angles.cos().to(dtype)[pairs.frame], angles.sin().to(dtype)[pairs.frame]

    return TimeRotation(key=table(1), value=table(turning_heads(num_heads)))


def rotate(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Turns `x` (P, H, d), whose channel pairs are (i, i + d / 2)."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def segment_softmax(logits: torch.Tensor, pairs: TrajectoryPairs) -> torch.Tensor:
    """Softmax of `logits` (P, H) over the present pairs of each segment; absent pairs get zero."""
    logits = logits.masked_fill(~pairs.present.unsqueeze(-1), -math.inf)
    index = pairs.segment.unsqueeze(-1).expand_as(logits)
    shape = (pairs.num_segments, logits.shape[-1])
    # Any finite shift leaves a softmax unchanged, so the largest logit needs no gradient.
    highest = logits.new_full(shape, torch.finfo(logits.dtype).min)
    highest = highest.scatter_reduce(0, index, logits.detach(), "amax")
    weights = (logits - highest[pairs.segment]).exp()
    sums = weights.new_zeros(shape).index_add(0, pairs.segment, weights)
    return weights / sums.clamp(min=torch.finfo(logits.dtype).tiny)[pairs.segment]


class ResamplerProjection(nn.Linear):
    """A linear layer that keeps the scale of what passes it.

    At width 64 a standard deviation of 0.02 would shrink what passes two projections to a fortieth, and the tokens of
    all trajectories would start nearly equal. The layer says so itself, not the module that holds it: transformers
    passes over modules without parameters of their own.
    """

    def init_own_weights(self, std: float) -> None:
        init.xavier_uniform_(self.weight)


class ResamplerAttention(nn.Module):
    """Multi-head cross attention from one query per trajectory to the frames where it is present.

    Time turns queries and keys (rotary positions, the query lies in the middle of the video), which lets a head prefer
    some frames. That alone says little: with even attention the sum over frames does not change when time is reversed.
    So in half of the heads the values are turned too, each channel pair at its own speed, which makes the sum a
    temporal spectrum; the other heads keep the plain mean.
    """

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.q_proj = ResamplerProjection(hidden_size, hidden_size)
        self.k_proj = ResamplerProjection(hidden_size, hidden_size)
        self.v_proj = ResamplerProjection(hidden_size, hidden_size)
        self.o_proj = ResamplerProjection(hidden_size, hidden_size)

    def attention_weights(
        self, query: torch.Tensor, features: torch.Tensor, pairs: TrajectoryPairs, rotation: TimeRotation
    ) -> torch.Tensor:
        """How much each trajectory takes from each of its frames: (P, H), at least float32."""
        heads = (self.num_heads, self.head_dim)
        queries = (self.q_proj(query) * self.head_dim**-0.5).unflatten(-1, heads)
        keys = rotate(self.k_proj(features).unflatten(-1, heads), rotation.key)
        logits = (queries[pairs.segment] * keys).sum(-1)
        return segment_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), pairs)

    def forward(
        self, query: torch.Tensor, features: torch.Tensor, pairs: TrajectoryPairs, rotation: TimeRotation
    ) -> torch.Tensor:
        """`query` (S, D) and `features` (P, D) -> (S, D); a segment without a present pair attends to zeros."""
        weights = self.attention_weights(query, features, pairs, rotation).unsqueeze(-1)
        values = self.v_proj(features).unflatten(-1, (self.num_heads, self.head_dim))
        heads = [self.num_heads - turning_heads(self.num_heads), turning_heads(self.num_heads)]
        still, turning = values.split(heads, dim=1)
        context = []
        for part, weight in zip((still, rotate(turning, rotation.value)), weights.split(heads, dim=1), strict=True):
            weighted = part * weight
            sums = weighted.new_zeros(pairs.num_segments, *part.shape[1:])
            context.append(sums.index_add_(0, pairs.segment, weighted))
        return self.o_proj(torch.cat(context, dim=1).flatten(1).to(query.dtype))


class PerceiverResampler(nn.Module):
    """Layers of cross attention from one learned query to a trajectory's frames: (P, D) -> (S, D).

    `Query: 1; Layers: 1; Heads: 8; Dim: 64` in Table 2. Pre-norm residual layers of attention alone, as the table's
    parameter count implies (4 * D * D a layer), and a final norm.
    """

    def __init__(self, hidden_size: int, num_layers: int, num_heads: int, layer_norm_eps: float):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.query = nn.Parameter(torch.empty(1, hidden_size))
        self.input_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.query_norms = nn.ModuleList([nn.LayerNorm(hidden_size, eps=layer_norm_eps) for _ in range(num_layers)])
        self.layers = nn.ModuleList([ResamplerAttention(hidden_size, num_heads) for _ in range(num_layers)])
        self.output_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)

    def init_own_weights(self, std: float) -> None:
        init.normal_(self.query, std=std)

    def forward(self, features: torch.Tensor, pairs: TrajectoryPairs) -> torch.Tensor:
        """`features` (P, D), one row per pair -> (S, D), one row per trajectory; an absent one has the query's row."""
        features = self.input_norm(features)
        query = self.query.expand(pairs.num_segments, -1)
        rotation = time_rotation(pairs, self.num_heads, self.head_dim, features.dtype)
        for norm, layer in zip(self.query_norms, self.layers, strict=True):
            query = query + layer(norm(query), features, pairs, rotation)
        return self.output_norm(query)
