"""ViT3D's vision tower: one token for every tubelet of the video, and a ViT with attention over all of them.

The tubelet embedding and the joint space-time attention of "ViViT: A Video Vision Transformer" (Arnab et al. 2021,
model 1), with the tubelets of "VideoMAE" (Tong et al. 2022): 2 frames of 16 x 16 pixels. Positions are learned for
space and time together, as in ViViT; VideoMAE's are fixed sinusoids.

Shape letters: B batch, T frames, t x h x w tubelets of a video, D width.
"""

from typing import TYPE_CHECKING

import torch
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs
from typing_extensions import Unpack

from .configuration_vit3d import ViT3DConfig
from .tubelet_embedding import SpaceTimePositions, TubeletEmbedding, check_and_cut
from .tubelet_tower import TubeletTowerPreTrainedModel
from .video_transformer import VideoTransformerEncoder
from .vision_tower import TubeletTowerOutput

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_vision_tower import VisionTowerConfig  # noqa: F401
    from .model_inputs import check_videos  # noqa: F401
    from .packed_sequences import PackedSequences  # noqa: F401
    from .region_pooling import align_regions  # noqa: F401
    from .safetensors_weights import SafetensorsModel  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@auto_docstring
class ViT3DPreTrainedModel(TubeletTowerPreTrainedModel):
    config: ViT3DConfig


@auto_docstring(custom_intro="The video encoder with one token per space-time tubelet, without a head on top.")
class ViT3DModel(ViT3DPreTrainedModel):
    def __init__(self, config: ViT3DConfig):
        super().__init__(config)
        self.embedding = TubeletEmbedding(config)
        self.positions = SpaceTimePositions(config.position_grid, config.hidden_size)
        self.encoder = VideoTransformerEncoder(config)
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
    ) -> TubeletTowerOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Frames, normalised with ImageNet's mean and standard deviation; height and width are multiples of
            `config.patch_size`. An image is a video of one frame.
        trajectory_maps (`torch.LongTensor`, *optional*):
            Not used: taken so that every vision tower has the same inputs.
        trajectory_attention_mask (`torch.LongTensor`, *optional*):
            Not used, as `trajectory_maps`.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest. Without it all count.
        """
        tubelets = check_and_cut(pixel_values_videos, frame_attention_mask, self.config)
        shape = tubelets.pixels.shape[:4]
        positions = self.positions(tubelets.mask.sum(1), *shape[1:])
        tokens = (self.embedding(tubelets.pixels) + positions).flatten(1, 3)

        # (B, t, h, w): all tubelets of an instant are there or none of them is.
        is_token = tubelets.mask[:, :, None, None].expand(shape)
        hidden_states, pooled, token_mask = self.encoder(tokens, is_token.flatten(1), **kwargs)
        places = torch.arange(1, 1 + tokens.shape[1], device=tokens.device).view(1, *shape[1:])
        return TubeletTowerOutput(
            last_hidden_state=hidden_states,
            pooler_output=pooled,
            token_mask=token_mask,
            tubelet_sources=places * is_token,
            frame_to_tubelet=tubelets.frame_to_tubelet,
        )


__all__ = ["ViT3DModel", "ViT3DPreTrainedModel"]
