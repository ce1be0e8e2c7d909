"""The names that `import trajvit` gives. Importing this module also makes transformers' Auto classes know them."""

from transformers import AutoProcessor, AutoVideoProcessor

from trajvit.modeling_trajvit import (
    AttentiveProbe,
    ImageViTConfig,
    ImageViTModel,
    RLTConfig,
    RLTModel,
    TokenLearnerConfig,
    TokenLearnerModel,
    TokenMergeConfig,
    TokenMergeModel,
    ToMeConfig,
    ToMeModel,
    TrajViTActionDetectionConfig,
    TrajViTConfig,
    TrajViTContrastiveConfig,
    TrajViTForActionDetection,
    TrajViTForContrastive,
    TrajViTForVideoClassification,
    TrajViTModel,
    TrajViTVideoClassificationConfig,
    ViT3DConfig,
    ViT3DModel,
    ViViTConfig,
    ViViTModel,
    configuration_classes,
    register_auto_classes,
)
from trajvit.processing.dataset_generation import generate_trajectories
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor

register_auto_classes()
# What is saved carries the processors' code too, see `register_auto_classes`.
TrajViTVideoProcessor.register_for_auto_class("AutoVideoProcessor")
TrajViTProcessor.register_for_auto_class("AutoProcessor")
for _config in configuration_classes():
    AutoVideoProcessor.register(_config, TrajViTVideoProcessor)
    AutoProcessor.register(_config, TrajViTProcessor)

__all__ = [
    "AttentiveProbe",
    "ImageViTConfig",
    "ImageViTModel",
    "RLTConfig",
    "RLTModel",
    "ToMeConfig",
    "ToMeModel",
    "TokenLearnerConfig",
    "TokenLearnerModel",
    "TokenMergeConfig",
    "TokenMergeModel",
    "TrajViTActionDetectionConfig",
    "TrajViTConfig",
    "TrajViTContrastiveConfig",
    "TrajViTForActionDetection",
    "TrajViTForContrastive",
    "TrajViTForVideoClassification",
    "TrajViTModel",
    "TrajViTProcessor",
    "TrajViTVideoClassificationConfig",
    "TrajViTVideoProcessor",
    "Trajectories",
    "TrajectoryGenerator",
    "ViT3DConfig",
    "ViT3DModel",
    "ViViTConfig",
    "ViViTModel",
    "generate_trajectories",
]
