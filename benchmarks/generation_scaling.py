"""Clips a second by number of workers, what the driver adds to the work on clips, and what is stored of a clip.

    python benchmarks/generation_scaling.py [VIDEO ...] [--copies 8] [--workers 1 --workers 2] [--ray]

Each round makes the same clips again, in shards of two. The alternative in the same run is a plain loop in this
process: decode, generate, encode, and nothing written. Without a video a synthetic one is made. Workers count from when
they are ready to the end of the last shard. docs/scaling.md shows results.
"""

import json
import shutil
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Optional

import cv2
import torch
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from trajvit.processing.dataset_generation import StoredFrames, generate_trajectories
from trajvit.processing.decoding import decode_video
from trajvit.processing.generation_folder import FOLDER
from trajvit.processing.generation_settings import DEFAULT_STORED_SHORT_SIDE
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.synthetic_scenes import write_demo_clip

CLIPS_PER_SHARD = 2


def plain_loop(videos: list[Path]) -> dict[str, float]:
    """Seconds on the clock of one clip after the other in this process, and of the processor, each per clip."""
    generator = TrajectoryGenerator()
    clock, used = time.perf_counter(), time.process_time()
    for path in videos:
        video = decode_video(
            path, frame_interval=generator.frame_interval, short_side=generator.frame_short_side, threads=1
        )
        trajectories = generator(
            video.frames, video.sample_indices, frame_indices=video.frame_indices, timestamps=video.timestamps
        )
        size = DEFAULT_STORED_SHORT_SIDE
        trajectories.resize(size, round(trajectories.width * size / trajectories.height)).to_bytes()
    count = len(videos)
    return {"clock_s": (time.perf_counter() - clock) / count, "cpu_s": (time.process_time() - used) / count}


def run(folder: Path, output: Path, workers: int, ray_address: str | None) -> dict[str, Any]:
    """A run."""
    shutil.rmtree(output, ignore_errors=True)
    summary = generate_trajectories(
        folder,
        output,
        pack=True,
        shard_size=CLIPS_PER_SHARD,
        frames=StoredFrames(),
        workers=workers,
        ray_address=ray_address,
    )
    lines = [json.loads(line) for line in (output / FOLDER / "log.jsonl").read_text().splitlines()]
    # Ray does not tell when its actors are ready.
    ready = times_of(lines, "worker_ready") or times_of(lines, "planned") * workers
    end = max(times_of(lines, "shard_finished"))
    worker_seconds = sum((end - each).total_seconds() for each in ready)
    statistics = summary.statistics
    at_clips = sum(statistics.seconds.values())
    return {
        "workers": workers,
        "driver": "ray" if ray_address else "processes",
        "clips": summary.clips,
        "clips_per_s": summary.clips / worker_seconds * workers,
        "with_start_s": summary.seconds,
        "overhead": 1 - at_clips / worker_seconds,
        "stages_s": {stage: spent / statistics.clips for stage, spent in statistics.seconds.items()},
        "trajectory_bytes": statistics.trajectory_bytes / statistics.clips,
        "frame_bytes": statistics.frame_bytes / statistics.clips,
    }


def times_of(lines: list[dict[str, Any]], event: str) -> list[datetime]:
    """When something happened."""
    return [datetime.fromisoformat(line["time"]) for line in lines if line["event"] == event]


def main(
    videos: Annotated[Optional[list[Path]], typer.Argument(help="Videos; default: a synthetic one.")] = None,  # noqa: UP045
    copies: Annotated[int, typer.Option(min=1, help="Copies of each video.")] = 8,
    workers: Annotated[list[int], typer.Option(help="Numbers of workers.")] = [1, 2],  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, in turn.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="By Ray instead of processes.")] = False,
    output: Annotated[Optional[Path], typer.Option(help="JSON file for the results.")] = None,  # noqa: UP045
) -> None:
    """Print a row for each run."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        if not videos:
            write_demo_clip(folder / "00-demo.mp4")
            videos = [folder / "00-demo.mp4"]
            copies -= 1
        for copy in range(copies):
            for path in videos:
                shutil.copy(path, folder / f"{copy + 1:02d}-{path.name}")
        clips = sorted(folder.iterdir())
        for _ in range(rounds):
            plain = plain_loop(clips[: max(2, len(videos))])
            for count in workers:
                rows.append({**run(folder, Path(name) / "out", count, "local" if ray else None), "plain_loop": plain})
    show(rows)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(rows, indent=1) + "\n")


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=MARKDOWN)
    counts = ("workers", "clips", "clips/s", "of linear", "overhead", "KB trajectories", "KB frames", "plain, s")
    for heading in ("driver", *counts):
        table.add_column(heading, justify="left" if heading == "driver" else "right")
    base = rows[0]["clips_per_s"] / rows[0]["workers"]
    for row in rows:
        table.add_row(
            row["driver"],
            str(row["workers"]),
            str(row["clips"]),
            f"{row['clips_per_s']:.3f}",
            f"{row['clips_per_s'] / row['workers'] / base:.2f}",
            f"{row['overhead']:.1%}",
            f"{row['trajectory_bytes'] / 1000:.1f}",
            f"{row['frame_bytes'] / 1000:.1f}",
            f"{row['plain_loop']['clock_s']:.2f}",
        )
    console = Console(width=200)
    console.print(table)
    console.print(
        "seconds of a worker a clip:", {name: round(spent, 2) for name, spent in rows[-1]["stages_s"].items()}
    )


if __name__ == "__main__":
    typer.run(main)
