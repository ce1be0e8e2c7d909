"""Configuration of the TokenLearner tower."""

import copy
from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict

from .configuration_vision_tower import TubeletTowerConfig

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


@strict
class TokenLearnerConfig(TubeletTowerConfig):
    r"""
    Configuration of a [`TokenLearnerModel`]: a space-time ViT that goes on with a few learned tokens halfway.

    Args:
        num_learned_tokens (`int`, defaults to 8): tokens that each position in time goes on with.
        token_learner_layer (`int`, *optional*): layers that run before TokenLearner; half of them when absent.
        token_learner_hidden_size (`int`, defaults to 64): width of the MLP that the attention maps come from.
        token_fuser (`bool`, defaults to `False`): whether the model has a TokenFuser, which region features need.
            Only they use it, so a model trained without regions has none: see `for_regions`.

    The other fields are those of [`TubeletTowerConfig`]. Raises a validation error that names the field, its value and
    the legal range.
    """

    model_type = "token_learner"

    num_learned_tokens: int = 8
    token_learner_layer: int | None = None
    token_learner_hidden_size: int = 64
    token_fuser: bool = False

    @property
    def num_layers_before(self) -> int:
        """Layers that run before TokenLearner."""
        return self.num_hidden_layers // 2 if self.token_learner_layer is None else self.token_learner_layer

    def for_regions(self) -> "TokenLearnerConfig":
        """The configuration of the same tower with a TokenFuser."""
        config = copy.deepcopy(self)
        config.token_fuser = True
        return config

    def validate_architecture(self):
        super().validate_architecture()
        self.require_positive("num_learned_tokens", "token_learner_hidden_size")
        if not 0 <= self.num_layers_before < self.num_hidden_layers:
            raise ValueError(
                f"token_learner_layer={self.token_learner_layer} is out of range: expected 0 to "
                f"{self.num_hidden_layers - 1}, at least one of num_hidden_layers={self.num_hidden_layers} follows."
            )


__all__ = ["TokenLearnerConfig"]
