"""Image ViT: every frame alone through a ViT, the video as the average of its frames.

After "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale" (Dosovitskiy et al., 2021), which
knows no videos. The choices for them are: a video's vector is the mean over its frames of each frame's own (after the
final norm, before any projection), and nothing tells a frame when it was taken.

Shape letters: B batch, T frames, h x w patches of a frame, D width.
"""

from typing import TYPE_CHECKING, Any

import torch
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs
from typing_extensions import Unpack

from .configuration_image_vit import ImageViTConfig
from .spatial_transformer import SpatialTransformer
from .tubelet_embedding import check_and_cut
from .tubelet_tower import TubeletTowerPreTrainedModel
from .vision_tower import TubeletTowerOutput

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_vision_tower import TubeletTowerConfig  # noqa: F401
    from .model_inputs import check_videos  # noqa: F401
    from .packed_sequences import PackedSequences  # noqa: F401
    from .region_pooling import align_regions  # noqa: F401
    from .safetensors_weights import SafetensorsModel  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401
    from .video_transformer import VideoTransformerEncoder  # noqa: F401


@auto_docstring
class ImageViTPreTrainedModel(TubeletTowerPreTrainedModel):
    config: ImageViTConfig


@auto_docstring(custom_intro="An image ViT over every frame of a video alone, averaged, without a head on top.")
class ImageViTModel(ImageViTPreTrainedModel):
    def __init__(self, config: ImageViTConfig):
        super().__init__(config)
        self.spatial = SpatialTransformer(config)
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
            Frames, normalised with ImageNet's mean and standard deviation. An image is a video of one frame. Height and
            width are any multiples of `patch_size`.
        trajectory_maps (`torch.LongTensor`, *optional*):
            Taken as every tower takes it, and not used.
        trajectory_attention_mask (`torch.LongTensor`, *optional*):
            Taken as every tower takes it, and not used.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest. Without it all count.

        The tokens are the mean of the frames' CLS tokens and the patches of every frame, those of a video's own frames
        first. Recorded hidden states and attentions are those of single frames: their first dimension is
        `batch_size * num_frames`.
        """
        tubelets = check_and_cut(pixel_values_videos, frame_attention_mask, self.config)
        features = self.spatial(tubelets, **kwargs)

        counts = tubelets.mask.sum(1, keepdim=True)
        cls_token = features.cls.sum(1) / counts
        has_patch = tubelets.mask[:, :, None, None].expand(features.maps.shape[:4])
        places = torch.arange(1, 1 + has_patch[0].numel(), device=has_patch.device).view(has_patch.shape[1:])
        tokens: Any = torch.cat([cls_token.unsqueeze(1), features.maps.flatten(1, 3)], dim=1)
        return TubeletTowerOutput(
            last_hidden_state=tokens,
            pooler_output=features.pooled.sum(1) / counts,
            token_mask=torch.cat([has_patch.new_ones(len(has_patch), 1), has_patch.flatten(1)], dim=1),
            tubelet_sources=torch.where(has_patch, places, 0),
            frame_to_tubelet=tubelets.frame_to_tubelet,
        )


__all__ = ["ImageViTModel", "ImageViTPreTrainedModel"]
