"""What the configurations of the models with an attentive probe on a vision tower have in common."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .carried_pipelines import ConfigWithPipelines
from .vision_tower_configs import named_tower, vision_tower_config


@strict
class ProbedTowerConfig(ConfigWithPipelines):
    r"""
    Fields of every configuration of a vision tower with an attentive probe.

    Args:
        vision_config (`dict` or `PreTrainedConfig`, *optional*): the vision tower, chosen by its `model_type`.
            The default [`TrajViTConfig`] when absent.
        vision_checkpoint (`str`, *optional*): Hub id or folder that `from_pretrained_parts` starts the tower from: a
            tower's own checkpoint, or one of any model on it.
        probe_num_attention_heads (`int`, defaults to 16): heads of the probe's attention.
        probe_mlp_ratio (`float`, defaults to 4.0): width of the probe's MLP over that of its features.
        probe_dropout (`float`, defaults to 0.0): dropout of the probe.
        initializer_range (`float`, defaults to 0.02): standard deviation of the probe's initial weights.

    `num_labels`, `id2label`, `label2id` and `problem_type` are those of transformers.
    Raises a validation error that names the field, its value and the legal range.
    """

    sub_configs: ClassVar[dict[str, type]] = {"vision_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    vision_checkpoint: str | None = None
    probe_num_attention_heads: int = 16
    probe_mlp_ratio: float | int = 4.0
    probe_dropout: float | int = 0.0
    initializer_range: float = 0.02

    @classmethod
    def from_name(cls, name: str, tower: str = "trajvit", **overrides: Any):
        """A probe on a named configuration of a vision tower, fields overridden by keyword.

        `tower` is the tower's `model_type`, `name` what its configuration's `from_name` takes. Raises `ValueError` for
        another tower or name.
        """
        return cls(**{"vision_config": named_tower(tower, name), **overrides})

    @property
    def num_frames(self) -> int:
        """Frames that pipelines sample from a video: the tower's."""
        tower: Any = self.vision_config
        return tower.num_frames

    @property
    def probe_hidden_size(self) -> int:
        """Width of the features that the probe pools."""
        tower: Any = self.vision_config
        return tower.hidden_size

    def __post_init__(self, **kwargs):
        self.vision_config = vision_tower_config(self.vision_config)
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        """Part of the validation that `@strict` runs after `__init__`: ranges and divisibility."""
        if self.probe_num_attention_heads < 1 or self.probe_hidden_size % self.probe_num_attention_heads:
            raise ValueError(
                f"probe_num_attention_heads={self.probe_num_attention_heads} must divide {self.probe_hidden_size}, the "
                "width of the tower's features."
            )
        if self.probe_mlp_ratio <= 0:
            raise ValueError(f"probe_mlp_ratio={self.probe_mlp_ratio} is out of range: expected more than 0.")
        if not 0.0 <= self.probe_dropout < 1.0:
            raise ValueError(f"probe_dropout={self.probe_dropout} is out of range: expected 0 <= probe_dropout < 1.")


__all__ = ["ProbedTowerConfig"]
