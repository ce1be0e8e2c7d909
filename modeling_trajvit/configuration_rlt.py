"""Configuration of the RLT vision tower; the defaults are ViT-Large over 16 frames of 224 x 224 pixels."""

import math
from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict

from .configuration_vision_tower import TubeletTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@strict
class RLTConfig(TubeletTowerConfig):
    r"""
    Configuration of an [`RLTModel`]: one token for every run of tubelets that hardly change.

    Args:
        threshold (`float`, defaults to 0.1): a tubelet is left out when its mean absolute difference to the one before
            it, at the same place, is under this. In units of the model's input, pixel values normalised with ImageNet's
            mean and standard deviation, where 0.1 is about 6 of 255 grey levels. 0 leaves out none.

    The frames, the video transformer (ViT-Large by default) and the pooling have the fields of [`VisionTowerConfig`],
    the tubelets (2 frames of 16 x 16 pixels by default) those of [`TubeletTowerConfig`]. Raises a validation error that
    names the field, its value and the legal range.
    """

    model_type = "rlt"

    threshold: float | int = 0.1

    def validate_architecture(self):
        super().validate_architecture()
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise ValueError(f"threshold={self.threshold} is out of range: expected a finite number of at least 0.")


__all__ = ["RLTConfig"]
