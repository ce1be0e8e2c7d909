"""What vision towers cost over the number of frames: tokens, FLOPs, parameters, memory, latency, trajectories.

    python evaluation/efficiency.py --tower trajvit --tower vit3d --size small
    accelerate launch evaluation/efficiency.py --model runs/trajvit/model --model runs/vit3d/model --video clip.mp4

All towers of a call see the same clips and are measured in turns, so that the machine's load meets all alike; each
gives a result of its own. docs/efficiency.md says what is counted, and how.

Shape letters: T frames.
"""

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from trajvit.evaluation.checkpoint_loading import DTYPES
from trajvit.evaluation.cost_measuring import NO_MEMORY, best_time, count_flops, is_out_of_memory, peak_bytes
from trajvit.evaluation.efficiency_clips import ClipBatch, batch_name
from trajvit.evaluation.measured_towers import MeasuredTower, new_tower, told_apart, tower_of_checkpoint
from trajvit.evaluation.result_files import Result, save_result
from trajvit.evaluation.scene_clips import NOISE, SCENE
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS

FRAMES = (16, 32, 64, 128)
ALL_TOWERS = "all"

# The metrics of each T, with what the table calls them.
_COLUMNS = {
    "tokens": "tokens",
    "gflop": "GFLOP",
    "latency_ms": "ms",
    "memory_mb": "MB",
    "generation_s": "trajectories, s",
}


@dataclass(frozen=True)
class EfficiencySettings:
    """What a measurement depends on beside the towers.

    Attributes:
        frames: The numbers of frames, T, in the order in which they are measured.
        clips: `("scene",)`, a rendered scene of a still camera; `("noise",)`, of which nothing repeats; or videos.
        trajectories: Of each clip, for towers that need them; None for those that the processor's backend finds.
        batch: Clips that pass together; None for as many as there are videos.
        device: "cpu" or a CUDA device.
        dtype: Of frames, and of the weights that towers come with, "float32", "bfloat16" or "float16".
        repeats: Rounds, of which the best time counts.

    Raises `ValueError` that names the field where one is out of its range, or the device is not there.
    """

    frames: tuple[int, ...] = FRAMES
    clips: tuple[str, ...] = (SCENE,)
    trajectories: int | None = None
    batch: int | None = None
    device: str = "cpu"
    dtype: str = "float32"
    repeats: int = 3

    def __post_init__(self) -> None:
        if not self.frames or min(self.frames) < 1 or len(set(self.frames)) < len(self.frames):
            raise ValueError(f"frames={[*self.frames]}: expected different numbers of frames, each at least 1.")
        for name in ("trajectories", "batch", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} is out of range: expected at least 1.")
        if not self.clips or (len(self.clips) > 1 and {SCENE, NOISE} & {*self.clips}):
            raise ValueError(f"clips={[*self.clips]}: expected {SCENE!r}, {NOISE!r}, or one or more videos.")
        if self.batch is not None and self.batch < len(self.clips):
            raise ValueError(f"batch={self.batch} is too small for {len(self.clips)} videos: expected one for each.")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r}: expected one of {[*DTYPES]}.")
        kind = self.device.partition(":")[0]
        if kind not in ("cpu", "cuda"):
            raise ValueError(f"device={self.device!r}: expected 'cpu' or a CUDA device.")
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device={self.device!r}, but PyTorch finds no CUDA device: expected 'cpu'.")

    @property
    def batch_size(self) -> int:
        return self.batch or len(self.clips)


def _nothing(line: str) -> None:
    pass


def measure_efficiency(
    towers: MeasuredTower | Sequence[MeasuredTower],
    settings: EfficiencySettings | None = None,
    say: Callable[[str], None] = _nothing,
) -> list[Result]:
    """Measure towers on the same clips, in rounds that pass all of them at one T.

    Args:
        towers: `tower_of_checkpoint` and `new_tower` give them.
        settings: Default: `EfficiencySettings()`.
        say: Told what is being measured.

    Returns:
        A result for each tower, with the metrics `parameters` and, for each T, `tokens@T` and `gflop@T` (mean of the
        batch's clips), `latency_ms@T` (a clip's share of the batch's time), `memory_mb@T` (of the batch) and, where
        trajectories were generated, `generation_s@T` (mean of the clips). A T that memory does not suffice for lacks
        what could not be measured, and stands in `settings["out_of_memory"]`.

    Raises:
        ValueError: There is no tower, two have the same name, one's weights have another dtype, a video has too few
            frames or cannot be decoded, trajectories of noise would have to be generated, or so many do not fit into
            the frames.
    """
    *_, results = efficiency_so_far([towers] if isinstance(towers, MeasuredTower) else towers, settings, say)
    return results


