"""From a record stream to batches, through worker processes that change nothing but the speed."""

import atexit
import copy
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from .augmentation import ClipTransform
from .collation import collate
from .read_ahead import ReadAhead
from .record_stream import Entry, Position, RecordStream
from .sample_reader import RecordError, Result, SampleReader, Skipped, as_they_are
from .samples import Sample, Source
from .worker_processes import START_METHOD, Lifeline, start_server

MAX_SKIPPED_IN_A_ROW = 1000
"""Records without a usable one between them, after which a stream is given up."""

_BATCHES_AHEAD = 1
_CLOSING_SECONDS = 2.0
_REASONS_SHOWN = 3


class UnusableStreamError(RuntimeError):
    """A stream whose records cannot be used, or whose workers died; the message names it and says why."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one stream.

    Attributes:
        stream: Its name.
        inputs: What `collation.collate` returns, in pinned memory where there is a CUDA device.
        keys: Of its samples, in order.
        skipped: Records met since the batch before that could not be used; the last batch also has those behind it.
        position: The place behind its last record: a stream that starts there goes on with the next batch.
    """

    stream: str
    inputs: dict[str, torch.Tensor]
    keys: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    position: Position


class ClipLoader(Iterator[Batch]):
    """Batches of exactly `batch_size` usable samples, in the order of their stream.

    With workers, records are read and batches made ahead in a thread, from the moment of construction. Neither the
    number of workers nor `prefetch` changes what a batch holds. Torch's global random generators are not touched.

    Args:
        stream: The records of this rank. Where it ends, the last batch may be smaller.
        source: Decodes them, in a worker.
        transform: Makes samples of clips, in a worker.
        tokenizer: A transformers tokenizer; copied.
        name: The stream's.
        batch_size: Samples of a batch, of this rank.
        num_workers: Processes that decode; with 0 the caller's does, when it asks for a batch.
        prefetch: Records in flight for each worker.

    Raises:
        ValueError: An argument is out of its range.
        UnusableStreamError: From the iterator: `MAX_SKIPPED_IN_A_ROW` records in a row, or all of a stream that ends,
            cannot be used, or a worker died.
        RecordError: From the iterator: reading a record raised an unexpected error; the message names the record.
    """

    def __init__(
        self,
        stream: RecordStream,
        source: Source,
        transform: ClipTransform,
        tokenizer: Any,
        *,
        name: str,
        batch_size: int,
        num_workers: int,
        prefetch: int,
    ):
        if batch_size < 1 or num_workers < 0 or prefetch < 1:
            raise ValueError(
                f"batch_size={batch_size}, num_workers={num_workers}, prefetch={prefetch} of stream {name!r}: expected "
                "at least 1, 0 and 1"
            )
        self._stream = stream
        self._reader = SampleReader(source, transform, name)
        # Several loaders may share a tokenizer, whose settings a call changes for its time: no two threads may use it.
        self._tokenizer = copy.deepcopy(tokenizer)
        self._name = name
        self._batch_size = batch_size
        self._device = torch.cuda.current_device() if torch.cuda.is_available() else None
        self._lifeline: Lifeline | None = None
        self._batches: ReadAhead[Batch] | Generator[Batch, None, None]
        if num_workers == 0:
            self._batches = self._cut(self._results(0, prefetch))
            return
        start_server([type(source).__module__, SampleReader.__module__])
        self._lifeline = Lifeline()
        atexit.register(self.close)
        self._batches = ReadAhead(
            lambda: self._cut(self._results(num_workers, prefetch)), _BATCHES_AHEAD, f"batches of {name}"
        )

    def __next__(self) -> Batch:
        return next(self._batches)

    def close(self) -> None:
        """End the workers; the loader then has no further batch."""
        if self._lifeline is None or isinstance(self._batches, Generator):
            self._batches.close()
            return
        if not self._batches.close(_CLOSING_SECONDS):
            # Workers that do not come to an end are ended.
            self._lifeline.cut()
            self._batches.close()
        self._lifeline.cut()
        atexit.unregister(self.close)

    def _results(self, num_workers: int, prefetch: int) -> Generator[Result, None, None]:
        """What became of each record, in order."""
        settings: dict[str, Any] = {}
        if self._lifeline is not None:
            settings = {
                "multiprocessing_context": START_METHOD,
                "worker_init_fn": self._lifeline.worker_start(),
                "prefetch_factor": prefetch,
            }
        loader = DataLoader(
            self._reader,
            batch_sampler=_OneByOne(self._stream),
            num_workers=num_workers,
            collate_fn=as_they_are,
            # Else it would draw from torch's global generator.
            generator=torch.Generator(),
            **settings,
        )
        try:
            for results in loader:
                yield from results if num_workers == 0 else map(_out_of_shared_memory, results)
        except RecordError:
            raise
        # A worker that dies may do so while it sends a sample.
        except (RuntimeError, OSError, EOFError) as error:
            raise UnusableStreamError(
                f"Reading stream {self._name!r} failed ({type(error).__name__}: {error}). Where a worker process was "
                "killed, it may have run out of memory: expected them to live until the stream is closed"
            ) from error

    def _cut(self, results: Generator[Result, None, None]) -> Generator[Batch, None, None]:
        """A batch is complete when the next usable record is met: the last one then knows of all that were skipped."""
        samples: list[Sample] = []
        skipped: list[Skipped] = []
        skipped_behind: list[Skipped] = []
        behind, num_in_a_row = Position(), 0
        for position, result in results:
            if isinstance(result, Skipped):
                (skipped_behind if len(samples) == self._batch_size else skipped).append(result)
                num_in_a_row += 1
                if num_in_a_row == MAX_SKIPPED_IN_A_ROW:
                    raise self._unusable(f"{num_in_a_row} records in a row cannot be used", skipped_behind or skipped)
                continue
            num_in_a_row = 0
            if len(samples) == self._batch_size:
                yield self._batch(samples, skipped, behind)
                samples, skipped, skipped_behind = [], skipped_behind, []
            samples.append(result)
            behind = position
        if samples:
            yield self._batch(samples, skipped + skipped_behind, behind)
        elif skipped:
            raise self._unusable(f"None of its {len(skipped)} records can be used", skipped)

    def _unusable(self, what: str, skipped: list[Skipped]) -> UnusableStreamError:
        reasons = "\n".join(f"  {record.key}: {record.reason}" for record in skipped[-_REASONS_SHOWN:])
        return UnusableStreamError(f"Stream {self._name!r}: {what}; the last of them:\n{reasons}")

    def _batch(self, samples: list[Sample], skipped: list[Skipped], behind: Position) -> Batch:
        inputs = collate(samples, self._tokenizer)
        if self._device is not None:
            # A thread has a device of its own, the first, unless told otherwise.
            with torch.cuda.device(self._device):
                inputs = {name: tensor.pin_memory() for name, tensor in inputs.items()}
        return Batch(self._name, inputs, tuple(sample.key for sample in samples), tuple(skipped), behind)


class _OneByOne:
    """The entries of a stream as batches of one: so that each goes to the next free place in turn."""

    def __init__(self, stream: RecordStream):
        self._stream = stream

    def __iter__(self) -> Iterator[list[Entry]]:
        return ([entry] for entry in self._stream)


def _out_of_shared_memory(result: Result) -> Result:
    """Copied, since what lies in shared memory holds open files, of which a process may have few."""
    position, sample = result
    if isinstance(sample, Skipped):
        return result
    cells = sample.trajectory_map
    return position, replace(
        sample, pixels=sample.pixels.clone(), trajectory_map=None if cells is None else cells.clone()
    )
