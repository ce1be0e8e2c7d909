"""SAM 2 with random weights under which it does not degenerate, for checks and timings without the real ones.

A newly initialised SAM 2 says nothing about tracking: its layer scales are 1e-6, so memory changes nothing, and it
finds every object absent. Here layers keep the scale of their input, memory matters, and objects appear.
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


@torch.no_grad()
def randomise_(model: Model, seed: int = 0, object_score_bias: float = 6.0) -> Model:
    """Give a `SAM2Base` random weights in place.

    Args:
        model: Any size, any image size; the same size and seed give the same weights on every device.
        seed: Of the weights.
        object_score_bias: Logit added to the score that an object is in the frame; below about 3 objects vanish.

    Returns:
        The same model.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("gamma"):
            value = torch.full_like(noise, 0.5)
        elif parameter.dim() < 2 and name.endswith("weight"):
            value = torch.ones_like(noise)
        elif parameter.dim() < 2 or (parameter.dim() > 2 and any(part in name for part in _POSITIONS)):
            value = 0.02 * noise
        else:
            value = noise * parameter[0].numel() ** -0.5
        parameter.copy_(value)
    frequencies = model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    frequencies.copy_(torch.randn(frequencies.shape, generator=generator))
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(object_score_bias)
    return model


def save_random_checkpoint(path: str | os.PathLike, model: str = "tiny", seed: int = 0) -> Path:
    """Write such weights as SAM 2's checkpoints are written, {"model": weights}, and return the path."""
    path = Path(path)
    torch.save({"model": randomise_(build_sam2(model, image_size=128), seed).state_dict()}, path)
    return path
