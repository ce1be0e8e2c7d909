"""The contrastive model and the processor that a run trains, new or from a checkpoint."""

from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trajvit.modeling_trajvit import TrajViTContrastiveConfig, TrajViTForContrastive
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor

from .config_file import ConfigError
from .run_config import ModelSettings


def build_model(
    settings: ModelSettings, num_frames: int, seed: int, generator: Mapping[str, Any] | None = None
) -> tuple[TrajViTForContrastive, TrajViTProcessor]:
    """The model, in float32 and in training mode, and the processor that belongs to it.

    Args:
        settings: Of the model.
        num_frames: Frames that the processor samples, and that learned time positions are made for.
        seed: Of the weights that come from no checkpoint.
        generator: Settings of `TrajectoryGenerator` by which a new processor finds trajectories; None for its own.

    Raises:
        ConfigError: A tower, a size or a field of a configuration does not exist or is out of its range.
        OSError: A checkpoint is neither a folder nor on the Hub.
    """
    torch.manual_seed(seed)
    attention: dict[str, Any] = {} if settings.attention is None else {"attn_implementation": settings.attention}
    if settings.checkpoint is not None:
        model = TrajViTForContrastive.from_pretrained(settings.checkpoint, dtype=torch.float32, **attention)
        processor = TrajViTProcessor.from_pretrained(settings.checkpoint)
    else:
        tokenizer = _tokenizer(settings)
        model = _new_model(settings, num_frames, tokenizer)
        if settings.attention is not None:
            model.set_attn_implementation(settings.attention)
        processor = TrajViTProcessor(tokenizer, _video_processor(model.config.vision_config, generator))
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return set_batch_norm(model, settings.batch_norm).train(), processor


def set_batch_norm(model: Any, statistics: str) -> Any:
    """Decide where batch norms take their statistics from: "frozen", "batch" or "synchronised" (see `ModelSettings`).

    Returns the model, with other modules in place of its batch norms where they are synchronised.
    """
    if statistics == "synchronised":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if statistics == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
                # Whoever sets the whole model to training mode asks each of its modules.
                vars(module)["train"] = MethodType(_stay_as_it_is, module)
    return model


def _stay_as_it_is(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _new_model(settings: ModelSettings, num_frames: int, tokenizer: PreTrainedTokenizerBase) -> TrajViTForContrastive:
    vision = _vision_config(settings, num_frames)
    text = {**settings.text}
    if settings.text_checkpoint is None:
        text = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **text}
    try:
        config = TrajViTContrastiveConfig(
            vision_config=vision,
            text_config=text or None,
            text_checkpoint=settings.text_checkpoint,
            projection_dim=settings.projection_dim,
        )
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise ConfigError(f"model: {error}") from error
    if settings.text_checkpoint is None and getattr(vision, "backbone_checkpoint", None) is None:
        return TrajViTForContrastive(config)
    return TrajViTForContrastive.from_pretrained_parts(config)


def _vision_config(settings: ModelSettings, num_frames: int) -> Any:
    if settings.tower not in VISION_TOWER_CONFIGS:
        raise ConfigError(f"model.tower={settings.tower!r} does not exist: expected one of {[*VISION_TOWER_CONFIGS]}")
    tower = VISION_TOWER_CONFIGS[settings.tower]
    sizes = [*tower.named_configurations()]
    if settings.size not in sizes:
        raise ConfigError(f"model.size={settings.size!r} does not exist: expected one of {sizes}")
    defaults = tower()
    unknown = sorted(name for name in settings.vision if not hasattr(defaults, name))
    if unknown:
        raise ConfigError(f"model.vision.{unknown[0]}: {settings.tower} has no such field, see {tower.__name__}")
    fields: dict[str, Any] = {"num_frames": num_frames}
    if hasattr(defaults, "backbone_checkpoint") and settings.pretrained_backbone:
        fields["backbone_checkpoint"] = BACKBONE_CHECKPOINT
    try:
        return tower.from_name(settings.size, **{**fields, **settings.vision})
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise ConfigError(f"model.vision: {error}") from error


BACKBONE_CHECKPOINT = "microsoft/resnet-18"
"""Starts the per-frame feature extractor (ResNet-18, supplement, Table 2), unless `model.vision` names another."""


def _tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    if settings.text_checkpoint is not None:
        return AutoTokenizer.from_pretrained(settings.text_checkpoint)
    from .synthetic_vocabulary import synthetic_tokenizer

    return synthetic_tokenizer()


def _video_processor(vision_config: Any, generator: Mapping[str, Any] | None) -> TrajViTVideoProcessor:
    settings: dict[str, Any] = {} if generator is None else {"generator": dict(generator)}
    return TrajViTVideoProcessor(
        size={"height": vision_config.image_size, "width": vision_config.image_size},
        num_frames=vision_config.num_frames,
        feature_size=getattr(vision_config, "feature_size", 56),
        generate_trajectories=vision_config.needs_trajectories,
        **settings,
    )
