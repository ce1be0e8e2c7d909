"""Scores trajectories against ground truth, with 3-D SLIC at as many labels beside them.

    python benchmarks/trajectory_quality.py synthetic --seeds 100-111
    python benchmarks/trajectory_quality.py folder DAVIS/

docs/trajectory_quality.md defines the scores. Results are kept in a JSON file, one video at a time, and what is in it
already is not computed again.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import cv2
import numpy as np
import skimage
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from trajvit.evaluation.foreground_sequences import ForegroundSequence, find_sequences
from trajvit.evaluation.supervoxels import supervoxels
from trajvit.evaluation.trajectory_quality import ForegroundScore, SceneScore, foreground_score, scene_score
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.sampling import dense_indices, uniform_sample_indices
from trajvit.processing.synthetic_scenes import make_scene

SLIC = "3-D SLIC"
RESULTS = Path("benchmarks/results")
HEADINGS = {
    "identity_consistency": "consistency",
    "component_share": "components",
    "num_trajectories": "trajectories",
    "num_object_trajectories": "on object",
}

Output = Annotated[Optional[Path], typer.Option(help="JSON file of results; continued if it exists.")]  # noqa: UP045
Backends = Annotated[list[str], typer.Option("--backend", help="Backend to score; may be given several times.")]
MaxTrajectories = Annotated[int, typer.Option(min=1, help="Most trajectories of a video, and labels of 3-D SLIC.")]
NumFrames = Annotated[int, typer.Option(min=1, help="Frames sampled: the middles of as many equal segments.")]

app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode=None)
console = Console()


@dataclass(frozen=True)
class Video:
    """A video with ground truth: how to read any of its frames, and how to score ids of the sampled ones."""

    num_frames: int
    fps: float
    read: Callable[[np.ndarray], np.ndarray]
    score: Callable[[np.ndarray, np.ndarray], ForegroundScore | SceneScore]


def scene_video(seed: int) -> Video:
    scene = make_scene(seed)
    return Video(
        num_frames=len(scene.frames),
        fps=scene.fps,
        read=lambda positions: scene.frames[positions],
        score=lambda ids, sampled: scene_score(ids, scene, sampled),
    )


def sequence_video(sequence: ForegroundSequence, fps: float) -> Video:
    return Video(
        num_frames=sequence.num_frames,
        fps=fps,
        read=sequence.read_frames,
        score=lambda ids, sampled: foreground_score(ids, sequence.read_masks(sampled)),
    )


class Results:
    """Scores by video and method in a JSON file that is complete after every video; NaN is written as null."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self.videos: dict[str, dict[str, dict[str, float | None]]] = {}
        if not path.exists():
            return
        try:
            data = json.loads(path.read_text())
            found, self.videos = data["settings"], data["videos"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a file of results ({error!r}); name another with --output") from error
        if found != settings:
            raise ValueError(f"{path} was made with {found}, this run has {settings}; name another file with --output")

    def has(self, video: str, method: str) -> bool:
        return method in self.videos.get(video, {})

    def add(self, video: str, method: str, score: ForegroundScore | SceneScore, seconds: float) -> None:
        values = {**asdict(score), "seconds": round(seconds, 2)}
        rounded = {name: value if isinstance(value, int) else _null_if_nan(value) for name, value in values.items()}
        self.videos.setdefault(video, {})[method] = rounded
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".part")
        data = {
            "settings": self.settings,
            "versions": _versions(),
            "mean": self.mean(self.videos),
            "videos": self.videos,
        }
        unfinished.write_text(json.dumps(data, indent=1) + "\n")
        unfinished.replace(self.path)

    def mean(self, videos: Iterable[str]) -> dict[str, dict[str, float | None]]:
        """Return the mean of each score of each method over those of the videos that define it."""
        rows: dict[str, list[dict[str, float | None]]] = {}
        for video in videos:
            for method, scores in self.videos[video].items():
                rows.setdefault(method, []).append(scores)
        return {
            method: {name: _mean([scores[name] for scores in found]) for name in found[0]}
            for method, found in rows.items()
        }

    def table(self, title: str, videos: Sequence[str]) -> Table:
        """Return a table of the named videos, a row for each method, and of their mean."""
        table = Table(title=title, box=SIMPLE)
        means = self.mean(videos)
        columns = list(next(iter(means.values())))
        for name in ("video", "method", *columns):
            heading = HEADINGS.get(name, name).replace("_", " ")
            table.add_column(heading, justify="left" if name in ("video", "method") else "right", no_wrap=True)
        for video in videos:
            for method, scores in self.videos[video].items():
                table.add_row(video, method, *(_shown(scores[name]) for name in columns))
        table.add_section()
        for method, scores in means.items():
            table.add_row("mean", method, *(_shown(scores[name]) for name in columns), style="bold")
        return table


