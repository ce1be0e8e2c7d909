"""Towers that see frames through a pretrained backbone, and how its weights get there."""

from typing import Any

from transformers import AutoConfig
from transformers.utils import auto_docstring
from typing_extensions import Self

from .configuration_trajvit import TrajViTConfig
from .vision_tower import VisionTowerPreTrainedModel


@auto_docstring
class BackboneTowerPreTrainedModel(VisionTowerPreTrainedModel):
    """A tower whose `tokenizer` is a `ResampledTokenizer`."""

    config: TrajViTConfig

    @classmethod
    def from_pretrained_parts(cls, config: TrajViTConfig, **hub_options: Any) -> Self:
        """A new model whose backbone starts from `config.backbone_checkpoint`, a Hub id or a folder.

        The checkpoint decides the backbone's architecture; `hub_options` (revision, token, ...) go to its
        `from_pretrained`. Raises `ValueError` when the configuration names no checkpoint, or one that lacks weights.
        """
        if config.backbone_checkpoint is None:
            raise ValueError("backbone_checkpoint=None: expected a Hub id or a folder, such as 'microsoft/resnet-18'.")
        backbone_config = AutoConfig.from_pretrained(config.backbone_checkpoint, **hub_options)
        model: Any = cls(type(config)(**{**config.to_dict(), "backbone_config": backbone_config}))
        backbone = model.tokenizer.frame_features.backbone
        weights, info = type(backbone).from_pretrained(
            config.backbone_checkpoint, config=backbone.config, output_loading_info=True, **hub_options
        )
        if info["missing_keys"]:
            raise ValueError(
                f"backbone_checkpoint={config.backbone_checkpoint!r} lacks {sorted(info['missing_keys'])}."
            )
        backbone.load_state_dict(weights.state_dict())
        return model


__all__ = ["BackboneTowerPreTrainedModel"]
