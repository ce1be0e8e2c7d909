"""Configuration of video classifiers: any vision tower, an attentive probe over all its tokens."""

from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict

from .configuration_probed_tower import ProbedTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_image_vit import ImageViTConfig  # noqa: F401
    from .configuration_rlt import RLTConfig  # noqa: F401
    from .configuration_token_learner import TokenLearnerConfig  # noqa: F401
    from .configuration_token_merge import TokenMergeConfig  # noqa: F401
    from .configuration_tome import ToMeConfig  # noqa: F401
    from .configuration_trajvit import TrajViTConfig  # noqa: F401
    from .configuration_vision_tower import VisionTowerConfig  # noqa: F401
    from .configuration_vit3d import ViT3DConfig  # noqa: F401
    from .configuration_vivit import ViViTConfig  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401
    from .vision_tower_configs import named_tower  # noqa: F401


@strict
class TrajViTVideoClassificationConfig(ProbedTowerConfig):
    r"""
    Configuration of a [`TrajViTForVideoClassification`]: a vision tower and an attentive probe on it.

    The fields are those of [`ProbedTowerConfig`]. `problem_type`, or else the labels, decides the loss.
    """

    model_type = "trajvit_video_classification"


__all__ = ["TrajViTVideoClassificationConfig"]
