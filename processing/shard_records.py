"""What is known of a finished output shard: the line of the manifest that makes it finished."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from .generation_statistics import GenerationStatistics

_BYTES_AT_ONCE = 2**20


@dataclass(frozen=True)
class StoredFile:
    """A file of the output.

    Attributes:
        size: Bytes.
        sha256: Of its content, in hexadecimal.
        part: Its name in the folder of unfinished files, from where it is renamed once the record is there.
    """

    size: int
    sha256: str
    part: str | None = None


@dataclass(frozen=True)
class Failure:
    """A clip without trajectories, or a shard that could not be read to its end.

    Attributes:
        key: The clip's key; of a shard its name.
        stage: `read`, `decode`, `track`, `encode`, `worker`, or `shard`.
        error: Why.
        position: The record's number in the input shard; None for a shard.
    """

    key: str
    stage: str
    error: str
    position: int | None = None


@dataclass(frozen=True)
class ShardRecord:
    """An output shard that is finished.

    Attributes:
        name: The task's.
        shard: Name of the input shard.
        files: By their paths in the output folder.
        failures: In the order of the records.
        statistics: Of its clips.
        warnings: Of clips that are damaged but could be used, by key.
        versions: Of the software that made it.
    """

    name: str
    shard: str
    files: Mapping[str, StoredFile]
    failures: tuple[Failure, ...] = ()
    statistics: GenerationStatistics = field(default_factory=GenerationStatistics)
    warnings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_records(self) -> int:
        """How many records of the input are done, those that failed among them."""
        return self.statistics.clips + sum(failure.position is not None for failure in self.failures)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data for `from_dict`."""
        return {
            **vars(self),
            "files": {path: vars(file) for path, file in self.files.items()},
            "failures": [vars(failure) for failure in self.failures],
            "statistics": self.statistics.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ShardRecord":
        """The record that `to_dict` described.

        Raises:
            KeyError, TypeError: It is none.
        """
        return cls(
            **{
                **values,
                "files": {path: StoredFile(**file) for path, file in values["files"].items()},
                "failures": tuple(Failure(**failure) for failure in values["failures"]),
                "statistics": GenerationStatistics.from_dict(values["statistics"]),
            }
        )


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()
