"""Shards that are tables: Parquet, Arrow, JSON, CSV, or a part of a data set on the Hub."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

from .stored_values import Record, SampleError

_ROWS_AT_ONCE = 16
"""Rows of a Parquet file, with their media, that are in memory at a time."""


@dataclass(frozen=True)
class TableShard:
    """A file that HF Datasets streams.

    Attributes:
        name: What messages call it.
        path: The file, or a URL.
        format: `parquet`, `arrow`, `json` or `csv`.
        options: Keyword arguments of `datasets.load_dataset`.
    """

    name: str
    path: str
    format: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_divisible(self) -> bool:
        """Whether its rows lie in groups that can be found."""
        return self.format == "parquet" and "://" not in self.path and not self.options

    @property
    def folder(self) -> str | None:
        """What paths in it are relative to."""
        return None if "://" in self.path else os.path.dirname(self.path)

    @property
    def num_records(self) -> int | None:
        """How many rows it has: what the end of a local Parquet file says."""
        if self.format != "parquet" or "://" in self.path:
            return None
        import pyarrow.parquet

        try:
            return pyarrow.parquet.read_metadata(self.path).num_rows
        except (OSError, pyarrow.ArrowException):
            return None

    def schema(self) -> Any:
        """The columns as a `pyarrow.Schema`; None where the file tells none. Raises `SampleError`."""
        with _faults_of(self.name):
            if self.is_divisible:
                import pyarrow.parquet

                return pyarrow.parquet.read_schema(self.path)
            return _schema_of(self._stream())

    def records(self, start: int = 0) -> Iterator[Record]:
        """Its rows from number `start` on, by their numbers.

        Raises `SampleError` where it cannot be read any further.
        """
        if self.is_divisible:
            return _grouped_rows(self.name, self.path, start)
        return _streamed(self.name, self._stream, start)

    def _stream(self) -> Any:
        import datasets

        return datasets.load_dataset(self.format, data_files=[self.path], split="train", streaming=True, **self.options)


@dataclass(frozen=True)
class HubShard:
    """A part of a data set that HF Datasets finds by its id.

    Attributes:
        name: What messages call it.
        path: The id, or a folder.
        split: Its split.
        number, num_shards: Which part of how many.
        options: Keyword arguments of `datasets.load_dataset`.
        num_records: How many rows it has; None where that is not known.
    """

    name: str
    path: str
    split: str
    number: int
    num_shards: int
    options: dict[str, Any] = field(default_factory=dict)
    num_records: int | None = None
    folder = None
    is_divisible = False

    def schema(self) -> Any:
        """The columns as a `pyarrow.Schema`; None where the data set tells none. Raises `SampleError`."""
        with _faults_of(self.name):
            return _schema_of(self._stream())

    def records(self, start: int = 0) -> Iterator[Record]:
        """Its rows from number `start` on, by their numbers.

        Raises `SampleError` where it cannot be read any further.
        """
        return _streamed(self.name, self._stream, start)

    def _stream(self) -> Any:
        stream = _stream_of(self.path, self.split, json.dumps(self.options))
        return stream.shard(num_shards=self.num_shards, index=self.number)


@lru_cache(maxsize=8)
def _stream_of(path: str, split: str, options: str) -> Any:
    """A data set with an id, which is asked of the Hub only once."""
    import datasets

    return datasets.load_dataset(path, split=split, streaming=True, **json.loads(options))


@dataclass(frozen=True)
class TextTableShard:
    """A CSV file with a header, or a file with a JSON object in each line; a line that is damaged costs itself alone.

    Attributes:
        name: What messages call it.
        path: The file, in UTF-8; ends in `.csv`, `.tsv` or `.jsonl`.
        delimiter: Between the values of a CSV file.
    """

    name: str
    path: str
    delimiter: str = ","
    num_records = None
    is_divisible = True

    @cached_property
    def folder(self) -> str:
        """What paths in it are relative to."""
        return os.path.dirname(self.path)

    def records(self, start: int = 0) -> Iterator[Record]:
        """Its rows from number `start` on, by their numbers.

        Raises `SampleError` where it cannot be read any further.
        """
        try:
            # Bytes that are no UTF-8 are shown in messages, and cost their row alone.
            with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                rows = _json_lines(file) if self.path.lower().endswith(".jsonl") else self._csv_rows(file)
                yield from islice(rows, start, None)
        except (OSError, csv.Error) as error:
            raise SampleError(f"{self.name} cannot be read any further ({type(error).__name__}: {error})") from error

    def _csv_rows(self, file: Any) -> Iterator[Record]:
        reader = csv.reader(file, delimiter=self.delimiter)
        header = next(reader, None)
        if header is None:
            raise SampleError(f"{self.name} is empty: expected a line with the columns' names")
        rows = (row for row in reader if row)
        for number, row in enumerate(rows):
            error = None if len(row) == len(header) else f"has {len(row)} values: expected {len(header)}"
            error = _not_text(row) or error
            yield Record(str(number), dict(zip(header, row, strict=False)), error)


def _json_lines(file: Any) -> Iterator[Record]:
    lines = (line for line in file if line.strip())
    for number, line in enumerate(lines):
        values, error = {}, _not_text([line])
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as fault:
            error = error or f"is no JSON ({fault})"
        if not isinstance(values, dict):
            values, error = {}, f"is {type(values).__name__}: expected an object"
        yield Record(str(number), values, error)


def _not_text(values: list[str]) -> str | None:
    escaped = any("\udc80" <= letter <= "\udcff" for value in values for letter in value)
    return "is not UTF-8" if escaped else None


def _streamed(name: str, load: Callable[[], Any], start: int) -> Iterator[Record]:
    """The rows of a streaming data set, with media as they are stored."""
    with _faults_of(name):
        for number, values in enumerate(islice(_undecoded(load()), start, None), start):
            yield Record(str(number), values)


def _grouped_rows(name: str, path: str, start: int) -> Iterator[Record]:
    """The rows of a Parquet file, of which the groups before that of row `start` are not read."""
    import pyarrow.parquet

    with _faults_of(name), pyarrow.parquet.ParquetFile(path) as file:
        number = 0
        for group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(group).num_rows
            if number + num_rows <= start:
                number += num_rows
                continue
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group]):
                passed = min(max(0, start - number), batch.num_rows)
                for row, values in enumerate(batch.slice(passed).to_pylist(), number + passed):
                    yield Record(str(row), values)
                number += batch.num_rows


@contextmanager
def _faults_of(name: str) -> Iterator[None]:
    """Faults of a table's contents as a `SampleError`."""
    import pyarrow
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException, DatasetsError) as error:
        raise SampleError(f"{name} cannot be read any further ({type(error).__name__}: {error})") from error


def _schema_of(stream: Any) -> Any:
    features = stream.features
    return None if features is None else features.arrow_schema


def _undecoded(stream: Any) -> Any:
    for column, feature in (stream.features or {}).items():
        if is_dataclass(feature) and hasattr(feature, "decode"):
            stream = stream.cast_column(column, replace(feature, decode=False))  # type: ignore[type-var]
    return stream
