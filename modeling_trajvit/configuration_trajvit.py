"""Configuration of the TrajViT vision tower; the defaults are the paper's supplement, Tables 1 and 2."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

RESNET_18: dict[str, Any] = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 64,
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [2, 2, 2, 2],
}

BACKBONE_STAGES = ("stage1", "stage2", "stage3", "stage4")

# What differs from the defaults, which are `large`. `tiny` is for tests and demonstrations and is never trained at
# scale, so it also narrows the ResNet; `large-wide` has the wide, deep resamplers of the paper's public configuration.
NAMED_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "backbone_config": {**RESNET_18, "embedding_size": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [1] * 4},
    },
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {},
    "large-wide": {"resampler_hidden_size": 512, "resampler_num_layers": 4},
}


@strict
class TrajViTConfig(PreTrainedConfig):
    r"""
    Configuration of a [`TrajViTModel`]: frame features, trajectory tokenizer and video transformer.

    Args:
        image_size (`int`, defaults to 224): height and width of a frame in pixels (supplement, Table 1).
        num_channels (`int`, defaults to 3): colour channels of a frame.
        num_frames (`int`, defaults to 16): frames that processors and pipelines sample from a video (Table 1). The
            model itself takes any number of frames.
        feature_size (`int`, defaults to 56): height and width of the grid that trajectories are pooled on (Table 2).
        backbone_config (`dict` or `PreTrainedConfig`, *optional*): per-frame feature extractor, any transformers
            backbone with four stages. ResNet-18 when absent (Table 2).
        backbone_checkpoint (`str`, *optional*): Hub id or folder that `from_pretrained_parts` starts the backbone
            from, for example `"microsoft/resnet-18"`.
        frames_per_chunk (`int`, defaults to 8): frames that pass the backbone together at inference, which bounds
            memory for any video length.
        resampler_hidden_size (`int`, defaults to 64): width of pooled features, box codes and resamplers (Table 2).
        resampler_num_layers (`int`, defaults to 1): cross-attention layers of a Perceiver resampler (Table 2).
        resampler_num_attention_heads (`int`, defaults to 8): heads of a resampler layer (Table 2).
        hidden_size (`int`, defaults to 1024): width of the video transformer, ViT-Large.
        num_hidden_layers (`int`, defaults to 24): its layers.
        num_attention_heads (`int`, defaults to 16): its heads.
        intermediate_size (`int`, defaults to 4096): width of its MLPs.
        hidden_act (`str`, defaults to `"gelu"`): activation of its MLPs.
        hidden_dropout_prob (`float`, defaults to 0.0): dropout after attention and MLP.
        attention_probs_dropout_prob (`float`, defaults to 0.0): dropout of attention probabilities.
        qkv_bias (`bool`, defaults to `True`): whether query, key and value projections have a bias.
        layer_norm_eps (`float`, defaults to 1e-6): epsilon of every layer norm.
        initializer_range (`float`, defaults to 0.02): standard deviation of the weight initialisation.
        pooling (`str`, defaults to `"cls"`): `"cls"` returns the CLS token as `pooler_output`, `"mean"` the mean of
            the trajectory tokens (the CLS token of a sample without trajectory).

    Raises a validation error that names the field, its value and the legal range.
    """

    model_type = "trajvit"
    # Lets a contrastive checkpoint be opened as its vision tower alone.
    base_config_key = "vision_config"
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}

    image_size: int = 224
    num_channels: int = 3
    num_frames: int = 16
    feature_size: int = 56
    backbone_config: dict | PreTrainedConfig | None = None
    backbone_checkpoint: str | None = None
    frames_per_chunk: int = 8
    resampler_hidden_size: int = 64
    resampler_num_layers: int = 1
    resampler_num_attention_heads: int = 8
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    pooling: str = "cls"

    @classmethod
    def from_name(cls, name: str, **overrides: Any) -> "TrajViTConfig":
        """A named configuration (`tiny`, `small`, `base`, `large`, `large-wide`) with fields overridden by keyword.

        Raises `ValueError` for another name.
        """
        if name not in NAMED_CONFIGURATIONS:
            raise ValueError(
                f"name={name!r} is not a TrajViT configuration: expected one of {list(NAMED_CONFIGURATIONS)}."
            )
        return cls(**{**NAMED_CONFIGURATIONS[name], **overrides})

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
        """Part of the validation that `@strict` runs after `__init__`: ranges and divisibility."""
        positive = (
            "image_size",
            "num_channels",
            "num_frames",
            "feature_size",
            "frames_per_chunk",
            "resampler_hidden_size",
            "resampler_num_layers",
            "resampler_num_attention_heads",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
        )
        for field in positive:
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} is out of range: expected an integer of at least 1.")
        for field in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise ValueError(f"{field}={getattr(self, field)} is out of range: expected 0 <= {field} < 1.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of num_attention_heads={self.num_attention_heads}."
            )
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
        if self.pooling not in ("cls", "mean"):
            raise ValueError(f"pooling={self.pooling!r} is not a pooling: expected 'cls' or 'mean'.")


__all__ = ["TrajViTConfig"]
