"""Which configuration belongs to which `model_type`, for the models that are built on a vision tower."""

from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from .configuration_image_vit import ImageViTConfig
from .configuration_rlt import RLTConfig
from .configuration_token_learner import TokenLearnerConfig
from .configuration_token_merge import TokenMergeConfig
from .configuration_tome import ToMeConfig
from .configuration_trajvit import TrajViTConfig
from .configuration_vision_tower import VisionTowerConfig
from .configuration_vit3d import ViT3DConfig
from .configuration_vivit import ViViTConfig

# Towers whose code travels with a checkpoint; others are looked up among transformers' registered models.
VISION_TOWER_CONFIGS: dict[str, type[VisionTowerConfig]] = {
    "trajvit": TrajViTConfig,
    "vit3d": ViT3DConfig,
    "vivit_factorised": ViViTConfig,
    "token_learner": TokenLearnerConfig,
    "rlt": RLTConfig,
    "tome": ToMeConfig,
    "token_merge": TokenMergeConfig,
    "image_vit": ImageViTConfig,
}


def named_tower(tower: str, name: str) -> VisionTowerConfig:
    """The configuration `name` ("tiny", "small", "base", "large", ...) of the `tower` with that model_type.

    Raises `ValueError` for an unknown tower or name.
    """
    if tower not in VISION_TOWER_CONFIGS:
        raise ValueError(f"tower={tower!r} is not a vision tower: expected one of {[*VISION_TOWER_CONFIGS]}.")
    return VISION_TOWER_CONFIGS[tower].from_name(name)


def vision_tower_config(config: dict | PreTrainedConfig | None) -> PreTrainedConfig:
    """The tower that `vision_config` describes, chosen by its `model_type`; the default TrajViT for None.

    Raises `ValueError` for a type that neither this library nor transformers knows.
    """
    return sub_model_config("vision_config", config, "trajvit", VISION_TOWER_CONFIGS)


def text_encoder_config(config: dict | PreTrainedConfig | None) -> PreTrainedConfig:
    """The text encoder of transformers that `text_config` describes; BERT-base for None.

    Raises `ValueError` for a type that transformers does not know.
    """
    return sub_model_config("text_config", config, "bert", {})


def sub_model_config(
    field: str, config: dict | PreTrainedConfig | None, default: str, own: dict[str, Any]
) -> PreTrainedConfig:
    """The configuration that `field` gives as a mapping, by its `model_type` among `own` and transformers' types."""
    if isinstance(config, PreTrainedConfig):
        return config
    options = dict(config or {})
    model_type = options.pop("model_type", default)
    if model_type in own:
        return own[model_type](**options)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"{field} has model_type={model_type!r}: expected {[*own]} or a type registered in transformers."
        )
    return CONFIG_MAPPING[model_type](**options)


__all__ = ["VISION_TOWER_CONFIGS", "named_tower", "text_encoder_config", "vision_tower_config"]
