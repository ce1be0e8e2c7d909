"""Bipartite soft matching and merging of tokens, after "Token Merging: Your ViT But Faster" (Bolya et al. 2023).

The tokens of a video are dealt out alternately to two sets. Every token of the second set, A, draws an edge to the most
similar token of the first, B, and the most similar edges merge. Afterwards the unmerged tokens of A stand before those
of B, as in the paper, so that a token meets other partners in the next layer.

The CLS token is in neither set. Each video has its own number of tokens and of merges; padding stands behind a video's
own tokens and stays there, so that the sets of a video are the same alone and in a batch. Equal similarities are
decided by position: the earlier partner, and the earlier edge.

Shape letters: B batch, L tokens with CLS and padding, L' tokens after merging, D width, d width of what is compared.
"""

import torch
from torch import nn
from transformers.utils.generic import maybe_autocast


def match_tokens(metric: torch.Tensor, mask: torch.Tensor, num_merged: torch.Tensor) -> torch.Tensor:
    """Where every token goes when the `num_merged` (B,) most similar edges of each video merge.

    `metric` (B, L, d) is compared by cosine similarity, in at least float32; `mask` (B, L) bool marks CLS, which comes
    first, and behind it a video's own tokens. At most half of these merge. Returns positions (B, L) int64 in the merged
    sequence: 0 for CLS, 1 and up for the others, and 0 for padding, which has no size to bring there.
    """
    dtype = torch.promote_types(metric.dtype, torch.float32)
    metric = nn.functional.normalize(metric.to(dtype), dim=-1)
    own_a, own_b = mask[:, 2::2], mask[:, 1::2]
    with maybe_autocast(device_type=metric.device.type, enabled=False):
        similarity = metric[:, 2::2] @ metric[:, 1::2].transpose(1, 2)
    edges, partners = similarity.masked_fill(~own_b.unsqueeze(1), -torch.inf).max(-1)
    order = edges.masked_fill(~own_a, -torch.inf).argsort(dim=1, descending=True, stable=True)
    # Every token of A is a token of the video before any padding, so A's own tokens bound the edges that there are.
    limits = torch.minimum(num_merged, own_a.sum(1)).unsqueeze(1)
    merges = order.argsort(dim=1) < limits

    kept = own_a & ~merges
    places_b = 1 + kept.sum(1, keepdim=True) + torch.arange(own_b.shape[1], device=mask.device)
    places_b = places_b * own_b
    destination = mask.new_zeros(mask.shape, dtype=torch.long)
    destination[:, 1::2] = places_b
    destination[:, 2::2] = torch.where(merges, places_b.gather(1, partners), kept.cumsum(1) * kept)
    # A video without a merge keeps its order, as in a batch in which no video has one.
    places = torch.arange(mask.shape[1], device=mask.device) * mask
    return torch.where(limits > 0, destination, places)


def merge_tokens(
    hidden_states: torch.Tensor, sizes: torch.Tensor, destination: torch.Tensor, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Averages the tokens that share a `destination` (B, L), each weighted by its size.

    `hidden_states` (B, L, D), `sizes` (B, L) float: the tubelets that a token stands for, 0 for padding. Returns the
    merged tokens (B, length, D) in their dtype and their sizes (B, length); what receives nothing has zeros.
    """
    batch_size, _, width = hidden_states.shape
    rows = destination + length * torch.arange(batch_size, device=destination.device).unsqueeze(1)
    weighted = (hidden_states * sizes.unsqueeze(-1)).flatten(0, 1)
    sums = weighted.new_zeros(batch_size * length, width).index_add(0, rows.flatten(), weighted)
    merged_sizes = sizes.new_zeros(batch_size * length).index_add(0, rows.flatten(), sizes.flatten())
    means = sums / merged_sizes.clamp(min=1).unsqueeze(-1)
    shape = (batch_size, length)
    return means.to(hidden_states.dtype).unflatten(0, shape), merged_sizes.unflatten(0, shape)
