"""Spatio-temporal action detection: an attentive probe over the tokens inside given boxes (supplement, section 4).

Shape letters: B batch, T frames, R regions (boxes) of a video, K tokens of a region, D width of its features.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring
from transformers.utils.generic import can_return_tuple
from typing_extensions import Unpack

from .configuration_trajvit_action_detection import TrajViTActionDetectionConfig
from .model_inputs import check_frame_mask
from .probed_tower import ProbedTowerPreTrainedModel
from .region_pooling import check_regions

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .attentive_probe import AttentiveProbe  # noqa: F401
    from .backbone_tower import BackboneTowerPreTrainedModel  # noqa: F401
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_image_vit import ImageViTConfig  # noqa: F401
    from .configuration_probed_tower import ProbedTowerConfig  # noqa: F401
    from .configuration_rlt import RLTConfig  # noqa: F401
    from .configuration_token_learner import TokenLearnerConfig  # noqa: F401
    from .configuration_token_merge import TokenMergeConfig  # noqa: F401
    from .configuration_tome import ToMeConfig  # noqa: F401
    from .configuration_trajvit import TrajViTConfig  # noqa: F401
    from .configuration_vision_tower import VisionTowerConfig  # noqa: F401
    from .configuration_vit3d import ViT3DConfig  # noqa: F401
    from .configuration_vivit import ViViTConfig  # noqa: F401
    from .frame_features import FrameFeatureExtractor  # noqa: F401
    from .learned_merging import soft_pooling  # noqa: F401
    from .modeling_image_vit import ImageViTModel  # noqa: F401
    from .modeling_rlt import RLTModel  # noqa: F401
    from .modeling_token_learner import TokenLearnerModel  # noqa: F401
    from .modeling_token_merge import TokenMergeModel  # noqa: F401
    from .modeling_tome import ToMeModel  # noqa: F401
    from .modeling_trajvit import TrajViTModel  # noqa: F401
    from .modeling_vit3d import ViT3DModel  # noqa: F401
    from .modeling_vivit import ViViTModel  # noqa: F401
    from .packed_sequences import PackedSequences  # noqa: F401
    from .perceiver_resampler import TrajectoryPairs  # noqa: F401
    from .position_encoding import geometric_frequencies  # noqa: F401
    from .resampled_tokenizer import ResampledTokenizer  # noqa: F401
    from .run_length import Runs  # noqa: F401
    from .safetensors_weights import SafetensorsModel  # noqa: F401
    from .spatial_transformer import SpatialFeatures  # noqa: F401
    from .token_learner import TokenLearner  # noqa: F401
    from .token_merging import match_tokens  # noqa: F401
    from .trajectory_pooling import segment_index  # noqa: F401
    from .tubelet_embedding import Tubelets  # noqa: F401
    from .tubelet_tower import TubeletTowerPreTrainedModel  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401
    from .video_transformer import eager_attention_forward  # noqa: F401
    from .vision_tower import VisionTowerOutput  # noqa: F401
    from .vision_tower_configs import named_tower  # noqa: F401
    from .vision_towers import build_vision_tower  # noqa: F401


@dataclass
class TrajViTActionDetectionOutput(ModelOutput):
    r"""
    loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` are given):
        Binary cross-entropy, the mean over the boxes that are there and over labels; 0 without a box.
    logits (`torch.FloatTensor` of shape `(batch_size, num_boxes, num_labels)`):
        One logit for every action of every box; zeros for padding boxes.
    hidden_states, attentions:
        Those of the vision tower, where asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@auto_docstring(
    custom_intro="""
    A vision tower with an attentive probe that tells the actions in given boxes. The probe pools the tokens that the
    tower's `region_features` gives for a box. To train the probe alone, freeze the tower:
    `model.vision_model.requires_grad_(False)`.
    """
)
class TrajViTForActionDetection(ProbedTowerPreTrainedModel):
    config: TrajViTActionDetectionConfig

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        boxes: torch.Tensor | None = None,
        frame_index: torch.Tensor | None = None,
        box_attention_mask: torch.Tensor | None = None,
        trajectory_maps: torch.Tensor | None = None,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TrajViTActionDetectionOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Normalised frames.
        boxes (`torch.FloatTensor` of shape `(batch_size, num_boxes, 4)`):
            x1, y1, x2, y2 as shares of the frame's width and height.
        frame_index (`torch.LongTensor` of shape `(batch_size,)` or `(batch_size, num_boxes)`):
            The frame, among `num_frames`, that a video's boxes or each of them lie in.
        box_attention_mask (`torch.LongTensor` of shape `(batch_size, num_boxes)`, *optional*):
            1 for a box, 0 for padding, whose values are not looked at. Without it all boxes count.
        trajectory_maps (`torch.LongTensor` of shape `(batch_size, num_frames, height, width)`, *optional*):
            The trajectory that owns each cell, 0 for none; unused by towers that need no trajectories.
        trajectory_attention_mask (`torch.LongTensor` of shape `(batch_size, num_trajectories)`, *optional*):
            1 for a trajectory, 0 for padding.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest.
        labels (`torch.FloatTensor` of shape `(batch_size, num_boxes, num_labels)`, *optional*):
            1 for every action of a box, 0 for others.
        """
        if boxes is None or frame_index is None:
            missing = "boxes" if boxes is None else "frame_index"
            raise ValueError(f"{missing} is missing: expected the boxes of every video and the frames they lie in.")
        outputs = self.vision_model(
            pixel_values_videos=pixel_values_videos,
            trajectory_maps=trajectory_maps,
            trajectory_attention_mask=trajectory_attention_mask,
            frame_attention_mask=frame_attention_mask,
            return_dict=True,
            **kwargs,
        )
        is_box = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
        if box_attention_mask is not None:
            is_box = check_box_mask(box_attention_mask, boxes)
            batch_size, num_frames = cast(torch.Tensor, pixel_values_videos).shape[:2]
            frame_mask = check_frame_mask(frame_attention_mask, batch_size, num_frames, boxes.device)
            boxes, frame_index = neutral_padding(boxes, frame_index, is_box, frame_mask)
        regions = self.vision_model.region_features(outputs, boxes, frame_index)
        features, mask = drop_absent(regions.features, regions.mask)
        logits = self.probe(features.flatten(0, 1), mask.flatten(0, 1))
        logits = logits.view(*is_box.shape, logits.shape[-1]).masked_fill(~is_box.unsqueeze(-1), 0)
        return TrajViTActionDetectionOutput(
            loss=None if labels is None else action_loss(logits, labels, is_box),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def check_box_mask(box_attention_mask: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Returns the mask as bool (B, R); raises `ValueError` unless it has a value for each of `boxes` (B, R, 4)."""
    if box_attention_mask.shape != boxes.shape[:2]:
        raise ValueError(
            f"box_attention_mask has shape {tuple(box_attention_mask.shape)}: expected {tuple(boxes.shape[:2])}, one "
            "value for each of the boxes."
        )
    return box_attention_mask.bool()


def neutral_padding(
    boxes: torch.Tensor, frame_index: torch.Tensor, is_box: torch.Tensor, frame_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding boxes become the whole of their video's first frame, whatever they held; `frame_mask` is (B, T).

    Returns boxes (B, R, 4) and frames (B, R). Raises `ValueError` on shapes and dtypes that `check_regions` refuses.
    """
    # Zeros stand for the values, which only count where there is a box.
    check_regions(torch.zeros_like(boxes), torch.zeros_like(frame_index), frame_mask.shape[0], frame_mask.shape[1])
    frames = frame_index if frame_index.ndim == 2 else frame_index.unsqueeze(1)
    first = frame_mask.long().argmax(1, keepdim=True)
    boxes = torch.where(is_box.unsqueeze(-1), boxes, boxes.new_tensor([0.0, 0.0, 1.0, 1.0]))
    return boxes, torch.where(is_box, frames.long(), first)


def drop_absent(features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (B, R, K, D) with mask (B, R, K) -> as many for each region as the one with most has.

    A region of TrajViT lists all tokens of its video, of which few lie in a box. Compiled code, whose shapes are fixed,
    keeps them all.
    """
    if torch.compiler.is_compiling() or not mask.numel() or mask.all():
        return features, mask
    order = mask.long().argsort(dim=-1, descending=True, stable=True)[..., : int(mask.sum(-1).max())]
    return features.take_along_dim(order.unsqueeze(-1), 2), mask.gather(2, order)


def action_loss(logits: torch.Tensor, labels: torch.Tensor, is_box: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of (B, R, labels), its mean over the boxes of `is_box` (B, R); 0 without a box.

    Raises `ValueError` on labels of another shape.
    """
    if labels.shape != logits.shape:
        raise ValueError(f"labels have shape {tuple(labels.shape)}: expected {tuple(logits.shape)}, 0 or 1 for each.")
    weights = is_box.unsqueeze(-1).float()
    # Labels of padding may be anything, not-a-number included.
    labels = labels.float().masked_fill(~is_box.unsqueeze(-1), 0)
    losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels, weight=weights, reduction="sum")
    return losses / (is_box.sum() * logits.shape[-1]).clamp(min=1)


__all__ = ["TrajViTActionDetectionOutput", "TrajViTForActionDetection"]
