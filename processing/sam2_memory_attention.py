"""SAM 2's memory attention for many objects at once, on the weights of the `sam2` package.

The mathematics is that of `sam2.modeling.memory_attention`; what is computed differs, exactly:

- Until the first cross-attention nothing depends on the object: layer 0 attends to itself once per frame.
- A memory's keys are projected and rotated once; per step only the bias that its age gives is added.
- Memories have 64 channels and values 256: the weighted sum is taken over the 64, and one product with the output and
  value projections follows it (softmax(QK) (M V) O = (softmax(QK) M) (V O)). Reduced precision and CUDA take the fused
  kernel instead, which wants values as wide as keys.
- Rotary pairs are stored as halves instead of interleaved, so that rotating is two real products.

Shape legend: U distinct frames, N objects, n some of them, L tokens of a frame ((S/16)^2), K tokens of a memory (L, or
fewer pooled), W tokens of a window, M tokens of all memories and pointers, C = 256 channels, D = 64 of a memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from .sam2_tracked_objects import Memory

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

# On a CPU, queries whose attention weights are held at once, and keys that they are multiplied by at once: what a block
# works on stays in the cache.
_QUERY_BLOCK = 256
_KEY_BLOCK = 512


@dataclass(frozen=True, eq=False)
class SharedFrame:
    """What all objects of a frame have in common.

    Attributes:
        tokens: (L, C) after the first self-attention.
        queries: (L, C) of the first cross-attention, rotated.
    """

    tokens: torch.Tensor
    queries: torch.Tensor


class _Layer:
    """One layer's weights: keys and queries with halved pairs, values folded with the output projection."""

    def __init__(self, layer: Any, pairs: torch.Tensor):
        own, cross = layer.self_attn, layer.cross_attn_image
        self.norms = (layer.norm1, layer.norm2, layer.norm3)
        self.expand, self.contract = layer.linear1, layer.linear2
        scale = own.q_proj.out_features**-0.5
        self.own_query = (own.q_proj.weight[pairs] * scale, own.q_proj.bias[pairs] * scale)
        self.own_key = (own.k_proj.weight[pairs], own.k_proj.bias[pairs])
        self.own_value, self.own_bias = _fold(own)
        self.query = (cross.q_proj.weight[pairs] * scale, cross.q_proj.bias[pairs] * scale)
        self.key_weight, self.key_bias = cross.k_proj.weight[pairs], cross.k_proj.bias[pairs]
        self.value, self.value_bias = _fold(cross)

    def feed_forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens + self.contract(F.relu_(self.expand(self.norms[2](tokens))))


