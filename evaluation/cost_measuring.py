"""What a run of a model costs: its time, its peak memory, its floating-point operations."""

import gc
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler is used for its memory events alone

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

Run = Callable[[], Any]

ROUND_SECONDS = 0.2
"""What is shorter is timed several times, see `best_time`."""

NO_MEMORY = "out of memory"
"""How results call a run that an allocator refused."""


def _cpu_attention_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


CPU_KERNELS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops}
"""`FlopCounterMode` has formulas for the kernels of CUDA alone, and would count attention on the CPU as nothing."""


# All but cuDNN's: of its kernel for sequences of different lengths, PyTorch has no formula.
_COUNTED_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def count_flops(model: nn.Module, run: Run) -> tuple[Any, FlopCounterMode]:
    """What `run`, a forward pass of `model` without gradients, returns, and the counter with the FLOPs of each module.

    A multiply-add is two; matrix products, convolutions and attention count, and neither norms nor activations nor
    sorting (`torch.utils.flop_counter`).
    """
    # The counter asks arguments that require gradients for their function, and without gradients there is none.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        with (
            sdpa_kernel(_COUNTED_ATTENTION),
            FlopCounterMode(display=False, custom_mapping=CPU_KERNELS) as counter,
        ):
            returned = run()
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return returned, counter


def seconds(run: Run, device: torch.device) -> float:
    """Time of one run, all that it has put on the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def best_time(run: Run, device: torch.device) -> float:
    """The shortest, in seconds, of as many runs as fill `ROUND_SECONDS`, at least one."""
    times = [seconds(run, device)]
    while sum(times) < ROUND_SECONDS:
        times.append(seconds(run, device))
    return min(times)


def peak_bytes(run: Run, device: torch.device) -> int:
    """Highest sum of live allocations of PyTorch's allocator during one run, beyond what lived before it.

    Scratch memory that a library takes from elsewhere is not in it.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: CUDA and Python have a type for it, PyTorch's CPU allocator just says it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
