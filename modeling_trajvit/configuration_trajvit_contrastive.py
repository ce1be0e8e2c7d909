"""Configuration of video-text contrastive models: any vision tower, any text encoder, one embedding space."""

from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .carried_pipelines import ConfigWithPipelines
from .vision_tower_configs import named_tower, text_encoder_config, vision_tower_config

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
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
class TrajViTContrastiveConfig(ConfigWithPipelines):
    r"""
    Configuration of a [`TrajViTForContrastive`]: a vision tower, a text tower and their common embedding space.

    Args:
        vision_config (`dict` or `PreTrainedConfig`, *optional*): the vision tower, chosen by its `model_type`.
            The default [`TrajViTConfig`] when absent.
        text_config (`dict` or `PreTrainedConfig`, *optional*): any transformers text encoder, chosen by its
            `model_type`. BERT-base when absent.
        text_checkpoint (`str`, *optional*, defaults to `"google-bert/bert-base-uncased"`): Hub id or folder that
            `from_pretrained_parts` starts the text tower from.
        text_pooling (`str`, defaults to `"cls"`): `"cls"` takes the text encoder's first token, `"pooler"` its own
            `pooler_output`, for encoders that summarise a text elsewhere (CLIP's last token).
        projection_dim (`int`, defaults to 256): width of the embedding space.
        temperature_init_value (`float`, defaults to 0.07): where the learned temperature starts.
        temperature_min (`float`, defaults to 0.001): its lower bound.
        temperature_max (`float`, defaults to 0.5): its upper bound.

    Raises a validation error that names the field, its value and the legal range.
    """

    model_type = "trajvit_contrastive"
    sub_configs: ClassVar[dict[str, type]] = {"vision_config": AutoConfig, "text_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    text_checkpoint: str | None = "google-bert/bert-base-uncased"
    text_pooling: str = "cls"
    projection_dim: int = 256
    temperature_init_value: float = 0.07
    temperature_min: float = 0.001
    temperature_max: float = 0.5

    @classmethod
    def from_name(cls, name: str, tower: str = "trajvit", **overrides: Any) -> "TrajViTContrastiveConfig":
        """A contrastive model on a named configuration of a vision tower, fields overridden by keyword.

        `tower` is the tower's `model_type`, `name` what its configuration's `from_name` takes. Raises `ValueError` for
        another tower or name.
        """
        return cls(**{"vision_config": named_tower(tower, name), **overrides})

    def pipeline_tasks(self) -> tuple[str, ...]:
        """Those of towers, and those that compare videos, or their trajectories, with texts."""
        vision_config: Any = self.vision_config
        of_trajectories = ("text-to-trajectory-search",) if vision_config.model_type == "trajvit" else ()
        return (*super().pipeline_tasks(), "zero-shot-video-classification", *of_trajectories)

    def __post_init__(self, **kwargs):
        self.vision_config = vision_tower_config(self.vision_config)
        self.text_config = text_encoder_config(self.text_config)
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        """Part of the validation that `@strict` runs after `__init__`: ranges."""
        if self.projection_dim < 1:
            raise ValueError(f"projection_dim={self.projection_dim} is out of range: expected at least 1.")
        if not 0 < self.temperature_min <= self.temperature_init_value <= self.temperature_max:
            raise ValueError(
                f"temperature_init_value={self.temperature_init_value} is out of range: expected "
                f"0 < temperature_min={self.temperature_min} <= it <= temperature_max={self.temperature_max}."
            )
        if self.text_pooling not in ("cls", "pooler"):
            raise ValueError(f"text_pooling={self.text_pooling!r} is not a pooling: expected 'cls' or 'pooler'.")


__all__ = ["TrajViTContrastiveConfig"]