def efficiency_so_far(
    towers: Sequence[MeasuredTower], settings: EfficiencySettings | None = None, say: Callable[[str], None] = _nothing
) -> Iterator[list[Result]]:
    """As `measure_efficiency`, but gives the results after each T, with all that has been measured until then."""
    settings = settings or EfficiencySettings()
    _check(towers, settings)
    costs = [_TowerCosts(tower, settings) for tower in told_apart(towers)]
    if not {SCENE, NOISE} & {*settings.clips}:
        # A video that is too short should end the call now, not after everything shorter.
        ClipBatch(settings.clips, max(settings.frames), settings.batch_size, say).frames(towers[0].config.image_size)
    for done, num_frames in enumerate(settings.frames, 1):
        batch = ClipBatch(settings.clips, num_frames, settings.batch_size, say)
        for number in range(1, settings.repeats + 1):
            for cost in costs:
                say(f"T={num_frames}, round {number}: {cost.tower.name}")
                cost.measure(batch)
        yield [cost.result(settings.frames[:done]) for cost in costs]


def _check(towers: Sequence[MeasuredTower], settings: EfficiencySettings) -> None:
    if not towers:
        raise ValueError("There is nothing to measure: expected at least one model or tower.")
    for tower in towers:
        kind = str(tower.model.dtype).removeprefix("torch.")
        if kind != settings.dtype:
            raise ValueError(f"{tower.name} has weights of {kind}: expected {settings.dtype}, as in the settings.")
    if settings.clips == (NOISE,) and settings.trajectories is None:
        for tower in towers:
            if tower.config.needs_trajectories:
                raise ValueError(f"{tower.name} needs trajectories, and noise has none: expected a number of them.")


