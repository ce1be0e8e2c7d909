"""What a checkpoint holds: the layout of its files and the shapes of its weights, checked before any is loaded."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from .acceleration import uses_deepspeed
from .run_state import CheckpointError

CONTENTS = "contents.json"
_MOST_NAMED = 8


def describe_contents(accelerator: Accelerator, path: Path) -> None:
    """Write `contents.json` into a checkpoint's folder."""
    (path / CONTENTS).write_text(json.dumps(_contents(accelerator), indent=1) + "\n", encoding="utf-8")


def check_contents(accelerator: Accelerator, path: Path) -> None:
    """Raises `CheckpointError` where a checkpoint lacks a file, or is not of the run's model, layout and precision."""
    try:
        found = json.loads((path / CONTENTS).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} has no readable {CONTENTS} ({error}): expected a checkpoint of a run") from None
    expected = _contents(accelerator)
    for name in ("layout", "precision"):
        if found.get(name) != expected[name]:
            raise CheckpointError(f"{path} has {name} {found.get(name)!r}: the run expects {expected[name]!r}")
    differences = _differences(found.get("weights", {}), expected["weights"])
    if differences:
        raise CheckpointError(f"{path} is of another model than the run's:\n" + "\n".join(differences))
    # Accelerate goes on without the random states where they are missing.
    for name in (f"random_states_{accelerator.process_index}.pkl", *_layout_files(accelerator)):
        if not (path / name).exists():
            raise CheckpointError(f"{path} has no {name}: expected a whole checkpoint")


def _contents(accelerator: Accelerator) -> dict[str, Any]:
    (model,) = accelerator._models
    weights = {}
    for name, parameter in accelerator.unwrap_model(model).named_parameters():
        # Where ZeRO-3 shares a parameter out, `ds_shape` is its own shape.
        weights[name] = list(getattr(parameter, "ds_shape", parameter.shape))
    return {"layout": _layout(accelerator), "precision": accelerator.mixed_precision, "weights": weights}


def _layout(accelerator: Accelerator) -> str:
    return f"DeepSpeed ZeRO-{accelerator.deepspeed_plugin.zero_stage}" if uses_deepspeed(accelerator) else "whole"


def _layout_files(accelerator: Accelerator) -> list[str]:
    if uses_deepspeed(accelerator):
        return ["pytorch_model", "scheduler.bin"]
    return ["model.safetensors", "optimizer.bin", "scheduler.bin"]


def _differences(found: dict[str, list[int]], expected: dict[str, list[int]]) -> list[str]:
    lines = []
    for name in [*expected, *(name for name in found if name not in expected)]:
        if name not in found:
            lines.append(f"  {name} is missing there, {expected[name]} in the run")
        elif name not in expected:
            lines.append(f"  {name} {found[name]} is there, missing in the run")
        elif found[name] != expected[name]:
            lines.append(f"  {name} has shape {found[name]} there, {expected[name]} in the run")
    if len(lines) > _MOST_NAMED:
        lines[_MOST_NAMED:] = [f"  and {len(lines) - _MOST_NAMED} more"]
    return lines
