"""What a worker process does: from the entries of a record stream to samples, none of which stops the others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.utils.data import Dataset

from trajvit.processing.stored_values import SampleError

from .augmentation import ClipTransform
from .record_stream import Entry, Position
from .samples import Sample, Source


class RecordError(RuntimeError):
    """Reading a record failed in a way that a source does not foresee; the message names the record."""


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used.

    Attributes:
        key: Names it.
        reason: Why.
    """

    key: str
    reason: str


Result: TypeAlias = tuple[Position, Sample | Skipped]
"""What became of a record, with the place behind it."""


class SampleReader(Dataset[Result]):
    """Reads and transforms records; what torch's DataLoader calls a data set, whose indices are the records themselves.

    Args:
        source: Decodes records.
        transform: Makes samples of clips.
        name: What errors call the stream.
    """

    def __init__(self, source: Source, transform: ClipTransform, name: str):
        self._source = source
        self._transform = transform
        self._name = name

    def __getitems__(self, entries: Sequence[Entry]) -> list[Result]:
        with _one_thread():
            return [(entry.position, self._read(entry)) for entry in entries]

    def __getitem__(self, entry: Entry) -> Result:
        return self.__getitems__([entry])[0]

    def _read(self, entry: Entry) -> Sample | Skipped:
        if entry.row is None:
            return Skipped(entry.key, entry.error or "it has no row")
        try:
            return self._transform(self._source.read(entry.row), entry.seed)
        except SampleError as error:
            return Skipped(entry.key, str(error))
        except Exception as error:
            # Of all else that goes wrong it must be known with which record.
            raise RecordError(
                f"Record {entry.key!r} of stream {self._name!r} raised {type(error).__name__}: {error}"
            ) from error


def as_they_are(results: list[Result]) -> list[Result]:
    """Keeps torch's DataLoader from making a batch of results."""
    return results


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, as in a worker: how a sum is split among threads changes its last bits."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
