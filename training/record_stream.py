"""The order in which one of several training processes sees the records of a source, resumable at every record.

An epoch visits every record exactly once over all ranks. Its shards are put in an order that (seed, source, epoch)
decide. As many of them as divide evenly are dealt to the ranks whole; the rows of the few that remain are dealt one by
one, so that no rank goes without, even where there are more ranks than shards. A rank reads its shards one after
another, in blocks of `shuffle_block` records that are shuffled. Nothing depends on workers or on time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

from trajvit.processing.stored_values import SampleError

from .samples import Row, Source
from .stable_hashing import stable_hash, stable_order

MAX_EMPTY_EPOCHS = 100
"""Epochs in a row without a readable record for a rank, after which its stream gives up."""


@dataclass(frozen=True)
class Position:
    """A place in a rank's endless order of records; plain integers, for JSON.

    Attributes:
        epoch: The epoch of the next record.
        index: Records of this rank in this epoch before the next one.
        shard: Where the block of the next record begins: the shard, counted in this rank's order of the epoch.
        row: And how many rows of that shard lie before it. With both, resuming opens no earlier shard.
    """

    epoch: int = 0
    index: int = 0
    shard: int = 0
    row: int = 0

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"position {name}={value!r}: expected an integer of at least 0")


@dataclass(frozen=True)
class Entry:
    """A record in its place, or the notice that one cannot be had.

    Attributes:
        position: The place behind it: a stream that starts there goes on with the next record.
        seed: Decides its augmentation and captions; belongs to the run, the source, the epoch and the record.
        row: The record; None where there is none.
        key: Names it in messages.
        error: Why there is no row, such as a shard that breaks off.
    """

    position: Position
    seed: int
    row: Row | None
    key: str
    error: str | None = None


class _Place(NamedTuple):
    shard: int
    row: int


class _Record(NamedTuple):
    behind: _Place
    key: str
    row: Row | None
    error: str | None


class RecordStream:
    """The records of a rank as `Entry`s, epoch after epoch. Each iteration starts at `position`.

    Args:
        source: Where they come from.
        seed: The run's.
        rank, num_ranks: Which of how many training processes reads.
        shuffle_block: Records that are read together and shuffled, beside the shuffling of shards; 0 keeps the source's
            order.
        position: The place to start at, from an `Entry` of a stream with the same settings.
        num_epochs: Epochs after which the stream ends, counted from epoch 0; None for never.
        num_rows: Only the first so many records of an epoch, over all ranks; all shards are then dealt row by row, and
            the stream cannot be resumed.

    Raises:
        ValueError: An argument is out of its range. From the iterator: the source has no shard, this rank found no
            readable record in `MAX_EMPTY_EPOCHS` epochs, or the data set no longer reaches to `position`.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        shuffle_block: int = 0,
        position: Position = Position(),
        num_epochs: int | None = None,
        num_rows: int | None = None,
    ):
        if num_ranks < 1 or not 0 <= rank < num_ranks:
            raise ValueError(f"rank={rank} of num_ranks={num_ranks}: expected 0..num_ranks-1")
        if shuffle_block < 0:
            raise ValueError(f"shuffle_block={shuffle_block}: expected at least 0")
        if num_rows is not None and (num_rows < 1 or position != Position()):
            raise ValueError(f"num_rows={num_rows} at {position}: expected at least 1, and the first position")
        self.source = source
        self.seed = seed
        self.rank = rank
        self.num_ranks = num_ranks
        self.shuffle_block = shuffle_block
        self.position = position
        self.num_epochs = num_epochs
        self.num_rows = num_rows

    def __iter__(self) -> Iterator[Entry]:
        if self.source.num_shards < 1:
            raise ValueError(f"{self.source.name} has no shard: expected at least one")
        position, num_empty = self.position, 0
        for epoch in count(position.epoch):
            if self.num_epochs is not None and epoch >= self.num_epochs:
                return
            start = position if epoch == position.epoch else Position(epoch)
            has_rows = start.index > 0
            for entry in self._epoch(start):
                has_rows = has_rows or entry.row is not None
                yield entry
            num_empty = 0 if has_rows else num_empty + 1
            if num_empty == MAX_EMPTY_EPOCHS:
                raise ValueError(
                    f"{self.source.name}: rank {self.rank} of {self.num_ranks} found no readable record in {num_empty} "
                    "epochs; expected more records than ranks"
                )

    def _epoch(self, start: Position) -> Iterator[Entry]:
        """The entries from `start` to the end of its epoch."""
        block_size = max(1, self.shuffle_block)
        number, num_passed = divmod(start.index, block_size)
        place = _Place(start.shard, start.row)
        records = self._records(start.epoch, place)
        while block := list(islice(records, block_size)):
            order = list(range(len(block)))
            if self.shuffle_block:
                order = stable_order(len(block), "block", self.seed, self.source.name, start.epoch, self.rank, number)
            for passed, which in enumerate(order[num_passed:], start=num_passed + 1):
                is_full = passed == block_size
                behind = block[-1].behind if is_full else place
                position = Position(start.epoch, number * block_size + passed, *behind)
                yield self._entry(position, block[which])
            if num_passed > len(block):
                break
            place, number, num_passed = block[-1].behind, number + 1, 0
        if num_passed > len(block):
            raise ValueError(
                f"{self.source.name} has no record at {start} of rank {self.rank}: expected the data set, the "
                "shuffle_block and the number of ranks with which this position was reached"
            )

    def _entry(self, position: Position, record: _Record) -> Entry:
        seed = stable_hash("record", self.seed, self.source.name, position.epoch, record.key)
        return Entry(position, seed, record.row, record.key, record.error)

    def _records(self, epoch: int, start: _Place) -> Iterator[_Record]:
        """This rank's records of an epoch, from a place on, in the order of shards and rows."""
        shards = self._shards(epoch)
        if start.shard >= max(1, len(shards)):
            raise ValueError(f"{self.source.name} has no shard {start.shard} for rank {self.rank} at epoch {epoch}")
        num_rows = 0
        for ordinal, (shard, offset) in enumerate(shards[start.shard :], start=start.shard):
            num_passed = start.row if ordinal == start.shard else 0
            for row_number, record in enumerate(islice(self._shard(ordinal, shard), num_passed, None), num_passed):
                turn = row_number + (offset or 0)
                if self.num_rows is not None:
                    if num_rows == self.num_rows:
                        return
                    turn = num_rows
                    num_rows += 1
                if offset is None or turn % self.num_ranks == self.rank:
                    yield record

    def _shards(self, epoch: int) -> list[tuple[int, int | None]]:
        """The shards that this rank reads, in order: None, or which rank its row 0 goes to if they are dealt by row."""
        num_shards = self.source.num_shards
        order = list(range(num_shards))
        if self.shuffle_block:
            order = stable_order(num_shards, "shards", self.seed, self.source.name, epoch)
        num_whole = 0 if self.num_rows is not None else num_shards // self.num_ranks * self.num_ranks
        whole: list[tuple[int, int | None]] = [(shard, None) for shard in order[self.rank : num_whole : self.num_ranks]]
        # Row 0 goes to another rank in every shard and epoch, so that none gets more in the long run.
        return whole + [(shard, ordinal + epoch) for ordinal, shard in enumerate(order[num_whole:])]

    def _shard(self, ordinal: int, shard: int) -> Iterator[_Record]:
        """All records of a shard; where it breaks off, a last one that says so."""
        number = 0
        try:
            for number, row in enumerate(self.source.rows(shard), start=1):
                yield _Record(_Place(ordinal, number), str(row["key"]), row, None)
        except SampleError as error:
            yield _Record(_Place(ordinal, number + 1), f"{self.source.name}, shard {shard}", None, str(error))
