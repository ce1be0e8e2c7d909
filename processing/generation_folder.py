"""The folder `__generation__` of an output: what was asked for, what is finished, and what is under way.

    settings.json    what the run was asked for
    plan.json        the input's shards
    shards/          a record for each output shard that is finished
    running/         for each shard under way, at which clip it is
    parts/           files that are not complete
    log.jsonl, workers.log, failures.parquet, summary.json, statistics.html

A shard is finished when its record is there: first its files are complete in `parts`, then the record is written, then
the files are renamed to their places; a run that finds a record whose files are still in `parts` renames them.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .atomic_files import move_into_place, write_json
from .generation_plan import InputShard, shard_from_dict, shard_to_dict
from .shard_records import ShardRecord, StoredFile, checksum

FOLDER = "__generation__"
"""HF Datasets, PyArrow and Spark pass over folders with such names."""

FORMAT_VERSION = 1


class GenerationFolder:
    """Reads and writes the state of a run.

    Args:
        output: The output folder.
    """

    def __init__(self, output: Path):
        self.output = output
        self.path = output / FOLDER
        self.parts = self.path / "parts"
        self.log = self.path / "log.jsonl"
        self.worker_log = self.path / "workers.log"

    def create(self) -> None:
        """Make the folders that are missing. Raises `OSError`."""
        for folder in (self.parts, self.path / "shards", self.path / "running"):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs off this output.

        Raises:
            ValueError: Another run is at work on it.
        """
        import fcntl

        with open(self.path / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another run is writing to {self.output}; expected one at a time") from None
            yield

    def settings(self) -> dict[str, Any] | None:
        """What the output was begun with; None where it is new.

        Raises:
            ValueError: It was begun by a release whose folders are laid out otherwise, or the file is damaged.
        """
        path = self.path / "settings.json"
        if not path.exists():
            return None
        stored = _read_json(path)
        if stored.get("format") != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format {stored.get('format')!r}, and this release reads {FORMAT_VERSION}; "
                "expected another output"
            )
        return stored["settings"]

    def write_settings(self, settings: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        """Begin an output."""
        values = {"format": FORMAT_VERSION, "settings": settings, "versions": versions}
        self.write("settings.json", values)

    def plan(self) -> list[InputShard]:
        """The input's shards as they were planned; none where nothing was."""
        path = self.path / "plan.json"
        if not path.exists():
            return []
        return [
            InputShard(shard_from_dict(each["shard"]), each["num_records"], each["size"]) for each in _read_json(path)
        ]

    def write_plan(self, shards: Sequence[InputShard]) -> None:
        """Replace the plan."""
        values = [{**vars(each), "shard": shard_to_dict(each.shard)} for each in shards]
        self.write("plan.json", values)

    def record(self, name: str) -> ShardRecord | None:
        """The record of an output shard, if it is finished and all its files are there.

        Files that a run had no time to rename are renamed.
        """
        path = self._record_path(name)
        if not path.exists():
            return None
        try:
            record = ShardRecord.from_dict(_read_json(path))
        except (ValueError, KeyError, TypeError):
            # A record is written whole or not at all; one that is no record was damaged since.
            return None
        return record if all(self._is_there(path, file) for path, file in record.files.items()) else None

    def is_intact(self, record: ShardRecord) -> bool:
        """Whether the files of a finished shard still have their checksums; reads all of them."""
        return all(checksum(self.output / path) == file.sha256 for path, file in record.files.items())

    def publish(self, record: ShardRecord) -> ShardRecord:
        """Make a shard finished: its files are complete in `parts`, and those that stay are at their places.

        Returns the record. Raises `OSError`.
        """
        write_json(self._record_path(record.name), record.to_dict(), self.parts)
        for path, file in record.files.items():
            if file.part is not None and (self.parts / file.part).exists():
                move_into_place(self.parts / file.part, self.output / path)
        return record

    def records(self) -> Iterator[ShardRecord]:
        """All records, sorted by name, one at a time."""
        folder = self.path / "shards"
        for path in sorted(folder.rglob("*.json")):
            yield ShardRecord.from_dict(_read_json(path))

    def forget(self, name: str) -> None:
        """Take a shard for unfinished, and remove its files."""
        path = self._record_path(name)
        if path.exists():
            with suppress(ValueError, KeyError, TypeError):
                for file in ShardRecord.from_dict(_read_json(path)).files:
                    (self.output / file).unlink(missing_ok=True)
            path.unlink()

    def write(self, name: str, value: Any) -> None:
        """Replace a JSON file of this folder."""
        write_json(self.path / name, value, self.parts)

    def running_path(self, name: str) -> Path:
        """Where a worker tells at which clip of a shard it is."""
        return self.path / "running" / f"{name}.json"

    def running(self) -> list[dict[str, Any]]:
        """What workers tell of the shards under way."""
        found = []
        for path in (self.path / "running").rglob("*.json"):
            try:
                found.append(_read_json(path))
            except (OSError, ValueError):
                # It was finished, or is being written, just now.
                continue
        return found

    def settle(self) -> None:
        """Leave nothing half done behind workers that were ended in order, and so died of no clip."""
        running = self.path / "running"
        for path in running.rglob("*.json"):
            self.record(str(path.relative_to(running)).removesuffix(".json"))
        shutil.rmtree(running, ignore_errors=True)
        running.mkdir(parents=True, exist_ok=True)
        self.clean()

    def clean(self) -> None:
        """Remove what is left of shards that were not finished; only while no worker is at work.

        Records have been asked for before, so that none waits for a file here.
        """
        for path in self.parts.iterdir():
            path.unlink()

    def _record_path(self, name: str) -> Path:
        return self.path / "shards" / f"{name}.json"

    def _is_there(self, path: str, file: StoredFile) -> bool:
        target = self.output / path
        part = self.parts / file.part if file.part is not None else None
        if part is not None and part.exists():
            if part.stat().st_size != file.size or checksum(part) != file.sha256:
                return False
            move_into_place(part, target)
        return target.exists() and target.stat().st_size == file.size


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
