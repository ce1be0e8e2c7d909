"""RLT's vision tower: one token for every run of tubelets that hardly change, and a ViT over the runs.

"Don't Look Twice: Faster Video Transformers with Run-Length Tokenization" (Choudhury et al. 2024): tubelets that repeat
the one before them are left out before they are embedded, and a learned length embedding tells how long the first of
them lasts. `run_length` holds the rule. Two things that the paper leaves open, or does for clips of one length alone:
lengths are shares of the video, as positions in time are, so that any number of frames works; and a token has the
position of its run's first tubelet.

The parts have ViT3D's names, so that its weights fit all of them but the length embedding.

Shape letters: B batch, T frames, t x h x w tubelets of a video, N runs of all videos together, L most runs of a video,
G learned lengths, D width.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs
from typing_extensions import Unpack

from .configuration_rlt import RLTConfig
from .run_length import RunTokens, assign_tokens, find_runs, tubelet_changes
from .tubelet_embedding import SpaceTimePositions, TubeletEmbedding, Tubelets, check_and_cut, sample_rows
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


class LengthEmbedding(nn.Module):
    """A learned vector for the share of its video that a run lasts, linear between the shares that are learned.

    Row i of G is the share (i + 1) / G: the lengths of 1 to G tubelets in a video of G. A run of a whole video has the
    last row, whatever the video's length; an image is such a run.
    """

    def __init__(self, num_lengths: int, hidden_size: int):
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(num_lengths, hidden_size))

    def init_own_weights(self, std: float) -> None:
        init.normal_(self.embedding, std=std)

    def forward(self, lengths: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Runs of `lengths` (N,) tubelets in videos of `counts` (N,) tubelets in time -> (N, D)."""
        return sample_rows(self.embedding, lengths.float() / counts * len(self.embedding) - 1)


@auto_docstring
class RLTPreTrainedModel(TubeletTowerPreTrainedModel):
    config: RLTConfig


@auto_docstring(
    custom_intro="The video encoder with one token per run of tubelets that hardly change, without a head on top."
)
class RLTModel(RLTPreTrainedModel):
    def __init__(self, config: RLTConfig):
        super().__init__(config)
        grid = config.position_grid
        self.embedding = TubeletEmbedding(config)
        self.positions = SpaceTimePositions(grid, config.hidden_size)
        self.lengths = LengthEmbedding(grid[0], config.hidden_size)
        self.encoder = VideoTransformerEncoder(config)
        self.post_init()

    def tokenize(self, tubelets: Tubelets) -> tuple[torch.Tensor, RunTokens]:
        """Tubelets of a batch -> the tokens of their runs (B, L, D), and where these come from.

        Pixels are compared as they were given: half precision of the weights changes no run.
        """
        shape = tubelets.pixels.shape[:4]
        changes = tubelet_changes(tubelets.pixels, self.config.tubelet_size)
        runs = find_runs(changes, tubelets.mask, self.config.threshold)
        run_tokens = assign_tokens(runs.starts, tubelets.mask)
        kept = run_tokens.tubelets
        counts = tubelets.mask.sum(1)
        positions = self.positions(counts, *shape[1:]).flatten(0, 3)[kept]
        lengths = self.lengths(runs.lengths.flatten()[kept], counts.repeat_interleave(shape[1:].numel())[kept])
        embedded = self.embedding(tubelets.pixels.flatten(0, 3)[kept]) + positions + lengths
        tokens = embedded.new_zeros(run_tokens.mask.numel(), embedded.shape[1])
        return tokens.index_copy(0, run_tokens.slots, embedded).unflatten(0, run_tokens.mask.shape), run_tokens

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
        tokens, run_tokens = self.tokenize(tubelets)
        hidden_states, pooled, token_mask = self.encoder(tokens, run_tokens.mask, **kwargs)
        return TubeletTowerOutput(
            last_hidden_state=hidden_states,
            pooler_output=pooled,
            token_mask=token_mask,
            tubelet_sources=run_tokens.sources,
            frame_to_tubelet=tubelets.frame_to_tubelet,
        )


__all__ = ["RLTModel", "RLTPreTrainedModel"]
