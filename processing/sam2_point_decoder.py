"""SAM 2's mask decoder for many single points of the same frames, without what those repeat.

The result is the package's decoder's, up to rounding, for a third to a half of its operations:

- What the first layer makes of the image alone (keys, values, queries) is computed once per frame, and what it makes of
  the tokens alone once per point.
- A prompt has few tokens, so an attention between them and the image is cheaper with its projections moved to the
  tokens' side: (W x) . q = x . (W^T q), and weights @ (W x) = W (weights @ x). The image then needs no projection.
- Predicted IoUs come from the tokens; masks are upscaled for the asked candidates alone.

Shape legend: F frames, P points, N = F * P prompts, T tokens of a prompt, M candidate masks of a prompt, H heads, D
channels of a head, C channels, L = (S/16)^2 image positions, S image size (square).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .sam2_features import FrameFeatures

if TYPE_CHECKING:
    from sam2.modeling.sam.transformer import Attention, TwoWayAttentionBlock
    from sam2.modeling.sam2_base import SAM2Base

# Prompts whose masks are upscaled together: at S = 512 each takes about 10 MB meanwhile.
_PROMPTS_UPSCALED_TOGETHER = 8


@dataclass(frozen=True, eq=False)
class DecodedPoints:
    """Prompts after the decoder's transformer.

    Attributes:
        predicted_ious: (F, P, M) float32, what the model expects of each candidate's mask, 0..1.
        mask_tokens: (F, P, M, C).
        image: (F, P, L, C), the frame as each prompt sees it.
    """

    predicted_ious: Tensor
    mask_tokens: Tensor
    image: Tensor


class PointDecoder:
    """Decodes points of some frames.

    Args:
        model: SAM 2.1, in evaluation mode.
        features: Of the F frames, on the model's device.
        multimask_output: Three candidates of each point (whole, part, sub-part) instead of one.

    Raises:
        ValueError: `multimask_output` is False and the model is set to choose among masks by their stability
            (`dynamic_multimask_via_stability`), for which all would have to be upscaled.
    """

    def __init__(self, model: SAM2Base, features: FrameFeatures, multimask_output: bool = True) -> None:
        decoder = model.sam_mask_decoder
        if decoder.dynamic_multimask_via_stability and not multimask_output:
            raise ValueError(
                "multimask_output=False needs a model built without dynamic_multimask_via_stability, as load_sam2 does"
            )
        self._prompt_encoder = model.sam_prompt_encoder
        self._decoder = decoder
        self._features = features
        self._candidates = slice(1, None) if multimask_output else slice(0, 1)
        image = features.stride_16.flatten(2).transpose(1, 2) + self._prompt_encoder.no_mask_embed.weight
        self._image = image + model.no_mem_embed if model.directly_add_no_mem_embed else image
        self._position = self._prompt_encoder.get_dense_pe()[0].flatten(1).T
        first = decoder.transformer.layers[0]
        placed = self._image + self._position
        to_image, to_tokens = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        self._first_keys = _split_heads(to_image.k_proj(placed), to_image)
        self._first_values = _split_heads(to_image.v_proj(self._image), to_image)
        self._first_queries = _split_heads(to_tokens.q_proj(placed), to_tokens)

    def decode(self, points: Tensor) -> DecodedPoints:
        """Run the transformer for every frame and point.

        Args:
            points: (P, 2) float x, y in pixels of the S x S frame: positive prompts, the same in every frame.
        """
        transformer = self._decoder.transformer
        first, *later = transformer.layers
        prompts = self._tokens_of(points)
        tokens, image = self._first_layer(first, prompts)
        num_frames, num_points, num_tokens, channels = tokens.shape
        prompts = prompts.expand(num_frames, -1, -1, -1).flatten(0, 1)
        tokens, image = tokens.flatten(0, 1), image.flatten(0, 1)
        for layer in later:
            tokens, image = _later_layer(layer, tokens, prompts, image, self._position)
        read = _read_image(transformer.final_attn_token_to_image, tokens + prompts, image, image + self._position)
        tokens = transformer.norm_final_attn(tokens + read).view(num_frames, num_points, num_tokens, channels)
        # Tokens: object score, predicted IoU, masks, prompt.
        mask_tokens = tokens[:, :, 2 : 2 + self._decoder.num_mask_tokens]
        ious = self._decoder.iou_prediction_head(tokens[:, :, 1])
        return DecodedPoints(
            ious[..., self._candidates].float(),
            mask_tokens[:, :, self._candidates],
            image.view(num_frames, num_points, -1, channels),
        )

    def masks(self, decoded: DecodedPoints, candidates: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Upscale the masks of some candidates, a few at a time.

        Args:
            decoded: From `decode`.
            candidates: (F, P, M) bool.

        Yields:
            positions (n, 3) of candidates in (F, P, M), in order, and their logits (n, S/4, S/4) float32.
        """
        for prompts in candidates.any(-1).nonzero().split(_PROMPTS_UPSCALED_TOGETHER):
            frames, points = prompts.T
            asked, which = candidates[frames, points].nonzero(as_tuple=True)
            logits = self._mask_logits(frames, decoded.image[frames, points], decoded.mask_tokens[frames, points])
            yield torch.stack([frames[asked], points[asked], which], dim=1), logits[asked, which].float()

    def _mask_logits(self, frames: Tensor, image: Tensor, mask_tokens: Tensor) -> Tensor:
        """(n, M, S/4, S/4) logits from the frames' numbers (n,), images (n, L, C) and tokens (n, M, C)."""
        to_stride_8, norm, act_8, to_stride_4, act_4 = self._decoder.output_upscaling
        size = self._features.stride_16.shape[-2:]
        stride_16 = image.transpose(1, 2).unflatten(2, size)
        stride_8 = act_8(norm(to_stride_8(stride_16) + self._features.stride_8[frames]))
        stride_4 = act_4(to_stride_4(stride_8) + self._features.stride_4[frames])
        heads = self._decoder.output_hypernetworks_mlps[self._candidates]
        weights = torch.stack([head(mask_tokens[:, number]) for number, head in enumerate(heads)], dim=1)
        return torch.einsum("nmc,nchw->nmhw", weights, stride_4)

    def _tokens_of(self, points: Tensor) -> Tensor:
        """(P, T, C): the decoder's own tokens, the point, and the padding that SAM 2 gives prompts without a box."""
        labels = torch.ones(len(points), 1, dtype=torch.int32, device=points.device)
        prompt, _ = self._prompt_encoder(points=(points[:, None], labels), boxes=None, masks=None)
        decoder = self._decoder
        own = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
        return torch.cat([own.expand(len(points), -1, -1), prompt], dim=1)

    def _first_layer(self, layer: TwoWayAttentionBlock, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (F, P, T, C) and images (F, P, L, C) after the layer that still knows no prompt in the image."""
        num_points, num_tokens = prompts.shape[:2]
        tokens = layer.norm1(layer.self_attn(q=prompts, k=prompts, v=prompts))

        to_image = layer.cross_attn_token_to_image
        # All points of a frame ask the same keys: one attention with P * T queries.
        queries = _split_heads(to_image.q_proj(tokens + prompts).flatten(0, 1)[None], to_image)
        queries = queries.expand(len(self._first_keys), -1, -1, -1)
        read = F.scaled_dot_product_attention(queries, self._first_keys, self._first_values)
        read = to_image.out_proj(read.transpose(1, 2).flatten(2)).unflatten(1, (num_points, num_tokens))
        tokens = _update_tokens(layer, tokens + read)

        to_tokens = layer.cross_attn_image_to_token
        keys = _split_heads(to_tokens.k_proj(tokens + prompts).flatten(1, 2), to_tokens) * _scale(to_tokens)
        scores = (keys @ self._first_queries.transpose(-1, -2)).unflatten(2, (num_points, num_tokens))
        weights = scores.softmax(dim=3).transpose(1, 2).flatten(0, 1).flatten(1, 2)
        update = weights.transpose(1, 2) @ _token_values(to_tokens, tokens.flatten(0, 1))
        image = layer.norm4(self._image[:, None] + update.unflatten(0, (-1, num_points)))
        return tokens, image


def _later_layer(
    layer: TwoWayAttentionBlock, tokens: Tensor, prompts: Tensor, image: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens (N, T, C) and images (N, L, C) after a layer."""
    placed_tokens = tokens + prompts
    tokens = layer.norm1(tokens + layer.self_attn(q=placed_tokens, k=placed_tokens, v=tokens))
    placed = image + position
    read = _read_image(layer.cross_attn_token_to_image, tokens + prompts, image, placed)
    tokens = _update_tokens(layer, tokens + read)
    update = _read_tokens(layer.cross_attn_image_to_token, placed, tokens + prompts, tokens)
    return tokens, layer.norm4(image + update)


def _update_tokens(layer: TwoWayAttentionBlock, tokens: Tensor) -> Tensor:
    tokens = layer.norm2(tokens)
    return layer.norm3(tokens + layer.mlp(tokens))


def _read_image(attention: Attention, tokens: Tensor, image: Tensor, placed: Tensor) -> Tensor:
    """What tokens (N, T, C) read from images (N, L, C), whose keys come from `placed` (N, L, C); returns (N, T, C).

    The bias of the keys adds the same to all scores of a token, so it does not matter.
    """
    queries = attention.q_proj(tokens).unflatten(2, (attention.num_heads, -1)) * _scale(attention)
    probes = torch.einsum("nthd,hdc->nthc", queries, _by_head(attention, attention.k_proj.weight))
    weights = (probes.flatten(1, 2) @ placed.transpose(1, 2)).softmax(dim=-1)
    read = (weights @ image).unflatten(1, (tokens.shape[1], attention.num_heads))
    values = torch.einsum("nthc,hdc->nthd", read, _by_head(attention, attention.v_proj.weight))
    values = values + _by_head(attention, attention.v_proj.bias)
    return attention.out_proj(values.flatten(2))


def _read_tokens(attention: Attention, placed: Tensor, placed_tokens: Tensor, tokens: Tensor) -> Tensor:
    """What images, whose queries come from `placed` (N, L, C), read from tokens (N, T, C); returns (N, L, C)."""
    keys = attention.k_proj(placed_tokens).unflatten(2, (attention.num_heads, -1)) * _scale(attention)
    probes = torch.einsum("nthd,hdc->nhtc", keys, _by_head(attention, attention.q_proj.weight))
    offsets = torch.einsum("nthd,hd->nht", keys, _by_head(attention, attention.q_proj.bias))
    scores = (probes.flatten(1, 2) @ placed.transpose(1, 2)).unflatten(1, probes.shape[1:3]) + offsets[..., None]
    return scores.softmax(dim=2).flatten(1, 2).transpose(1, 2) @ _token_values(attention, tokens)


def _token_values(attention: Attention, tokens: Tensor) -> Tensor:
    """(N, H * T, C): what each token adds, through each head, to a pixel that attends to it alone.

    A pixel's weights sum to 1 in each head, so the output's bias can be spread over the heads.
    """
    values = attention.v_proj(tokens).unflatten(2, (attention.num_heads, -1))
    output = attention.out_proj.weight.unflatten(1, (attention.num_heads, -1))
    added = torch.einsum("nthd,chd->nhtc", values, output) + attention.out_proj.bias / attention.num_heads
    return added.flatten(1, 2)


def _split_heads(projected: Tensor, attention: Attention) -> Tensor:
    """(B, n, H * D) to (B, H, n, D)."""
    return projected.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)


def _by_head(attention: Attention, weight: nn.Parameter) -> Tensor:
    """(H * D, ...) to (H, D, ...)."""
    return weight.unflatten(0, (attention.num_heads, -1))


def _scale(attention: Attention) -> float:
    return (attention.internal_dim // attention.num_heads) ** -0.5
