"""TrajViT's vision tower: from frames and trajectory maps to one token per trajectory, then a ViT over the tokens.

The rows of the supplement's Table 2, in order, are the parts of `TrajectoryTokenizer` and `TrajViTModel`; those that
TokenMerge shares are in `ResampledTokenizer`:
    Per-frame Feature Extractor   FrameFeatureExtractor    ResNet-18, four stages to width 64, summed on a 56 x 56 grid
    Mask Pooling                  trajectory_pooling       one vector per present (trajectory, frame) pair
    Sinusoidal Encoder            SinusoidalBoxEncoder     box coordinates (4) to width 64
    Perceiver Resampler x 2       PerceiverResampler       appearance and position: over frames to one vector each
    MLP x 2                       nn.Linear                64 to the transformer's width, summed
    Main Transformer              VideoTransformerEncoder  ViT-Large over CLS and trajectory tokens

Shape letters: B batch, T frames, M trajectories padded to the batch's most, P present (trajectory, frame) pairs,
N frames of a batch, D width of the resamplers, (H, W) image, (h, w) feature grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs
from typing_extensions import Unpack

from .backbone_tower import BackboneTowerPreTrainedModel
from .configuration_trajvit import TrajViTConfig
from .model_inputs import check_frame_mask, check_trajectories, check_videos
from .position_encoding import frame_times
from .region_pooling import select_trajectories
from .resampled_tokenizer import ResampledTokenizer, pair_rows
from .trajectory_pooling import segment_areas, segment_boxes, trajectory_pooling
from .video_transformer import VideoTransformerEncoder
from .vision_tower import RegionFeatures, VisionTowerOutput

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_vision_tower import VisionTowerConfig  # noqa: F401
    from .frame_features import FrameFeatureExtractor  # noqa: F401
    from .packed_sequences import PackedSequences  # noqa: F401
    from .perceiver_resampler import PerceiverResampler  # noqa: F401
    from .safetensors_weights import SafetensorsModel  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@dataclass
class TrajViTModelOutput(VisionTowerOutput):
    r"""
    last_hidden_state (`torch.FloatTensor` of shape `(batch_size, 1 + num_trajectories, hidden_size)`):
        The CLS token and the trajectory tokens after the final norm; zeros where `token_mask` is false.
    pooler_output (`torch.FloatTensor` of shape `(batch_size, hidden_size)`):
        The CLS token, or the mean of the trajectory tokens, as `config.pooling` says.
    token_mask (`torch.BoolTensor` of shape `(batch_size, 1 + num_trajectories)`):
        Which tokens are there: CLS, and the unmasked trajectories that own a pixel in some frame.
    trajectory_maps (`torch.LongTensor` of shape `(batch_size, num_frames, feature_size, feature_size)`):
        The trajectory that owns each cell, 0 for none, from the inputs; -1 in padding frames.
    """

    trajectory_maps: torch.Tensor | None = None


class TrajectoryTokenizer(ResampledTokenizer):
    """One token per trajectory: what it looks like and where it moves (supplement, Table 2, rows 1 to 5)."""

    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        trajectory_maps: torch.Tensor,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, 3, H, W) frames, (B, T, h, w) ids and (B, M) mask -> tokens (B, M, hidden_size), mask (B, M) bool.

        A token is there when its mask is set and it owns a pixel in some frame; all others are zeros. Frames that
        `frame_attention_mask` (B, T) marks as padding are left out (compiled code, whose shapes are fixed, runs the
        backbone over them and ignores what comes).
        """
        batch_size, num_frames = pixel_values_videos.shape[:2]
        labels, trajectory_mask = check_trajectories(
            trajectory_maps, trajectory_attention_mask, batch_size, num_frames, self.config.feature_size
        )
        frame_mask = check_frame_mask(frame_attention_mask, batch_size, num_frames, labels.device)
        num_trajectories = trajectory_mask.shape[1]
        videos = torch.arange(batch_size, device=labels.device).repeat_interleave(num_frames)
        frames, labels = pixel_values_videos.flatten(0, 1), labels.flatten(0, 1)
        times = frame_times(frame_mask).flatten()
        is_frame = frame_mask.flatten()
        if frame_attention_mask is not None and torch.compiler.is_compiling():
            labels = labels * is_frame[:, None, None]
        elif frame_attention_mask is not None:
            frames, labels, times, videos = frames[is_frame], labels[is_frame], times[is_frame], videos[is_frame]

        areas = segment_areas(labels, num_trajectories)
        present = (areas > 0) & trajectory_mask[videos]
        pairs = self.describe_pairs(present, videos, times, batch_size)
        boxes = segment_boxes(labels, num_trajectories)[pair_rows(present)]

        appearance = self.pool_frames(frames, labels, areas, present)
        tokens = self.resample(appearance, boxes, pairs)

        frames_present = labels.new_zeros(batch_size, num_trajectories).index_add(0, videos, present.long())
        token_mask = frames_present > 0
        tokens = tokens.view(batch_size, num_trajectories, self.config.hidden_size)
        return tokens * token_mask.unsqueeze(-1), token_mask

    def pool_frames(
        self, frames: torch.Tensor, labels: torch.Tensor, areas: torch.Tensor, present: torch.Tensor
    ) -> torch.Tensor:
        """Mean feature under the mask of every listed pair: (N, 3, H, W) frames -> (P, D).

        Outside training, frames pass in chunks, so that memory does not grow with their number. In training they pass
        together: their activations are kept anyway, and batch norm takes its statistics from all frames of the batch.
        """
        whole = self.training or torch.compiler.is_compiling()
        chunk = len(frames) if whole else self.frames_per_chunk(frames.device)
        features = []
        for start in range(0, len(frames), chunk):
            part = slice(start, start + chunk)
            stages = self.frame_features(frames[part])
            features.append(self.pool_stages(stages, labels[part], areas[part], present[part]))
        return torch.cat(features)

    def pool_stages(
        self, stages: Sequence[torch.Tensor], labels: torch.Tensor, areas: torch.Tensor, present: torch.Tensor
    ) -> torch.Tensor:
        """Stage maps (N, C, h, w) of some frames -> mean feature of every listed pair of these frames, (P, D)."""
        rows = pair_rows(present)
        return self.frame_features.project([trajectory_pooling(stage, labels, areas)[rows] for stage in stages])


