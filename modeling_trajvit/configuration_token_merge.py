"""Configuration of the TokenMerge vision tower; the defaults are the supplement's section 2 and Tables 1 and 2."""

from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict

from .configuration_trajvit import TrajViTConfig
from .configuration_vision_tower import VisionTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@strict
class TokenMergeConfig(TrajViTConfig):
    r"""
    Configuration of a [`TokenMergeModel`]: TrajViT's modules with a learned merging in the place of trajectories.

    Args:
        num_tokens (`int`, defaults to 1024): tokens of a video of any length (supplement, section 2). 64 in `tiny`.

    All other fields are those of [`TrajViTConfig`]. Raises a validation error that names the field, its value and the
    legal range.
    """

    model_type = "token_merge"
    needs_trajectories = False

    num_tokens: int = 1024

    @classmethod
    def named_configurations(cls) -> dict[str, dict[str, Any]]:
        named = super().named_configurations()
        return {**named, "tiny": {**named["tiny"], "num_tokens": 64}}

    def for_regions(self) -> VisionTowerConfig:
        raise ValueError(
            f"model_type={self.model_type!r} cannot localise: its tokens keep no correspondence to places in a frame "
            "(supplement, section 4). Expected another vision tower."
        )

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive("num_tokens")


__all__ = ["TokenMergeConfig"]
