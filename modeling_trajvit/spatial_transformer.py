"""A ViT that sees one position in time alone: image ViT, and the first stage of ViViT's factorised encoder.

Shape letters: B batch, t x h x w tubelets of a video, N positions in time that are computed, P values of a tubelet, D
width.
"""

from typing import NamedTuple

import torch
from torch import nn
from transformers.utils import TransformersKwargs
from typing_extensions import Unpack

from .configuration_vision_tower import TubeletTowerConfig
from .tubelet_embedding import SpaceTimePositions, TubeletEmbedding, Tubelets
from .video_transformer import VideoTransformerEncoder


class SpatialFeatures(NamedTuple):
    """What each position in time looks like; zeros where it holds no frame of the video."""

    cls: torch.Tensor  # (B, t, D)
    pooled: torch.Tensor  # (B, t, D): the CLS token or the mean of the other tokens, as `config.pooling` says
    maps: torch.Tensor  # (B, t, h, w, D)


class SpatialTransformer(nn.Module):
    """Tubelets of one position in time, learned positions in space, and transformer layers among them alone.

    Positions in time that hold only padding are not computed, except where `VideoTransformerEncoder` computes padding
    too: when hidden states or attentions are to be returned, whose first dimension then is all B * t, and in compiled
    code.
    """

    def __init__(self, config: TubeletTowerConfig, num_layers: int | None = None):
        """`num_layers` takes the place of `config.num_hidden_layers`."""
        super().__init__()
        self.embedding = TubeletEmbedding(config)
        self.positions = SpaceTimePositions((1, *config.position_grid[1:]), config.hidden_size)
        self.encoder = VideoTransformerEncoder(config, num_layers)

    def forward(self, tubelets: Tubelets, **kwargs: Unpack[TransformersKwargs]) -> SpatialFeatures:
        """Encodes `tubelets` of B videos, each position in time as a sequence of its own."""
        mask = tubelets.mask
        height, width = tubelets.pixels.shape[2:4]
        leave_out = self.encoder.pads_may_be_left_out(mask, kwargs)
        pixels = tubelets.pixels[mask] if leave_out else tubelets.pixels.flatten(0, 1)
        tokens = (self.embedding(pixels) + self.positions.in_space(height, width)).flatten(1, 2)
        is_token = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        hidden_states, pooled, _ = self.encoder(tokens, is_token, **kwargs)
        hidden_states, pooled = restore(hidden_states, mask, leave_out), restore(pooled, mask, leave_out)
        return SpatialFeatures(hidden_states[:, :, 0], pooled, hidden_states[:, :, 1:].unflatten(2, (height, width)))


def restore(features: torch.Tensor, mask: torch.Tensor, left_out: bool) -> torch.Tensor:
    """Features (N, ...) of the positions of `mask` (B, t), or of all where none was left out -> (B, t, ...)."""
    if left_out:
        return features.new_zeros(*mask.shape, *features.shape[1:]).index_put((mask,), features)
    features = features.unflatten(0, tuple(mask.shape))
    return features * mask.view(*mask.shape, *[1] * (features.ndim - 2))
