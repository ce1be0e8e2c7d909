"""Workers on the nodes of a Ray cluster, by Ray Data: a pool of actors, each of which holds the models.

Blocks hold jobs, and results that are a few kilobytes a shard: videos go from the file system to the actor and back,
never through Ray's object store, which so cannot fill. Ray Data hands a block to an actor when it is free, starts
actors anew when they or their nodes are gone, and gives them their blocks again.
"""

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .generation_worker import done_or_dead, started
from .worker_pools import GenerationFailed, PoolEvent

JOBS_AT_ONCE = 4096
"""Jobs that Ray Data plans at a time; each is a block, of which its driver keeps some metadata."""

_EXECUTOR = "StreamingExecutor"
# Has `import trajvit` put off all that an actor may not need, as for the workers of `process_pool.py`.
_ACTOR_ENVIRONMENT = {"env_vars": {"TRAJVIT_LAZY": "1"}}
_SECONDS_TO_END = 30.0


class RayPool:
    """Runs jobs in Ray actors.

    Args:
        start: From `generation_worker.worker_start`. Its paths must be valid on every node.
        address: Of a cluster, as for `ray.init`; "local" starts one on this machine. Where Ray is connected already, it
            stays so, and this is not looked at.
        num_workers: Actors; None for as many as the cluster has CPUs for, or GPUs.
        gpus_per_worker: GPUs of each actor, or its share of one; 0 asks for none.
        on_event: Told when Ray is connected.

    Raises:
        ImportError: Ray is not installed.
        GenerationFailed: There is no cluster, or it has not what an actor needs.
    """

    def __init__(
        self,
        start: Mapping[str, Any],
        address: str,
        num_workers: int | None,
        gpus_per_worker: float,
        on_event: PoolEvent,
    ):
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise ImportError("Ray is not installed; expected: pip install 'trajvit[scale]'") from error

        self._rows: Any = None
        self._is_own = not ray.is_initialized()
        if self._is_own:
            # There is a progress line, and a log.
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            try:
                ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                raise GenerationFailed(f"cannot connect to Ray at {address!r}: {error}") from error
        resources = ray.cluster_resources()
        most = int(resources.get("CPU", 0))
        if gpus_per_worker:
            most = min(most, int(resources.get("GPU", 0) / gpus_per_worker))
        if most < 1:
            self.close()
            raise GenerationFailed(
                f"the Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs; a worker "
                f"needs 1 CPU and {gpus_per_worker:g} GPUs"
            )
        self.num_workers = most if num_workers is None else min(num_workers, most)
        self._gpus_per_worker = gpus_per_worker
        self._start = json.dumps(start)
        on_event("ray_connected", nodes=len(ray.nodes()), workers=self.num_workers, resources=resources)

    def map(self, jobs: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """See `WorkerPool.map`."""
        waiting = iter(jobs)
        while lines := [json.dumps(job) for _, job in zip(range(JOBS_AT_ONCE), waiting, strict=False)]:
            yield from self._results_of(lines)

    def close(self) -> None:
        """See `WorkerPool.close`."""
        import ray

        if self._rows is not None:
            self._rows.close()
        # Ray ends the whole process where it is shut down under an executor of Ray Data.
        for thread in threading.enumerate():
            if thread.name.startswith(_EXECUTOR):
                thread.join(_SECONDS_TO_END)
        if self._is_own and ray.is_initialized():
            ray.shutdown()

    def _results_of(self, lines: list[str]) -> Iterator[dict[str, Any]]:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # What is done is told at once, whatever is done before it.
        context.execution_options.preserve_order = False
        jobs = ray.data.from_items([{"job": line} for line in lines], override_num_blocks=len(lines))
        results = jobs.map_batches(
            RayWorker,
            fn_constructor_args=(self._start,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self.num_workers, len(lines))),
            num_cpus=1,
            num_gpus=self._gpus_per_worker,
            runtime_env=_ACTOR_ENVIRONMENT,
        )
        # Closing it is what ends the execution.
        self._rows = iter(results.iter_rows())
        for row in self._rows:
            result = json.loads(row["result"])
            if "fatal" in result:
                raise GenerationFailed(result["fatal"])
            yield result


class RayWorker:
    """A `GenerationWorker` as Ray Data calls it."""

    def __init__(self, start: str):
        self._worker = started(json.loads(start))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Do the jobs of a batch."""
        return {"result": [json.dumps(done_or_dead(self._worker, json.loads(job))) for job in batch["job"]]}
