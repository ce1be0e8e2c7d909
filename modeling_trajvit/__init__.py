"""Vision towers and the models on them, in pure PyTorch and transformers. Names are imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attentive_probe import AttentiveProbe
    from .configuration_image_vit import ImageViTConfig
    from .configuration_rlt import RLTConfig
    from .configuration_token_learner import TokenLearnerConfig
    from .configuration_token_merge import TokenMergeConfig
    from .configuration_tome import ToMeConfig
    from .configuration_trajvit import TrajViTConfig
    from .configuration_trajvit_action_detection import TrajViTActionDetectionConfig
    from .configuration_trajvit_contrastive import TrajViTContrastiveConfig
    from .configuration_trajvit_video_classification import TrajViTVideoClassificationConfig
    from .configuration_vit3d import ViT3DConfig
    from .configuration_vivit import ViViTConfig
    from .modeling_image_vit import ImageViTModel
    from .modeling_rlt import RLTModel
    from .modeling_token_learner import TokenLearnerModel, TokenLearnerModelOutput
    from .modeling_token_merge import TokenMergeModel
    from .modeling_tome import ToMeModel
    from .modeling_trajvit import TrajViTModel, TrajViTModelOutput
    from .modeling_trajvit_action_detection import TrajViTActionDetectionOutput, TrajViTForActionDetection
    from .modeling_trajvit_contrastive import TrajViTContrastiveOutput, TrajViTForContrastive
    from .modeling_trajvit_video_classification import TrajViTForVideoClassification
    from .modeling_vit3d import ViT3DModel
    from .modeling_vivit import ViViTModel, ViViTModelOutput
    from .vision_tower import RegionFeatures, TubeletTowerOutput, VisionTowerOutput

_MODULES = {
    "TrajViTConfig": "configuration_trajvit",
    "TrajViTModelOutput": "modeling_trajvit",
    "TrajViTModel": "modeling_trajvit",
    "ViT3DConfig": "configuration_vit3d",
    "ViT3DModel": "modeling_vit3d",
    "ViViTConfig": "configuration_vivit",
    "ViViTModelOutput": "modeling_vivit",
    "ViViTModel": "modeling_vivit",
    "TokenLearnerConfig": "configuration_token_learner",
    "TokenLearnerModelOutput": "modeling_token_learner",
    "TokenLearnerModel": "modeling_token_learner",
    "RLTConfig": "configuration_rlt",
    "RLTModel": "modeling_rlt",
    "ToMeConfig": "configuration_tome",
    "ToMeModel": "modeling_tome",
    "TokenMergeConfig": "configuration_token_merge",
    "TokenMergeModel": "modeling_token_merge",
    "ImageViTConfig": "configuration_image_vit",
    "ImageViTModel": "modeling_image_vit",
    "TrajViTContrastiveConfig": "configuration_trajvit_contrastive",
    "TrajViTContrastiveOutput": "modeling_trajvit_contrastive",
    "TrajViTForContrastive": "modeling_trajvit_contrastive",
    "TrajViTVideoClassificationConfig": "configuration_trajvit_video_classification",
    "TrajViTForVideoClassification": "modeling_trajvit_video_classification",
    "TrajViTActionDetectionConfig": "configuration_trajvit_action_detection",
    "TrajViTActionDetectionOutput": "modeling_trajvit_action_detection",
    "TrajViTForActionDetection": "modeling_trajvit_action_detection",
    "AttentiveProbe": "attentive_probe",
    "VisionTowerOutput": "vision_tower",
    "TubeletTowerOutput": "vision_tower",
    "RegionFeatures": "vision_tower",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def configuration_classes() -> list[Any]:
    """The configuration class of every vision tower and of every model on one."""
    from .configuration_trajvit_action_detection import TrajViTActionDetectionConfig
    from .configuration_trajvit_contrastive import TrajViTContrastiveConfig
    from .configuration_trajvit_video_classification import TrajViTVideoClassificationConfig
    from .vision_tower_configs import VISION_TOWER_CONFIGS

    on_towers = (TrajViTContrastiveConfig, TrajViTVideoClassificationConfig, TrajViTActionDetectionConfig)
    return [*VISION_TOWER_CONFIGS.values(), *on_towers]


def register_auto_classes() -> None:
    """Makes transformers' Auto classes and pipelines know the models, and has saved checkpoints carry their code.

    Afterwards `AutoConfig` and `AutoModel` open a checkpoint of any tower and of any model on one,
    `AutoModelForVideoClassification` one of a classifier, `transformers.pipeline` knows the tasks of
    `video_pipelines.PIPELINES`, and `save_pretrained` copies this folder's modules beside the weights, so that
    `trust_remote_code=True` opens them where trajvit is not installed.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification

    from .modeling_trajvit_action_detection import TrajViTForActionDetection
    from .modeling_trajvit_contrastive import TrajViTForContrastive
    from .modeling_trajvit_video_classification import TrajViTForVideoClassification
    from .video_pipelines import register_pipelines
    from .vision_towers import VISION_TOWERS

    register_pipelines()
    for config_class in configuration_classes():
        AutoConfig.register(config_class.model_type, config_class)
        config_class.register_for_auto_class()
    on_towers: tuple[Any, ...] = (TrajViTForContrastive, TrajViTForVideoClassification, TrajViTForActionDetection)
    for model_class in (*VISION_TOWERS.values(), *on_towers):
        AutoModel.register(model_class.config_class, model_class)
        model_class.register_for_auto_class("AutoModel")
    AutoModelForVideoClassification.register(TrajViTForVideoClassification.config_class, TrajViTForVideoClassification)


__all__ = [
    "AttentiveProbe",
    "ImageViTConfig",
    "ImageViTModel",
    "RLTConfig",
    "RLTModel",
    "RegionFeatures",
    "ToMeConfig",
    "ToMeModel",
    "TokenLearnerConfig",
    "TokenLearnerModel",
    "TokenLearnerModelOutput",
    "TokenMergeConfig",
    "TokenMergeModel",
    "TrajViTActionDetectionConfig",
    "TrajViTActionDetectionOutput",
    "TrajViTConfig",
    "TrajViTContrastiveConfig",
    "TrajViTContrastiveOutput",
    "TrajViTForActionDetection",
    "TrajViTForContrastive",
    "TrajViTForVideoClassification",
    "TrajViTModel",
    "TrajViTModelOutput",
    "TrajViTVideoClassificationConfig",
    "TubeletTowerOutput",
    "ViT3DConfig",
    "ViT3DModel",
    "ViViTConfig",
    "ViViTModel",
    "ViViTModelOutput",
    "VisionTowerOutput",
    "configuration_classes",
    "register_auto_classes",
]
