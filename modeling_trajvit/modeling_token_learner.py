"""TokenLearner as a video tower: a joint space-time ViT that goes on with a few learned tokens halfway.

After "TokenLearner: What Can 8 Learned Tokens Do for Images and Videos?" (Ryoo et al., 2021). The module stands in the
middle of the transformer, and each position in time keeps tokens of its own, as in the paper; the CLS token, of which
it does not speak, passes by.

Shape letters: B batch, T frames, t x h x w tubelets of a video, S learned tokens of a position in time, D width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs
from typing_extensions import Unpack

from .configuration_token_learner import TokenLearnerConfig
from .region_pooling import align_regions
from .token_learner import TokenFuser, TokenLearner
from .tubelet_embedding import SpaceTimePositions, TubeletEmbedding, check_and_cut
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
class TokenLearnerModelOutput(VisionTowerOutput):
    r"""
    last_hidden_state (`torch.FloatTensor` of shape `(batch_size, 1 + time * num_learned_tokens, hidden_size)`):
        The CLS token and the learned tokens of each position in time; zeros where `token_mask` is false.
    pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
        The CLS token, or the mean of the other tokens, as `config.pooling` says.
    token_mask (`torch.BoolTensor` of shape `(batch_size, 1 + time * num_learned_tokens)`):
        Which tokens are there.
    tubelet_features (`torch.FloatTensor` of shape `(batch_size, time, height, width, hidden_size)`):
        What every tubelet's token was before TokenLearner; zeros where a video has no frame.
    frame_to_tubelet (`torch.LongTensor` of shape `(batch_size, num_frames)`):
        Position in time of the tubelet that holds each frame; -1 for padding frames.
    """

    tubelet_features: torch.Tensor | None = None
    frame_to_tubelet: torch.Tensor | None = None


@auto_docstring
class TokenLearnerPreTrainedModel(VisionTowerPreTrainedModel):
    config: TokenLearnerConfig


@auto_docstring(custom_intro="A space-time ViT with TokenLearner in its middle, without a head on top.")
class TokenLearnerModel(TokenLearnerPreTrainedModel):
    def __init__(self, config: TokenLearnerConfig):
        super().__init__(config)
        self.embedding = TubeletEmbedding(config)
        self.positions = SpaceTimePositions(config.position_grid, config.hidden_size)
        self.encoder = VideoTransformerEncoder(config)
        self.token_learner = TokenLearner(config)
        self.token_fuser = TokenFuser(config) if config.token_fuser else None
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
    ) -> TokenLearnerModelOutput:
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

        Recorded hidden states and attentions are those of all tubelets up to TokenLearner, and then those of the
        learned tokens.
        """
        tubelets = check_and_cut(pixel_values_videos, frame_attention_mask, self.config)
        grid = tubelets.pixels.shape[1:4]
        tokens = self.embedding(tubelets.pixels) + self.positions(tubelets.mask.sum(1), *grid)

        before = self.config.num_layers_before
        encoder: Any = self.encoder
        is_tubelet = tubelets.mask.repeat_interleave(grid[1] * grid[2], dim=1)
        hidden_states, mask = encoder.prepend_cls(tokens.flatten(1, 3), is_tubelet)
        hidden_states = encoder.run_layers(hidden_states, mask, encoder.layers[:before], **kwargs)
        cls_token, features = hidden_states[:, :1], hidden_states[:, 1:].unflatten(1, (grid[0], -1))
        learned = self.token_learner(features).flatten(1, 2)

        token_mask = tubelets.mask.repeat_interleave(self.config.num_learned_tokens, dim=1)
        token_mask = torch.cat([mask[:, :1], token_mask], dim=1)
        hidden_states = torch.cat([cls_token, learned], dim=1)
        hidden_states = encoder.run_layers(hidden_states, token_mask, encoder.layers[before:], **kwargs)
        hidden_states, pooled = encoder.finish(hidden_states, token_mask)
        return TokenLearnerModelOutput(
            last_hidden_state=hidden_states,
            pooler_output=pooled,
            token_mask=token_mask,
            tubelet_features=(features * tubelets.mask[:, :, None, None]).unflatten(2, grid[1:]),
            frame_to_tubelet=tubelets.frame_to_tubelet,
        )

    def region_features(self, outputs: Any, boxes: torch.Tensor, frame_index: torch.Tensor) -> RegionFeatures:
        """TokenFuser puts the learned tokens back to places, and ROIAlign pools them (supplement, section 4).

        7 x 7 tokens a region, as a space-time ViT has. `outputs` is a `TokenLearnerModelOutput`; `boxes` and
        `frame_index` are those of every tower. Raises `ValueError` for a model without a TokenFuser, beside the errors
        of every tower.
        """
        if self.token_fuser is None:
            raise ValueError(
                "token_fuser=False: region features of a TokenLearner tower need its TokenFuser, expected a model of "
                "config.for_regions()."
            )
        features = outputs.tubelet_features
        learned = outputs.last_hidden_state[:, 1:].unflatten(1, (features.shape[1], -1))
        maps = self.token_fuser(learned, features.flatten(2, 3)).unflatten(2, tuple(features.shape[2:4]))
        return align_regions(maps, outputs.frame_to_tubelet, boxes, frame_index)


__all__ = ["TokenLearnerModel", "TokenLearnerModelOutput", "TokenLearnerPreTrainedModel"]
