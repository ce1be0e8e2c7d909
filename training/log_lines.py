"""How a line of the log looks on the console, and to trackers."""

import resource
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch


def console_line(values: Mapping[str, Any], num_steps: int) -> str:
    """One line for the values that `TrainingLog` writes; those that are not known are left out."""
    parts = [f"step {values['step']}/{num_steps}"]
    if values["epoch"] is not None:
        parts.append(f"epoch {values['epoch']:.2f}")
    for name, own in values["streams"].items():
        parts.append(f"{name}: loss {_number(own['loss'], '.4f')} acc {_number(own['accuracy'], '.1%')}")
    parts += [
        f"lr {values['learning_rate']:.2e}",
        f"grad {_number(values['gradient_norm'], '.3g')}",
        f"{values['seconds_per_step']:.3g} s/step",
        f"{values['samples_per_second']:.3g} samples/s",
        f"{values['tokens_per_second']:.4g} tokens/s",
        f"{values['tokens_per_sample']:.4g} tokens/sample",
        f"waiting {values['waiting_share']:.0%}",
    ]
    if values["mfu"] is not None:
        parts.append(f"MFU {values['mfu']:.1%}")
    elif values["tflops_per_device"] is not None:
        parts.append(f"{values['tflops_per_device']:.3g} TFLOP/s")
    parts += [
        f"{values['memory_gib']:.1f} GiB",
        f"skipped {values['skipped']}",
        f"not finite {values['nonfinite_steps']}",
        f"left {timedelta(seconds=round(values['seconds_left']))}",
    ]
    return "  ".join(parts)


def tracked_values(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as trackers take them: one level, names joined by `/`, numbers and texts alone."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(tracked_values(value, f"{prefix}{name}/"))
        elif isinstance(value, (bool, int, float, str)):
            flat[f"{prefix}{name}"] = value
        elif value is not None:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def peak_memory(device: torch.device) -> float:
    """Most GiB that this process has held: of the GPU's memory, or of main memory where it has no GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
