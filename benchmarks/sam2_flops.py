"""Counted floating-point operations of tracking with SAM 2, split by the part of the model that they are spent in."""

from __future__ import annotations

import sys
from collections import defaultdict
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from trajvit.evaluation.cost_measuring import CPU_KERNELS

PARTS = ("image encoder", "memory attention", "memory encoder", "mask decoder")
OTHER = "other"

# What a part is called where it runs. The `sam2` package and transformers share most names of functions.
_PART_OF_CODE = {
    "forward_image": "image encoder",
    "get_image_features": "image encoder",
    "_prepare_memory_conditioned_features": "memory attention",
    "_encode_new_memory": "memory encoder",
    "_forward_sam_heads": "mask decoder",
    "_single_frame_forward": "mask decoder",
    "_use_mask_as_output": "mask decoder",
    "sam2_memory_attention.py": "memory attention",
    "sam2_tracker.py:_encode_memory": "memory encoder",
    "sam2_tracker.py:_last_frame": "memory encoder",
    "sam2_tracker.py:_decode": "mask decoder",
    "sam2_tracker.py:start": "mask decoder",
}


class FlopsByPart:
    """Context that counts FLOPs by `torch.utils.flop_counter` and gives each to the part on whose behalf it runs.

    Attributes:
        by_part: FLOPs of each of `PARTS`, and of what belongs to none.
    """

    def __init__(self) -> None:
        self._counter = FlopCounterMode(display=False, custom_mapping=CPU_KERNELS)
        self._attribution = _Attribution(self._counter)

    def __enter__(self) -> FlopsByPart:
        self._counter.__enter__()
        self._attribution.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._attribution.__exit__(kind, error, traceback)
        self._counter.__exit__(kind, error, traceback)

    @property
    def total(self) -> int:
        return self._counter.get_total_flops()

    @property
    def by_part(self) -> dict[str, int]:
        return {part: self._attribution.flops[part] for part in (*PARTS, OTHER)}


class _Attribution(TorchDispatchMode):
    """Lies inside the counter's mode: what the counter's total grows by during an operation is that operation's."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.flops: dict[str, int] = defaultdict(int)
        self._counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.einsum.default:
            # Autocast casts what an einsum is made of, which below this mode it no longer sees.
            lowest = min((operand.dtype for operand in args[1]), key=lambda dtype: dtype.itemsize)
            args = (args[0], [operand.to(lowest) for operand in args[1]])
        before = self._counter.get_total_flops()
        result = func(*args, **(kwargs or {}))
        added = self._counter.get_total_flops() - before
        if added:
            self.flops[_part_of(sys._getframe(1))] += added
        return result


def _part_of(frame: FrameType | None) -> str:
    """The part whose code is nearest up the stack."""
    while frame is not None:
        file, function = frame.f_code.co_filename.rpartition("/")[2], frame.f_code.co_name
        for name in (function, f"{file}:{function}", file):
            if name in _PART_OF_CODE:
                return _PART_OF_CODE[name]
        frame = frame.f_back
    return OTHER
