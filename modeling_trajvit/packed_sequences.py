"""Attention of the videos of a batch, packed one after another without padding, each to its own tokens alone.

Shape letters: B batch, L tokens of the longest sequence, N tokens of all sequences together, H heads, d width of a
head, D width.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask


class PackedSequences(NamedTuple):
    """Which rows of a padded batch are tokens, and where each sequence begins once they are packed."""

    rows: torch.Tensor  # (N,) int64, positions among the B * L of the padded batch
    lengths: list[int]  # B
    offsets: torch.Tensor  # (B + 1,) int32, first packed token of each sequence, and N
    block_mask: BlockMask | None  # for flex attention: which packed tokens see each other
    padded_shape: tuple[int, int]  # (B, L)

    def pack(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (1, N, D)."""
        return hidden_states.flatten(0, 1)[self.rows].unsqueeze(0)

    def unpack(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(1, N, D) -> (B, L, D), zeros in place of padding."""
        batch_size, length = self.padded_shape
        padded = hidden_states.new_zeros(batch_size * length, hidden_states.shape[-1])
        return padded.index_copy(0, self.rows, hidden_states[0]).unflatten(0, (batch_size, length))


def pack_sequences(mask: torch.Tensor, attention: str) -> PackedSequences:
    """Describes the tokens of `mask` (B, L) bool; `attention` is the name of the attention implementation."""
    lengths = mask.sum(1)
    offsets = nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    rows = mask.flatten().nonzero().squeeze(1)
    block_mask = None
    if attention == "flex_attention":
        sequence = torch.div(rows, mask.shape[1], rounding_mode="floor")

        def same_sequence(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor):
            return sequence[query] == sequence[key]

        total = len(rows)
        block_mask = create_block_mask(same_sequence, None, None, total, total, device=mask.device)
    return PackedSequences(rows, lengths.tolist(), offsets, block_mask, (mask.shape[0], mask.shape[1]))


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packing: PackedSequences,
    attention: Callable[..., Any],
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention over (1, H, N, d) tensors in which no sequence sees another: (1, N, H, d), and weights or None.

    Flash attention and flex attention know where sequences begin; SDPA does on CUDA, by jagged nested tensors. Anywhere
    else each sequence is a call of its own, which computes just the blocks of the block-diagonal mask: on a CPU that
    costs no more than a batch. `module` is the attention layer that has the projections.
    """
    implementation = module.config._attn_implementation or ""
    if implementation == "flex_attention":
        return attention(module, query, key, value, packing.block_mask, **options)
    if "flash" in implementation:
        longest = max(packing.lengths)
        spans = {"cu_seq_lens_q": packing.offsets, "cu_seq_lens_k": packing.offsets}
        limits = {"max_length_q": longest, "max_length_k": longest}
        return attention(module, query, key, value, None, **spans, **limits, **options)
    if implementation == "sdpa" and query.device.type == "cuda":
        return jagged_attention(query, key, value, packing, options["scaling"], options["dropout"]), None
    parts = zip(*(tensor.split(packing.lengths, dim=2) for tensor in (query, key, value)), strict=True)
    return torch.cat([attention(module, *part, None, **options)[0] for part in parts], dim=1), None


def jagged_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packing: PackedSequences,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """SDPA over a nested tensor: (1, H, N, d) each -> (1, N, H, d)."""
    shortest, longest = min(packing.lengths), max(packing.lengths)
    offsets = packing.offsets.long()

    def nested(tensor: torch.Tensor) -> torch.Tensor:
        tokens = tensor[0].transpose(0, 1).contiguous()
        jagged = torch.nested.nested_tensor_from_jagged(tokens, offsets, min_seqlen=shortest, max_seqlen=longest)
        return jagged.transpose(1, 2)

    context = nn.functional.scaled_dot_product_attention(
        nested(query), nested(key), nested(value), dropout_p=dropout, scale=scaling
    )
    return context.transpose(1, 2).values().unsqueeze(0)
