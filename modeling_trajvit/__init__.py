"""Vision towers and the models on them, in pure PyTorch and transformers. Names are imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_trajvit import TrajViTConfig
    from .configuration_trajvit_contrastive import TrajViTContrastiveConfig
    from .modeling_trajvit import TrajViTModel, TrajViTModelOutput
    from .modeling_trajvit_contrastive import TrajViTContrastiveOutput, TrajViTForContrastive

_MODULES = {
    "TrajViTConfig": "configuration_trajvit",
    "TrajViTContrastiveConfig": "configuration_trajvit_contrastive",
    "TrajViTModel": "modeling_trajvit",
    "TrajViTModelOutput": "modeling_trajvit",
    "TrajViTContrastiveOutput": "modeling_trajvit_contrastive",
    "TrajViTForContrastive": "modeling_trajvit_contrastive",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def configuration_classes() -> list[type]:
    """The configuration class of every vision tower and of every model on one."""
    from .configuration_trajvit_contrastive import TrajViTContrastiveConfig
    from .vision_tower_configs import VISION_TOWER_CONFIGS

    return [*VISION_TOWER_CONFIGS.values(), TrajViTContrastiveConfig]


def register_auto_classes() -> None:
    """Makes transformers' Auto classes know the models, and has saved checkpoints carry the models' code.

    Afterwards `AutoConfig` and `AutoModel` open a checkpoint of any tower and of any model on one, and
    `save_pretrained` copies this folder's modules beside the weights, so that `trust_remote_code=True` opens them where
    trajvit is not installed.
    """
    from transformers import AutoConfig, AutoModel

    from .modeling_trajvit_contrastive import TrajViTForContrastive
    from .vision_towers import VISION_TOWERS

    for config_class in configuration_classes():
        AutoConfig.register(config_class.model_type, config_class)
        config_class.register_for_auto_class()
    for model_class in (*VISION_TOWERS.values(), TrajViTForContrastive):
        AutoModel.register(model_class.config_class, model_class)
        model_class.register_for_auto_class("AutoModel")


__all__ = [
    "TrajViTConfig",
    "TrajViTContrastiveConfig",
    "TrajViTContrastiveOutput",
    "TrajViTForContrastive",
    "TrajViTModel",
    "TrajViTModelOutput",
    "configuration_classes",
    "register_auto_classes",
]
