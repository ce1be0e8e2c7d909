"""FLOPs of a training step, counted on real samples, and the most that a device can do.

What counts is what the mathematics needs: one forward and one backward pass over tokens that are there. Neither
padding, nor activations that are computed again, nor the second forward pass of gradient caching count, so that
spending more of them does not raise the utilisation.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .acceleration import shards_weights
from .batch_chunks import count_vision_tokens, take_chunk

_MOST_SAMPLES = 4

# Dense half-precision TFLOP/s of NVIDIA's data sheets; the first name that a device's name contains holds.
_PEAK_TFLOPS = {
    "B200": 2250.0,
    "GH200": 989.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
}


def peak_tflops(device_name: str, precision: str) -> float | None:
    """TFLOP/s of a device at "bf16" or "fp16"; None for a device or a precision that the table does not have."""
    if precision not in ("bf16", "fp16"):
        return None
    return next((peak for name, peak in _PEAK_TFLOPS.items() if name in device_name), None)


class StepFlops:
    """FLOPs of this process's share of a step.

    They are counted at the first step of each stream, on a few of its samples, one by one; from there on they are as
    many as the step has vision tokens. Counting changes neither weights, gradients nor random numbers.

    Args:
        accelerator: It says whether weights are shared out.
        model: The model, prepared or not.
        captions_per_sample: Texts of each sample.
    """

    def __init__(self, accelerator: Accelerator, model: Any, captions_per_sample: int):
        self._accelerator = accelerator
        self._model: Any = accelerator.unwrap_model(model)
        self._captions = captions_per_sample
        self._per_token: dict[str, float] = {}

    def of_step(self, stream: str, inputs: Mapping[str, torch.Tensor], num_tokens: int) -> float:
        """FLOPs of a step on `inputs`, whose samples have `num_tokens` tokens over all processes.

        Every process calls it at the same steps.
        """
        if stream not in self._per_token:
            self._per_token[stream] = self._count(inputs)
        return self._per_token[stream] * num_tokens / self._accelerator.num_processes

    def _count(self, inputs: Mapping[str, torch.Tensor]) -> float:
        """FLOPs for each vision token."""
        tokens = count_vision_tokens(inputs, self._model.config.vision_config)
        spread = torch.linspace(0, len(tokens) - 1, min(len(tokens), _MOST_SAMPLES)).long().unique().tolist()
        device = inputs["pixel_values_videos"].device
        flops = 0.0
        with _as_if_never_called(self._model):
            for sample in spread:
                one = take_chunk(inputs, torch.tensor([sample], device=device), self._captions)
                flops += self._count_sample(one)
        return flops / sum(tokens[sample] for sample in spread)

    def _count_sample(self, inputs: dict[str, torch.Tensor]) -> float:
        if shards_weights(self._accelerator):
            # Weights that are shared out are there during a forward pass alone; backward, each product is two.
            with torch.no_grad(), OperationCounter() as counter:
                self._model(**inputs)
            return 3.0 * counter.flops
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        with torch.enable_grad(), OperationCounter() as counter:
            outputs = self._model(**inputs)
            # `grad` leaves the parameters' own gradients alone, and so whatever waits for these.
            torch.autograd.grad(outputs.video_embeds.sum() + outputs.text_embeds.sum(), trained, allow_unused=True)
        return float(counter.flops)


class OperationCounter(TorchDispatchMode):
    """Adds up, in `flops`, the operations that PyTorch has a formula for.

    As `FlopCounterMode` does, but without its hooks on modules, which want gradients of learned queries even where none
    are computed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(getattr(func, "overloadpacket", None))
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        return result


@contextmanager
def _as_if_never_called(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, which draws no random numbers and computes nothing again, in plain attention; then as before."""
    training = [module for module in model.modules() if module.training]
    configs = {id(config): config for module in model.modules() if (config := _attention_config(module)) is not None}
    attention = {number: config._attn_implementation for number, config in configs.items()}
    model.eval()
    for config in configs.values():
        # Not every kernel of attention is known to the counter.
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for number, config in configs.items():
            config._attn_implementation = attention[number]
        for module in training:
            module.training = True


def _attention_config(module: nn.Module) -> Any:
    config = getattr(module, "config", None)
    return config if getattr(config, "_attn_implementation", None) is not None else None
