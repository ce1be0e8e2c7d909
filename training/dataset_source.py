"""`DatasetSource`: videos or images with captions from files, folders or the Hub, streamed shard by shard."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from trajvit.processing.columns import Columns
from trajvit.processing.dataset_files import find_shards
from trajvit.processing.stored_values import Record, SampleError, Shard

from .clip_reading import Reading, read_clip, trajectory_generator
from .samples import Clip, Row
from .subsets import Subset

_SHARDS_LOOKED_AT = 8
_RECORDS_LOOKED_AT = 16


class DatasetSource:
    """A `Source` of a data set in shards.

    Args:
        name: What logs call it.
        path: As for `find_shards`; `split` and `options` too.
        reading: What the run needs of a sample.
        media: `video` or `image`.
        columns: Names of a record's parts, as for `Columns`.
        num_frames: Frames sampled from a video.
        num_samples: How many samples there are; None where that is not known.
        subset: How many of them to keep; needs `num_samples`.

    Raises:
        ValueError: There is no such data set, none of its first records has media and captions where they are looked
            for, or a setting of the generator is not legal.
    """

    def __init__(
        self,
        name: str,
        path: str | Sequence[str],
        reading: Reading,
        *,
        split: str = "train",
        media: str = "video",
        columns: dict[Any, str] | None = None,
        num_frames: int = 16,
        num_samples: int | None = None,
        subset: int | None = None,
        options: dict[str, Any] | None = None,
    ):
        self.name = name
        self.reading = reading
        self.num_frames = num_frames if media == "video" else 1
        self._num_samples = num_samples if subset is None else subset
        self._columns = Columns(columns or {}, media)
        self._subset = None if subset is None else Subset(subset, num_samples or 0)
        self._shards: list[Shard] = find_shards(path, split, self._columns, options or {})
        self._look_at_the_first_records()
        if reading.needs_trajectories:
            trajectory_generator(reading)

    @property
    def num_shards(self) -> int:
        """How many shards it has."""
        return len(self._shards)

    @property
    def num_samples(self) -> int | None:
        """How many samples it is said to have, or else its files say that it has; None where they do not."""
        if self._num_samples is not None:
            return self._num_samples
        counts = [shard.num_records for shard in self._shards]
        return None if None in counts else sum(count or 0 for count in counts)

    def rows(self, shard: int) -> Iterator[Row]:
        """The samples of a shard that belong to the subset, undecoded; those with a fault are left to `read` to name.

        Raises `SampleError` from the iterator where the shard cannot be read any further.
        """
        place = self._shards[shard]
        for record in place.records():
            row, key = self._columns.row(record), record.key
            try:
                key = self._columns.key(record)
            except SampleError as error:
                row = {"error": str(error)}
            if row["error"] is None and self._subset is not None and not self._subset.keeps(key):
                continue
            if not self.reading.needs_trajectories:
                row["trajectories"] = None
            yield {"key": f"{place.name}/{key}", "folder": place.folder, **row}

    def read(self, row: Row) -> Clip:
        """Decode a row. Raises `SampleError`."""
        return read_clip(row, self.num_frames, self.reading)

    def _look_at_the_first_records(self) -> None:
        """Settings that fit no record are a fault of the settings, and not of all records."""
        faults = []
        for shard in self._shards[:_SHARDS_LOOKED_AT]:
            records: list[Record] = []
            try:
                for record in islice(shard.records(), _RECORDS_LOOKED_AT):
                    records.append(record)
            except SampleError as error:
                faults.append(str(error))
            rows = [self._columns.row(record) for record in records]
            if any(row["error"] is None for row in rows):
                self._check_trajectories(shard, rows)
                return
            faults += [f"{shard.name}/{record.key} {row['error']}" for record, row in zip(records, rows, strict=True)]
        if faults:
            raise ValueError(f"none of the first records can be used. {faults[0]}")

    def _check_trajectories(self, shard: Shard, rows: list[Row]) -> None:
        name = self._columns.given.get("trajectories")
        is_missing = all(row["error"] is not None or row["trajectories"] is None for row in rows)
        if name is not None and self.reading.needs_trajectories and is_missing:
            raise ValueError(
                f"none of the first {len(rows)} records of {shard.name} has columns.trajectories={name!r}; "
                "expected the name of a column or of a file's suffix, or none to generate trajectories"
            )
