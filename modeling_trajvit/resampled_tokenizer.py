"""What TrajViT's and TokenMerge's tokenizers share: rows 1, 3, 4 and 5 of the supplement's Table 2.

They differ in row 2, mask pooling: which features of a frame a token averages, and in which box these lie. TokenMerge
is meant to differ from TrajViT in nothing else (supplement, section 2).

Shape letters: B batch, M tokens of a video, P present (token, frame) pairs, S segments (B * M), N frames of a batch,
D width of the resamplers.
"""

import torch
from torch import nn

from .configuration_trajvit import TrajViTConfig
from .frame_features import FrameFeatureExtractor
from .perceiver_resampler import PerceiverResampler, TrajectoryPairs
from .position_encoding import SinusoidalBoxEncoder

# More frames than this fall out of a CPU's caches; fewer leave a GPU waiting for the next operation.
_CPU_CHUNK = 8
_GPU_CHUNK = 64


class ResampledTokenizer(nn.Module):
    """Frame features, box encoder, two resamplers over time and two linear layers to the transformer's width."""

    def __init__(self, config: TrajViTConfig):
        super().__init__()
        self.config = config
        width = config.resampler_hidden_size
        resampler = (width, config.resampler_num_layers, config.resampler_num_attention_heads, config.layer_norm_eps)
        self.frame_features = FrameFeatureExtractor(config)
        self.box_encoder = SinusoidalBoxEncoder(width, config.feature_size)
        self.appearance_resampler = PerceiverResampler(*resampler)
        self.position_resampler = PerceiverResampler(*resampler)
        self.appearance_mlp = nn.Linear(width, config.hidden_size)
        self.position_mlp = nn.Linear(width, config.hidden_size)

    def frames_per_chunk(self, device: torch.device) -> int:
        """Frames that pass the backbone together at inference, as the configuration says or as suits the device."""
        return self.config.frames_per_chunk or (_CPU_CHUNK if device.type == "cpu" else _GPU_CHUNK)

    def resample(self, appearance: torch.Tensor, boxes: torch.Tensor, pairs: TrajectoryPairs) -> torch.Tensor:
        """What every pair looks like, (P, D), and where it lies, (P, 4) -> one token a segment, (S, hidden_size)."""
        position = self.box_encoder(boxes).to(appearance.dtype)
        tokens = self.appearance_mlp(self.appearance_resampler(appearance, pairs))
        return tokens + self.position_mlp(self.position_resampler(position, pairs))

    @staticmethod
    def describe_pairs(
        present: torch.Tensor, videos: torch.Tensor, times: torch.Tensor, batch_size: int
    ) -> TrajectoryPairs:
        """`present` (N, M) bool, `videos` (N,) 0..B-1, `times` (N,) -> the pairs that the resamplers run over."""
        frame, token = pair_rows(present)
        return TrajectoryPairs(
            segment=videos[frame] * present.shape[1] + token,
            frame=frame,
            present=present[frame, token],
            num_segments=batch_size * present.shape[1],
            times=times,
        )


def pair_rows(present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Frame and token of the listed pairs of `present` (N, M): the present ones, frame by frame.

    Compiled code has fixed shapes, so it lists all N * M and leaves it to `TrajectoryPairs.present` to mask.
    """
    if torch.compiler.is_compiling():
        rows = torch.arange(present.numel(), device=present.device)
        return torch.div(rows, present.shape[1], rounding_mode="floor"), rows % present.shape[1]
    frame, token = present.nonzero(as_tuple=True)
    return frame, token
