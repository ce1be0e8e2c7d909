"""AdamW with a weight decay of weights alone, and its learning rate as a function of the step."""

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from .run_config import OptimizerSettings

# Tables that say where something is, not what: positions, segments, distances. Those of words decay, as BERT does it.
_POSITIONS = re.compile(r"position|token_type|relative_attention")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that are trained, in two groups: those that decay, by `weight_decay`, and those that do not.

    Weights of linear layers, of convolutions and of word embeddings decay. All else does not: biases, norms, the
    temperature, class tokens, queries, and learned positions, lengths and segments.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if _decays(model, name) else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _decays(model: nn.Module, name: str) -> bool:
    """Goes by the module that holds a parameter: shapes say nothing where weights are sharded."""
    path, _, own_name = name.rpartition(".")
    module = model.get_submodule(path)
    if own_name != "weight":
        return False
    if isinstance(module, nn.Embedding):
        return not _POSITIONS.search(path.rpartition(".")[2])
    return isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`, fused where the model is on a CUDA device."""
    on_cuda = next(model.parameters()).device.type == "cuda"
    return torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        fused=on_cuda or None,
    )


def build_schedule(
    optimizer: torch.optim.Optimizer, num_steps: int, warmup_steps: int, settings: OptimizerSettings
) -> LambdaLR:
    """Linear warm-up from 0 over `warmup_steps`, then a cosine to `final_learning_rate` at step `num_steps`.

    A function of the step alone. Its `step` is called once after each of the optimizer's. Raises `ValueError` for a
    warm-up that is longer than the run.
    """
    if not 0 <= warmup_steps <= num_steps:
        raise ValueError(f"warmup_steps={warmup_steps}: expected 0 to the run's num_steps={num_steps}.")
    return LambdaLR(optimizer, _warmup_and_cosine(num_steps, warmup_steps, settings))


def _warmup_and_cosine(num_steps: int, warmup_steps: int, settings: OptimizerSettings) -> Callable[[int], float]:
    """The learning rate after so many steps, as a share of the highest."""
    final = settings.final_learning_rate / settings.learning_rate

    def share(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return share
