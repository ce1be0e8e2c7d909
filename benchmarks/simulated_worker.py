"""A worker that reads nothing and decodes nothing, but tells of its shards as a real one does.

What a run with such workers costs is the driver's own cost.
"""

import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trajvit.processing.generation_folder import GenerationFolder
from trajvit.processing.generation_plan import ShardTask
from trajvit.processing.generation_statistics import GenerationStatistics
from trajvit.processing.running_shard import RunningShard
from trajvit.processing.shard_records import Failure, ShardRecord

FAILED_SHARE = 0.01
MAX_TRAJECTORIES, NUM_FRAMES = 128, 16


class SimulatedWorker:
    """Makes the records of shards, of which one clip in a hundred fails.

    Args:
        start: From `worker_start`, as JSON where Ray gives it.
    """

    def __init__(self, start: str | Mapping[str, Any]):
        values = json.loads(start) if isinstance(start, str) else start
        self._folder = GenerationFolder(Path(values["output"]))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Do the jobs of a batch of Ray Data."""
        return {"result": [json.dumps(self.do(json.loads(job))) for job in batch["job"]]}

    def do(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The result of a job."""
        task = ShardTask.from_dict(job["task"])
        running = RunningShard(self._folder.running_path(task.name), task.start)
        record = simulated_record(task)
        self._folder.publish(record)
        running.finish()
        return {"record": record.to_dict()}


def simulated_record(task: ShardTask) -> ShardRecord:
    """The record of a shard: counts as real ones have them, which the shard's name decides."""
    draw = random.Random(task.name)
    stop = task.stop if task.stop is not None else task.start + 250
    statistics = GenerationStatistics()
    failures = []
    for position in range(task.start, stop):
        if draw.random() < FAILED_SHARE:
            failures.append(
                Failure(f"{position:09d}", "decode", "its media cannot be decoded: it is damaged", position)
            )
            continue
        statistics.clips += 1
        statistics.frames += NUM_FRAMES
        statistics.trajectories[draw.randint(MAX_TRAJECTORIES // 2, MAX_TRAJECTORIES)] += 1
        for _ in range(4):
            statistics.lifetimes[draw.randint(1, NUM_FRAMES)] += 24
        statistics.coverage[100] += 1
        statistics.shots[1 + int(draw.random() < 0.3)] += 1
        statistics.trajectory_bytes += draw.randint(5_000, 12_000)
    statistics.spend({"decode": 0.5, "track": 3.0, "encode": 0.1})
    return ShardRecord(task.name, task.shard.name, {}, tuple(failures), statistics)


def main() -> None:
    """Serve `ProcessPool`, as `trajvit.processing.generation_worker` does."""
    with open(int(sys.argv[1]), "w", encoding="utf-8") as results:
        worker = SimulatedWorker(sys.stdin.readline())
        print(json.dumps({"ready": os.getpid()}), file=results, flush=True)
        for line in sys.stdin:
            print(json.dumps(worker.do(json.loads(line))), file=results, flush=True)


if __name__ == "__main__":
    main()
