"""An exponential moving average of a model's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class MovingAverage:
    """Averages the parameters and buffers that `model.state_dict()` has.

    Starts from the model as it is. Floating values are kept in at least float32, so that half precision does not lose
    the small steps; others are those of the last update.

    Args:
        model: Without the wrappers of distributed training.
        decay: Share of the average that an update keeps.

    Raises `ValueError` for a decay outside 0 to 1.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay <= 1:
            raise ValueError(f"decay={decay} is out of range: expected 0 to 1.")
        self.decay = decay
        self._average = {name: _precise(tensor).clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """average = decay * average + (1 - decay) * value, for each value of `model`.

        Raises `ValueError` for values of other shapes, such as the shards that ZeRO-3 leaves in a model.
        """
        state = model.state_dict()
        for name, average in self._average.items():
            if state[name].shape != average.shape:
                raise ValueError(
                    f"{name} has shape {tuple(state[name].shape)}: expected {tuple(average.shape)}. An average needs "
                    "whole weights, which ZeRO-3 does not leave in a model."
                )
        floating = [name for name, average in self._average.items() if average.is_floating_point()]
        averages = [self._average[name] for name in floating]
        torch._foreach_lerp_(averages, [_precise(state[name]) for name in floating], 1 - self.decay)
        for name, average in self._average.items():
            if not average.is_floating_point():
                average.copy_(state[name])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The average by the names of `model.state_dict()`; no two share memory."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Goes on from a saved average. Raises `ValueError` for other names or shapes than the model has."""
        if state.keys() != self._average.keys():
            differing = sorted(state.keys() ^ self._average.keys())
            raise ValueError(f"the average has other names than the model: {differing} are in one alone.")
        for name, average in self._average.items():
            if state[name].shape != average.shape:
                raise ValueError(f"{name} has shape {tuple(state[name].shape)}: expected {tuple(average.shape)}.")
            average.copy_(state[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The average in place of the model's own values, which return at the end, bit for bit."""
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        _copy(self._average, model)
        try:
            yield
        finally:
            _copy(own, model)


def _precise(tensor: torch.Tensor) -> torch.Tensor:
    """At least float32 where floating; the tensor itself where it is that already."""
    tensor = tensor.detach()
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32)) if tensor.is_floating_point() else tensor


@torch.no_grad()
def _copy(values: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(values[name])