class MemoryAttention:
    """Condition frames on the memories and pointers of the objects that are followed through them.

    Args:
        model: SAM 2.1, in evaluation mode.
        pooling: Memories are pooled so many times in each direction before they become keys and values; 1 is exact.
        half_dtype: The reduced precision in which matrix products run (under autocast), if any.
    """

    def __init__(self, model: SAM2Base, pooling: int = 1, half_dtype: torch.dtype | None = None):
        self._model = model
        self._key_dtype = half_dtype or torch.float32
        # The fused kernel; else blocks of plain matrix products, which are faster in float32 on a CPU.
        self._is_fused = half_dtype is not None or model.device.type == "cuda"
        self._side = model.image_size // model.backbone_stride
        self._pooling = pooling
        attention = model.memory_attention.layers[0].self_attn
        theta = attention.compute_cis.keywords["theta"]
        width = attention.q_proj.out_features
        # (2i, 2i + 1) are a pair in the package; here (i, i + C/2) are.
        pairs = torch.arange(width, device=model.device).view(-1, 2).T.reshape(-1)
        with torch.inference_mode():
            self._layers = [_Layer(layer, pairs) for layer in model.memory_attention.layers]
            self._rotation = _rotation(self._side, 1, width, theta, model.device)
            self._key_rotation = _rotation(self._side, pooling, width, theta, model.device)
            self._key_biases = self._biases_by_age()
            grid = torch.zeros(1, 1, self._side, self._side, device=model.device)
            self._frame_position = model.image_encoder.neck.position_encoding(grid)[0].flatten(1).T

    def share(self, frames: torch.Tensor) -> list[SharedFrame]:
        """Compute what all objects of these frames have in common.

        Args:
            frames: (U, C, S/16, S/16) encoded frames.
        """
        layer = self._layers[0]
        tokens = self._attend_own(layer, frames.flatten(2).transpose(1, 2) + 0.1 * self._frame_position, self._rotation)
        queries = _rotate(F.linear(layer.norms[1](tokens), *layer.query), self._rotation)
        return [SharedFrame(*parts) for parts in zip(tokens, queries, strict=True)]

    def cache(self, memory: Memory) -> Memory:
        """Return the memory with its rotated keys (and, for the fused kernel, its values) of every layer."""
        if memory.keys is not None:
            return memory
        tokens = memory.tokens.float()
        keys = tuple(_rotate(F.linear(tokens, layer.key_weight), self._key_rotation) for layer in self._layers)
        values = tuple(F.linear(tokens, layer.value) for layer in self._layers) if self._is_fused else None
        return Memory(memory.tokens, keys, values)

    def __call__(
        self,
        shared: Sequence[SharedFrame],
        frame_of_object: torch.Tensor,
        memories: Sequence[tuple[int, Memory]],
        pointers: Sequence[tuple[int, torch.Tensor]],
        window: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Condition each object's frame.

        Args:
            shared: The U distinct frames.
            frame_of_object: (N,) positions in `shared`.
            memories: Pairs of an age in steps (0 for the key frame, else 1 for the step before, ...) and the cached
                memory.
            pointers: Pairs of an age in steps and object pointers (N, C).
            window: (N, W) positions of the tokens, of queries and unpooled memories alike, that take part; default all.

        Returns:
            (N, L, C), or (N, W, C) for a window.
        """
        tokens = torch.stack([frame.tokens for frame in shared])
        queries = torch.stack([frame.queries for frame in shared])
        rotation = self._rotation
        if window is None:
            tokens, queries = tokens[frame_of_object], queries[frame_of_object]
        else:
            rows = frame_of_object[:, None]
            tokens, queries = tokens[rows, window], queries[rows, window]
            rotation = (rotation[0][window], rotation[1][window])
        pointer_tokens, pointer_positions = self._pointer_tokens(pointers)
        memory_tokens = None
        if not self._is_fused:
            memory_tokens = torch.cat([_windowed(m.tokens, window).float() for _, m in memories] + [pointer_tokens], 1)
        for index, layer in enumerate(self._layers):
            if index > 0:
                tokens = self._attend_own(layer, tokens, rotation)
                queries = _rotate(F.linear(layer.norms[1](tokens), *layer.query), rotation)
            pointer_keys = F.linear(pointer_tokens + pointer_positions, layer.key_weight, layer.key_bias)
            if memory_tokens is None:
                parts = [_windowed(m.values[index], window) for _, m in memories if m.values is not None]
                values = torch.cat([*parts, F.linear(pointer_tokens, layer.value)], dim=1)
                keys = self._keys(index, memories, pointer_keys, window, slice(None))
                attended = self._attend(queries, keys, values) + layer.value_bias
            else:
                attended = torch.empty_like(queries[..., : memory_tokens.shape[-1]])
                for row in range(len(queries)):
                    # One object at a time: its keys are still in the CPU's cache when they are used.
                    one = slice(row, row + 1)
                    keys = self._keys(index, memories, pointer_keys, window, one)
                    attended[one] = self._attend(queries[one], keys, memory_tokens[one])
                attended = F.linear(attended, layer.value, layer.value_bias)
            tokens = tokens + attended
            # On a CPU the hidden layer of one object, eight times its tokens, stays in the cache.
            blocks = [tokens] if self._is_fused else tokens.split(1)
            tokens = torch.cat([layer.feed_forward(block) for block in blocks])
        return self._model.memory_attention.norm(tokens)

    def _keys(
        self,
        index: int,
        memories: Sequence[tuple[int, Memory]],
        pointer_keys: torch.Tensor,
        window: torch.Tensor | None,
        rows: slice,
    ) -> torch.Tensor:
        """Keys of layer `index` for some objects, all memories and pointers: (n, M, C)."""
        window = None if window is None else window[rows]
        num_tokens = memories[0][1].tokens.shape[1] if window is None else window.shape[1]
        pointer_keys = pointer_keys[rows]
        num_keys = len(memories) * num_tokens + pointer_keys.shape[1]
        keys = pointer_keys.new_empty(len(pointer_keys), num_keys, pointer_keys.shape[2])
        for slot, (age, memory) in enumerate(memories):
            assert memory.keys is not None
            bias = self._key_biases[index][age]
            cached = _windowed(memory.keys[index][rows], window)
            into = keys[:, slot * num_tokens : (slot + 1) * num_tokens]
            torch.add(cached, bias if window is None else bias[window], out=into)
        keys[:, len(memories) * num_tokens :] = pointer_keys
        return keys

    def _attend_own(
        self, layer: _Layer, tokens: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        normed = layer.norms[0](tokens)
        queries = _rotate(F.linear(normed, *layer.own_query), rotation)
        keys = _rotate(F.linear(normed, *layer.own_key), rotation)
        return tokens + (self._attend(queries, keys, F.linear(normed, layer.own_value)) + layer.own_bias)

    def _attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Attention of one head, its queries scaled already: (n, L, C), (n, M, C), (n, M, E) -> (n, L, E)."""
        if self._is_fused:
            queries, keys, values = queries.unsqueeze(1), keys.unsqueeze(1), values.unsqueeze(1)
            return F.scaled_dot_product_attention(queries, keys, values, scale=1.0).squeeze(1)
        attended = queries.new_empty(*queries.shape[:2], values.shape[-1])
        key_blocks = [slice(start, start + _KEY_BLOCK) for start in range(0, keys.shape[1], _KEY_BLOCK)]
        for row in range(len(queries)):
            for start in range(0, queries.shape[1], _QUERY_BLOCK):
                block = slice(start, start + _QUERY_BLOCK)
                scores = queries.new_empty(len(queries[row, block]), keys.shape[1])
                for part in key_blocks:
                    torch.mm(queries[row, block], keys[row, part].T, out=scores[:, part])
                torch.mm(torch.softmax(scores, dim=-1), values[row], out=attended[row, block])
        return attended

    def _pointer_tokens(self, pointers: Sequence[tuple[int, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pointers as tokens of a memory's width, (N, P C/D, D), and the codes of their ages, (P C/D, D)."""
        model = self._model
        split = model.hidden_dim // model.mem_dim
        tokens = torch.stack([pointer for _, pointer in pointers], dim=1).float()
        ages = torch.tensor([age for age, _ in pointers], device=tokens.device)
        # The span is that of a video of 16 frames or more, whatever the clip's length.
        codes = _sine_codes(ages / (model.max_obj_ptrs_in_encoder - 1), model.hidden_dim)
        positions = model.obj_ptr_tpos_proj(codes)
        return tokens.unflatten(2, (split, -1)).flatten(1, 2), positions.repeat_interleave(split, dim=0)

    def _biases_by_age(self) -> list[list[torch.Tensor]]:
        """Per layer and age, the keys' part that all objects share: (K, C) of space, time and the projection's bias."""
        model = self._model
        grid = torch.zeros(1, model.mem_dim, self._side, self._side, device=model.device)
        space = F.avg_pool2d(model.memory_encoder.position_encoding(grid), self._pooling)[0].flatten(1).T
        # Row 0 is the step before, row 5 six steps before, and the last row, age 0, the key frame.
        times = [model.maskmem_tpos_enc[age - 1, 0, 0] for age in range(model.num_maskmem)]
        biases = []
        for layer in self._layers:
            keys = [F.linear(space + time, layer.key_weight, layer.key_bias) for time in times]
            biases.append([_rotate(key, self._key_rotation).to(self._key_dtype) for key in keys])
        return biases


def _fold(attention: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and output projection as one, computed in double precision: weight (C, D) and bias (C,)."""
    output, value = attention.out_proj, attention.v_proj
    weight = output.weight.double() @ value.weight.double()
    # Attention weights sum to 1, so the values' bias goes through unchanged.
    bias = output.weight.double() @ value.bias.double() + output.bias.double()
    return weight.to(output.weight.dtype), bias.to(output.weight.dtype)


def _rotation(
    side: int, pooling: int, width: int, theta: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (K, C/2) of a grid of tokens; pooled tokens lie at the centres of their blocks."""
    centres = (torch.arange(side // pooling, device=device) + 0.5) * pooling - 0.5
    frequencies = theta ** -(torch.arange(0, width, 4, device=device).float() / width)
    angles = torch.outer(centres, frequencies)
    both = torch.cat([angles.repeat(len(centres), 1), angles.repeat_interleave(len(centres), dim=0)], dim=-1)
    return both.cos(), both.sin()


def _rotate(pairs: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cosine, sine = rotation
    first, second = pairs.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1).to(pairs.dtype)


def _sine_codes(positions: torch.Tensor, width: int, temperature: float = 10000.0) -> torch.Tensor:
    """Sinusoidal codes (P, width) of positions (P,): sines, then cosines, of pairwise equal frequencies."""
    half = width // 2
    exponents = (
        torch.arange(half, device=positions.device, dtype=torch.float32).div(2, rounding_mode="floor") * 2 / half
    )
    angles = positions[:, None] / temperature**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _windowed(tokens: torch.Tensor, window: torch.Tensor | None) -> torch.Tensor:
    """The tokens (n, K, E) at `window` (n, W), or all."""
    return tokens if window is None else torch.gather(tokens, 1, window[..., None].expand(-1, -1, tokens.shape[-1]))
