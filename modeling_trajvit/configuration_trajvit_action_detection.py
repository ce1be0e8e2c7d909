"""Configuration of action detectors: any vision tower that can localise, an attentive probe over a box's tokens."""

from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict

from .configuration_probed_tower import ProbedTowerConfig
from .vision_tower_configs import VISION_TOWER_CONFIGS

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


@strict
class TrajViTActionDetectionConfig(ProbedTowerConfig):
    r"""
    Configuration of a [`TrajViTForActionDetection`]: a vision tower and an attentive probe on the tokens of a box.

    The fields are those of [`ProbedTowerConfig`]; `vision_config` is completed with all that its tower needs to tell
    what happens inside a box. Raises `ValueError` for a tower that cannot.
    """

    model_type = "trajvit_action_detection"

    @property
    def probe_hidden_size(self) -> int:
        tower: Any = self.vision_config
        return tower.region_hidden_size

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        tower: Any = self.vision_config
        if not hasattr(tower, "for_regions"):
            raise ValueError(
                f"vision_config has model_type={tower.model_type!r}, whose tower has no region_features: expected one "
                f"of {[*VISION_TOWER_CONFIGS]} that can localise."
            )
        self.vision_config = tower.for_regions()


__all__ = ["TrajViTActionDetectionConfig"]
