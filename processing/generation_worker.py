"""A worker of a generation run: does one job after another, whoever gives them.

As a program it is what `ProcessPool` starts: jobs come as lines of JSON on standard input, results go as lines to the
file descriptor that is its argument. It ends when its standard input does, so none outlives the process that started
it, however that ends.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from .backends import backend_location, register_backend
from .generation_plan import ShardTask, count_records, shard_from_dict
from .generation_settings import GenerationSettings
from .output_shards import OutputError
from .running_shard import WorkersDied
from .shard_generation import ShardGenerator


def worker_start(settings: GenerationSettings, output: Path) -> dict[str, Any]:
    """What a worker has to know, as JSON-able data.

    Raises:
        ValueError: Its backend cannot be imported by another process.
    """
    backend = settings.generator["backend"]
    location = backend_location(backend)
    if location.startswith("__main__:"):
        raise ValueError(
            f"backend {backend!r} is registered at {location}, which worker processes cannot import; "
            "expected it in a module of its own"
        )
    return {
        "settings": settings.to_dict(),
        "output": str(output.absolute()),
        "backend": [backend, location],
        "path": [entry or os.getcwd() for entry in sys.path],
    }


class GenerationWorker:
    """Does jobs.

    Args:
        start: From `worker_start`.

    Raises what the backend raises where its weights cannot be loaded.
    """

    def __init__(self, start: Mapping[str, Any]):
        sys.path += [entry for entry in start["path"] if entry not in sys.path]
        register_backend(*start["backend"])
        _use_one_thread()
        self._shards = ShardGenerator(GenerationSettings.from_dict(start["settings"]), Path(start["output"]))
        self._shards.clips.load()

    def __call__(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do a job.

        Args:
            job: `kind` is "count", with a `shard`, or "generate", with a `task` and whether to `retry` failures.

        Returns:
            `count`, the number of records; or `record`, that of the finished shard; or `fatal`, why the run must end.
        """
        try:
            if job["kind"] == "count":
                return {"count": count_records(shard_from_dict(job["shard"])), "number": job["number"]}
            return {"record": self._shards(ShardTask.from_dict(job["task"]), job["retry"]).to_dict()}
        except (OutputError, WorkersDied) as error:
            return {"fatal": str(error)}


def started(start: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A worker; where it cannot start, one whose every result says why not."""
    try:
        return GenerationWorker(start)
    except Exception as error:
        reason = f"a worker cannot start: {type(error).__name__}: {error}"
        return lambda job: {"fatal": reason}


def done_or_dead(worker: Callable[[Mapping[str, Any]], dict[str, Any]], job: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a job; what no code foresees ends the process, and another one takes the job up."""
    try:
        return worker(job)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _use_one_thread() -> None:
    """As many threads everywhere: the last bits of a sum depend on how it is split."""
    import cv2

    cv2.setNumThreads(1)
    # Where a backend imports it later, it finds what `ProcessPool` has put in the environment.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def main() -> None:
    """Serve `ProcessPool`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(line)
        os._exit(0)

    Thread(target=listen, name="jobs", daemon=True).start()
    with open(int(sys.argv[1]), "w", encoding="utf-8") as results:
        worker = started(json.loads(jobs.get()))
        print(json.dumps({"ready": os.getpid()}), file=results, flush=True)
        while True:
            print(json.dumps(done_or_dead(worker, json.loads(jobs.get()))), file=results, flush=True)


if __name__ == "__main__":
    main()
