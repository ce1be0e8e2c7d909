"""TokenMerge's vision tower: TrajViT's modules with a learned merging of tokens (supplement, section 2).

The baseline that shows what trajectories bring: every module is TrajViT's but mask pooling, whose masks are learned
from the frames instead of given (`learned_merging`). It has 1,024 tokens, which the paper chose to match TrajViT's
average cost in training.

Shape letters: B batch, T frames, N frames of a batch, K tokens of a video, D width of the resamplers, (H, W) image.
"""

from typing import TYPE_CHECKING

import torch
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs
from typing_extensions import Unpack

from .backbone_tower import BackboneTowerPreTrainedModel
from .configuration_token_merge import TokenMergeConfig
from .learned_merging import LearnedMerging
from .model_inputs import check_frame_mask, check_videos
from .position_encoding import frame_times
from .resampled_tokenizer import ResampledTokenizer
from .video_transformer import VideoTransformerEncoder
from .vision_tower import VisionTowerOutput

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_trajvit import TrajViTConfig  # noqa: F401
    from .configuration_vision_tower import VisionTowerConfig  # noqa: F401
    from .frame_features import FrameFeatureExtractor  # noqa: F401
    from .packed_sequences import PackedSequences  # noqa: F401
    from .perceiver_resampler import PerceiverResampler  # noqa: F401
    from .safetensors_weights import SafetensorsModel  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


class TokenMergeTokenizer(ResampledTokenizer):
    """A fixed number of tokens: what their share of each frame looks like and where it lies, resampled over time."""

    def __init__(self, config: TokenMergeConfig):
        super().__init__(config)
        self.num_tokens = config.num_tokens
        self.merging = LearnedMerging(config.resampler_hidden_size, config.num_tokens, config.layer_norm_eps)

    def forward(
        self, pixel_values_videos: torch.Tensor, frame_attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, 3, H, W) frames -> tokens (B, K, hidden_size) and a mask (B, K) bool that is true everywhere.

        Frames that `frame_attention_mask` (B, T) marks as padding are left out (compiled code, whose shapes are fixed,
        runs over them and ignores what comes).
        """
        batch_size, num_frames = pixel_values_videos.shape[:2]
        device = pixel_values_videos.device
        frame_mask = check_frame_mask(frame_attention_mask, batch_size, num_frames, device)
        videos = torch.arange(batch_size, device=device).repeat_interleave(num_frames)
        frames, times, is_frame = (
            pixel_values_videos.flatten(0, 1),
            frame_times(frame_mask).flatten(),
            frame_mask.flatten(),
        )
        if frame_attention_mask is not None and not torch.compiler.is_compiling():
            frames, times, videos, is_frame = (values[is_frame] for values in (frames, times, videos, is_frame))
        present = is_frame.unsqueeze(1).expand(-1, self.num_tokens)
        pairs = self.describe_pairs(present, videos, times, batch_size)
        appearance, boxes = self.merge_frames(frames)
        tokens = self.resample(appearance.flatten(0, 1), boxes.flatten(0, 1), pairs)
        tokens = tokens.view(batch_size, self.num_tokens, self.config.hidden_size)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=device)

    def merge_frames(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean feature, (N, K, D), and box, (N, K, 4), of every token in each of the `frames` (N, 3, H, W).

        Frames pass in chunks, so that memory does not grow with their number. In training they pass the backbone
        together: batch norm takes its statistics from all frames of the batch.
        """
        compiling = torch.compiler.is_compiling()
        chunk = len(frames) if compiling else self.frames_per_chunk(frames.device)
        merged = []
        for part in frames.split(len(frames) if self.training else chunk):
            features = self.frame_features.summed(part, self.config.feature_size)
            merged += [self.merging(chunk_features) for chunk_features in features.split(chunk)]
        appearance, boxes = zip(*merged, strict=True)
        return torch.cat(appearance), torch.cat(boxes)


@auto_docstring
class TokenMergePreTrainedModel(BackboneTowerPreTrainedModel):
    config: TokenMergeConfig
    _no_split_modules = ["TokenMergeTokenizer", "VideoTransformerLayer"]  # noqa: RUF012


@auto_docstring(
    custom_intro="The video encoder whose tokens merge a frame's features as it has learned to, without a head on top."
)
class TokenMergeModel(TokenMergePreTrainedModel):
    def __init__(self, config: TokenMergeConfig):
        super().__init__(config)
        self.tokenizer = TokenMergeTokenizer(config)
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
    ) -> VisionTowerOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Frames, normalised with ImageNet's mean and standard deviation. An image is a video of one frame.
        trajectory_maps (`torch.LongTensor`, *optional*):
            Not used: taken so that every vision tower has the same inputs.
        trajectory_attention_mask (`torch.LongTensor`, *optional*):
            Not used, as `trajectory_maps`.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest. Without it all count.
        """
        frames = check_videos(pixel_values_videos, self.config).to(self.dtype)
        tokens, token_mask = self.tokenizer(frames, frame_attention_mask)
        hidden_states, pooled, token_mask = self.encoder(tokens, token_mask, **kwargs)
        return VisionTowerOutput(last_hidden_state=hidden_states, pooler_output=pooled, token_mask=token_mask)


__all__ = ["TokenMergeModel", "TokenMergePreTrainedModel"]
