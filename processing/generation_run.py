"""One run over a data set: what is planned, what of it is finished, and who does the rest."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from .failures_file import write_failures
from .generation_folder import GenerationFolder
from .generation_plan import InputShard, ShardTask, extended, media_shard_size, plan_tasks, shard_to_dict
from .generation_progress import GenerationLog, OnProgress, ProgressWatch
from .generation_settings import GenerationSettings, differences
from .generation_statistics import GenerationStatistics
from .shard_generation import software_versions
from .shard_records import ShardRecord
from .statistics_page import write_page
from .worker_pools import PoolEvent, WorkerPool


@dataclass(frozen=True)
class GenerationSummary:
    """What a run did.

    Attributes:
        output: The output folder.
        shards: Output shards that are finished now.
        new_shards: Those that this run made.
        clips: Clips that have trajectories now.
        new_clips: Clips that this run went through, with those that failed.
        failures: Clips and shards that failed, of all that is finished.
        seconds: That the run took, from its start to its end.
        statistics: Of all clips with trajectories.
    """

    output: Path
    shards: int
    new_shards: int
    clips: int
    new_clips: int
    failures: int
    seconds: float
    statistics: GenerationStatistics

    @property
    def clips_per_second(self) -> float:
        """Of this run, with its start and its end."""
        return self.new_clips / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data."""
        return {
            **vars(self),
            "output": str(self.output),
            "clips_per_second": self.clips_per_second,
            "statistics": self.statistics.to_dict(),
        }


