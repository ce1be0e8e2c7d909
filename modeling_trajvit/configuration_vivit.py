"""Configuration of the ViViT tower with the factorised encoder."""

from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict

from .configuration_vision_tower import TubeletTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@strict
class ViViTConfig(TubeletTowerConfig):
    r"""
    Configuration of a [`ViViTModel`]: a spatial transformer over each position in time, then a temporal one over time.

    Args:
        num_hidden_layers (`int`, defaults to 24): layers of both transformers together.
        num_temporal_layers (`int`, *optional*): how many of them are the temporal transformer's; half when absent, so
            that the tower has the depth and about the parameters of ViT-Large. The ViViT paper takes a spatial
            transformer of full depth and 4 temporal layers beside: `num_hidden_layers=28, num_temporal_layers=4`.

    With `pooling="mean"` both transformers are averaged over their tokens. The other fields are those of
    [`TubeletTowerConfig`]. Raises a validation error that names the field, its value and the legal range.
    """

    model_type = "vivit_factorised"

    num_temporal_layers: int | None = None

    @property
    def temporal_depth(self) -> int:
        """Layers of the temporal transformer."""
        return self.num_hidden_layers // 2 if self.num_temporal_layers is None else self.num_temporal_layers

    @property
    def region_hidden_size(self) -> int:
        """Width of a region's features: what a place looks like and what happens at that time, side by side."""
        return 2 * self.hidden_size

    def validate_architecture(self):
        super().validate_architecture()
        if self.num_hidden_layers < 2:
            raise ValueError(
                f"num_hidden_layers={self.num_hidden_layers} is out of range: expected at least 2, one layer for space "
                "and one for time."
            )
        if not 1 <= self.temporal_depth < self.num_hidden_layers:
            raise ValueError(
                f"num_temporal_layers={self.num_temporal_layers} is out of range: expected 1 to "
                f"{self.num_hidden_layers - 1}, at least one of num_hidden_layers={self.num_hidden_layers} is spatial."
            )


__all__ = ["ViViTConfig"]
