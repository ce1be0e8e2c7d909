"""Configuration of the TrajViT vision tower; the defaults are the paper's supplement, Tables 1 and 2."""

from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from .configuration_vision_tower import SIZES, VisionTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401

RESNET_18: dict[str, Any] = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 64,
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [2, 2, 2, 2],
}

BACKBONE_STAGES = ("stage1", "stage2", "stage3", "stage4")

# `tiny` also narrows the ResNet; `large-wide` has the wide, deep resamplers of the paper's public configuration.
TINY_RESNET: dict[str, Any] = {
    **RESNET_18,
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1] * 4,
}


@strict
class TrajViTConfig(VisionTowerConfig):
    r"""
    Configuration of a [`TrajViTModel`]: frame features, trajectory tokenizer and video transformer.

    Args:
        feature_size (`int`, defaults to 56): height and width of the grid that trajectories are pooled on (Table 2).
        backbone_config (`dict` or `PreTrainedConfig`, *optional*): per-frame feature extractor, any transformers
            backbone with four stages. ResNet-18 when absent (Table 2).
        backbone_checkpoint (`str`, *optional*): Hub id or folder that `from_pretrained_parts` starts the backbone
            from, for example `"microsoft/resnet-18"`.
        frames_per_chunk (`int`, *optional*): frames that pass the backbone together at inference, which bounds memory
            for any video length. By default 8 on the CPU, whose caches hold no more, and 64 on a GPU, which is idle
            between the operations of fewer.
        resampler_hidden_size (`int`, defaults to 64): width of pooled features, box codes and resamplers (Table 2).
        resampler_num_layers (`int`, defaults to 1): cross-attention layers of a Perceiver resampler (Table 2).
        resampler_num_attention_heads (`int`, defaults to 8): heads of a resampler layer (Table 2).

    The frames, the video transformer (ViT-Large by default) and the pooling have the fields of [`VisionTowerConfig`].
    Raises a validation error that names the field, its value and the legal range.
    """

    model_type = "trajvit"
    needs_trajectories = True
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}

    feature_size: int = 56
    backbone_config: dict | PreTrainedConfig | None = None
    backbone_checkpoint: str | None = None
    frames_per_chunk: int | None = None
    resampler_hidden_size: int = 64
    resampler_num_layers: int = 1
    resampler_num_attention_heads: int = 8

    @classmethod
    def named_configurations(cls) -> dict[str, dict[str, Any]]:
        return {
            **SIZES,
            "tiny": {**SIZES["tiny"], "backbone_config": TINY_RESNET},
            "large-wide": {"resampler_hidden_size": 512, "resampler_num_layers": 4},
        }

    def __post_init__(self, **kwargs):
        backbone = RESNET_18 if self.backbone_config is None else self.backbone_config
        options = backbone.to_dict() if isinstance(backbone, PreTrainedConfig) else dict(backbone)
        options.pop("out_indices", None)
        options |= {"num_channels": self.num_channels, "out_features": list(BACKBONE_STAGES)}
        model_type = options.pop("model_type", "resnet")
        if model_type not in CONFIG_MAPPING:
            raise ValueError(f"backbone_config has model_type={model_type!r}: expected a backbone of transformers.")
        self.backbone_config = CONFIG_MAPPING[model_type](**options)
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive("feature_size", "resampler_hidden_size", "resampler_num_layers")
        self.require_positive("resampler_num_attention_heads")
        if self.frames_per_chunk is not None:
            self.require_positive("frames_per_chunk")
        if self.resampler_hidden_size % 8:
            raise ValueError(
                f"resampler_hidden_size={self.resampler_hidden_size} must be a multiple of 8: "
                "a box code holds a sine and a cosine for each of 4 coordinates."
            )
        if self.resampler_hidden_size % (2 * self.resampler_num_attention_heads):
            raise ValueError(
                f"resampler_hidden_size={self.resampler_hidden_size} must be a multiple of twice "
                f"resampler_num_attention_heads={self.resampler_num_attention_heads}: rotary positions turn pairs."
            )


__all__ = ["TrajViTConfig"]
