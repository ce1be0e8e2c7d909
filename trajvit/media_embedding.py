"""From videos to vectors, a batch at a time, by any checkpoint with a vision tower.

Shape letters: n videos of a batch, d width.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from transformers import PreTrainedConfig

from trajvit.evaluation.checkpoint_loading import CheckpointError, EvaluatedModel, load_contrastive, load_tower
from trajvit.evaluation.evaluation_data import MediaItem
from trajvit.evaluation.media_batches import PIXELS, load_batches


def load_embedder(checkpoint: str, device: str = "cpu") -> EvaluatedModel:
    """A contrastive model, or the vision tower of any other checkpoint, with its processor.

    Raises:
        CheckpointError: There is none, or it lacks weights or a processor.
    """
    try:
        model_type = PreTrainedConfig.get_config_dict(checkpoint)[0].get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint} is no checkpoint ({str(error).splitlines()[0]}); expected a folder with config.json, or a "
            "Hub id"
        ) from error
    return (load_contrastive if model_type == "trajvit_contrastive" else load_tower)(checkpoint, device)


def embedding_batches(
    model: EvaluatedModel,
    items: Sequence[MediaItem],
    batch_size: int = 8,
    num_workers: int = 0,
    num_frames: int | None = None,
) -> Iterator[tuple[dict[int, torch.Tensor], dict[int, str]]]:
    """The vector (d,) float32 of each video: in the space of texts, of length 1, or a tower's pooled output as it is.

    Yields, for each batch, those of the positions that could be used and the reasons why others could not.
    """
    positions = range(len(items))
    batches = [list(positions[begin : begin + batch_size]) for begin in positions[::batch_size]]
    for batch in load_batches(batches, items, model.video_processor, num_frames, num_workers):
        vectors = _embedded(model, batch.inputs) if batch.positions else ()
        yield dict(zip(batch.positions, vectors, strict=True)), batch.failures


@torch.inference_mode()
def _embedded(model: EvaluatedModel, inputs: dict[str, torch.Tensor]) -> Sequence[torch.Tensor]:
    inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    inputs[PIXELS] = inputs[PIXELS].to(model.dtype)
    if model.is_contrastive:
        pooled = model.model.get_video_features(**inputs, return_dict=True).pooler_output
        return tuple(nn.functional.normalize(pooled.float(), dim=-1).cpu())
    return tuple(model.vision_tower(**inputs, return_dict=True).pooler_output.float().cpu())
