"""How far a generation run is, while it runs: told to whoever asked, and to the log."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

from .generation_folder import GenerationFolder
from .shard_records import ShardRecord

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_LOG_LINES = 30.0


@dataclass(frozen=True)
class GenerationProgress:
    """How far a run is.

    Attributes:
        clips: Clips that are done, with those of earlier runs; failed ones count.
        num_clips: All clips; None where some shards have to be read before they can be counted.
        failures: Clips and shards that failed.
        shards, num_shards: Output shards that are finished, and all.
        workers: Shards that are under way.
        clips_per_second: Of this run; None before its first clip.
        seconds_left: At that pace; None where it is not known.
    """

    clips: int
    num_clips: int | None
    failures: int
    shards: int
    num_shards: int
    workers: int = 0
    clips_per_second: float | None = None
    seconds_left: float | None = None


OnProgress = Callable[[GenerationProgress], None]


class GenerationLog:
    """A file of JSON objects, one in each line: `time` (ISO 8601, UTC), `event`, and what belongs to it.

    Args:
        path: The file, to which lines are added.
    """

    def __init__(self, path: Path):
        self._path = path

    def __call__(self, event: str, **values: Any) -> None:
        """Add a line. On a full disk it is lost, since that must not keep the run from ending in order."""
        line = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, **values}
        with suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class ProgressWatch:
    """Looks, in a thread of its own, at how far finished shards and those under way are.

    Args:
        folder: Of the run.
        num_clips, num_shards: What there is to do in all, with what is done; see `GenerationProgress`.
        on_progress: Called from the thread about once a second.
        log: Gets a line now and then.
    """

    def __init__(
        self,
        folder: GenerationFolder,
        num_clips: int | None,
        num_shards: int,
        on_progress: OnProgress | None,
        log: GenerationLog,
    ):
        self._folder = folder
        self._num_clips = num_clips
        self._num_shards = num_shards
        self._on_progress = on_progress
        self._log = log
        self._clips = self._failures = self._shards = 0
        self._clips_before = 0
        self._first_clip: tuple[float, int] | None = None
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="progress", daemon=True)

    def count(self, record: ShardRecord) -> None:
        """A shard is finished."""
        self._clips += record.num_records
        self._failures += len(record.failures)
        self._shards += 1

    def __enter__(self) -> "ProgressWatch":
        self._clips_before = self._clips
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self._tell(self.progress())

    def progress(self) -> GenerationProgress:
        """How far the run is now."""
        running = self._folder.running()
        clips = self._clips + sum(each["done"] for each in running)
        rate = self._rate(clips)
        left = None if self._num_clips is None or not rate else max(0, self._num_clips - clips) / rate
        return GenerationProgress(
            clips=clips,
            num_clips=self._num_clips,
            failures=self._failures,
            shards=self._shards,
            num_shards=self._num_shards,
            workers=len(running),
            clips_per_second=rate,
            seconds_left=left,
        )

    def _rate(self, clips: int) -> float | None:
        """Clips per second since the first was done: not since the start, for which workers load models."""
        now = monotonic()
        if self._first_clip is None:
            if clips > self._clips_before:
                self._first_clip = (now, clips)
            return None
        since, before = self._first_clip
        return (clips - before) / (now - since) if clips > before and now > since else None

    def _tell(self, progress: GenerationProgress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)

    def _watch(self) -> None:
        next_line = monotonic() + _SECONDS_BETWEEN_LOG_LINES
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            progress = self.progress()
            self._tell(progress)
            if monotonic() >= next_line:
                self._log("progress", **vars(progress))
                next_line += _SECONDS_BETWEEN_LOG_LINES
