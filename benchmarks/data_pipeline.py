"""How many clips a second reach a training step, by workers, and what each stage of the pipeline costs beside others.

    python benchmarks/data_pipeline.py [--workers 0 --workers 2] [--output results.json]

Data are made in a temporary folder: rendered scenes of 16 frames and of 10 s at 256 x 256 pixels as H.264 files, with
trajectories of the default backend, in tar shards as video2dataset writes them. docs/data_benchmarks.md shows results.
"""

import io
import json
import multiprocessing
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Annotated

import numpy as np
import torch
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torchvision.transforms.v2 import functional as F

from trajvit.processing.decoding import decode_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.synthetic_scenes import make_scene
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.video_writing import write_video
from trajvit.training.augmentation import ClipTransform, Draw, augmented, cells_of_crop, draw_augmentation
from trajvit.training.clip_loader import ClipLoader
from trajvit.training.collation import collate, to_model_inputs
from trajvit.training.hue_rotation import rotate_hue
from trajvit.training.record_stream import RecordStream
from trajvit.training.run_config import AugmentationSettings, StreamSettings
from trajvit.training.samples import Clip
from trajvit.training.sources import Reading, build_source
from trajvit.training.synthetic_vocabulary import synthetic_tokenizer

SIDE, IMAGE_SIZE, FEATURE_SIZE = 256, 224, 56
NUM_FRAMES, LONG_FRAMES, RATE = 16, 240, 24
MAX_TRAJECTORIES = 128
CAPTION = "a red square moves to the left while a green circle stays where it is"

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Stored:
    """A record: the bytes of its video and of its trajectories, None for a record without any."""

    video: bytes
    trajectories: bytes | None


@dataclass(frozen=True)
class Timing:
    """Milliseconds of all cores together, and on the clock; medians of the runs."""

    stage: str
    what: str
    cpu_ms: float
    clock_ms: float


def render(seed: int, num_frames: int, folder: Path) -> Path:
    scene = make_scene(seed, num_frames=num_frames, height=SIDE, width=SIDE, fps=RATE)
    return write_video(folder / f"{seed}-{num_frames}.mp4", scene.frames, RATE)


def make_records(folder: Path, count: int) -> tuple[list[Stored], list[Stored], list[Stored]]:
    """Short clips with trajectories, the same without, and videos of 10 s with trajectories of 16 of their frames."""
    generate = TrajectoryGenerator(max_trajectories=MAX_TRAJECTORIES)
    short, long = [], []
    for seed in range(count):
        for num_frames, records in ((NUM_FRAMES, short), (LONG_FRAMES, long)):
            path = render(seed, num_frames, folder)
            video = decode_video(path, NUM_FRAMES, frame_interval=generate.frame_interval)
            trajectories = generate(
                video.frames, video.sample_indices, frame_indices=video.frame_indices, timestamps=video.timestamps
            )
            records.append(Stored(path.read_bytes(), trajectories.to_bytes()))
    return short, [Stored(record.video, None) for record in short], long


