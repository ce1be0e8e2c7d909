"""What a run reports: lines on the console, JSON lines, Accelerate's trackers, and each sample that was skipped."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from .contrastive_step import StepResult
from .flops import peak_tflops
from .log_lines import console_line, peak_memory, tracked_values
from .run_config import LoggingSettings


class TrainingLog:
    """The log of a run, in `folder`: `log.jsonl`, `skipped.jsonl` and what trackers write.

    A run that goes on from a checkpoint goes on with its files: what was written behind the checkpoint's step is taken
    out of them first, since those steps are about to come again. All processes call every method at the same steps.

    Args:
        accelerator: Its trackers are started here.
        settings: How often lines come.
        folder: The run's.
        num_steps: Of the whole run.
        start_step: Steps that are taken already.
        steps_per_epoch: None where an epoch has no length.
        run_settings: The run's configuration, for the trackers.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        settings: LoggingSettings,
        folder: Path,
        num_steps: int,
        *,
        start_step: int = 0,
        steps_per_epoch: float | None = None,
        run_settings: Mapping[str, Any] | None = None,
    ):
        self._accelerator = accelerator
        self._every = settings.every
        self._num_steps = num_steps
        self._steps_per_epoch = steps_per_epoch
        name = torch.cuda.get_device_name(accelerator.device) if accelerator.device.type == "cuda" else "cpu"
        self._peak_tflops = settings.peak_tflops or peak_tflops(name, accelerator.mixed_precision)
        rank = accelerator.process_index
        self._lines = Path(folder) / "log.jsonl"
        # Processes on other machines may not append to one file.
        self._skips = Path(folder) / ("skipped.jsonl" if rank == 0 else f"skipped-{rank:05d}.jsonl")
        if accelerator.is_main_process:
            keep_lines_up_to(self._lines, start_step)
        self._reasons: Counter[str] = Counter(line["reason"] for line in keep_lines_up_to(self._skips, start_step))
        purge = {"purge_step": start_step + 1} if start_step else {}
        accelerator.init_trackers("trajvit", tracked_values(run_settings or {}), {"tensorboard": purge})
        self._last_step = start_step
        self._begin()

    def step(
        self,
        step: int,
        stream: str,
        result: StepResult,
        *,
        learning_rate: float,
        gradient_norm: float,
        waited: float,
        flops: float = 0.0,
        nonfinite_steps: int = 0,
    ) -> None:
        """Note a step; every `settings.every` steps and at the last one, write what they were on average.

        Args:
            step: Its number, from 1.
            stream: The stream that it took its batch from.
            result: What it found.
            learning_rate: That it was taken with.
            gradient_norm: Before clipping; NaN where there was no gradient.
            waited: Seconds that this process waited for the batch.
            flops: Of this process.
            nonfinite_steps: Of the run so far.
        """
        self._streams.setdefault(stream, []).append(result)
        self._norms.append(gradient_norm)
        self._waited += waited
        self._flops += flops
        if step % self._every and step != self._num_steps:
            return
        values = self._interval(step)
        values.update(
            stream=stream,
            learning_rate=learning_rate,
            nonfinite_steps=nonfinite_steps,
            skipped=self._count_skipped(),
            memory_gib=peak_memory(self._accelerator.device),
        )
        if self._accelerator.is_main_process:
            print(console_line(values, self._num_steps), flush=True)
            self._append(self._lines, values)
        self._accelerator.log({f"train/{name}": value for name, value in tracked_values(values).items()}, step=step)
        self._last_step = step
        self._begin()

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write what an evaluation behind a step found."""
        if self._accelerator.is_main_process:
            found = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            print(f"step {step}/{self._num_steps}  evaluation  {found}", flush=True)
            self._append(self._lines, {"step": step, "evaluation": dict(metrics)})
        self._accelerator.log({f"evaluation/{name}": value for name, value in metrics.items()}, step=step)

    def skipped(self, step: int, stream: str, key: str, reason: str) -> None:
        """Note a sample of this process that could not be used; the only method that processes call on their own."""
        self._reasons[reason] += 1
        self._append(self._skips, {"step": step, "stream": stream, "key": key, "reason": reason})

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within, such as an evaluation, is no time of the steps'."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._began += time.perf_counter() - began

    def close(self) -> None:
        """Say why samples were skipped."""
        reasons: Counter[str] = Counter()
        for process in gather_object([self._reasons]):
            reasons.update(process)
        if self._accelerator.is_main_process and reasons:
            print(f"skipped {reasons.total()} samples, named in {self._skips.stem}*.jsonl:", flush=True)
            for reason, count in reasons.most_common(10):
                print(f"  {count} x {reason}", flush=True)

    def _begin(self) -> None:
        self._streams: dict[str, list[StepResult]] = {}
        self._norms: list[float] = []
        self._waited = 0.0
        self._flops = 0.0
        self._began = time.perf_counter()

    def _interval(self, step: int) -> dict[str, Any]:
        """Means over the steps since the last line; of losses, over those that are finite."""
        seconds = time.perf_counter() - self._began
        results = [result for stream in self._streams.values() for result in stream]
        samples = sum(result.num_samples for result in results)
        tokens = sum(result.num_tokens for result in results)
        tflops = self._flops / seconds / 1e12
        return {
            "step": step,
            "epoch": None if self._steps_per_epoch is None else step / self._steps_per_epoch,
            "loss": _mean(result.loss for result in results),
            "accuracy": _mean(result.accuracy for result in results),
            "streams": {
                name: {
                    "steps": len(own),
                    "loss": _mean(result.loss for result in own),
                    "accuracy": _mean(result.accuracy for result in own),
                    "tokens_per_sample": sum(r.num_tokens for r in own) / sum(r.num_samples for r in own),
                }
                for name, own in self._streams.items()
            },
            "gradient_norm": _mean(self._norms),
            "seconds_per_step": seconds / len(results),
            "samples_per_second": samples / seconds,
            "tokens_per_second": tokens / seconds,
            "tokens_per_sample": tokens / samples,
            "waiting_share": self._waited / seconds,
            "tflops_per_device": tflops or None,
            "mfu": tflops / self._peak_tflops if tflops and self._peak_tflops else None,
            "seconds_left": seconds / len(results) * (self._num_steps - step),
        }

    def _count_skipped(self) -> int:
        return sum(gather_object([self._reasons.total()]))

    @staticmethod
    def _append(path: Path, values: Mapping[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, allow_nan=False) + "\n")


def keep_lines_up_to(path: Path, step: int) -> list[dict[str, Any]]:
    """Take the lines behind `step`, and one that was cut off, out of a file of JSON lines. Returns what stays."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            # The process died while it wrote the last line.
            break
        if values["step"] <= step:
            kept.append(values)
    shorter = path.with_name(path.name + ".new")
    shorter.write_text("".join(json.dumps(values) + "\n" for values in kept), encoding="utf-8")
    shorter.replace(path)
    return kept


def _mean(values: Any) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None