@auto_docstring
class TrajViTPreTrainedModel(BackboneTowerPreTrainedModel):
    config: TrajViTConfig
    _no_split_modules = ["TrajectoryTokenizer", "VideoTransformerLayer"]  # noqa: RUF012


@auto_docstring(
    custom_intro="The video encoder with one token per panoptic sub-object trajectory, without a head on top."
)
class TrajViTModel(TrajViTPreTrainedModel):
    def __init__(self, config: TrajViTConfig):
        super().__init__(config)
        self.tokenizer = TrajectoryTokenizer(config)
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
    ) -> TrajViTModelOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Frames, normalised with ImageNet's mean and standard deviation. An image is a video of one frame.
        trajectory_maps (`torch.LongTensor` of shape `(batch_size, num_frames, feature_size, feature_size)`):
            The trajectory that owns each cell, 1 to `num_trajectories`, 0 for none.
        trajectory_attention_mask (`torch.LongTensor` of shape `(batch_size, num_trajectories)`, *optional*):
            1 for a trajectory, 0 for padding. Without it every trajectory with pixels counts.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest. Without it all count.
        """
        frames = check_videos(pixel_values_videos, self.config).to(self.dtype)
        tokens, token_mask = self.tokenizer(frames, trajectory_maps, trajectory_attention_mask, frame_attention_mask)
        maps = cast(torch.Tensor, trajectory_maps).long()
        if frame_attention_mask is not None:
            maps = maps.masked_fill(~frame_attention_mask.bool()[:, :, None, None], -1)
        hidden_states, pooled, token_mask = self.encoder(tokens, token_mask, **kwargs)
        return TrajViTModelOutput(
            last_hidden_state=hidden_states,
            pooler_output=pooled,
            token_mask=token_mask,
            trajectory_maps=maps,
        )

    def encode_each_trajectory(
        self,
        pixel_values_videos: torch.Tensor,
        trajectory_maps: torch.Tensor,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the tower would return of videos that had one trajectory each.

        The inputs are those of the model. Every trajectory is tokenised once and then passes the transformer alone, so
        that all of them cost about as much as the video. Returns (batch_size, num_trajectories, hidden_size) pooled
        outputs, zeros for what is no trajectory, and (batch_size, num_trajectories) bool, which of them are there.
        """
        frames = check_videos(pixel_values_videos, self.config).to(self.dtype)
        tokens, token_mask = self.tokenizer(frames, trajectory_maps, trajectory_attention_mask, frame_attention_mask)
        alone = tokens[token_mask].unsqueeze(1)
        _, pooled, _ = self.encoder(alone, alone.new_ones(alone.shape[:2], dtype=torch.bool))
        return tokens.masked_scatter(token_mask.unsqueeze(-1), pooled), token_mask

    def region_features(self, outputs: Any, boxes: torch.Tensor, frame_index: torch.Tensor) -> RegionFeatures:
        """The tokens of the trajectories with at least 80 % of their mask inside a box (supplement, section 4).

        Every region lists all tokens, (B, R, 1 + M, D) without a copy, and masks those of other trajectories. Where
        none has 80 %, the one that owns most of the box stands for it, and where none owns any, the CLS token.
        """
        return select_trajectories(
            outputs.last_hidden_state, outputs.token_mask, outputs.trajectory_maps, boxes, frame_index
        )


__all__ = ["TrajViTModel", "TrajViTModelOutput", "TrajViTPreTrainedModel"]