@app.command()
def synthetic(
    seeds: Annotated[str, typer.Option(help="Seeds of scenes: 100-111, or 3,7,20-25.")] = "100-111",
    backend: Backends = ["classic"],  # noqa: B006
    max_trajectories: MaxTrajectories = 128,
    num_frames: NumFrames = 16,
    output: Output = None,
) -> None:
    """Score seeded synthetic scenes with exact masks and point tracks."""
    settings = {"set": "synthetic", "max_trajectories": max_trajectories, "num_frames": num_frames}
    output = output or RESULTS / "trajectory_quality_synthetic.json"
    with plain_errors():
        numbers = parse_seeds(seeds)
        videos = {f"seed {seed}": partial(scene_video, seed) for seed in numbers}
        run(videos, backend, settings, output, f"{len(numbers)} synthetic scenes, {num_frames} frames")


@app.command()
def folder(
    path: Annotated[Path, typer.Argument(help="Folder of <sequence>/{frames,masks}, or a DAVIS folder.")],
    sequences: Annotated[str, typer.Option(help="Names of sequences, with commas between; default: all.")] = "",
    fps: Annotated[float, typer.Option(min=0.1, help="Frames per second of the sequences (DAVIS: 24).")] = 24.0,
    backend: Backends = ["classic"],  # noqa: B006
    max_trajectories: MaxTrajectories = 128,
    num_frames: NumFrames = 16,
    output: Output = None,
) -> None:
    """Score folders of frames against the masks of one object."""
    settings = {"set": "folder", "fps": fps, "max_trajectories": max_trajectories, "num_frames": num_frames}
    output = output or RESULTS / "trajectory_quality_folder.json"
    with plain_errors():
        found = {sequence.name: sequence for sequence in find_sequences(path)}
        names = [name.strip() for name in sequences.split(",") if name.strip()] or list(found)
        if unknown := sorted(set(names) - set(found)):
            raise ValueError(f"{path} has no sequence {', '.join(unknown)}; it has {', '.join(found)}")
        videos = {name: partial(sequence_video, found[name], fps) for name in names}
        run(videos, backend, settings, output, f"{len(names)} sequences of {path.name}, {num_frames} frames")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print what is wrong with the input and exit with 1, without the traceback of a bug."""
    try:
        yield
    except (OSError, ValueError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from error


def run(
    videos: dict[str, Callable[[], Video]], backends: Sequence[str], settings: dict[str, Any], output: Path, title: str
) -> None:
    """Score every method on every video that `output` does not have yet, and print the table."""
    max_trajectories, num_frames = settings["max_trajectories"], settings["num_frames"]
    generators = {name: TrajectoryGenerator(name, max_trajectories=max_trajectories) for name in backends}
    results = Results(output, settings)
    for video_name, load in videos.items():
        missing = [method for method in (*generators, SLIC) if not results.has(video_name, method)]
        if not missing:
            continue
        video = load()
        sampled = uniform_sample_indices(video.num_frames, num_frames)
        for method in missing:
            console.print(f"{video_name}: {method}", style="dim")
            if method == SLIC:
                ids, seconds = timed(supervoxels, video.read(sampled), max_trajectories)
            else:
                ids, seconds = generate(generators[method], video, sampled)
            results.add(video_name, method, video.score(ids, sampled), seconds)
    # A table that is cut off helps nobody: it keeps its width where the terminal, or the file it goes to, has less.
    Console(width=max(console.width, 130)).print(results.table(title, list(videos)))
    console.print(f"results: {output}")


def generate(generator: TrajectoryGenerator, video: Video, sampled: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the ids of the sampled frames, found with the denser frames the generator asks for, and the seconds."""
    timestamps = np.arange(video.num_frames) / video.fps
    dense = dense_indices(timestamps, sampled, generator.frame_interval)
    positions = np.searchsorted(dense, sampled)
    trajectories, seconds = timed(generator, video.read(dense), positions, timestamps=timestamps[sampled])
    return trajectories.ids, seconds


def timed(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(*arguments, **keywords), time.perf_counter() - start


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a list such as "3,7,20-25", in its order."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise ValueError(f"seeds are {text!r}; expected numbers and ranges such as 100-111 or 3,7,20-25")
        seeds += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(seeds))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _null_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _versions() -> dict[str, str]:
    return {module.__name__: module.__version__ for module in (cv2, np, skimage)}


if __name__ == "__main__":
    app()
