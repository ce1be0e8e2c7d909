"""What the configurations of all vision towers have in common: the input, the transformer, the sizes."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .carried_pipelines import ConfigWithPipelines

# What differs from the defaults, which are ViT-Large. `tiny` is for tests and demonstrations.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512},
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {},
}


@strict
class VisionTowerConfig(ConfigWithPipelines):
    r"""
    Fields of every vision tower's configuration.

    Args:
        image_size (`int`, defaults to 224): height and width of a frame in pixels (supplement, Table 1).
        num_channels (`int`, defaults to 3): colour channels of a frame.
        num_frames (`int`, defaults to 16): frames that processors and pipelines sample from a video (Table 1), and
            the length that learned time positions are made for. Every tower takes any number of frames.
        hidden_size (`int`, defaults to 1024): width of the transformer, ViT-Large.
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
            the other tokens (the CLS token of a sample without any).

    Raises a validation error that names the field, its value and the legal range.
    """

    # Lets a contrastive checkpoint be opened as its vision tower alone.
    base_config_key = "vision_config"
    # Whether the tower's tokens are trajectories, so that inputs without them are no use to it.
    needs_trajectories = False

    image_size: int = 224
    num_channels: int = 3
    num_frames: int = 16
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
    def named_configurations(cls) -> dict[str, dict[str, Any]]:
        """What each named configuration changes in the defaults."""
        return SIZES

    @classmethod
    def from_name(cls, name: str, **overrides: Any):
        """A named configuration (`tiny`, `small`, `base`, `large`, ...) with fields overridden by keyword.

        Raises `ValueError` for another name.
        """
        named = cls.named_configurations()
        if name not in named:
            raise ValueError(
                f"name={name!r} is not a {cls.__name__.removesuffix('Config')} configuration: expected one of "
                f"{list(named)}."
            )
        return cls(**{**named[name], **overrides})

    @property
    def region_hidden_size(self) -> int:
        """Width of the features that `region_features` gives."""
        return self.hidden_size

    def for_regions(self) -> "VisionTowerConfig":
        """The configuration of the same tower with all that `region_features` needs.

        Raises `ValueError` when the tower cannot tell where in a frame its tokens come from.
        """
        return self

    def require_positive(self, *fields: str) -> None:
        """Raises `ValueError` unless every named field is an integer of at least 1."""
        for field in fields:
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} is out of range: expected an integer of at least 1.")

    def validate_architecture(self):
        """Part of the validation that `@strict` runs after `__init__`: ranges and divisibility."""
        self.require_positive("image_size", "num_channels", "num_frames", "hidden_size", "num_hidden_layers")
        self.require_positive("num_attention_heads", "intermediate_size")
        for field in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0.0 <= getattr(self, field) < 1.0:
                raise ValueError(f"{field}={getattr(self, field)} is out of range: expected 0 <= {field} < 1.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of num_attention_heads={self.num_attention_heads}."
            )
        if self.pooling not in ("cls", "mean"):
            raise ValueError(f"pooling={self.pooling!r} is not a pooling: expected 'cls' or 'mean'.")


@strict
class TubeletTowerConfig(VisionTowerConfig):
    r"""
    Fields of the towers that cut a video into tubelets, beside those of [`VisionTowerConfig`].

    Args:
        patch_size (`int`, defaults to 16): height and width of a tubelet in pixels.
        tubelet_size (`int`, defaults to 2): frames of a tubelet. A last tubelet that lacks frames repeats the last one.

    Frames of any size that is a multiple of `patch_size` are taken: learned positions are interpolated from those of
    `image_size` and `num_frames`.
    """

    patch_size: int = 16
    tubelet_size: int = 2

    @property
    def position_grid(self) -> tuple[int, int, int]:
        """Tubelets of a video of `num_frames` at `image_size`, (time, height, width): where positions are learned."""
        side = self.image_size // self.patch_size
        return -(-self.num_frames // self.tubelet_size), side, side

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive("patch_size", "tubelet_size")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}.")


__all__ = ["TubeletTowerConfig", "VisionTowerConfig"]
