"""Configuration of the ToMe vision tower; the defaults are ViT-Large over 16 frames of 224 x 224 pixels."""

import itertools
import math
from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict

from .configuration_vision_tower import SIZES, TubeletTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@strict
class ToMeConfig(TubeletTowerConfig):
    r"""
    Configuration of a [`ToMeModel`]: ViT3D's tubelets, similar ones merged in every layer.

    Args:
        tokens_merged_per_layer (`int` or `list[int]`, defaults to 65): tokens that every layer merges, or one number
            for each layer. 65 is the value of "Token Merging" for ViT-Large on a video of 1,568 tubelets.
        merge_schedule (`str`, defaults to `"constant"`): `"constant"` merges the same number in every layer;
            `"decreasing"` twice as many in the first layer, none in the last and a straight line between, the same in
            total.

    No layer merges more than half of the tokens that reach it, so that 37 of the 1,568 remain by default: 73 reach the
    last layer, which can merge but 36 of the 65. The numbers are those of a video of `num_frames` at `image_size`. The
    paper has one size of video; here a video with another number of tubelets merges the same shares of them, so that
    an image does not shrink to one token nor a long video keep most of its own. The named configurations with fewer
    layers than ViT-Large merge more in each, for the same total: 130 in `small` and `base`, 390 in `tiny`.

    The frames, the video transformer (ViT-Large by default) and the pooling have the fields of [`VisionTowerConfig`],
    the tubelets those of [`TubeletTowerConfig`]. Raises a validation error that names the field, its value and the
    legal range.
    """

    model_type = "tome"

    tokens_merged_per_layer: int | list[int] = 65
    merge_schedule: str = "constant"

    @classmethod
    def named_configurations(cls) -> dict[str, dict[str, Any]]:
        merged = {"tiny": 390, "small": 130, "base": 130}
        return {
            name: {**fields, "tokens_merged_per_layer": merged[name]} if name in merged else fields
            for name, fields in SIZES.items()
        }

    @property
    def merge_targets(self) -> list[int]:
        """Tokens that each layer is to merge in a video of `num_frames` at `image_size`."""
        per_layer, layers = self.tokens_merged_per_layer, self.num_hidden_layers
        if isinstance(per_layer, list):
            return per_layer
        if self.merge_schedule == "constant" or layers == 1:
            return [per_layer] * layers
        # Rounded so that the sum over the first layers is never off by more than half a token.
        sums = [round(per_layer * i * (2 - (i - 1) / (layers - 1))) for i in range(layers + 1)]
        return [after - before for before, after in itertools.pairwise(sums)]

    def tokens_merged(self, num_tubelets: int) -> list[int]:
        """Tokens that each layer merges in a video of `num_tubelets`."""
        reference = math.prod(self.position_grid)
        merged: list[int] = []
        remaining, target = num_tubelets, 0
        for layer_target in self.merge_targets:
            before = target * num_tubelets // reference
            target += layer_target
            merged.append(min(target * num_tubelets // reference - before, remaining // 2))
            remaining -= merged[-1]
        return merged

    def validate_architecture(self):
        super().validate_architecture()
        per_layer = self.tokens_merged_per_layer
        if min(per_layer if isinstance(per_layer, list) else [per_layer], default=0) < 0:
            raise ValueError(f"tokens_merged_per_layer={per_layer} is out of range: expected integers of at least 0.")
        if self.merge_schedule not in ("constant", "decreasing"):
            raise ValueError(
                f"merge_schedule={self.merge_schedule!r} is not a schedule: expected 'constant' or 'decreasing'."
            )
        if isinstance(per_layer, list):
            if len(per_layer) != self.num_hidden_layers:
                raise ValueError(
                    f"tokens_merged_per_layer={per_layer} has {len(per_layer)} numbers: expected one for each of "
                    f"num_hidden_layers={self.num_hidden_layers}."
                )
            if self.merge_schedule != "constant":
                raise ValueError(
                    f"merge_schedule={self.merge_schedule!r} needs one number for tokens_merged_per_layer={per_layer}: "
                    "a list is a schedule already."
                )


__all__ = ["ToMeConfig"]
