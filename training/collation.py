"""From samples to the padded tensors of a batch, and from those to what a model takes on its device.

Shape legend: B samples, T frames, S pixels, G cells of the feature grid, M trajectories, K captions, L tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from trajvit.processing.processing_trajvit import MAX_TEXT_TOKENS
from trajvit.processing.trajectory_inputs import pad_batch

from .samples import Sample

PIXELS = "pixel_values_videos"
_FRAME_MASK = "frame_attention_mask"


def collate(samples: Sequence[Sample], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Join samples that may differ in their numbers of frames and of trajectories.

    Args:
        samples: B samples of one S, one G and one K.
        tokenizer: A transformers tokenizer.

    Returns:
        `pixel_values_videos` (B, T, 3, S, S) uint8, `input_ids` and `attention_mask` (B * K, L) int64 with the texts of
        sample i in rows i K to i K + K - 1. Where samples have maps, `trajectory_maps` (B, T, G, G) int16 and
        `trajectory_attention_mask` (B, M) int64. Only where the numbers of frames differ, `frame_attention_mask` (B, T)
        int64. Shorter clips are padded at their end with zeros.

    Raises:
        ValueError: There is no sample, or only some have maps.
    """
    maps = [sample.trajectory_map for sample in samples if sample.trajectory_map is not None]
    if not samples or len(maps) not in (0, len(samples)):
        raise ValueError(f"{len(samples)} samples, {len(maps)} with trajectory maps: expected some, and all or none")
    inputs = pad_batch([sample.pixels for sample in samples])
    if maps:
        num_frames = inputs[PIXELS].shape[1]
        padded = maps[0].new_zeros(len(maps), num_frames, *maps[0].shape[1:])
        for row, cells in enumerate(maps):
            padded[row, : len(cells)] = cells
        counts = torch.tensor([sample.num_trajectories for sample in samples])
        inputs["trajectory_maps"] = padded
        inputs["trajectory_attention_mask"] = (torch.arange(int(counts.max())) < counts[:, None]).long()
    texts = tokenizer(
        [caption for sample in samples for caption in sample.captions],
        padding=True,
        truncation=True,
        max_length=MAX_TEXT_TOKENS,
        return_tensors="pt",
    )
    return {**inputs, "input_ids": texts["input_ids"], "attention_mask": texts["attention_mask"]}


def to_model_inputs(
    inputs: Mapping[str, torch.Tensor], device: torch.device | str, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Move a batch to a device and normalise its frames there, as `TrajViTVideoProcessor` does.

    Args:
        inputs: What `collate` returned; copied while the host goes on where it lies in pinned memory.
        device: Where to.
        dtype: Of the frames afterwards; they are normalised in float32.

    Returns:
        The same names, `pixel_values_videos` as floating values of ImageNet's mean and deviation, 0 in frames that only
        pad.
    """
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
    pixels = moved[PIXELS].to(torch.float32)
    # Of bytes, like the processor's.
    mean, deviation = (
        torch.tensor(values, device=pixels.device).mul_(255)[:, None, None]
        for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    pixels = pixels.sub_(mean).div_(deviation)
    if _FRAME_MASK in moved:
        pixels.masked_fill_(moved[_FRAME_MASK][:, :, None, None, None] == 0, 0.0)
    moved[PIXELS] = pixels.to(dtype)
    return moved
