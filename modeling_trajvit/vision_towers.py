"""Which model belongs to which `model_type`, for the models that are built on a vision tower."""

from typing import Any

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from .modeling_image_vit import ImageViTModel
from .modeling_rlt import RLTModel
from .modeling_token_learner import TokenLearnerModel
from .modeling_token_merge import TokenMergeModel
from .modeling_tome import ToMeModel
from .modeling_trajvit import TrajViTModel
from .modeling_vit3d import ViT3DModel
from .modeling_vivit import ViViTModel
from .vision_tower_configs import vision_tower_config

# Towers whose code travels with a checkpoint; others are looked up among transformers' registered models. A checkpoint
# brings a configuration class of its own, so that towers go by the name of the type, never by the class.
VISION_TOWERS: dict[str, type[PreTrainedModel]] = {
    "trajvit": TrajViTModel,
    "vit3d": ViT3DModel,
    "vivit_factorised": ViViTModel,
    "token_learner": TokenLearnerModel,
    "rlt": RLTModel,
    "tome": ToMeModel,
    "token_merge": TokenMergeModel,
    "image_vit": ImageViTModel,
}


def build_vision_tower(config: PreTrainedConfig) -> Any:
    """A new tower with the architecture of `config`, its weights not yet initialised by the model that holds it."""
    tower = VISION_TOWERS.get(config.model_type)
    return AutoModel.from_config(config) if tower is None else tower._from_config(config)


def load_vision_tower(checkpoint: str, **hub_options: Any) -> tuple[Any, list[str]]:
    """The tower that a checkpoint, a Hub id or a folder, holds alone or within a model built on it, in full precision.

    Returns it with the names of the weights that the checkpoint lacks. `hub_options` (revision, token, ...) go to
    `from_pretrained`.
    """
    options, _ = PreTrainedConfig.get_config_dict(checkpoint, **hub_options)
    options = options.get("vision_config", options)
    # The code of the checkpoint is not that of the model that starts from it.
    config = vision_tower_config({name: value for name, value in options.items() if name != "auto_map"})
    tower: Any = VISION_TOWERS.get(config.model_type, AutoModel)
    model, info = tower.from_pretrained(
        checkpoint, config=config, dtype=torch.float32, output_loading_info=True, **hub_options
    )
    return model, sorted(info["missing_keys"])


__all__ = ["VISION_TOWERS", "build_vision_tower", "load_vision_tower"]
