"""Worker processes on this machine, which are replaced when they end."""

import json
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .worker_pools import GenerationFailed, PoolEvent

# The option has `import trajvit` put off all that a worker may not need; PyTorch alone is seconds and 300 MB.
WORKER_PROGRAM = ("-X", "trajvit_lazy", "-m", f"{__name__.rpartition('.')[0]}.generation_worker")

_MAX_FAILED_STARTS = 3
_BYTES_AT_ONCE = 2**16
# Read when libraries are first imported. Workers share the cores among them, and equal threads give equal sums.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ProcessPool:
    """Runs jobs in worker processes; a job whose worker ends is given to another.

    Args:
        start: From `generation_worker.worker_start`.
        num_workers: How many processes; None for as many as there are cores, or GPUs for.
        gpus_per_worker: GPUs of each, or its share of one; 0 leaves it all that there are.
        log: File for what workers print.
        on_event: Told when workers start and end.

    Raises:
        ValueError: There are fewer GPUs than that needs.
    """

    def __init__(
        self,
        start: Mapping[str, Any],
        num_workers: int | None,
        gpus_per_worker: float,
        log: Path,
        on_event: PoolEvent,
    ):
        self._start = start
        self._devices = devices_of_workers(num_workers, gpus_per_worker)
        self._log = log
        self._on_event = on_event
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker | None] = [None] * len(self._devices)
        self._num_failed_starts = 0

    def map(self, jobs: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The results of jobs, in the order in which they are done.

        Raises:
            GenerationFailed: Workers do not start, or one says that the run must end.
        """
        waiting = _Jobs(jobs)
        while True:
            self._hand_out(waiting)
            busy = [worker for worker in self._workers if worker is not None and worker.job is not None]
            if not busy:
                return
            for key, _ in self._selector.select():
                worker: _Worker = key.data
                yield from self._results_of(worker, waiting)

    def close(self) -> None:
        """End all workers at once."""
        for worker in self._workers:
            if worker is not None:
                self._end(worker)
        self._selector.close()

    def _hand_out(self, waiting: "_Jobs") -> None:
        for slot, worker in enumerate(self._workers):
            if worker is not None and worker.job is not None:
                continue
            job = waiting.next()
            if job is None:
                return
            if worker is None:
                worker = self._started(slot)
            worker.give(job)

    def _started(self, slot: int) -> "_Worker":
        worker = _Worker(slot, self._start, self._devices[slot], self._log)
        self._workers[slot] = worker
        self._selector.register(worker.results, selectors.EVENT_READ, worker)
        self._on_event("worker_started", pid=worker.process.pid, devices=self._devices[slot])
        return worker

    def _results_of(self, worker: "_Worker", waiting: "_Jobs") -> Iterator[dict[str, Any]]:
        results = worker.read()
        if results is None:
            job = worker.job
            code = self._end(worker)
            self._on_event("worker_ended", pid=worker.process.pid, exit_code=code, at_work=job is not None)
            if job is not None:
                waiting.put_back(job)
            self._num_failed_starts = 0 if worker.is_ready else self._num_failed_starts + 1
            if self._num_failed_starts == _MAX_FAILED_STARTS:
                raise GenerationFailed(
                    f"worker processes end as they start, the last with exit code {code}; {self._log} says more"
                )
            return
        for result in results:
            if "fatal" in result:
                raise GenerationFailed(result["fatal"])
            if "ready" in result:
                worker.is_ready = True
                self._on_event("worker_ready", pid=worker.process.pid)
                continue
            worker.job = None
            yield result

    def _end(self, worker: "_Worker") -> int:
        self._selector.unregister(worker.results)
        self._workers[worker.slot] = None
        return worker.end()


class _Jobs:
    """Jobs that wait; those that come back go first."""

    def __init__(self, jobs: Iterable[Mapping[str, Any]]):
        self._jobs = iter(jobs)
        self._again: deque[Mapping[str, Any]] = deque()

    def next(self) -> Mapping[str, Any] | None:
        return self._again.popleft() if self._again else next(self._jobs, None)

    def put_back(self, job: Mapping[str, Any]) -> None:
        self._again.append(job)


class _Worker:
    """A process, the job that it does, and what it has said so far."""

    def __init__(self, slot: int, start: Mapping[str, Any], devices: str | None, log: Path):
        self.slot = slot
        self.job: Mapping[str, Any] | None = None
        self.is_ready = False
        self._unread = b""
        self.results, theirs = os.pipe()
        try:
            with open(log, "ab") as printed:
                self.process = subprocess.Popen(
                    [sys.executable, *WORKER_PROGRAM, str(theirs)],
                    stdin=subprocess.PIPE,
                    stdout=printed,
                    stderr=printed,
                    env=_environment(devices),
                    pass_fds=[theirs],
                    # Ctrl-C is for the driver, which then ends its workers.
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
        self._tell(start)

    def give(self, job: Mapping[str, Any]) -> None:
        self.job = job
        self._tell(job)

    def read(self) -> list[dict[str, Any]] | None:
        """What it has said since; None where it has ended."""
        data = os.read(self.results, _BYTES_AT_ONCE)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> int:
        """End it, and return its exit code."""
        self.process.kill()
        code = self.process.wait()
        os.close(self.results)
        with suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        return code

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        # One that has ended is noticed where its results are read.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()


def devices_of_workers(num_workers: int | None, gpus_per_worker: float) -> list[str | None]:
    """The value of CUDA_VISIBLE_DEVICES for each worker; None leaves it alone.

    Args:
        num_workers, gpus_per_worker: As for `ProcessPool`.

    Raises:
        ValueError: There are fewer GPUs than that needs, or a worker's share of GPUs is neither a whole number nor
            less than 1.
    """
    if gpus_per_worker == 0:
        return [None] * (available_cores() if num_workers is None else num_workers)
    if not gpus_per_worker > 0 or (gpus_per_worker > 1 and gpus_per_worker != int(gpus_per_worker)):
        raise ValueError(f"gpus_per_worker must be in 0..1 or a whole number, got {gpus_per_worker:g}")
    names = _visible_gpus()
    size = max(1, int(gpus_per_worker))
    # Workers that share a GPU do not reach over into the next one.
    at_once = len(names) // size if gpus_per_worker >= 1 else len(names) * int(1 / gpus_per_worker)
    count = at_once if num_workers is None else num_workers
    if not 1 <= count <= at_once:
        raise ValueError(
            f"{count} workers with {gpus_per_worker:g} GPUs each do not fit on the {len(names)} GPUs that there are"
        )
    firsts = [worker * size if gpus_per_worker >= 1 else worker // int(1 / gpus_per_worker) for worker in range(count)]
    return [",".join(names[first : first + size]) for first in firsts]


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _visible_gpus() -> list[str]:
    import torch

    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return names.split(",")[:count] if names else [str(number) for number in range(count)]


def _environment(devices: str | None) -> dict[str, str]:
    # The folder in which the whole package was found, installed or not.
    home = str(Path(sys.modules[__name__.partition(".")[0]].__path__[0]).resolve().parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
    return {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths), **own}
