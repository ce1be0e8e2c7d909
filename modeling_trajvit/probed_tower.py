"""What the models with an attentive probe on a vision tower have in common."""

from typing import Any

import torch
from transformers.utils import auto_docstring
from typing_extensions import Self

from .attentive_probe import AttentiveProbe
from .configuration_probed_tower import ProbedTowerConfig
from .safetensors_weights import SafetensorsModel
from .vision_towers import build_vision_tower, load_vision_tower


@auto_docstring
class ProbedTowerPreTrainedModel(SafetensorsModel):
    config: ProbedTowerConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values_videos"
    input_modalities: Any = ("video",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: ProbedTowerConfig):
        super().__init__(config)
        vision_config: Any = config.vision_config
        self.vision_model = build_vision_tower(vision_config)
        self.probe = AttentiveProbe(
            config.probe_hidden_size,
            int(config.num_labels or 0),
            num_heads=config.probe_num_attention_heads,
            mlp_ratio=config.probe_mlp_ratio,
            dropout=config.probe_dropout,
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if hasattr(module, "init_own_weights"):
            module.init_own_weights(self.config.initializer_range)

    def train(self, mode: bool = True) -> Self:
        """As for every module, but a tower whose weights are all frozen stays in evaluation mode.

        Probing is that: `model.vision_model.requires_grad_(False)`. The batch norms of a frozen tower in training mode
        would go on moving their statistics.
        """
        super().train(mode)
        if mode and not any(parameter.requires_grad for parameter in self.vision_model.parameters()):
            self.vision_model.eval()
        return self

    @classmethod
    def from_pretrained_parts(cls, config: ProbedTowerConfig, **hub_options: Any) -> Self:
        """A new model whose tower starts from `config.vision_checkpoint`, a Hub id or a folder.

        The checkpoint is a tower's own or that of a contrastive model, a classifier or a detector, and decides the
        tower's architecture; `hub_options` (revision, token, ...) go to its `from_pretrained`. The probe, and what a
        tower needs for regions alone, start anew. Raises `ValueError` when the configuration names no checkpoint, or
        one that lacks weights.
        """
        checkpoint = config.vision_checkpoint
        if checkpoint is None:
            raise ValueError("vision_checkpoint=None: expected a Hub id or a folder.")
        tower, lacking = load_vision_tower(checkpoint, **hub_options)
        if lacking:
            raise ValueError(f"vision_checkpoint={checkpoint!r} lacks {lacking}.")
        model = cls(type(config)(**{**config.to_dict(), "vision_config": tower.config}))
        # What the tower has for regions alone is in no other checkpoint than a detector's.
        model.vision_model.load_state_dict(tower.state_dict(), strict=False)
        return model


__all__ = ["ProbedTowerPreTrainedModel"]
