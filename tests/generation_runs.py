"""Runs over small data sets of numbered videos, in this process or by real ones."""

import signal
import tarfile
from pathlib import Path

import fault_backends
import pyarrow.parquet
from shard_files import sample, video_bytes, write_tar

from trajvit.processing import dataset_generation
from trajvit.processing.decoding import decode_video
from trajvit.processing.generation_worker import started
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.trajectories import Trajectories

FRAMES = 3
FIRST = 2  # the first of three frames sampled from twelve is the third


def generator(backend="quarters", **options):
    """A fast one; `quarters` is `fault_backends.Quarters`."""
    fault_backends.register()
    return TrajectoryGenerator(backend, short_side=32, max_trajectories=8, **options)


def heed_interrupts():
    """What a process calls as it starts, so that Ctrl-C ends it: a shell's background jobs are told to ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class PoolHere:
    """Does the jobs in this process, as a worker does them."""

    def __init__(self, start):
        self._worker = started(start)

    def map(self, jobs):
        for job in jobs:
            result = self._worker(job)
            if "fatal" in result:
                raise dataset_generation.GenerationFailed(result["fatal"])
            yield result

    def close(self):
        pass


def generate_here(monkeypatch, input, output, **settings):
    monkeypatch.setattr(dataset_generation, "_workers", lambda start, *_: PoolHere(start))
    return generate(input, output, **settings)


def generate(input, output, **settings):
    """`generate_trajectories` with few frames of small size."""
    settings = {"generator": generator(), "num_frames": FRAMES, **settings}
    return dataset_generation.generate_trajectories(input, output, **settings)


def expected(data, num_frames=FRAMES, **options) -> Trajectories:
    """What a video's trajectories are, by the public calls for one video."""
    made = generator(**options)
    video = decode_video(data, num_frames, made.frame_interval, made.frame_short_side)
    return made(video.frames, video.sample_indices, frame_indices=video.frame_indices, timestamps=video.timestamps)


def write_folder(folder: Path, numbers, suffix="mp4", captions=True) -> Path:
    """`00.mp4`, `01.mp4`, ... whose first frames show these numbers, with a caption beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, number in enumerate(numbers):
        (folder / f"{index:02d}.{suffix}").write_bytes(video_bytes(number))
        if captions:
            (folder / f"{index:02d}.txt").write_text(f"no. {number}")
    return folder


def write_shards(folder: Path, *shards) -> Path:
    """Tar shards `0.tar`, `1.tar`, ... of videos of these numbers."""
    for index, numbers in enumerate(shards):
        files = [file for position, number in enumerate(numbers) for file in sample(f"{position:03d}", number=number)]
        write_tar(folder / f"{index}.tar", files)
    return folder


def tar_contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def outputs(folder: Path) -> dict[str, bytes]:
    """All files of an output but for what a run notes of itself."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__generation__" not in path.parts
    }


def failures(folder: Path) -> list[tuple[str, str, str]]:
    """(key, stage, error) of each failure that the output lists."""
    table = pyarrow.parquet.read_table(folder / "__generation__" / "failures.parquet")
    return [(row["key"], row["stage"], row["error"]) for row in table.to_pylist()]
