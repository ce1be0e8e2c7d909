"""The work on one output shard: every clip of it in order, then its files and its record, whole or not at all."""

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .clip_generation import ClipError, ClipGenerator
from .columns import Columns, Media
from .generation_folder import GenerationFolder
from .generation_plan import ShardTask
from .generation_settings import GenerationSettings
from .generation_statistics import GenerationStatistics
from .kept_clips import KeptClips, StoredClip
from .output_shards import OutputClip, ShardWriter, open_writer, output_error, trajectories_name
from .running_shard import MAX_DEATHS, RunningShard
from .shard_records import Failure, ShardRecord, StoredFile
from .stored_values import Record, SampleError

_PACKAGES = ("trajvit", "numpy", "opencv-python", "scikit-image", "scipy", "scenedetect", "av", "torch", "sam2")


def software_versions() -> dict[str, str]:
    """The versions of all that trajectories depend on, by package."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass
class _Made:
    """What a shard's record tells of its clips, as far as it is made."""

    statistics: GenerationStatistics = field(default_factory=GenerationStatistics)
    failures: list[Failure] = field(default_factory=list)
    warnings: dict[str, str] = field(default_factory=dict)


class ShardGenerator:
    """Makes output shards, one after another, with one clip generator.

    Args:
        settings: The run's.
        output: The output folder.

    Raises:
        TypeError, ValueError: The settings are not legal.
    """

    def __init__(self, settings: GenerationSettings, output: Path):
        self.clips = ClipGenerator(settings)
        self._settings = settings
        self._columns = Columns(settings.columns, settings.media)
        self._folder = GenerationFolder(output)
        self._versions = software_versions()

    def __call__(self, task: ShardTask, retry: bool = False) -> ShardRecord:
        """Make a shard, unless it is finished.

        Args:
            task: Which one.
            retry: Whether clips that failed are tried again; those of a finished shard that did not are kept.

        Raises:
            OutputError: The output cannot be written.
            WorkersDied: See `RunningShard`.
        """
        try:
            before = self._folder.record(task.name)
            if before is not None and not (retry and before.failures):
                return before
            kept = self._kept(before) if before is not None and self._folder.is_intact(before) else None
            return self._finished(task, kept)
        except OSError as error:
            raise output_error(self._folder.output / task.name, error) from error

    def _finished(self, task: ShardTask, kept: KeptClips | None) -> ShardRecord:
        running = RunningShard(self._folder.running_path(task.name), task.start)
        made, files = self._made(task, running, kept)
        record = ShardRecord(
            name=task.name,
            shard=task.shard.name,
            files=files,
            failures=tuple(made.failures),
            statistics=made.statistics,
            warnings=made.warnings,
            versions=self._versions,
        )
        self._folder.publish(record)
        running.finish()
        return record

    def _made(
        self, task: ShardTask, running: RunningShard, kept: KeptClips | None
    ) -> tuple[_Made, dict[str, StoredFile]]:
        """Write all clips of a task to files that are complete but not at their places."""
        made = _Made()
        try:
            writer = open_writer(task.name, task.shard, self._folder.output, self._folder.parts, self._settings.columns)
        except SampleError as error:
            made.failures.append(Failure(task.shard.name, "shard", str(error)))
            return made, {}
        try:
            try:
                for position, record in enumerate(task.records(), task.start):
                    self._add(task, position, record, writer, running.deaths(position), kept, made)
                    # Told before it is read, which may be what ends a process.
                    running.at(position + 1, position + 1 - task.start)
            except SampleError as error:
                made.failures.append(Failure(task.shard.name, "shard", str(error)))
            if made.statistics.clips:
                return made, writer.close()
            writer.discard()
            return made, {}
        except BaseException:
            writer.discard()
            raise

    def _kept(self, before: ShardRecord) -> KeptClips:
        name = trajectories_name(before.name, self._settings.columns)
        return KeptClips(before, self._folder.output, self._columns, name, self._settings.frames is not None)

    def _add(
        self,
        task: ShardTask,
        position: int,
        record: Record,
        writer: ShardWriter,
        num_deaths: int,
        kept: KeptClips | None,
        made: _Made,
    ) -> None:
        """Write a clip, or take down why it cannot be."""
        key = record.key
        try:
            if record.error is not None:
                raise ClipError("read", record.error)
            key = self._columns.key(record)
            media = self._columns.media(record)
            if num_deaths >= MAX_DEATHS:
                raise ClipError("worker", f"{num_deaths} worker processes ended while they were at this clip")
            clip = kept.at(position, record, media) if kept is not None else None
            if clip is None:
                clip = self._generated(key, media, task.shard.folder, made)
            writer.write(OutputClip(key, record, media, clip.content, clip.frames, clip.suffix))
        except SampleError as error:
            made.failures.append(Failure(key, "read", str(error), position))
        except ClipError as error:
            made.failures.append(Failure(key, error.stage, error.reason, position))
        else:
            made.statistics.count(clip.value, len(clip.content), len(clip.frames or b""))

    def _generated(self, key: str, media: Media, folder: str | None, made: _Made) -> StoredClip:
        generated = self.clips(media.value, folder)
        made.statistics.spend(generated.seconds)
        if generated.warning is not None:
            made.warnings[key] = generated.warning
        return StoredClip(generated.trajectories, generated.value, generated.frames, generated.suffix)
