"""Towers whose every tubelet is carried by a token: one way of pooling regions for all of them."""

from typing import Any

import torch
from transformers.utils import auto_docstring

from .configuration_vision_tower import TubeletTowerConfig
from .region_pooling import align_regions, gather_tubelets
from .vision_tower import RegionFeatures, VisionTowerPreTrainedModel


@auto_docstring
class TubeletTowerPreTrainedModel(VisionTowerPreTrainedModel):
    config: TubeletTowerConfig

    def region_features(self, outputs: Any, boxes: torch.Tensor, frame_index: torch.Tensor) -> RegionFeatures:
        """ROIAlign on the map of the tubelet that a box's frame lies in (supplement, section 4): 7 x 7 tokens a region.

        `outputs` are those of the tower, a [`TubeletTowerOutput`]; `boxes` and `frame_index` as for every tower. Tokens
        that stand for several tubelets are first duplicated to all of them, which makes the map whole again.
        """
        maps = gather_tubelets(outputs.last_hidden_state, outputs.tubelet_sources)
        return align_regions(maps, outputs.frame_to_tubelet, boxes, frame_index)


__all__ = ["TubeletTowerPreTrainedModel"]
