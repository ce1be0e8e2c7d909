"""One `Accelerator` for a CPU, GPUs, many nodes and DeepSpeed, and the steps that DeepSpeed takes in another order."""

import math
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    LoggerType,
    ProjectConfiguration,
)

from .config_file import ConfigError
from .run_config import RunConfig


class LaunchError(RuntimeError):
    """The launcher started processes that do not find each other, or asks for what this machine cannot do."""


def build_accelerator(config: RunConfig) -> Accelerator:
    """The process group, precision and trackers of a run, for whatever `accelerate launch` started.

    Raises:
        LaunchError: Processes that were started together are not one group, or the precision needs a GPU.
        ConfigError: A tracker is unknown or not installed.
    """
    check_trackers(config.logging.trackers)
    with_deepspeed = _asked_for("ACCELERATE_USE_DEEPSPEED")
    # Accelerate turns DeepSpeed off where it is told to stay on the CPU, and elsewhere leaves a CPU's processes alone.
    on_cpu = not torch.cuda.is_available() or _asked_for("ACCELERATE_USE_CPU")
    handlers: list[Any] = [DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
    if on_cpu and with_deepspeed:
        handlers.append(InitProcessGroupKwargs(backend="gloo"))
    if on_cpu and config.mixed_precision == "fp16":
        raise LaunchError("mixed_precision='fp16' needs a GPU: expected bf16 or no on a CPU")
    folder = Path(config.output_dir)
    accelerator = Accelerator(
        cpu=on_cpu and not with_deepspeed,
        mixed_precision=config.mixed_precision,
        log_with=config.logging.trackers or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "trackers")),
        # Otherwise the schedule would go on by as many steps as there are processes.
        step_scheduler_with_optimizer=False,
        kwargs_handlers=handlers,
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise LaunchError(
            f"the launcher started {started} processes, of which this one finds {accelerator.num_processes}: expected "
            "a launcher file of training/configs/accelerate"
        )
    if uses_deepspeed(accelerator):
        _complete_deepspeed(accelerator, config.optimizer.clip_norm)
    return accelerator


def check_trackers(names: list[str]) -> None:
    """Raises `ConfigError` for a tracker that Accelerate does not know, or that is not installed."""
    known = sorted(str(name) for name in LoggerType if name != LoggerType.ALL)
    installed = sorted(str(name) for name in get_available_trackers())
    for name in names:
        if name not in known:
            raise ConfigError(f"logging.trackers={name!r} does not exist: expected some of {known}, or none: []")
        if name not in installed:
            raise ConfigError(f"logging.trackers={name!r} is not installed: expected some of {installed}, or none: []")


def uses_deepspeed(accelerator: Accelerator) -> bool:
    """Whether the processes train by DeepSpeed."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def shards_weights(accelerator: Accelerator) -> bool:
    """Whether each process holds a part of the weights alone (ZeRO-3)."""
    return uses_deepspeed(accelerator) and accelerator.deepspeed_plugin.zero_stage == 3


def input_dtype(accelerator: Accelerator) -> torch.dtype:
    """What floating-point inputs of the model must be: DeepSpeed casts the weights, where others cast operations."""
    if not uses_deepspeed(accelerator):
        return torch.float32
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision, torch.float32)


def backward(accelerator: Accelerator, model: Any, loss: torch.Tensor, last: bool = True) -> None:
    """Add the gradients of `loss`; those of several calls add up until `apply_gradients`.

    Args:
        accelerator: It scales the loss where gradients need that.
        model: The prepared one.
        loss: Of the step, or of a part of it.
        last: Whether it is the step's last call. DeepSpeed exchanges gradients at the last; for distributed data
            parallel training all calls but the last belong into `accelerator.no_sync(model)`.
    """
    if uses_deepspeed(accelerator):
        # Accelerate's own `backward` would take the step at once.
        model.set_gradient_accumulation_boundary(is_boundary=last)
        model.backward(loss)
    else:
        accelerator.backward(loss)


def apply_gradients(
    accelerator: Accelerator, model: Any, optimizer: Any, schedule: Any, clip_norm: float | None
) -> float:
    """Clip the gradients, step, forget them, and move the learning rate on. Returns their norm before clipping.

    Gradients that are not finite are not applied; the learning rate moves on all the same, as it depends on the step
    alone. DeepSpeed clips to the norm that `build_accelerator` gave it, and skips such a step itself in fp16 alone.
    """
    if uses_deepspeed(accelerator):
        model.step()
        norm = model.get_global_grad_norm()
        norm = math.nan if norm is None else float(norm)
    else:
        norm = float(accelerator.clip_grad_norm_(model.parameters(), math.inf if clip_norm is None else clip_norm))
        # A gradient scaler skips such a step itself, and must see it to lower its scale.
        if accelerator.scaler is not None or math.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad()
    schedule.step()
    return norm


def full_state_dict(accelerator: Accelerator, model: Any) -> dict[str, torch.Tensor]:
    """All weights and buffers in full precision on the CPU of the first process; empty on the others.

    Every process calls it: where DeepSpeed shares the weights out, they are gathered one by one.
    """
    unwrapped = accelerator.unwrap_model(model)
    weights: dict[str, torch.Tensor] = {}
    if uses_deepspeed(accelerator):
        for name, parameter in unwrapped.named_parameters():
            tensor = _full_parameter(parameter)
            if accelerator.is_main_process:
                weights[name] = tensor.detach().float().cpu().clone()
    if not accelerator.is_main_process:
        return {}
    for name, tensor in unwrapped.state_dict().items():
        if name not in weights:
            tensor = tensor.detach().cpu().clone()
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
    return weights


def _full_parameter(parameter: torch.nn.Parameter) -> torch.Tensor:
    from deepspeed import zero
    from deepspeed.utils import safe_get_full_fp32_param

    # Parameters that are not trained have no copy in full precision.
    full = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
    if full is not None:
        return full
    if not hasattr(parameter, "ds_id"):
        return parameter.detach()
    with zero.GatheredParameters(parameter):
        return parameter.detach().clone()


def _complete_deepspeed(accelerator: Accelerator, clip_norm: float | None) -> None:
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    settings = accelerator.deepspeed_plugin.deepspeed_config
    settings["gradient_clipping"] = 0.0 if clip_norm is None else clip_norm
    # There is no DataLoader to take it from; nothing but DeepSpeed's own report of its speed uses it.
    settings["train_micro_batch_size_per_gpu"] = 1
    # Checkpoints are loaded whole on every process; the weights are shared out when the model is prepared.
    unset_hf_deepspeed_config()


def _asked_for(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("1", "true", "yes")
