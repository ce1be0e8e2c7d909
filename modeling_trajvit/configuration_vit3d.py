"""Configuration of the ViT3D vision tower; the defaults are ViT-Large over 16 frames of 224 x 224 pixels."""

from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict

from .configuration_vision_tower import TubeletTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@strict
class ViT3DConfig(TubeletTowerConfig):
    r"""
    Configuration of a [`ViT3DModel`]: one token for every tubelet, and a transformer over all of them.

    The frames, the video transformer (ViT-Large by default) and the pooling have the fields of [`VisionTowerConfig`],
    the tubelets (2 frames of 16 x 16 pixels by default: 1,568 of 16 frames at 224) those of [`TubeletTowerConfig`].
    Raises a validation error that names the field, its value and the legal range.
    """

    model_type = "vit3d"


__all__ = ["ViT3DConfig"]