def write_shards(folder: Path, records: list[Stored], count: int, num_shards: int = 4) -> str:
    """Tar shards with `count` samples, whose videos repeat; returns their glob pattern."""
    folder.mkdir()
    for shard in range(num_shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number, record in enumerate(islice(cycle(records), shard, shard + count // num_shards)):
                files = {"mp4": record.video, "txt": CAPTION.encode()}
                if record.trajectories is not None:
                    files["traj.png"] = record.trajectories
                for suffix, content in files.items():
                    member = tarfile.TarInfo(f"{shard:03d}{number:06d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return str(folder / "*.tar")


def rate_of(path: str, num_workers: int, batch_size: int, num_batches: int, trajectories: bool) -> tuple[float, float]:
    """Clips per second, and milliseconds of all cores for a clip, from when all processes run."""
    reading = Reading(needs_trajectories=trajectories, generator={}, max_trajectories=MAX_TRAJECTORIES)
    source = build_source(StreamSettings(name="videos", source="panda70m", path=path, num_samples=10**6), reading)
    transform = ClipTransform(
        IMAGE_SIZE, FEATURE_SIZE if trajectories else None, AugmentationSettings(), MAX_TRAJECTORIES, 1
    )
    loader = ClipLoader(
        RecordStream(source, seed=0, shuffle_block=64),
        source,
        transform,
        synthetic_tokenizer(),
        name="videos",
        batch_size=batch_size,
        num_workers=num_workers,
        prefetch=4,
    )
    try:
        # One batch is taken, one waits and one is being made.
        for _ in range(3):
            next(loader)
        clock, cpu = time.perf_counter(), cpu_seconds()
        for _ in range(num_batches):
            next(loader)
        clock, cpu = time.perf_counter() - clock, cpu_seconds() - cpu
        return batch_size * num_batches / clock, 1e3 * cpu / (batch_size * num_batches)
    finally:
        loader.close()


def cpu_seconds() -> float:
    """Seconds of all cores that this process and its workers have taken."""
    ticks = 0
    for worker in multiprocessing.active_children():
        ticks += sum(map(int, Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def timed(stage: str, what: str, run: Callable[[int], object], rounds: int) -> Timing:
    """`run` gets the number of the round; the first of them does not count."""
    run(0)
    cpu, clock = [], []
    for number in range(rounds):
        starts = time.process_time(), time.perf_counter()
        run(number)
        cpu.append(time.process_time() - starts[0])
        clock.append(time.perf_counter() - starts[1])
    return Timing(stage, what, 1e3 * statistics.median(cpu), 1e3 * statistics.median(clock))


def mean_timed(stage: str, what: str, run: Callable[[int], object], rounds: int) -> Timing:
    """As `timed`, with the mean: for what differs from round to round by chance."""
    run(0)
    starts = time.process_time(), time.perf_counter()
    for number in range(rounds):
        run(number)
    cpu, clock = time.process_time() - starts[0], time.perf_counter() - starts[1]
    return Timing(stage, what, 1e3 * cpu / rounds, 1e3 * clock / rounds)


COLOR_CHANGES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


def by_torchvision(frames: np.ndarray, draw: Draw, one_by_one: bool) -> torch.Tensor:
    """The same transform by torchvision's own functions: bytes between all steps, its hue, a blur of 13 x 13 pixels."""

    def changed(video: torch.Tensor) -> torch.Tensor:
        video = F.resized_crop(video, *draw.crop, [IMAGE_SIZE, IMAGE_SIZE], antialias=True)
        if draw.flip:
            video = F.horizontal_flip(video)
        for name, factor in draw.colors:
            video = COLOR_CHANGES[name](video, factor)
        if draw.blur_sigma is not None:
            video = F.gaussian_blur(video, [13, 13], [draw.blur_sigma] * 2)
        return F.rgb_to_grayscale(video, 3) if draw.grayscale else video

    video = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
    return torch.cat([changed(frame) for frame in video.split(1)]) if one_by_one else changed(video)


def transform_timings(clip: Clip, rounds: int) -> list[Timing]:
    settings = AugmentationSettings()
    draws = [draw_augmentation(settings, SIDE, SIDE, Random(seed)) for seed in range(rounds)]
    transform = ClipTransform(IMAGE_SIZE, FEATURE_SIZE, settings, MAX_TRAJECTORIES, 1)
    frames, whole = clip.frames, Draw((20, 30, 180, 170))
    jitter = (("brightness", 1.2), ("contrast", 0.8), ("saturation", 0.9), ("hue", 0.05))
    unit = augmented(frames, whole, IMAGE_SIZE).float().div(255)
    trajectories = clip.trajectories
    assert trajectories is not None

    def parts(name: str, draw: Draw) -> list[Timing]:
        return [
            timed(name, "ours", lambda _: augmented(frames, draw, IMAGE_SIZE), rounds),
            timed(name, "torchvision, whole clip", lambda _: by_torchvision(frames, draw, False), rounds),
            timed(name, "torchvision, frame by frame", lambda _: by_torchvision(frames, draw, True), rounds),
        ]

    return [
        mean_timed("transform, mean of draws", "ours", lambda number: transform(clip, number), rounds),
        mean_timed(
            "transform, mean of draws",
            "torchvision, whole clip",
            lambda number: by_torchvision(frames, draws[number], False),
            rounds,
        ),
        mean_timed(
            "transform, mean of draws",
            "torchvision, frame by frame",
            lambda number: by_torchvision(frames, draws[number], True),
            rounds,
        ),
        *parts("crop and resize", whole),
        *parts("and colour jitter", Draw(whole.crop, colors=jitter)),
        *parts("and blur by 1 pixel", Draw(whole.crop, blur_sigma=1.0)),
        *parts("and grayscale", Draw(whole.crop, grayscale=True)),
        timed("hue alone, in float32", "ours", lambda _: rotate_hue(unit, 0.05), rounds),
        timed("hue alone, in float32", "torchvision", lambda _: F.adjust_hue(unit, 0.05), rounds),
        timed(
            "trajectory maps",
            "ours",
            lambda _: cells_of_crop(trajectories.ids, whole, (SIDE, SIDE), FEATURE_SIZE),
            rounds,
        ),
    ]


def stage_timings(short: Stored, long: Stored, rounds: int) -> list[Timing]:
    """Each stage of one clip, in this process, on one thread but for a decoder that is let loose."""
    assert short.trajectories is not None
    assert long.trajectories is not None
    stored, at_half = short.trajectories, Trajectories.from_bytes(short.trajectories).resize(128, 128).to_bytes()
    generate = TrajectoryGenerator(max_trajectories=MAX_TRAJECTORIES)
    dense = decode_video(short.video, NUM_FRAMES, frame_interval=generate.frame_interval)
    clip = Clip("clip", decode_video(short.video).sampled, Trajectories.from_bytes(stored), (CAPTION,))
    sample = ClipTransform(IMAGE_SIZE, FEATURE_SIZE, AugmentationSettings(), MAX_TRAJECTORIES, 1)(clip, 0)
    tokenizer = synthetic_tokenizer()
    batch = collate([sample] * 16, tokenizer)
    timings = [
        timed("decode 16 frames", "one thread", lambda _: decode_video(short.video, NUM_FRAMES, threads=1), rounds),
        timed("decode 16 frames", "FFmpeg's threads", lambda _: decode_video(short.video, NUM_FRAMES), rounds),
        timed("decode 16 of 240", "one thread", lambda _: decode_video(long.video, NUM_FRAMES, threads=1), rounds),
        timed("decode 16 of 240", "FFmpeg's threads", lambda _: decode_video(long.video, NUM_FRAMES), rounds),
        timed("trajectories", "stored, 256 x 256", lambda _: Trajectories.from_bytes(stored), rounds),
        timed("trajectories", "stored, 128 x 128", lambda _: Trajectories.from_bytes(at_half), rounds),
        timed("trajectories", "generated", lambda _: generate(dense.frames, dense.sample_indices), 2),
    ]
    timings += transform_timings(clip, rounds)
    copies = timed("copy from shared memory", "", lambda _: sample.pixels.clone(), rounds)
    collation = timed("collate, a clip of 16", "", lambda _: collate([sample] * 16, tokenizer), rounds)
    normalisation = timed("normalise on the CPU, a clip of 16", "", lambda _: to_model_inputs(batch, "cpu"), rounds)
    for timing in (collation, normalisation):
        timings.append(Timing(timing.stage, timing.what, timing.cpu_ms / 16, timing.clock_ms / 16))
    return [*timings, copies]


@app.command(help=__doc__)
def measure(
    workers: Annotated[list[int], typer.Option(help="Numbers of worker processes.")] = [0, 1, 2],  # noqa: B006
    clips: Annotated[int, typer.Option(help="Different clips that are made.")] = 4,
    batch_size: Annotated[int, typer.Option(help="Clips of a batch.")] = 16,
    batches: Annotated[int, typer.Option(help="Batches that are timed.")] = 12,
    rounds: Annotated[int, typer.Option(help="Runs of each stage.")] = 30,
    output: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
) -> None:
    """Print clips per second by workers, then milliseconds by stage."""
    torch.set_num_threads(1)
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short, bare, long = make_records(folder, clips)
        sizes = [len(part or b"") / 1024 for part in (short[0].video, short[0].trajectories, long[0].video)]
        console.print("KiB: a clip of 16 frames {:.0f}, its trajectories {:.0f}, a video of 10 s {:.0f}".format(*sizes))
        kinds = {
            "16 frames, stored trajectories": (write_shards(folder / "short", short, 256), True, 1),
            "16 frames, no trajectories": (write_shards(folder / "bare", bare, 256), False, 1),
            "10 s, stored trajectories": (write_shards(folder / "long", long, 64), True, 1),
            "16 frames, generated trajectories": (write_shards(folder / "generated", bare, 256), True, 12),
        }
        rates: list[dict[str, str | int | float]] = []
        for kind, (path, has_trajectories, times_slower) in kinds.items():
            for num_workers in workers:
                size, count = max(1, batch_size // times_slower), max(2, batches // times_slower)
                rate, cost = rate_of(path, num_workers, size, count, has_trajectories)
                rates.append({"data": kind, "workers": num_workers, "clips_per_second": rate, "cpu_ms": cost})
        timings = stage_timings(short[0], long[0], rounds)
    show(console, ("data", "workers", "clips/s", "ms of a core per clip"), [[*row.values()] for row in rates])
    show(console, ("stage", "form", "ms of a core", "ms on the clock"), [[*asdict(row).values()] for row in timings])
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({"rates": rates, "stages": [asdict(row) for row in timings]}, indent=1) + "\n")


def show(console: Console, headings: tuple[str, ...], rows: list[list[str | int | float]]) -> None:
    table = Table(box=MARKDOWN)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("data", "stage", "form") else "right")
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)


if __name__ == "__main__":
    app()
