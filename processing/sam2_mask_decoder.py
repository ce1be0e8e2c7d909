"""SAM 2's mask decoder, on the package's weights, for prompts of few tokens that each see their own image.

The result is the package's, up to rounding, for half of its operations: an attention between few tokens and an image
is cheaper with its projections moved to the tokens' side, (W x) . q = x . (W^T q) and weights @ (W x) = W (weights @
x). The image then needs no projection.

Shape legend: N prompts, T tokens of a prompt, H heads, D channels of a head, C channels, L = (S/16)^2 image positions,
S image size (square).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .sam2_features import FrameFeatures

if TYPE_CHECKING:
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer


def transform(
    transformer: TwoWayTransformer,
    layers: Iterable[TwoWayAttentionBlock],
    tokens: Tensor,
    prompts: Tensor,
    image: Tensor,
    position: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run the decoder's transformer from some layer on.

    Args:
        transformer: The package's.
        layers: All of its layers, or those that have not been run.
        tokens: (N, T, C) before the first of them.
        prompts: (N, T, C) tokens before the transformer, which every layer adds as positions.
        image: (N, L, C) before the first of them.
        position: (L, C) of the image.

    Returns:
        Tokens (N, T, C) and images (N, L, C).
    """
    for layer in layers:
        tokens, image = _layer(layer, tokens, prompts, image, position)
    read = _read_image(transformer.final_attn_token_to_image, tokens + prompts, image, image + position)
    return transformer.norm_final_attn(tokens + read), image


def upscale(decoder: MaskDecoder, image: Tensor, features: FrameFeatures, frames: Tensor) -> Tensor:
    """Bring images to the masks' resolution.

    Args:
        decoder: The package's.
        image: (N, L, C) from `transform`.
        features: Of F frames.
        frames: (N,) positions in `features` of the prompts' frames.

    Returns:
        (N, C/8, S/4, S/4).
    """
    to_stride_8, norm, act_8, to_stride_4, act_4 = decoder.output_upscaling
    stride_16 = image.transpose(1, 2).unflatten(2, features.stride_16.shape[-2:])
    stride_8 = act_8(norm(to_stride_8(stride_16) + features.stride_8[frames]))
    return act_4(to_stride_4(stride_8) + features.stride_4[frames])


def update_tokens(layer: TwoWayAttentionBlock, tokens: Tensor) -> Tensor:
    """The part of a layer between its two attentions to and from the image."""
    tokens = layer.norm2(tokens)
    return layer.norm3(tokens + layer.mlp(tokens))


def token_values(attention: Attention, tokens: Tensor) -> Tensor:
    """(N, H * T, C): what each token adds, through each head, to a pixel that attends to it alone.

    A pixel's weights sum to 1 in each head, so the output's bias can be spread over the heads.
    """
    values = attention.v_proj(tokens).unflatten(2, (attention.num_heads, -1))
    output = attention.out_proj.weight.unflatten(1, (attention.num_heads, -1))
    added = torch.einsum("nthd,chd->nhtc", values, output) + attention.out_proj.bias / attention.num_heads
    return added.flatten(1, 2)


def attention_scale(attention: Attention) -> float:
    """What scores are multiplied by."""
    return (attention.internal_dim // attention.num_heads) ** -0.5


def _layer(
    layer: TwoWayAttentionBlock, tokens: Tensor, prompts: Tensor, image: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    if layer.skip_first_layer_pe:
        tokens = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
    else:
        placed_tokens = tokens + prompts
        tokens = layer.norm1(tokens + layer.self_attn(q=placed_tokens, k=placed_tokens, v=tokens))
    placed = image + position
    read = _read_image(layer.cross_attn_token_to_image, tokens + prompts, image, placed)
    tokens = update_tokens(layer, tokens + read)
    update = _read_tokens(layer.cross_attn_image_to_token, placed, tokens + prompts, tokens)
    return tokens, layer.norm4(image + update)


def _read_image(attention: Attention, tokens: Tensor, image: Tensor, placed: Tensor) -> Tensor:
    """What tokens (N, T, C) read from images (N, L, C), whose keys come from `placed` (N, L, C); returns (N, T, C).

    The bias of the keys adds the same to all scores of a token, so it does not matter.
    """
    queries = attention.q_proj(tokens).unflatten(2, (attention.num_heads, -1)) * attention_scale(attention)
    probes = torch.einsum("nthd,hdc->nthc", queries, _by_head(attention, attention.k_proj.weight))
    weights = (probes.flatten(1, 2) @ placed.transpose(1, 2)).softmax(dim=-1)
    read = (weights @ image).unflatten(1, (tokens.shape[1], attention.num_heads))
    values = torch.einsum("nthc,hdc->nthd", read, _by_head(attention, attention.v_proj.weight))
    values = values + _by_head(attention, attention.v_proj.bias)
    return attention.out_proj(values.flatten(2))


def _read_tokens(attention: Attention, placed: Tensor, placed_tokens: Tensor, tokens: Tensor) -> Tensor:
    """What images, whose queries come from `placed` (N, L, C), read from tokens (N, T, C); returns (N, L, C)."""
    keys = attention.k_proj(placed_tokens).unflatten(2, (attention.num_heads, -1)) * attention_scale(attention)
    probes = torch.einsum("nthd,hdc->nhtc", keys, _by_head(attention, attention.q_proj.weight))
    offsets = torch.einsum("nthd,hd->nht", keys, _by_head(attention, attention.q_proj.bias))
    scores = (probes.flatten(1, 2) @ placed.transpose(1, 2)).unflatten(1, probes.shape[1:3]) + offsets[..., None]
    return scores.softmax(dim=2).flatten(1, 2).transpose(1, 2) @ token_values(attention, tokens)


def _by_head(attention: Attention, weight: nn.Parameter) -> Tensor:
    """(H * D, ...) to (H, D, ...)."""
    return weight.unflatten(0, (attention.num_heads, -1))
