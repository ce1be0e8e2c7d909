"""SAM 2's mask decoder for many single points of the same frames, without what those repeat.

The result is the package's decoder's, up to rounding, for a third to a half of its operations:

- What the first layer makes of the image alone (keys, values, queries) is computed once per frame, and what it makes of
  the tokens alone once per point.
- Attentions between the tokens and the image are projected on the tokens' side (`sam2_mask_decoder`).
- Predicted IoUs come from the tokens; masks are upscaled for the asked candidates alone.

Shape legend: F frames, P points, N = F * P prompts, T tokens of a prompt, M candidate masks of a prompt, H heads, D
channels of a head, C channels, L = (S/16)^2 image positions, S image size (square).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .sam2_features import FrameFeatures
from .sam2_mask_decoder import attention_scale, token_values, transform, update_tokens, upscale

if TYPE_CHECKING:
    from sam2.modeling.sam.transformer import Attention, TwoWayAttentionBlock
    from sam2.modeling.sam2_base import SAM2Base

# Prompts whose masks are upscaled together: at S = 512 each takes about 10 MB meanwhile. A CPU gains nothing by more; a
# GPU would wait for its orders with fewer.
_PROMPTS_UPSCALED_TOGETHER = {"cpu": 8, "cuda": 64}


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
        tokens, image = transform(transformer, later, tokens, prompts, image, self._position)
        tokens = tokens.view(num_frames, num_points, num_tokens, channels)
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
        together = _PROMPTS_UPSCALED_TOGETHER.get(candidates.device.type, 8)
        for prompts in candidates.any(-1).nonzero().split(together):
            frames, points = prompts.T
            asked, which = candidates[frames, points].nonzero(as_tuple=True)
            logits = self._mask_logits(frames, decoded.image[frames, points], decoded.mask_tokens[frames, points])
            yield torch.stack([frames[asked], points[asked], which], dim=1), logits[asked, which].float()

    def _mask_logits(self, frames: Tensor, image: Tensor, mask_tokens: Tensor) -> Tensor:
        """(n, M, S/4, S/4) logits from the frames' numbers (n,), images (n, L, C) and tokens (n, M, C)."""
        stride_4 = upscale(self._decoder, image, self._features, frames)
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
        tokens = update_tokens(layer, tokens + read)

        to_tokens = layer.cross_attn_image_to_token
        keys = _split_heads(to_tokens.k_proj(tokens + prompts).flatten(1, 2), to_tokens) * attention_scale(to_tokens)
        scores = (keys @ self._first_queries.transpose(-1, -2)).unflatten(2, (num_points, num_tokens))
        weights = scores.softmax(dim=3).transpose(1, 2).flatten(0, 1).flatten(1, 2)
        update = weights.transpose(1, 2) @ token_values(to_tokens, tokens.flatten(0, 1))
        image = layer.norm4(self._image[:, None] + update.unflatten(0, (-1, num_points)))
        return tokens, image


def _split_heads(projected: Tensor, attention: Attention) -> Tensor:
    """(B, n, H * D) to (B, H, n, D)."""
    return projected.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
