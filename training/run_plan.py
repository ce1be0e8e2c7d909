"""How many steps a run has, and what share of them each stream gets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .config_file import ConfigError
from .run_config import RunConfig, StreamSettings


@dataclass(frozen=True)
class RunPlan:
    """Steps of a run, and of an epoch; shares of the steps by stream, which sum to 1.

    An epoch is as many steps as the streams' samples fill batches: then each stream is seen once in an epoch, unless
    weights give it another share. `num_steps` is rounded up, `steps_per_epoch` is not rounded.
    """

    num_steps: int
    warmup_steps: int
    steps_per_epoch: float | None
    shares: dict[str, float]


def plan_run(config: RunConfig, num_samples: Mapping[str, int | None]) -> RunPlan:
    """Plan a run over streams that have so many samples each (None where that is not known).

    A warm-up in epochs that is longer than the run is cut to the run.

    Raises:
        ConfigError: Epochs are asked for over a stream whose samples nobody counted, only some streams have a weight,
            or the warm-up in steps is longer than the run.
    """
    settings = config.optimizer
    batches: dict[str, float | None] = {}
    for stream in config.data:
        count = num_samples[stream.name]
        batches[stream.name] = None if count is None else count / stream.batch_size
    uncounted = [name for name, count in batches.items() if count is None]
    if uncounted and (settings.max_steps is None or settings.warmup_steps is None):
        raise ConfigError(
            f"data.{uncounted[0]}.num_samples is missing, so that an epoch has no length: expected it, or both "
            "optimizer.max_steps and optimizer.warmup_steps"
        )
    steps_per_epoch = sum(count for count in batches.values() if count is not None)
    num_steps = settings.max_steps or _steps(settings.epochs * steps_per_epoch)
    warmup_steps = settings.warmup_steps
    if warmup_steps is None:
        warmup_steps = min(_steps(settings.warmup_epochs * steps_per_epoch), num_steps)
    if warmup_steps > num_steps:
        raise ConfigError(f"optimizer.warmup_steps={warmup_steps}: expected at most the run's {num_steps} steps")
    return RunPlan(num_steps, warmup_steps, None if uncounted else steps_per_epoch, _shares(config.data, batches))


def batch_size_of_rank(stream: StreamSettings, num_ranks: int) -> int:
    """Samples of a step on each process. Raises `ConfigError` where they cannot be shared equally."""
    if stream.batch_size % num_ranks:
        raise ConfigError(
            f"data.{stream.name}.batch_size={stream.batch_size}: expected a multiple of the {num_ranks} processes"
        )
    return stream.batch_size // num_ranks


def _shares(streams: Sequence[StreamSettings], batches: Mapping[str, float | None]) -> dict[str, float]:
    weights = {stream.name: stream.weight for stream in streams}
    missing = [name for name, weight in weights.items() if weight is None]
    if len(missing) == len(streams):
        weights, missing = dict(batches), [name for name, count in batches.items() if count is None]
    if len(streams) > 1 and missing:
        raise ConfigError(f"data.{missing[0]}.weight is missing: expected a weight of every stream, or of none")
    shares = {name: 1.0 if weight is None else weight for name, weight in weights.items()}
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def _steps(amount: float) -> int:
    """Rounded up, but for what floating point adds to whole numbers."""
    return max(1, math.ceil(amount - 1e-6)) if amount > 0 else 0
