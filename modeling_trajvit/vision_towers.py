"""Which model belongs to which `model_type`, for the models that are built on a vision tower."""

from typing import Any

from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from .modeling_image_vit import ImageViTModel
from .modeling_rlt import RLTModel
from .modeling_trajvit import TrajViTModel
from .modeling_vit3d import ViT3DModel
from .modeling_vivit import ViViTModel

# Towers whose code travels with a checkpoint; others are looked up among transformers' registered models. A checkpoint
# brings a configuration class of its own, so that towers go by the name of the type, never by the class.
VISION_TOWERS: dict[str, type[PreTrainedModel]] = {
    "trajvit": TrajViTModel,
    "vit3d": ViT3DModel,
    "vivit_factorised": ViViTModel,
    "rlt": RLTModel,
    "image_vit": ImageViTModel,
}


def build_vision_tower(config: PreTrainedConfig) -> Any:
    """A new tower with the architecture of `config`, its weights not yet initialised by the model that holds it."""
    tower = VISION_TOWERS.get(config.model_type)
    return AutoModel.from_config(config) if tower is None else tower._from_config(config)


def load_vision_tower(checkpoint: str, config: PreTrainedConfig, **hub_options: Any) -> tuple[Any, set[str]]:
    """The tower of `config` with the weights of a `checkpoint`, a Hub id or a folder, and the weights it lacks.

    The checkpoint may be a tower's own or that of a model built on one.
    """
    tower: Any = VISION_TOWERS.get(config.model_type, AutoModel)
    model, info = tower.from_pretrained(checkpoint, config=config, output_loading_info=True, **hub_options)
    return model, set(info["missing_keys"])


__all__ = ["VISION_TOWERS", "build_vision_tower", "load_vision_tower"]
