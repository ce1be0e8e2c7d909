"""A checkpoint as evaluations use it: the model, its processor, and a fingerprint that tells one from another."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel

from trajvit.modeling_trajvit import TrajViTForContrastive
from trajvit.modeling_trajvit.vision_towers import build_vision_tower, load_vision_tower
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class CheckpointError(ValueError):
    """A checkpoint that does not have what an evaluation needs; the message names it and what was expected."""


@dataclass(frozen=True, eq=False)
class EvaluatedModel:
    """A model in evaluation mode with the processor that belongs to it.

    Attributes:
        name: Folder's name or Hub id.
        model: A `TrajViTForContrastive`, or a vision tower alone.
        video_processor: Makes its inputs of frames.
        tokenizer: Of its text tower; None for a tower alone.
    """

    name: str
    model: Any
    video_processor: TrajViTVideoProcessor
    tokenizer: Any = None

    @property
    def is_contrastive(self) -> bool:
        return hasattr(self.model, "text_model")

    @property
    def vision_tower(self) -> Any:
        return self.model.vision_model if self.is_contrastive else self.model

    @property
    def tower(self) -> str:
        """`model_type` of the vision tower."""
        return self.vision_tower.config.model_type

    @property
    def device(self) -> torch.device:
        return self.vision_tower.device

    @property
    def dtype(self) -> torch.dtype:
        return self.vision_tower.dtype

    def settings(self, num_frames: int | None) -> dict[str, Any]:
        """What a result depends on beside the data: for result files."""
        return {
            "num_frames": self.video_processor.num_frames if num_frames is None else num_frames,
            "dtype": str(self.dtype).removeprefix("torch."),
            "fingerprint": self.fingerprint,
        }

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights, the architecture and the processor: what embeddings of a given video depend on."""
        digest = blake2b(digest_size=16)
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        settings = [_lasting(self.model.config), _lasting(self.video_processor)]
        if self.tokenizer is not None:
            settings.append({"vocabulary": sorted(self.tokenizer.get_vocab().items())})
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        return digest.hexdigest()


def load_contrastive(
    checkpoint: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, **hub_options: Any
) -> EvaluatedModel:
    """A contrastive model and its processor from a folder or the Hub.

    Args:
        checkpoint: A folder of `save_pretrained`, or a Hub id.
        device, dtype: Where to, and of which precision.
        hub_options: `revision`, `token`, ...: of each `from_pretrained`.

    Raises:
        CheckpointError: There is none, or it is that of another model.
    """
    model_type = _config_of(checkpoint, hub_options).get("model_type")
    if model_type != "trajvit_contrastive":
        raise CheckpointError(
            f"{checkpoint} is a checkpoint of model_type={model_type!r}; expected 'trajvit_contrastive', whose text "
            "tower this evaluation needs"
        )
    with _readable(checkpoint):
        loaded: Any = TrajViTForContrastive.from_pretrained(
            checkpoint, dtype=dtype, output_loading_info=True, **hub_options
        )
    model, info = loaded
    _require_weights(checkpoint, sorted(info["missing_keys"]))
    processor = _loaded(TrajViTProcessor, checkpoint, hub_options)
    return EvaluatedModel(
        model_name(checkpoint), model.to(device).eval(), processor.video_processor, processor.tokenizer
    )


def load_tower(
    checkpoint: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    for_regions: bool = False,
    **hub_options: Any,
) -> EvaluatedModel:
    """A vision tower alone, of its own checkpoint or that of any model on it, and its video processor.

    Args:
        checkpoint, device, dtype, hub_options: As of `load_contrastive`.
        for_regions: Whether it is to tell what happens inside boxes.

    Raises:
        CheckpointError: There is none, it lacks weights, or the tower cannot localise.
    """
    _config_of(checkpoint, hub_options)
    with _readable(checkpoint):
        tower, lacking = load_vision_tower(checkpoint, **hub_options)
    _require_weights(checkpoint, lacking)
    if for_regions:
        tower = with_regions(tower)
    processor = _loaded(TrajViTVideoProcessor, checkpoint, hub_options)
    return EvaluatedModel(model_name(checkpoint), tower.to(device=device, dtype=dtype).eval(), processor)


def with_regions(tower: PreTrainedModel) -> PreTrainedModel:
    """The same tower with all that `region_features` needs.

    What it lacks for that alone, TokenLearner's TokenFuser, starts as the identity on the learned tokens, the same at
    every call. Raises `CheckpointError` where the tower cannot localise.
    """
    config: Any = tower.config
    try:
        wanted = config.for_regions()
    except (AttributeError, ValueError) as error:
        raise CheckpointError(f"model_type={config.model_type!r} cannot localise: {error}") from None
    if wanted is config:
        return tower
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rebuilt: Any = build_vision_tower(wanted)
    lacking = rebuilt.load_state_dict(tower.state_dict(), strict=False).missing_keys
    assert all(name.startswith("token_fuser.") for name in lacking), lacking
    return rebuilt.to(device=tower.device, dtype=tower.dtype).train(tower.training)


def model_name(checkpoint: str) -> str:
    """A Hub id as it is, a folder by its last name; that of the run where the folder is a run's `model`."""
    path = Path(checkpoint)
    if not path.is_dir():
        return checkpoint
    path = path.resolve()
    return f"{path.parent.name}/{path.name}" if path.name == "model" else path.name


@contextmanager
def _readable(checkpoint: str) -> Iterator[None]:
    """Weights that are missing or damaged are told with the checkpoint's name."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{checkpoint} has no weights that can be read ({str(error).splitlines()[0]}); expected what "
            "save_pretrained writes"
        ) from error


def _require_weights(checkpoint: str, lacking: Sequence[str]) -> None:
    if lacking:
        raise CheckpointError(
            f"{checkpoint} lacks the weights {', '.join(lacking[:3])} ({len(lacking)} in all); expected them"
        )


def _config_of(checkpoint: str, hub_options: dict[str, Any]) -> dict[str, Any]:
    try:
        options, _ = PreTrainedConfig.get_config_dict(checkpoint, **hub_options)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint} is no checkpoint ({str(error).splitlines()[0]}); expected a folder with config.json, or a "
            "Hub id"
        ) from error
    if not options:
        raise CheckpointError(f"{checkpoint} is no checkpoint: it has no config.json; expected a folder or a Hub id")
    return options


def _loaded(processor_class: Any, checkpoint: str, hub_options: dict[str, Any]) -> Any:
    try:
        return processor_class.from_pretrained(checkpoint, **hub_options)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint} has no processor that can be loaded ({str(error).splitlines()[0]}); expected what "
            f"{processor_class.__name__}.save_pretrained writes"
        ) from error


def _lasting(settings: Any) -> dict[str, Any]:
    """A configuration, or a processor's settings, without what says where it was saved and by what."""
    passing = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "auto_map", "architectures"}
    return {name: value for name, value in settings.to_dict().items() if name not in passing}
