"""`trajvit generate`: trajectories for a whole data set, from the command line."""

from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.live import Live

from trajvit.command_conventions import (
    FAILED,
    BackendOption,
    BackendOptionsOption,
    JsonOption,
    MaxTrajectoriesOption,
    MediaOption,
    ShortSideOption,
    ending_in_order,
    messages,
    pairs,
    print_json,
    tell,
    tell_error,
)

if TYPE_CHECKING:
    from trajvit.processing.dataset_generation import GenerationProgress, GenerationSummary

_SECONDS_BETWEEN_LINES = 10.0


def generate(
    input: Annotated[str, typer.Argument(help="Folder, file, glob pattern, URL or Hub id.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="Folder; for single files it may be the input's.", show_default=False)],
    backend: BackendOption = "classic",
    backend_option: BackendOptionsOption = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames sampled from each video.")] = 16,
    max_trajectories: MaxTrajectoriesOption = 128,
    short_side: ShortSideOption = 256,
    stored_short_side: Annotated[
        int, typer.Option(min=1, help="Pixels of the stored trajectories' short side; no more than --short-side.")
    ] = 64,
    store_frames: Annotated[
        bool, typer.Option("--store-frames", help="Store the sampled frames, encoded small, instead of the media.")
    ] = False,
    frames_short_side: Annotated[int, typer.Option(min=1, help="Pixels of stored frames' short side.")] = 256,
    frames_crf: Annotated[int, typer.Option(min=0, max=51, help="x264's rate factor for stored frames.")] = 23,
    shard_size: Annotated[
        int, typer.Option(min=1, help="Most clips of an output shard, each of which keeps one worker busy.")
    ] = 256,
    pack: Annotated[bool, typer.Option("--pack", help="Make tar shards of a folder's media files.")] = False,
    media: MediaOption = "any",
    column: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="PART=NAME", help="Name of the media, key or trajectories column; may be repeated."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a Hub data set.")] = "train",
    option: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=VALUE", help="Argument of datasets.load_dataset; may be repeated."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Worker processes, or Ray actors. Default: one a core, or as GPUs allow."),
    ] = None,
    ray: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ADDRESS", help='Address of a Ray cluster, "auto", or "local" to start one.'),
    ] = None,
    gpus_per_worker: Annotated[float, typer.Option(min=0, help="GPUs of each worker, or its share of one.")] = 0.0,
    retry_failures: Annotated[
        bool, typer.Option("--retry-failures", help="Try the clips again that failed before.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check what is finished against its checksums.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Store trajectories with all videos or images of a data set.

    The same command goes on where an interrupted run stopped.
    """
    from trajvit.processing.dataset_generation import GenerationFailed, StoredFrames, generate_trajectories
    from trajvit.processing.generator import TrajectoryGenerator

    stays = f"What is finished in {output} stays; the same command goes on from there."
    try:
        with ending_in_order(f"Stopped. {stays}"):
            generator = TrajectoryGenerator(
                backend, max_trajectories, short_side, **pairs(backend_option, "--backend-option")
            )
            with _ProgressLine() as line:
                summary = generate_trajectories(
                    input,
                    output,
                    generator=generator,
                    num_frames=frames,
                    stored_short_side=stored_short_side,
                    frames=StoredFrames(frames_short_side, frames_crf) if store_frames else None,
                    shard_size=shard_size,
                    pack=pack,
                    media=media,
                    columns={name: str(value) for name, value in pairs(column, "--column", as_text=True).items()},
                    split=split,
                    options=pairs(option, "--option"),
                    workers=workers,
                    ray_address=ray,
                    gpus_per_worker=gpus_per_worker,
                    retry_failures=retry_failures,
                    verify=verify,
                    on_progress=line.show,
                )
    except GenerationFailed as error:
        tell_error(error)
        tell(stays)
        raise typer.Exit(FAILED) from error
    if as_json:
        print_json(summary.to_dict())
    else:
        tell(_described(summary))


class _ProgressLine:
    """One line that says how far the run is: kept up to date on a terminal, elsewhere printed now and then."""

    def __init__(self) -> None:
        self._messages = messages()
        self._live = Live(console=self._messages, auto_refresh=False, transient=True)
        self._next = 0.0

    def __enter__(self) -> "_ProgressLine":
        if self._messages.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, progress: "GenerationProgress") -> None:
        """Called about once a second."""
        if self._live.is_started:
            self._live.update(_line(progress), refresh=True)
        elif monotonic() >= self._next:
            self._next = monotonic() + _SECONDS_BETWEEN_LINES
            tell(_line(progress))


def _line(progress: "GenerationProgress") -> str:
    total = "" if progress.num_clips is None else f" of {progress.num_clips:,}"
    parts = [f"{progress.clips:,}{total} clips"]
    if not progress.workers and progress.shards < progress.num_shards:
        parts.append("starting workers")
    if progress.clips_per_second is not None:
        parts.append(f"{progress.clips_per_second:.3g} clips/s")
    if progress.seconds_left is not None:
        parts.append(f"{timedelta(seconds=round(progress.seconds_left))} left")
    parts.append(f"{progress.shards:,} of {progress.num_shards:,} shards")
    if progress.failures:
        parts.append(f"{progress.failures:,} failed")
    return "  ".join(parts)


def _described(summary: "GenerationSummary") -> str:
    from trajvit.processing.generation_folder import FOLDER

    clips, trajectories = summary.clips, summary.statistics.trajectories
    lines = [
        f"{clips:,} clips with trajectories in {summary.shards:,} shards; {summary.new_clips:,} clips in this run, "
        f"{timedelta(seconds=round(summary.seconds))}, {summary.clips_per_second:.3g} clips/s"
    ]
    if clips:
        mean = sum(number * count for number, count in trajectories.items()) / clips
        size = summary.statistics.trajectory_bytes / clips / 1000
        lines.append(f"{mean:.1f} trajectories and {size:.1f} KB of them a clip")
    folder = summary.output / FOLDER
    if summary.failures:
        lines.append(
            f"{summary.failures:,} failed: {folder / 'failures.parquet'} says why, --retry-failures tries again"
        )
    return "\n".join([*lines, f"Open {folder / 'statistics.html'}"])
