"""What every vision tower is to the rest of the library: its inputs, its outputs and how a region is pooled from them.

Shape letters: B batch, T frames, L tokens, D width, t x h x w tubelets of a video, R regions of a video, K tokens of a
region.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, auto_docstring

from .configuration_vision_tower import VisionTowerConfig
from .safetensors_weights import SafetensorsModel
from .video_transformer import VideoTransformerAttention, VideoTransformerLayer


@dataclass
class VisionTowerOutput(BaseModelOutputWithPooling):
    r"""
    last_hidden_state (`torch.FloatTensor` of shape `(batch_size, 1 + num_tokens, hidden_size)`):
        The CLS token and the other tokens after the final norm; zeros where `token_mask` is false.
    pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
        The CLS token, or the mean of the other tokens, as `config.pooling` says.
    token_mask (`torch.BoolTensor` of shape `(batch_size, 1 + num_tokens)`):
        Which tokens are there.
    """

    token_mask: torch.Tensor | None = None


@dataclass
class TubeletTowerOutput(VisionTowerOutput):
    r"""
    last_hidden_state (`torch.FloatTensor` of shape `(batch_size, 1 + num_tokens, hidden_size)`):
        The CLS token and the other tokens after the final norm; zeros where `token_mask` is false.
    pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
        The CLS token, or the mean of the other tokens, as `config.pooling` says.
    token_mask (`torch.BoolTensor` of shape `(batch_size, 1 + num_tokens)`):
        Which tokens are there.
    tubelet_sources (`torch.LongTensor` of shape `(batch_size, time, height, width)`):
        For every tubelet of the video, the position in `last_hidden_state` of the token that stands for it; 0, the CLS
        token, for tubelets of padding frames.
    frame_to_tubelet (`torch.LongTensor` of shape `(batch_size, num_frames)`):
        Position in time of the tubelet that holds each frame; -1 for padding frames.
    """

    tubelet_sources: torch.Tensor | None = None
    frame_to_tubelet: torch.Tensor | None = None


@dataclass
class RegionFeatures(ModelOutput):
    r"""
    features (`torch.FloatTensor` of shape `(batch_size, num_regions, num_tokens, region_hidden_size)`):
        The tokens of each region.
    mask (`torch.BoolTensor` of shape `(batch_size, num_regions, num_tokens)`):
        Which of them are there; at least one in every region.
    """

    features: torch.Tensor | None = None
    mask: torch.Tensor | None = None


@auto_docstring
class VisionTowerPreTrainedModel(SafetensorsModel):
    config: VisionTowerConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values_videos"
    input_modalities: Any = ("video",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["VideoTransformerLayer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # A checkpoint with heads that is opened as its vision tower leaves the rest behind.
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012
        r"^text_",
        r"^temperature$",
        r"^video_projection\.",
        r"^probe\.",
    ]
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": VideoTransformerLayer,
        "attentions": VideoTransformerAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        # Modules with parameters of their own, beside those of layers, say how these start.
        if hasattr(module, "init_own_weights"):
            module.init_own_weights(self.config.initializer_range)

    def region_features(self, outputs: Any, boxes: torch.Tensor, frame_index: torch.Tensor) -> RegionFeatures:
        """The tokens that tell what happens inside `boxes` (supplement, section 4).

        `outputs` are what the tower returned; `boxes` (B, R, 4) float x1, y1, x2, y2 as shares of width and height;
        `frame_index` (B,) or (B, R) integer, the frame among the T of the input that each box lies in. Raises
        `ValueError` on other shapes, boxes outside 0..1 or turned inside out, frames that the video does not have, and
        when the tower cannot localise.
        """
        raise ValueError(
            f"{type(self).__name__} cannot localise: its tokens keep no correspondence to places in a frame, so there "
            "are none to pool inside a box (supplement, section 4)."
        )


__all__ = [
    "RegionFeatures",
    "TubeletTowerOutput",
    "VisionTowerOutput",
    "VisionTowerPreTrainedModel",
]