class _TowerCosts:
    """What has been measured of one tower."""

    def __init__(self, tower: MeasuredTower, settings: EfficiencySettings):
        self.tower = tower
        self.metrics: dict[str, float] = {"parameters": tower.num_parameters}
        self._settings = settings
        self._device = torch.device(settings.device)
        self._trajectories: dict[str, list[int]] = {}
        self._out_of_memory: list[int] = []

    @torch.no_grad()
    def measure(self, batch: ClipBatch) -> None:
        """One round on one batch: what is the same in every round is taken from the first."""
        if batch.num_frames in self._out_of_memory:
            return
        try:
            inputs = self._inputs(batch)
            with self.tower.on(self._device) as model:
                self._measure(model, inputs, batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._out_of_memory.append(batch.num_frames)

    def _inputs(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        """The batch as the tower takes it; where trajectories were generated, what that took is noted."""
        inputs = batch.inputs(self.tower, self._settings.trajectories)
        if self.tower.config.needs_trajectories and self._settings.trajectories is None:
            found, seconds = batch.generated(self.tower)
            self.metrics[f"generation_s@{batch.num_frames}"] = seconds
            self._trajectories[str(batch.num_frames)] = [trajectories.num_trajectories for trajectories in found]
        return inputs

    def _measure(self, model: Any, inputs: dict[str, torch.Tensor], batch: ClipBatch) -> None:
        frames = inputs["pixel_values_videos"].to(DTYPES[self._settings.dtype])
        placed = {name: tensor.to(self._device) for name, tensor in {**inputs, "pixel_values_videos": frames}.items()}

        def run() -> Any:
            return model(**placed)

        metrics, at, clips = self.metrics, f"@{batch.num_frames}", batch.batch_size
        if f"gflop{at}" not in metrics:
            # The pass that is counted is the warm-up of those that are timed.
            outputs, counter = count_flops(model, run)
            metrics[f"tokens{at}"] = outputs.token_mask.sum().item() / clips
            metrics[f"gflop{at}"] = counter.get_total_flops() / clips / 1e9
            del outputs
        if f"memory_mb{at}" not in metrics:
            metrics[f"memory_mb{at}"] = peak_bytes(run, self._device) / 1e6
        latency = best_time(run, self._device) / clips * 1e3
        metrics[f"latency_ms{at}"] = min(latency, metrics.get(f"latency_ms{at}", latency))

    def result(self, frames: tuple[int, ...]) -> Result:
        """What has been measured at these numbers of frames."""
        config, settings = self.tower.config, self._settings
        trajectories: Any = None
        if config.needs_trajectories:
            trajectories = settings.trajectories or dict(self._trajectories)
        on_gpu = self._device.type == "cuda"
        return Result(
            task="efficiency",
            dataset=batch_name(settings.clips),
            model=self.tower.name,
            tower=config.model_type,
            metrics=dict(self.metrics),
            num_items=len(settings.clips) if settings.clips[0] not in (SCENE, NOISE) else settings.batch_size,
            settings={
                **asdict(settings),
                "frames": [*frames],
                "clips": [*settings.clips],
                "batch": settings.batch_size,
                "trajectories": trajectories,
                "generator": self.tower.generator if self._trajectories else None,
                "device_name": torch.cuda.get_device_name(self._device)
                if on_gpu
                else platform.processor() or platform.machine(),
                "threads": torch.get_num_threads(),
                "image_size": config.image_size,
                "attention": config._attn_implementation,
                "checkpoint": self.tower.source,
                "out_of_memory": [*self._out_of_memory],
            },
        )


def _cpu_name() -> str:
    return platform.processor() or platform.machine()


def comparison_table(results: Sequence[Result]) -> str:
    """Results of one call in Markdown: each number, and in brackets how many times the first tower's it is."""
    names = [name for name in _COLUMNS if any(f"{name}@" in metric for r in results for metric in r.metrics)]
    lines = ["| " + " | ".join(["T", "tower", "parameters", *(_COLUMNS[name] for name in names)]) + " |"]
    lines.append("|---" * (3 + len(names)) + "|")
    for frames in results[0].settings["frames"]:
        for result in results:
            cells = [str(frames), f"`{result.model}`", f"{result.metrics['parameters'] / 1e6:.1f} M"]
            cells += [_cell(result, results[0], name, frames) for name in names]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(result: Result, first: Result, name: str, frames: int) -> str:
    value, base = (r.metrics.get(f"{name}@{frames}") for r in (result, first))
    if value is None:
        is_refused = frames in result.settings["out_of_memory"] and name != "generation_s"
        return NO_MEMORY if is_refused else "-"
    text = f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
    if result is first or not base:
        return text
    ratio = value / base
    return f"{text} ({ratio:.1f}x)" if ratio >= 1 else f"{text} ({ratio:.2f}x)"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    model: Annotated[
        list[str] | None, typer.Option(help="Folder or Hub id of a checkpoint; several are compared.")
    ] = None,
    tower: Annotated[
        list[str] | None, typer.Option(help="A new tower by its model_type; several, or 'all', are compared.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of new towers: tiny, small, base or large.")] = "large",
    frames: Annotated[list[int], typer.Option(help="Numbers of frames, T.")] = [*FRAMES],  # noqa: B006
    video: Annotated[list[str] | None, typer.Option(help="Show the towers these videos instead of a scene.")] = None,
    noise: Annotated[bool, typer.Option("--noise", help="Show the towers noise, of which nothing repeats.")] = False,
    trajectories: Annotated[
        int | None, typer.Option(help="Of each clip; without it they are generated, and that is timed.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Clips that pass together; default: one of each video.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: CUDA where there is a device.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="Of PyTorch on the CPU; default: as many as it takes.")] = None,
    repeats: Annotated[int, typer.Option(help="Rounds, of which the best time counts.")] = 3,
    output: Annotated[Path, typer.Option(help="Folder for the result files.")] = Path("results"),
) -> None:
    """Measure tokens, FLOPs, parameters, memory and latency of vision towers over the number of frames."""
    if int(os.environ.get("RANK", "0")) > 0:
        # One device is measured: launched processes beside the first would only disturb it.
        return
    try:
        if noise and video:
            raise ValueError(f"--noise and --video {video[0]}: expected one of them.")
        settings = EfficiencySettings(
            frames=tuple(frames),
            clips=(NOISE,) if noise else tuple(video or (SCENE,)),
            trajectories=trajectories,
            batch=batch,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            dtype=dtype,
            repeats=repeats,
        )
        if threads is not None:
            if threads < 1:
                raise ValueError(f"threads={threads} is out of range: expected at least 1.")
            torch.set_num_threads(threads)
        wanted = [*VISION_TOWER_CONFIGS] if tower == [ALL_TOWERS] else tower or []
        towers = [tower_of_checkpoint(checkpoint, DTYPES[dtype]) for checkpoint in model or []]
        towers += [new_tower(name, size, DTYPES[dtype], settings.device) for name in wanted]
        for results in efficiency_so_far(towers, settings, lambda line: print(line, flush=True)):
            # What is measured is kept, should the longest videos end the process.
            paths = [save_result(output, result) for result in results]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(*paths, sep="\n")
    print(comparison_table(results))


if __name__ == "__main__":
    app()