class GenerationRun:
    """One run.

    Args:
        folder: Of the output.
        settings: The run's.
        retry: Whether clips that failed are tried again, and input shards that have changed made anew.
        verify: Whether finished shards are read, and made anew where their checksums differ.
        on_progress: Called about once a second, from another thread.
    """

    def __init__(
        self,
        folder: GenerationFolder,
        settings: GenerationSettings,
        retry: bool,
        verify: bool,
        on_progress: OnProgress | None,
    ):
        self._folder = folder
        self._settings = settings
        self._retry = retry
        self._verify = verify
        self._on_progress = on_progress
        self._log = GenerationLog(folder.log)
        self._statistics = GenerationStatistics()
        self._num_failures = self._num_clips = self._num_shards = 0
        # Clips that earlier runs went through, and this one does not.
        self._num_clips_before = 0

    def go(self, found: Sequence[InputShard], gather: Callable[[PoolEvent], WorkerPool]) -> GenerationSummary:
        """Do what is not done yet.

        Args:
            found: The input's shards.
            gather: Gives the workers, once there is something to do.

        Raises:
            ValueError: The output was begun with other settings or from another input, or another run is at work on it.
            GenerationFailed: Workers do not start, or one says that the run must end.
            OSError: The output cannot be written.
        """
        started = monotonic()
        self._folder.create()
        with self._folder.locked():
            planned = self._folder.plan()
            self._begin(is_new=not planned)
            crew = _Crew(gather, self._log)
            try:
                new_shards = self._work(planned, found, crew)
            except BaseException as error:
                self._log("run_ended", error=f"{type(error).__name__}: {error}")
                raise
            finally:
                crew.dismiss()
                self._folder.settle()
            return self._summarized(new_shards, monotonic() - started)

    def _begin(self, is_new: bool) -> None:
        versions = software_versions()
        before = self._folder.settings()
        if before is None or is_new:
            # Nothing was begun with them.
            self._folder.write_settings(self._settings.to_dict(), versions)
        elif found := differences(before, self._settings.to_dict()):
            raise ValueError(
                f"{self._folder.output} was begun with other settings: {'; '.join(found)}. "
                "Expected the same, or another output"
            )
        self._log("run_started", versions=versions, settings=self._settings.to_dict())

    def _work(self, planned: Sequence[InputShard], found: Sequence[InputShard], crew: "_Crew") -> int:
        """Plan, and do what is not finished. Returns the number of shards made."""
        shards = self._counted(self._extended(planned, found), crew)
        tasks = plan_tasks(shards, self._settings)
        if not planned:
            self._check_nothing_is_there(tasks)
        self._folder.write_plan(shards)
        watch = ProgressWatch(self._folder, _total(shards), len(tasks), self._on_progress, self._log)
        todo = [task for task in tasks if not self._is_finished(task, watch)]
        self._folder.clean()
        self._log("planned", shards=len(tasks), finished=len(tasks) - len(todo), clips=_total(shards))
        with watch:
            # Made as they are handed out: a shard of media files names them all.
            jobs = ({"kind": "generate", "task": task.to_dict(), "retry": self._retry} for task in todo)
            for result in crew.do(jobs, bool(todo)):
                self._finish(ShardRecord.from_dict(result["record"]), watch)
        return len(todo)

    def _extended(self, planned: Sequence[InputShard], found: Sequence[InputShard]) -> list[InputShard]:
        shards, changed = extended(planned, found, media_shard_size(self._settings), may_change=self._retry)
        for task in plan_tasks(planned, self._settings) if changed else ():
            if InputShard(task.shard).identity in changed:
                self._folder.forget(task.name)
        return shards

    def _counted(self, shards: Sequence[InputShard], crew: "_Crew") -> list[InputShard]:
        counted = list(shards)
        jobs = [
            {"kind": "count", "number": number, "shard": shard_to_dict(each.shard)}
            for number, each in enumerate(shards)
            if each.shard.is_divisible and each.num_records is None
        ]
        for result in crew.do(jobs, bool(jobs)):
            number = result["number"]
            counted[number] = replace(counted[number], num_records=result["count"])
        return counted

    def _check_nothing_is_there(self, tasks: Sequence[ShardTask]) -> None:
        for task in tasks:
            path = self._folder.output / task.name
            if path.is_file():
                raise ValueError(f"{path} is there already, and no run has made it; expected another output")

    def _is_finished(self, task: ShardTask, watch: ProgressWatch) -> bool:
        record = self._folder.record(task.name)
        if record is not None and self._verify and not self._folder.is_intact(record):
            self._log("damaged", shard=task.name)
            self._folder.forget(task.name)
            record = None
        if record is None:
            return False
        if self._retry and record.failures:
            self._num_clips_before += record.statistics.clips
            return False
        self._num_clips_before += record.num_records
        self._count(record)
        watch.count(record)
        return True

    def _finish(self, record: ShardRecord, watch: ProgressWatch) -> None:
        self._count(record)
        watch.count(record)
        for failure in record.failures:
            self._log("failed", shard=record.name, **vars(failure))
        for key, warning in record.warnings.items():
            self._log("damaged_clip", shard=record.name, key=key, warning=warning)
        self._log("shard_finished", shard=record.name, clips=record.statistics.clips, failures=len(record.failures))

    def _count(self, record: ShardRecord) -> None:
        self._statistics.add(record.statistics)
        self._num_clips += record.num_records
        self._num_failures += len(record.failures)
        self._num_shards += 1

    def _summarized(self, new_shards: int, seconds: float) -> GenerationSummary:
        summary = GenerationSummary(
            output=self._folder.output,
            shards=self._num_shards,
            new_shards=new_shards,
            clips=self._statistics.clips,
            new_clips=self._num_clips - self._num_clips_before,
            failures=self._num_failures,
            seconds=seconds,
            statistics=self._statistics,
        )
        stages = write_failures(self._folder)
        write_page(self._folder, summary.to_dict(), self._statistics, stages)
        self._folder.write("summary.json", summary.to_dict())
        self._log("run_finished", **{name: value for name, value in summary.to_dict().items() if name != "statistics"})
        return summary


class _Crew:
    """Workers that are gathered when there is the first job."""

    def __init__(self, gather: Callable[[PoolEvent], WorkerPool], log: GenerationLog):
        self._gather = gather
        self._log = log
        self._pool: WorkerPool | None = None

    def do(self, jobs: Iterable[Mapping[str, Any]], are_any: bool) -> Iterator[dict[str, Any]]:
        if not are_any:
            return
        if self._pool is None:
            self._pool = self._gather(self._log)
        yield from self._pool.map(jobs)

    def dismiss(self) -> None:
        if self._pool is not None:
            self._pool.close()


def _total(shards: Sequence[InputShard]) -> int | None:
    counts = [each.num_records for each in shards]
    return None if None in counts else sum(count or 0 for count in counts)
