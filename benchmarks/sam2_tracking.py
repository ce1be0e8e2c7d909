"""Measures the SAM 2 tracker against three other ways to do the same work: time, memory, FLOPs and equality.

    python benchmarks/sam2_tracking.py --model tiny                        # on the CPU
    python benchmarks/sam2_tracking.py --model small --objects 64 --chunk 64 --device cuda --dtype bfloat16

A video is --clips clips of --clip-frames frames with --objects masks on each clip's first frame; weights are random.
"predictor" is SAM2VideoPredictor object by object, "one batch" all objects as one batch through SAM2Base.track_step,
"transformers" is Sam2VideoModel, with random weights of its own, so only its work is compared. Approximate settings of
the tracker have a table of their own, beside the exact one.

Seconds are medians of alternating runs in one process, and ratios medians over these runs; with one thread on the CPU
they are seconds of the processor, which other work on the machine disturbs least. FLOPs and memory come from one run of
each system in a fresh process; memory is the highest resident size of that process (read on Linux), on CUDA that of
PyTorch's allocator. What is measured is kept in the output folder and not measured again: interrupted runs go on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Optional

os.environ.setdefault("TQDM_DISABLE", "1")  # the predictor draws a bar for each clip

import numpy as np
import torch
import typer
from sam2_flops import PARTS, FlopsByPart
from sam2_references import Tracked, TrackingTask
from sam2_systems import (
    APPROXIMATE,
    EXACT,
    ONE_BATCH,
    OURS,
    PREDICTOR,
    TRANSFORMERS,
    Scenario,
    System,
    build_system,
    make_task,
)

from trajvit.processing.sam2_loading import SIZES

DTYPES = ("float32", "bfloat16", "float16")
app = typer.Typer(add_completion=False, rich_markup_mode=None)


def count(name: str, scenario: Scenario, folder: Path) -> dict[str, Any]:
    """Run one system once and return its FLOPs, and its memory in bytes before the run and at most."""
    torch.set_num_threads(scenario.threads)
    task = make_task(scenario, folder / "clips")
    system = build_system(name, scenario)
    before, _ = _bytes_now_and_peak(scenario)
    with FlopsByPart() as flops:
        system(task)
    _, peak = _bytes_now_and_peak(scenario)
    return {"flops": flops.total, "parts": flops.by_part, "bytes_before": before, "peak_bytes": peak}


def _bytes_now_and_peak(scenario: Scenario) -> tuple[int, int]:
    if scenario.on_cuda:
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    # The kernel's own mark: that of getrusage starts at the size of the process that this one was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, peak = (1024 * int(status[name].split()[0]) for name in ("VmRSS", "VmHWM"))
    return now, peak


def _file_name(text: str) -> str:
    return text.replace(", ", "_").replace(" ", "-")


def counts(name: str, scenario: Scenario, folder: Path) -> dict[str, Any]:
    """FLOPs and memory of one system, from its file or from a fresh process."""
    path = folder / f"{_file_name(name)}.json"
    if not path.exists():
        typer.echo(f"{scenario.name}: counting {name}", err=True)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            path.write_text(json.dumps(pool.submit(count, name, scenario, folder).result(), indent=1))
    return json.loads(path.read_text())


def timed(system: System, task: TrackingTask, scenario: Scenario) -> tuple[float, Tracked]:
    clock = time.process_time if scenario.on_one_core else time.perf_counter
    if scenario.on_cuda:
        torch.cuda.synchronize()
    start = clock()
    tracked = system(task)
    if scenario.on_cuda:
        torch.cuda.synchronize()
    return clock() - start, tracked


def time_rounds(names: Sequence[str], scenario: Scenario, folder: Path, repeats: int) -> list[dict[str, float]]:
    """Run the systems one after the other, several times over, each time another first, and keep what each found.

    A round is kept once it is complete.
    """
    path = folder / f"seconds_{'_'.join(map(_file_name, names))}.json"
    rounds: list[dict[str, float]] = json.loads(path.read_text()) if path.exists() else []
    if len(rounds) >= repeats:
        return rounds
    torch.set_num_threads(scenario.threads)
    task = make_task(scenario, folder / "clips")
    systems = {name: build_system(name, scenario) for name in names}
    if scenario.on_cuda:
        for system in systems.values():  # kernels are chosen on the first run
            system(task)
    while len(rounds) < repeats:
        typer.echo(f"{scenario.name}: timing {', '.join(names)}, round {len(rounds) + 1} of {repeats}", err=True)
        seconds = {}
        shift = len(rounds) % len(names)
        for name in [*names[shift:], *names[:shift]]:
            seconds[name], tracked = timed(systems[name], task, scenario)
            save_tracked(tracked, folder / f"{_file_name(name)}.npz")
        rounds.append(seconds)
        path.write_text(json.dumps(rounds, indent=1))
    return rounds


def save_tracked(tracked: Tracked, path: Path) -> None:
    arrays = {f"logits{index}": clip.numpy() for index, clip in enumerate(tracked.logits)}
    arrays |= {f"masks{index}": clip.numpy() for index, clip in enumerate(tracked.masks)}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_tracked(path: Path, num_clips: int) -> Tracked:
    with np.load(path, allow_pickle=False) as arrays:
        logits = [torch.from_numpy(arrays[f"logits{index}"]) for index in range(num_clips)]
        return Tracked(logits, [torch.from_numpy(arrays[f"masks{index}"]) for index in range(num_clips)])


def disagreement(first: Tracked, second: Tracked) -> dict[str, float]:
    """Largest difference of logits, and share of differing mask pixels, in the frames after the key frames."""
    logits = max(
        float((a[1:] - b[1:]).abs().max()) for a, b in zip(first.logits, second.logits, strict=True) if len(a) > 1
    )
    differing = [(a[1:] != b[1:]).flatten() for a, b in zip(first.masks, second.masks, strict=True)]
    return {"logit_difference": logits, "pixels_differing": float(torch.cat(differing).float().mean())}


def matmul_ceiling(folder: Path, dtype: torch.dtype, size: int = 8192) -> float:
    """TFLOP/s of the best of several products of random matrices on the GPU."""
    path = folder / "matmul_ceiling.json"
    if not path.exists():
        left, right = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
        best = float("inf")
        for _ in range(20):
            torch.cuda.synchronize()
            start = time.perf_counter()
            left @ right
            torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        path.write_text(json.dumps(2 * size**3 / best / 1e12))
    return json.loads(path.read_text())


def collect(names: Sequence[str], reference: str, scenario: Scenario, folder: Path, repeats: int) -> list[dict]:
    """One row for each system: everything measured, and its ratios to and disagreement with the reference."""
    rows: list[dict] = [{"system": name, **counts(name, scenario, folder)} for name in names]
    rounds = time_rounds(names, scenario, folder, repeats)
    found = {name: load_tracked(folder / f"{_file_name(name)}.npz", len(scenario.clip_lengths)) for name in names}
    for row in rows:
        name = row["system"]
        row["seconds"] = median(times[name] for times in rounds)
        row["seconds_per_object_frame"] = row["seconds"] / scenario.object_frames
        row["time_ratio"] = median(times[name] / times[reference] for times in rounds)
        row["teraflops_per_second"] = row["flops"] / row["seconds"] / 1e12
        if name != TRANSFORMERS:
            row |= disagreement(found[name], found[reference])
    if scenario.on_cuda:
        ceiling = matmul_ceiling(folder, scenario.autocast_dtype or torch.float32)
        for row in rows:
            row["videos_per_second"] = 1 / row["seconds"]
            row["share_of_ceiling"] = row["teraflops_per_second"] / ceiling
    return rows


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def results_table(rows: list[dict], reference: str, flops_reference: str) -> str:
    flops = next(row["flops"] for row in rows if row["system"] == flops_reference)
    headings = [
        "system",
        "s a video",
        "ms an object-frame",
        f"time / {reference}",
        "TFLOP",
        f"FLOPs / {flops_reference}",
    ]
    headings += ["TFLOP/s", "peak GB", "largest logit difference", "mask pixels differing"]
    on_cuda = "videos_per_second" in rows[0]
    cells = []
    for row in rows:
        line = [row["system"], f"{row['seconds']:.2f}", f"{1e3 * row['seconds_per_object_frame']:.0f}"]
        line += [f"{row['time_ratio']:.2f}", f"{row['flops'] / 1e12:.3f}", f"{row['flops'] / flops:.3f}"]
        line += [f"{row['teraflops_per_second']:.3f}", f"{row['peak_bytes'] / 1e9:.2f}"]
        line += (
            [f"{row['logit_difference']:.1e}", f"{row['pixels_differing']:.4%}"]
            if "logit_difference" in row
            else ["", ""]
        )
        if on_cuda:
            line += [f"{row['videos_per_second']:.2f}", f"{row['share_of_ceiling']:.1%}"]
        cells.append(line)
    return table([*headings, *(["videos/s", "of the matmul ceiling"] if on_cuda else [])], cells)


def parts_table(rows: list[dict]) -> str:
    parts = [part for part in (*PARTS, "other") if any(row["parts"][part] for row in rows)]
    cells = [[row["system"], *(f"{row['parts'][part] / 1e9:,.0f}" for part in parts)] for row in rows]
    return table(["GFLOP a video", *parts], cells)


@app.command(help=__doc__)
def main(
    model: Annotated[str, typer.Option(help=f"One of {', '.join(SIZES)}.")] = "small",
    image_size: Annotated[int, typer.Option(help="Width and height that SAM 2 sees, a multiple of 32.")] = 512,
    clips: Annotated[int, typer.Option(min=1)] = 4,
    clip_frames: Annotated[str, typer.Option(help="Frames of a clip, or one number for each: 4,2,7.")] = "4",
    objects: Annotated[int, typer.Option(min=1, help="Objects of each clip.")] = 4,
    chunk: Annotated[int, typer.Option(min=1, help="Objects that the tracker takes together.")] = 4,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 or float16: autocast in every system.")] = "float32",
    threads: Annotated[int, typer.Option(min=1)] = 1,
    object_score_bias: Annotated[float, typer.Option(help="Lower makes objects vanish with random weights.")] = 6.0,
    repeats: Annotated[int, typer.Option(min=1, help="Alternating timed runs.")] = 3,
    systems: Annotated[Optional[list[str]], typer.Option(help=f"Of {', '.join(EXACT)}; default all.")] = None,  # noqa: UP045
    approximate: Annotated[bool, typer.Option(help="Measure the approximate settings too.")] = True,
    output: Annotated[Path, typer.Option(help="Folder of everything measured.")] = Path("benchmarks/results/sam2"),
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Write all rows there too.")] = None,  # noqa: UP045
) -> None:
    if model not in SIZES:
        raise typer.BadParameter(f"--model must be one of {', '.join(SIZES)}, got {model!r}.")
    if dtype not in DTYPES:
        raise typer.BadParameter(f"--dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise typer.BadParameter(f"--device must be cpu, or cuda where PyTorch finds a CUDA device, got {device!r}.")
    lengths = [int(number) for number in clip_frames.split(",")]
    if len(lengths) not in (1, clips) or min(lengths) < 1:
        raise typer.BadParameter(f"--clip-frames must be one number or {clips}, each at least 1, got {clip_frames!r}.")
    scenario = Scenario(
        model=model,
        image_size=image_size,
        clip_lengths=tuple(lengths * clips if len(lengths) == 1 else lengths),
        objects=objects,
        chunk=chunk,
        device=device,
        dtype=dtype,
        threads=threads,
        object_score_bias=object_score_bias,
    )
    names = systems or list(EXACT)
    if unknown := set(names) - set(EXACT):
        raise typer.BadParameter(f"--systems must be among {', '.join(EXACT)}, got {', '.join(sorted(unknown))}.")
    folder = output / scenario.name
    folder.mkdir(parents=True, exist_ok=True)
    board = f" on {torch.cuda.get_device_name()}" if scenario.on_cuda else ""
    typer.echo(f"{scenario.name}{board}: {scenario.object_frames} object-frames a video, PyTorch {torch.__version__}\n")
    reference = PREDICTOR if PREDICTOR in names else names[0]
    rows = collect(names, reference, scenario, folder, repeats)
    typer.echo(results_table(rows, reference, ONE_BATCH if ONE_BATCH in names else reference) + "\n")
    typer.echo(parts_table(rows) + "\n")
    approximations = []
    if approximate:
        # Where everything runs in reduced precision, that alone is no setting of its own.
        settings = [name for name in APPROXIMATE if dtype == "float32" or "autocast_dtype" not in APPROXIMATE[name]]
        approximations = collect([OURS, *settings], OURS, scenario, folder, repeats)
        typer.echo(results_table(approximations, OURS, OURS) + "\n")
    if json_file is not None:
        content = {
            "scenario": scenario.name,
            "torch": torch.__version__,
            "systems": rows,
            "approximate": approximations,
        }
        json_file.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    app()
