"""Cuts a batch into chunks of samples that pass the model one after another, and trims what a chunk does not need.

Shape letters: n samples of a batch, k captions of each, T frames, M trajectories, L text tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_OF_TEXTS = ("input_ids", "attention_mask", "token_type_ids")


def count_vision_tokens(inputs: Mapping[str, torch.Tensor], vision_config: Any) -> list[int]:
    """How many tokens of each of the n samples enter the vision tower's transformer, CLS included, at most.

    A tower of trajectories has as many as `trajectory_attention_mask` says, TokenMerge its fixed number, and one of
    tubelets all tubelets of T frames: those that RLT, ToMe and TokenLearner drop on the way count. Padding does not, as
    it is not computed. Raises `ValueError` for a tower whose tokens are none of these.
    """
    frames = inputs["pixel_values_videos"]
    num_samples, num_frames, _, height, width = frames.shape
    if vision_config.needs_trajectories:
        return (1 + inputs["trajectory_attention_mask"].sum(1)).tolist()
    if hasattr(vision_config, "tubelet_size"):
        patch = vision_config.patch_size
        tubelets = -(-num_frames // vision_config.tubelet_size) * (height // patch) * (width // patch)
        return [1 + tubelets] * num_samples
    if hasattr(vision_config, "num_tokens"):
        return [1 + vision_config.num_tokens] * num_samples
    raise ValueError(
        f"vision_config has model_type={vision_config.model_type!r}, whose tokens cannot be counted: expected "
        "needs_trajectories, a tubelet_size or num_tokens."
    )


def cut_chunks(tokens: Sequence[int], chunk_size: int | None, chunk_tokens: int | None) -> list[list[int]]:
    """Samples of a batch with so many `tokens` each -> the samples of each chunk, those with the most tokens first.

    A chunk holds at most `chunk_size` samples and `chunk_tokens` tokens, None for any number; a sample that has more
    is a chunk of its own. Samples of like length come together, so that little of a chunk is padding.
    """
    if chunk_size is None and chunk_tokens is None:
        return [list(range(len(tokens)))]
    order = sorted(range(len(tokens)), key=lambda sample: (-tokens[sample], sample))
    chunks: list[list[int]] = []
    held = 0
    for sample in order:
        held += tokens[sample]
        is_full = chunk_size is not None and bool(chunks) and len(chunks[-1]) == chunk_size
        if not chunks or is_full or (chunk_tokens is not None and held > chunk_tokens):
            chunks.append([])
            held = tokens[sample]
        chunks[-1].append(sample)
    return chunks


def split_to(chunks: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The same samples in `count` chunks, of which there must be enough: the largest are halved, the order stays.

    Processes whose passes wait for each other need as many chunks as the one that has the most.
    """
    parts = [list(chunk) for chunk in chunks]
    while len(parts) < count:
        largest = max(range(len(parts)), key=lambda number: len(parts[number]))
        part = parts[largest]
        middle = len(part) // 2
        parts[largest : largest + 1] = [part[:middle], part[middle:]]
    return parts


def text_rows(samples: torch.Tensor, captions: int) -> torch.Tensor:
    """Rows of the captions of `samples` (c,): (c * captions,)."""
    return (samples.unsqueeze(1) * captions + torch.arange(captions, device=samples.device)).flatten()


def take_chunk(inputs: Mapping[str, torch.Tensor], samples: torch.Tensor, captions: int) -> dict[str, torch.Tensor]:
    """The model inputs of `samples` (c,) and their captions, without the columns that are padding in all of them.

    `inputs` have (n, ...) rows of samples and, where they are texts', (n * captions, L).
    """
    rows = text_rows(samples, captions)
    chunk = {name: values[rows if name in _OF_TEXTS else samples] for name, values in inputs.items()}
    for mask, padded in (("trajectory_attention_mask", ("trajectory_attention_mask",)), ("attention_mask", _OF_TEXTS)):
        if mask in chunk:
            used = chunk[mask].any(0).nonzero()
            width = int(used[-1]) + 1 if len(used) else 0
            chunk |= {name: chunk[name][:, :width] for name in padded if name in chunk}
    return chunk
