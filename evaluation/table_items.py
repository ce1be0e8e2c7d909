"""The rows of a table of HF Datasets as media, read when they are asked for.

Such a table lies in files that are mapped into memory, and goes to worker processes as their names: so neither holds
more media than it works on.
"""

import os
from collections.abc import Iterator
from itertools import count, repeat
from typing import Any

from .annotation_files import UniqueNames
from .evaluation_data import UNREAD, AnnotationError, LazyItems, MediaItem

_ROWS_AT_ONCE = 1000


class TableItems(LazyItems):
    """A row is an item.

    Args:
        table: A `datasets.Dataset`, media undecoded.
        place: What messages call it.
        folder: What paths are relative to; None for the current folder.
        identity: What tells the table from others.
        media_column: Media as bytes, as a mapping of bytes and path, or as paths.
        key_column: What names a row. Default: its number.
        trajectories_column: Stored trajectories, as paths or bytes. Default: none.
    """

    def __init__(
        self,
        table: Any,
        place: str,
        folder: str | None,
        identity: str,
        media_column: str,
        key_column: str | None = None,
        trajectories_column: str | None = None,
    ):
        self._media, self._keys, self._trajectories = media_column, key_column, trajectories_column
        columns = dict.fromkeys((media_column, key_column, trajectories_column))
        self._table = table.select_columns([column for column in columns if column is not None])
        self._place = place
        self.unit = f"rows of {place}"
        self._folder = folder
        self._identity = identity

    def __len__(self) -> int:
        return len(self._table)

    def item(self, number: int) -> MediaItem:
        row = self._table[number]
        columns = (self._keys, self._media, self._trajectories)
        return self._item(number, *(None if column is None else row[column] for column in columns))

    def outlines(self) -> Iterator[MediaItem]:
        return map(
            self._item, count(), self._unread(self._keys), self._unread(self._media), self._read(self._trajectories)
        )

    def check(self) -> None:
        """Raises `AnnotationError` where a row is no item, or two have one key. Reads no bytes of media."""
        keys = UniqueNames("key")
        columns = (self._keys, self._media, self._trajectories)
        for number, *values in zip(range(len(self)), *map(self._unread, columns), strict=False):
            keys.add(self._item(number, *values).key, self._row(number))

    def _item(self, number: int, key: Any, media: Any, trajectories: Any) -> MediaItem:
        if self._keys is None:
            key = number
        if not isinstance(key, (str, int)) or not str(key).strip():
            raise value_fault(self._row(number), str(self._keys), key, "a text or a number")
        stored = None
        if self._trajectories is not None:
            stored = self._found(number, self._trajectories, trajectories)[0]
        value, expected = self._found(number, self._media, media)
        has_bytes = value is UNREAD or isinstance(value, bytes)
        identity = f"{self._identity}, {self._media}, {number}" if has_bytes else None
        return MediaItem(str(key), value, trajectories=stored, expected=expected, identity=identity)

    def _found(self, number: int, column: str, value: Any) -> tuple[Any, str | None]:
        """Bytes or a path of a file that is there; or None, and where it was looked for."""
        if isinstance(value, dict) and set(value) <= {"bytes", "path"}:
            value = value.get("bytes") or value.get("path")
        if value is UNREAD:
            return value, None
        if value is None or value == "" or isinstance(value, bytes):
            return value or None, None if value else f"value in {column}"
        if not isinstance(value, str):
            raise value_fault(self._row(number), column, value, "bytes, a path, or a mapping of bytes and path")
        if "://" in value:
            return value, None
        path = value if self._folder is None else os.path.join(self._folder, value)
        return (path, None) if os.path.isfile(path) else (None, f"file {path}")

    def _row(self, number: int) -> str:
        return f"{self._place}, row {number}"

    def _read(self, column: str | None) -> Iterator[Any]:
        """The values of a column; without one, None for ever."""
        if column is None:
            return repeat(None)
        return (row[column] for row in self._table.select_columns([column]))

    def _unread(self, column: str | None) -> Iterator[Any]:
        """The same, but `UNREAD` for bytes: that there are some tells their length, which is stored apart."""
        from pyarrow import types

        if column is None:
            return self._read(None)
        stored = self._table.features.arrow_schema.field(column).type
        fields = {field.name: field.type for field in stored} if types.is_struct(stored) else {}
        content = fields.get("bytes") if set(fields) <= {"bytes", "path"} else None
        is_bytes = any(
            kind is not None and (types.is_binary(kind) or types.is_large_binary(kind)) for kind in (stored, content)
        )
        return self._lengths(column, fields) if is_bytes else self._read(column)

    def _lengths(self, column: str, fields: dict[str, Any]) -> Iterator[Any]:
        from pyarrow import compute

        stored = self._table.select_columns([column]).with_format("arrow")
        for rows in stored.iter(batch_size=_ROWS_AT_ONCE):
            values = rows.column(column)
            content = compute.struct_field(values, "bytes") if fields else values
            paths = compute.struct_field(values, "path").to_pylist() if "path" in fields else repeat(None)
            lengths = compute.binary_length(content).to_pylist()
            yield from (UNREAD if length else path for length, path in zip(lengths, paths, strict=False))


def value_fault(place: str, column: str, value: Any, expected: str) -> AnnotationError:
    """The error of a value that is not what it should be."""
    return AnnotationError(f"{place}: {column} is {value!r:.80}; expected {expected}")
