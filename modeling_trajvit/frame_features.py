"""Per-frame feature extractor: a ResNet-18 whose four stages each have a linear projection (Table 2, row 1).

Shape letters: N frames, C channels of a stage, (h, w) its grid, D width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoBackbone

from .configuration_trajvit import TrajViTConfig


class FrameFeatureExtractor(nn.Module):
    """The backbone's stage maps, and the projections that bring every stage to one width, summed.

    Table 2 projects each stage, resizes it to 56 x 56, sums the stages, and averages under masks. All four steps are
    linear and a bilinear resize keeps a constant, so pooling comes first here: `forward` returns the stage maps,
    `trajectory_pooling` averages each at its own resolution, and `project` then runs on a handful of vectors. Masks
    that are learned from the sum need it first: `summed` takes the steps in the table's order.
    """

    def __init__(self, config: TrajViTConfig):
        super().__init__()
        backbone_config: Any = config.backbone_config
        # The attention chosen for the transformer is not the backbone's, which may have none: let it take its own.
        backbone_config._attn_implementation = None
        self.backbone = AutoBackbone.from_config(backbone_config)
        widths = self.backbone.channels
        self.projections = nn.ModuleList([nn.Linear(width, config.resampler_hidden_size) for width in widths])

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`frames` (N, 3, H, W) -> four stage maps (N, C, h, w) at strides 4, 8, 16 and 32."""
        # Convolutions are faster with channels last, and pooling then reads pixels without a copy.
        return tuple(self.backbone(frames.contiguous(memory_format=torch.channels_last)).feature_maps)

    def project(self, stage_features: Sequence[torch.Tensor]) -> torch.Tensor:
        """One tensor (..., C) per stage -> their projections summed, (..., D)."""
        return sum(layer(stage) for layer, stage in zip(self.projections, stage_features, strict=True))

    def summed(self, frames: torch.Tensor, size: int) -> torch.Tensor:
        """`frames` (N, 3, H, W) -> the stages projected, resized bilinearly and summed: (N, size, size, D)."""
        maps = []
        for layer, stage in zip(self.projections, self(frames), strict=True):
            projected = layer(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            maps.append(nn.functional.interpolate(projected, (size, size), mode="bilinear", align_corners=False))
        return torch.stack(maps).sum(0).permute(0, 2, 3, 1)
