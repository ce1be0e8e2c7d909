"""`make demo`: a video becomes trajectories, tokens and an embedding, with a picture of every step."""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from trajvit.demo_report import DemoRun, VideoCost, write_report
from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel
from trajvit.processing.decoding import VideoDecodingError, decode_video
from trajvit.processing.drawing import contact_sheet, draw_overlay, timeline, write_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.synthetic_scenes import write_demo_clip
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor
from trajvit.search_demo import SearchRun, draw_search, run_search

# Pixels are shown at this short side; trajectories are found at the generator's own working resolution.
DISPLAY_SHORT_SIDE = 480

console = Console()


class StageClock:
    """One progress line and one wall-clock sum (seconds) per named stage."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._since = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Books the time since the last call on `stage`; the generator's progress callback has this signature."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now
        if stage not in self._tasks:
            self._tasks[stage] = self.progress.add_task(stage, total=total)
        self.progress.update(self._tasks[stage], completed=done, total=total)

    @contextmanager
    def stage(self, name: str):
        self(name, 0, 1)
        yield
        self(name, 1, 1)


def run_demo(video: Path, output: Path, num_frames: int, max_trajectories: int) -> DemoRun:
    """Runs every stage on one video and writes the pictures; the report is written from what this returns."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        clock = StageClock(progress)
        generator = TrajectoryGenerator(backend="classic", max_trajectories=max_trajectories)
        with clock.stage("decode"):
            clip = decode_video(
                video,
                num_frames=num_frames,
                frame_interval=generator.frame_interval,
                short_side=DISPLAY_SHORT_SIDE,
            )
        sampled = clip.sampled
        trajectories = generator(
            clip.frames,
            clip.sample_indices,
            frame_indices=clip.frame_indices,
            timestamps=clip.timestamps,
            progress=clock,
        )
        with clock.stage("preprocess"):
            processor = TrajViTVideoProcessor()
            inputs = processor([sampled], trajectories=[trajectories], do_sample_frames=False, return_tensors="pt")
        with clock.stage("encode (tiny)"), torch.inference_mode():
            torch.manual_seed(0)
            model = TrajViTModel(TrajViTConfig.from_name("tiny")).eval()
            outputs = model(**inputs)
        with clock.stage("draw"):
            output.mkdir(parents=True, exist_ok=True)
            trajectories.save(output / "trajectories.png")
            duration = max(float(clip.timestamps[-1] - clip.timestamps[0]), 1e-3)
            # Near real time, but never so slow that motion falls apart.
            frames_per_second = min(max(len(sampled) / duration, 3.0), 10.0)
            write_video(output / "trajectories.mp4", draw_overlay(sampled, trajectories), fps=frames_per_second)
            contact_sheet(sampled, trajectories, path=output / "contact_sheet.png")
            timeline(trajectories, path=output / "timeline.png")
    return DemoRun(
        name=video.name,
        trajectories=trajectories,
        frames=sampled,
        stage_seconds=clock.seconds,
        tensor_shapes={
            **{name: tuple(value.shape) for name, value in inputs.items()},
            "last_hidden_state": tuple(outputs.last_hidden_state.shape),
            "pooler_output": tuple(outputs.pooler_output.shape),
        },
    )


def summarize(run: DemoRun, output: Path) -> None:
    """Prints what the run found: trajectories, tokens and encoder cost beside ViT3D's, and where the files are."""
    cost, patches = VideoCost.of_trajectories(run), VideoCost.of_tubelets(run)
    table = Table(title=f"{run.trajectories.num_frames} frames at ViT-Large")
    for column in ("", "TrajViT", "ViT3D", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("tokens", f"{cost.tokens:,}", f"{patches.tokens:,}", f"{patches.tokens / cost.tokens:.1f}x")
    for row, ours, theirs in (
        ("encoder GFLOP", cost.encoder_gflop, patches.encoder_gflop),
        ("with tokenizer", cost.gflop, patches.gflop),
    ):
        table.add_row(row, f"{ours:,.0f}", f"{theirs:,.0f}", f"{theirs / ours:.1f}x")
    console.print(table)
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in run.stage_seconds.items())
    count, key_frames = run.trajectories.num_trajectories, [int(position) for position in run.trajectories.key_frames]
    console.print(f"{run.name}: {count} trajectories, key frames at positions {key_frames}")
    console.print(f"seconds: {seconds}; {sum(run.stage_seconds.values()):.1f} in all")
    console.print(f"Open {output / 'report.html'}")


def summarize_search(run: SearchRun, output: Path) -> None:
    """Prints where the described clip stands among all, for each text."""
    table = Table(title=f"{len(run.frames)} synthetic clips, searched by a tiny trained model")
    table.add_column("text")
    table.add_column("rank of the clip it describes", justify="right")
    for number, text in enumerate(run.texts):
        table.add_row(text, f"{run.rank(number)} of {len(run.frames)}")
    console.print(table)
    console.print(f"Open {output / 'search.png'}: the clips it finds, and in the first the trajectory that fits best")


def main(
    video: Annotated[Optional[Path], typer.Option(help="A video file; default: a synthetic clip is made.")] = None,  # noqa: UP045
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo_output"),
    num_frames: Annotated[int, typer.Option(min=1, help="Frames sampled from the video.")] = 16,
    max_trajectories: Annotated[int, typer.Option(min=1, help="Most trajectories, so most tokens.")] = 128,
) -> None:
    """Turns a video into trajectories, tokens and an embedding, draws every step, and searches clips by text."""
    is_synthetic = video is None
    if video is None:
        output.mkdir(parents=True, exist_ok=True)
        video = output / "synthetic.mp4"
        with console.status("making a synthetic clip"):
            write_demo_clip(video)
    try:
        run = run_demo(video, output, num_frames, max_trajectories)
    except VideoDecodingError as error:
        console.print(f"[red]error:[/red] {error}")
        raise typer.Exit(1) from error
    searched = None
    if is_synthetic:
        with console.status("searching synthetic clips by text"):
            searched = run_search()
            draw_search(searched, output / "search.png")
    write_report(run, output, search_picture=None if searched is None else output / "search.png")
    summarize(run, output)
    if searched is not None:
        summarize_search(searched, output)


if __name__ == "__main__":
    typer.run(main)
