"""Configuration of the image ViT tower, which reads a video as a set of images."""

from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict

from .configuration_vision_tower import TubeletTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@strict
class ImageViTConfig(TubeletTowerConfig):
    r"""
    Configuration of an [`ImageViTModel`]: ViT-Large with patches of 16 x 16 by default.

    Args:
        tubelet_size (`int`, defaults to 1): always 1, every frame is an image of its own.

    The other fields are those of [`TubeletTowerConfig`]; `num_frames` only says how many frames processors sample.
    Raises a validation error that names the field, its value and the legal range.
    """

    model_type = "image_vit"

    tubelet_size: int = 1

    def validate_architecture(self):
        super().validate_architecture()
        if self.tubelet_size != 1:
            raise ValueError(
                f"tubelet_size={self.tubelet_size} is out of range: expected 1, an image ViT sees every frame alone."
            )


__all__ = ["ImageViTConfig"]
