"""Checkpoints whose weights are data and nothing else."""

import os
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel
from typing_extensions import Self


class SafetensorsModel(PreTrainedModel):
    """A model that reads its weights from safetensors alone: a pickle may run code when it is opened."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike | None, *args: Any, **kwargs: Any
    ) -> Self:
        """Load a checkpoint, as any model's `from_pretrained` does.

        Raises:
            OSError: It has no file of safetensors; others, such as `pytorch_model.bin`, are not opened.
            ValueError: Its file of safetensors is damaged, or `use_safetensors=False`.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError("use_safetensors=False: expected weights in safetensors, pickles are not opened.")
        kwargs["use_safetensors"] = True
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise ValueError(
                f"The weights in {pretrained_model_name_or_path} cannot be read ({error}): expected whole safetensors."
            ) from error


__all__ = ["SafetensorsModel"]
