"""TrajViT models in pure PyTorch and transformers. Names are imported on first use."""

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


def register_auto_classes() -> None:
    """Makes transformers' Auto classes know the models, and has saved checkpoints carry the models' code.

    Afterwards `AutoConfig` and `AutoModel` open any TrajViT checkpoint, and `save_pretrained` copies this folder's
    modules beside the weights, so that `trust_remote_code=True` opens them where trajvit is not installed.
    """
    from transformers import AutoConfig, AutoModel

    from .configuration_trajvit import TrajViTConfig
    from .configuration_trajvit_contrastive import TrajViTContrastiveConfig
    from .modeling_trajvit import TrajViTModel
    from .modeling_trajvit_contrastive import TrajViTForContrastive

    for config_class, model_class in (
        (TrajViTConfig, TrajViTModel),
        (TrajViTContrastiveConfig, TrajViTForContrastive),
    ):
        AutoConfig.register(config_class.model_type, config_class)
        AutoModel.register(config_class, model_class)
        config_class.register_for_auto_class()
        model_class.register_for_auto_class("AutoModel")


__all__ = [
    "TrajViTConfig",
    "TrajViTContrastiveConfig",
    "TrajViTContrastiveOutput",
    "TrajViTForContrastive",
    "TrajViTModel",
    "TrajViTModelOutput",
    "register_auto_classes",
]
