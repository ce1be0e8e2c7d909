"""ViViT with the factorised encoder: space first, in each position in time alone, then time.

After "ViViT: A Video Vision Transformer" (Arnab et al., 2021), Model 2. Choices that the paper leaves open or that
differ: the spatial transformer's output passes its final norm before the temporal one takes it; learned positions in
time are added there, and spread over a video of any length; a given depth is shared half and half between the two
(the paper adds 4 temporal layers to a spatial transformer of full depth, see [`ViViTConfig`]).

Shape letters: B batch, T frames, t x h x w tubelets of a video, D width, R regions of a video, K tokens of a region.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs
from typing_extensions import Unpack

from .configuration_vivit import ViViTConfig
from .region_pooling import align_regions, check_regions
from .spatial_transformer import SpatialTransformer
from .tubelet_embedding import SpaceTimePositions, check_and_cut
from .video_transformer import VideoTransformerEncoder
from .vision_tower import RegionFeatures, VisionTowerOutput, VisionTowerPreTrainedModel

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_vision_tower import TubeletTowerConfig  # noqa: F401
    from .model_inputs import check_videos  # noqa: F401
    from .packed_sequences import PackedSequences  # noqa: F401
    from .safetensors_weights import SafetensorsModel  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@dataclass
class ViViTModelOutput(VisionTowerOutput):
    r"""
    last_hidden_state (`torch.FloatTensor` of shape `(batch_size, 1 + time, hidden_size)`):
        The temporal transformer's CLS token and one token for each position in time; zeros where `token_mask` is false.
    pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
        The CLS token, or the mean of the other tokens, as `config.pooling` says.
    token_mask (`torch.BoolTensor` of shape `(batch_size, 1 + time)`):
        Which tokens are there.
    spatial_features (`torch.FloatTensor` of shape `(batch_size, time, height, width, hidden_size)`):
        The spatial transformer's tokens of every tubelet after its final norm; zeros where a video has no frame.
    frame_to_tubelet (`torch.LongTensor` of shape `(batch_size, num_frames)`):
        Position in time of the tubelet that holds each frame; -1 for padding frames.
    """

    spatial_features: torch.Tensor | None = None
    frame_to_tubelet: torch.Tensor | None = None


@auto_docstring
class ViViTPreTrainedModel(VisionTowerPreTrainedModel):
    config: ViViTConfig

    def region_features(self, outputs: Any, boxes: torch.Tensor, frame_index: torch.Tensor) -> RegionFeatures:
        """What a region looks like and what happens at that time, side by side (supplement, section 4).

        ROIAlign on the spatial map of the tubelet that a box's frame lies in gives 7 x 7 tokens; each is followed by
        the temporal token of that tubelet: (B, R, 49, 2 * D). `outputs` is a `ViViTModelOutput`; `boxes` and
        `frame_index` are those of every tower, and so are the errors.
        """
        regions: Any = align_regions(outputs.spatial_features, outputs.frame_to_tubelet, boxes, frame_index)
        _, frames = check_regions(boxes, frame_index, *outputs.frame_to_tubelet.shape)
        time = outputs.frame_to_tubelet.gather(1, frames)
        videos = torch.arange(len(time), device=time.device).unsqueeze(1)
        temporal = outputs.last_hidden_state[videos, 1 + time].unsqueeze(2).expand_as(regions.features)
        return RegionFeatures(features=torch.cat([regions.features, temporal], dim=-1), mask=regions.mask)


@auto_docstring(custom_intro="ViViT's factorised encoder, space and then time, without a head on top.")
class ViViTModel(ViViTPreTrainedModel):
    def __init__(self, config: ViViTConfig):
        super().__init__(config)
        self.spatial = SpatialTransformer(config, config.num_hidden_layers - config.temporal_depth)
        self.temporal_positions = SpaceTimePositions((config.position_grid[0], 1, 1), config.hidden_size)
        self.temporal_encoder = VideoTransformerEncoder(config, config.temporal_depth)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        trajectory_maps: torch.Tensor | None = None,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ViViTModelOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Frames, normalised with ImageNet's mean and standard deviation. An image is a video of one frame. Height and
            width are any multiples of `patch_size`.
        trajectory_maps (`torch.LongTensor`, *optional*):
            Taken as every tower takes it, and not used.
        trajectory_attention_mask (`torch.LongTensor`, *optional*):
            Taken as every tower takes it, and not used.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest. Without it all count.

        Recorded hidden states and attentions are those of the spatial layers, whose first dimension is
        `batch_size * time`, and then those of the temporal layers.
        """
        tubelets = check_and_cut(pixel_values_videos, frame_attention_mask, self.config)
        features = self.spatial(tubelets, **kwargs)

        time = tubelets.mask.shape[1]
        positions = self.temporal_positions(tubelets.mask.sum(1), time, 1, 1).flatten(1, 3)
        hidden_states, pooled, token_mask = self.temporal_encoder(features.pooled + positions, tubelets.mask, **kwargs)
        return ViViTModelOutput(
            last_hidden_state=hidden_states,
            pooler_output=pooled,
            token_mask=token_mask,
            spatial_features=features.maps,
            frame_to_tubelet=tubelets.frame_to_tubelet,
        )


__all__ = ["ViViTModel", "ViViTModelOutput", "ViViTPreTrainedModel"]
