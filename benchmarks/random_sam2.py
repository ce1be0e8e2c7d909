"""SAM 2 with random weights under which it does not degenerate, for checks and timings without the real ones.

A newly initialised SAM 2 says nothing about tracking: its layer scales are 1e-6, so memory changes nothing, and it
finds every object absent. Here every layer keeps the scale of its input, objects appear, and what an object's memory
holds moves its mask hundreds of times more than rounding does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from trajvit.processing.sam2_loading import build_sam2

Model = TypeVar("Model", bound=nn.Module)

# Learned positions that are added to a whole map of features.
_POSITIONS = ("pos_embed", "no_mem_embed", "no_mem_pos_enc", "maskmem_tpos_enc")
# Weights drawn larger or smaller, so that masks follow the memory more than the picture, with logits of about +-2.
_GAINS = {
    "image_encoder.neck.convs": 0.3,
    "memory_encoder.pix_feat_proj": 0.3,
    "cross_attn_image.out_proj": 3.0,
    "sam_mask_decoder.conv_s": 0.3,
    "output_hypernetworks_mlps": 1.6,
}
# With these biases the rotary attention to memory prefers the query's own place, as in a trained model.
_LOCAL = ("cross_attn_image.q_proj.bias", "cross_attn_image.k_proj.bias")


@torch.no_grad()
def randomise_(model: Model, seed: int = 0, object_score_bias: float = 6.0) -> Model:
    """Give a `SAM2Base` random weights in place.

    Args:
        model: Any size, image size and device; the same size and seed give the same weights.
        seed: Of the weights.
        object_score_bias: Logit added to the score that an object is in the frame; below about 1 objects vanish.

    Returns:
        The same model.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(_random_value(name, parameter, generator))
    frequencies = model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    frequencies.copy_(torch.randn(frequencies.shape, generator=generator))
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(object_score_bias)
    return model


def save_random_checkpoint(path: str | os.PathLike, model: str = "tiny", seed: int = 0) -> Path:
    """Write such weights as SAM 2's checkpoints are written, {"model": weights}, and return the path."""
    path = Path(path)
    torch.save({"model": randomise_(build_sam2(model, image_size=128), seed).state_dict()}, path)
    return path


def _random_value(name: str, parameter: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(parameter.shape, generator=generator)
    if name.endswith("gamma"):
        return torch.full_like(noise, 0.5)
    if name.endswith(_LOCAL) or (parameter.dim() < 2 and name.endswith("weight")):
        return torch.ones_like(noise)
    if parameter.dim() < 2 or (parameter.dim() > 2 and any(part in name for part in _POSITIONS)):
        return 0.02 * noise
    gain = next((gain for part, gain in _GAINS.items() if part in name), 1.0)
    return gain * noise * parameter[0].numel() ** -0.5
