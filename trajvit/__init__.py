"""TrajViT: a video encoder with one token per panoptic sub-object trajectory."""

from pathlib import Path

# In a checkout the rooms lie beside this package, not inside it: let `trajvit.processing` be found there, so that
# running from the repository's root works whatever is installed.
_checkout = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "processing").is_dir() and (_checkout / "modeling_trajvit").is_dir():
    __path__.append(str(_checkout))

from transformers import AutoProcessor, AutoVideoProcessor  # noqa: E402 - the rooms are found from here on

from trajvit.modeling_trajvit import (  # noqa: E402
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
from trajvit.processing.dataset_generation import generate_trajectories  # noqa: E402
from trajvit.processing.generator import TrajectoryGenerator  # noqa: E402
from trajvit.processing.processing_trajvit import TrajViTProcessor  # noqa: E402
from trajvit.processing.trajectories import Trajectories  # noqa: E402
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor  # noqa: E402

register_auto_classes()
for _config in configuration_classes():
    AutoVideoProcessor.register(_config, TrajViTVideoProcessor)
    AutoProcessor.register(_config, TrajViTProcessor)

__version__ = "0.1.0"
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
