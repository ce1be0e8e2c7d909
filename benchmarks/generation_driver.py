"""What the driver of a generation run costs for each clip, and whether its memory grows: a run without any decoding.

    python benchmarks/generation_driver.py [--clips 1000000] [--ray]

Everything is real (plan, worker processes or Ray Data, records on disk, log, statistics, failures) but the work on a
clip, which `simulated_worker.py` makes up; one clip in a hundred fails. docs/scaling.md shows results.
"""

import json
import os
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import simulated_worker
import typer

from trajvit.processing import process_pool, ray_pool
from trajvit.processing.generation_folder import GenerationFolder
from trajvit.processing.generation_plan import InputShard
from trajvit.processing.generation_progress import GenerationProgress
from trajvit.processing.generation_run import GenerationRun
from trajvit.processing.generation_settings import GenerationSettings
from trajvit.processing.generation_worker import worker_start
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.process_pool import ProcessPool
from trajvit.processing.ray_pool import RayPool
from trajvit.processing.tar_shards import TarShard

CLIPS_PER_INPUT_SHARD = 1000


class MemoryWatch:
    """Resident MB of this process by share of clips done."""

    def __init__(self, steps: int):
        self._steps = steps
        self.megabytes: dict[float, float] = {}

    def __call__(self, progress: GenerationProgress) -> None:
        assert progress.num_clips is not None
        share = progress.clips * self._steps // progress.num_clips / self._steps
        self.megabytes.setdefault(share, resident_megabytes())


def resident_megabytes() -> float:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(num_clips: int, shard_size: int, workers: int, with_ray: bool, output: Path) -> dict[str, Any]:
    """Run over so many made-up clips.

    Returns:
        Seconds and processor seconds of the driver, per clip in ms; resident MB by share done.
    """
    settings = GenerationSettings(generator=TrajectoryGenerator().to_dict(), shard_size=shard_size)
    suffixes = frozenset({"mp4", "txt", "json"})
    names = [f"{number:05d}.tar" for number in range(num_clips // CLIPS_PER_INPUT_SHARD)]
    found = [InputShard(TarShard(name, f"/data/{name}", suffixes), CLIPS_PER_INPUT_SHARD, 10**9) for name in names]
    folder, start = GenerationFolder(output), worker_start(settings, output)
    if with_ray:
        ray_pool.RayWorker = simulated_worker.SimulatedWorker  # type: ignore[assignment,misc]
        gather: Any = partial(RayPool, start, "local", workers, 0.0)
    else:
        process_pool.WORKER_PROGRAM = ("-X", "trajvit_lazy", simulated_worker.__file__)  # type: ignore[assignment]
        gather = partial(ProcessPool, start, workers, 0.0, folder.worker_log)
    watch = MemoryWatch(10)
    wall, used = time.perf_counter(), time.process_time()
    summary = GenerationRun(folder, settings, retry=False, verify=False, on_progress=watch).go(found, gather)
    wall, used = time.perf_counter() - wall, time.process_time() - used
    again = time.process_time()
    GenerationRun(folder, settings, retry=False, verify=False, on_progress=None).go(found, gather)
    return {
        "driver": "ray" if with_ray else "processes",
        "clips": summary.clips + summary.failures,
        "shards": summary.shards,
        "failures": summary.failures,
        "wall_s": wall,
        "cpu_s": used,
        "cpu_ms_per_clip": 1000 * used / num_clips,
        "wall_ms_per_clip": 1000 * wall / num_clips,
        "second_run_cpu_s": time.process_time() - again,
        "resident_mb": watch.megabytes,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def main(
    clips: Annotated[int, typer.Option(help="Made-up clips, in thousands.")] = 1_000_000,
    shard_size: Annotated[int, typer.Option(help="Most clips of an output shard.")] = 250,
    workers: Annotated[int, typer.Option(help="Workers.")] = 2,
    ray: Annotated[bool, typer.Option("--ray", help="By Ray Data instead of processes.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
) -> None:
    """Print what the driver costs."""
    if clips < CLIPS_PER_INPUT_SHARD:
        raise typer.BadParameter(f"at least {CLIPS_PER_INPUT_SHARD}, got {clips}", param_hint="--clips")
    with tempfile.TemporaryDirectory() as name:
        result = measure(clips, shard_size, workers, ray, Path(name) / "out")
    print(json.dumps(result, indent=1))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
