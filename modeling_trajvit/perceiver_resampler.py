"""Perceiver resampler: one query turns a trajectory's frames into one vector (supplement, Table 2, row 4).

It runs over packed (trajectory, frame) pairs, so that absent frames cost nothing; with fixed shapes (compilation,
export) every pair is listed and the absent ones are masked. Both are the same code.

Shape letters: P pairs, S segments (batch * trajectories), D width, H heads, d width of a head.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from .position_encoding import geometric_frequencies

# Cycles over the whole video: the slowest wave is monotone over it, the fastest alternates between 16 sampled frames.
LOWEST_TIME_FREQUENCY, HIGHEST_TIME_FREQUENCY = 0.5, 8.0


class TrajectoryPairs(NamedTuple):
    """The (trajectory, frame) pairs of a batch, one row each."""

    segment: torch.Tensor  # (P,) int64 in 0..S-1: batch index * M + trajectory
    time: torch.Tensor  # (P,) float32 in -1/2..1/2, share of the video
    present: torch.Tensor  # (P,) bool: the trajectory has pixels in that frame
    num_segments: int


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turns consecutive pairs of channels: `x` (P, H, d) by `angles` (P, 1 or H, d / 2)."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


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


class ResamplerAttention(nn.Module):
    """Multi-head cross attention from one query per trajectory to the frames where it is present.

    Time turns queries and keys (rotary positions, the query lies in the middle of the video), which lets a head prefer
    some frames. That alone says little: with even attention the sum over frames does not change when time is reversed.
    So in the second half of the heads the values are turned too, each head pair at its own speed, which makes the sum a
    temporal spectrum; the first half of the heads keep the plain mean.
    """

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.o_proj = nn.Linear(hidden_size, hidden_size)

    def value_frequencies(self, device: torch.device) -> torch.Tensor:
        """Cycles per video of each head's value pairs: (H, d / 2), zero in the heads that do not turn."""
        turning = self.num_heads - self.num_heads // 2
        count = turning * (self.head_dim // 2)
        frequencies = geometric_frequencies(LOWEST_TIME_FREQUENCY, HIGHEST_TIME_FREQUENCY, count, device)
        still = frequencies.new_zeros(self.num_heads // 2, self.head_dim // 2)
        return torch.cat([still, frequencies.view(turning, -1)])

    def forward(self, query: torch.Tensor, features: torch.Tensor, pairs: TrajectoryPairs) -> torch.Tensor:
        """`query` (S, D) and `features` (P, D) -> (S, D); zeros attend where a segment has no present pair."""
        heads = (self.num_heads, self.head_dim)
        turns = 2 * math.pi * pairs.time[:, None, None]
        key_turns = turns * geometric_frequencies(
            LOWEST_TIME_FREQUENCY, HIGHEST_TIME_FREQUENCY, self.head_dim // 2, features.device
        )
        queries = self.q_proj(query).unflatten(-1, heads)
        keys = rotate(self.k_proj(features).unflatten(-1, heads), key_turns)
        values = rotate(self.v_proj(features).unflatten(-1, heads), turns * self.value_frequencies(features.device))

        logits = (queries[pairs.segment] * keys).sum(-1) * self.head_dim**-0.5
        dtype = torch.promote_types(logits.dtype, torch.float32)
        weights = segment_softmax(logits.to(dtype), pairs).to(values.dtype)
        weighted = (values * weights.unsqueeze(-1)).flatten(1).to(dtype)
        context = weighted.new_zeros(query.shape).index_add(0, pairs.segment, weighted)
        return self.o_proj(context.to(query.dtype))


class PerceiverResampler(nn.Module):
    """Layers of cross attention from one learned query to a trajectory's frames: (P, D) -> (S, D).

    `Query: 1; Layers: 1; Heads: 8; Dim: 64` in Table 2. Pre-norm residual layers of attention alone, as the table's
    parameter count implies (4 * D * D a layer), and a final norm.
    """

    def __init__(self, hidden_size: int, num_layers: int, num_heads: int, layer_norm_eps: float):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, hidden_size))
        self.input_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.query_norms = nn.ModuleList([nn.LayerNorm(hidden_size, eps=layer_norm_eps) for _ in range(num_layers)])
        self.layers = nn.ModuleList([ResamplerAttention(hidden_size, num_heads) for _ in range(num_layers)])
        self.output_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)

    def forward(self, features: torch.Tensor, pairs: TrajectoryPairs) -> torch.Tensor:
        """`features` (P, D), one row per pair -> (S, D), one row per trajectory; an absent one has the query's row."""
        features = self.input_norm(features)
        query = self.query.expand(pairs.num_segments, -1)
        for norm, layer in zip(self.query_norms, self.layers, strict=True):
            query = query + layer(norm(query), features, pairs)
        return self.output_norm(query)
