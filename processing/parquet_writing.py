"""Output shards that are Parquet files: the rows as they were, with a column of trajectories."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from .columns import Media
from .output_shards import HashedFile, OutputClip, OutputError
from .shard_records import StoredFile
from .stored_values import SampleError

_ROWS_PER_GROUP = 64
_BYTES_PER_GROUP = 2**26


class ParquetWriter:
    """Writes rows in groups, so that memory holds one of them; equal rows give equal bytes.

    Where frames are stored instead of the media, they take the media's column. One that held paths or URLs then holds
    bytes, and those go on in a column `{name}_source`. Media inside an object get a column `media`.

    Args:
        name: Path of the file in the output folder.
        schema: The input's `pyarrow.Schema`. None finds it in the rows, which are then all kept in memory.
        folder: What paths of media in the input are relative to; those in the output are relative to its own folder.
        output: The output folder.
        parts: The folder of unfinished files.
        trajectories_column: The column of trajectories files.

    Raises:
        OutputError: The output cannot be written.
    """

    def __init__(
        self,
        name: str,
        schema: pa.Schema | None,
        folder: str | None,
        output: Path,
        parts: Path,
        trajectories_column: str,
    ):
        self._name = name
        self._schema = schema
        self._folder = folder
        self._target_folder = (output / name).parent
        self._trajectories = trajectories_column
        self._paths_column: str | None = None
        self._rows: list[dict[str, Any]] = []
        self._num_bytes = 0
        self._writer: pa.parquet.ParquetWriter | None = None
        self._file = HashedFile(parts, ".parquet")

    def write(self, clip: OutputClip) -> None:
        """See `ShardWriter.write`."""
        row = dict(clip.record.values)
        row.update(self._kept(clip.media) if clip.frames is None else self._replaced(clip))
        row[self._trajectories] = clip.trajectories
        self._rows.append(row)
        self._num_bytes += sum(map(_num_bytes, row.values()))
        is_full = len(self._rows) >= _ROWS_PER_GROUP or self._num_bytes >= _BYTES_PER_GROUP
        if self._schema is not None and is_full:
            self._flush()

    def close(self) -> dict[str, StoredFile]:
        """See `ShardWriter.close`."""
        if self._rows or self._writer is None:
            self._flush()
        assert self._writer is not None
        self._writer.close()
        return {self._name: self._file.finish()}

    def discard(self) -> None:
        """See `ShardWriter.discard`."""
        self._file.discard()

    def _kept(self, media: Media) -> dict[str, Any]:
        """Media as they are, but that relative paths lead on to the same files."""
        if media.column is None:
            return {}
        if isinstance(media.value, str):
            return {media.column: self._moved(media.value)}
        if isinstance(media.value, dict) and media.value.get("bytes") is None and media.value.get("path"):
            return {media.column: {**media.value, "path": self._moved(media.value["path"])}}
        return {}

    def _moved(self, path: str) -> str:
        if self._folder is None or "://" in path or os.path.isabs(path):
            return path
        return os.path.relpath(os.path.join(self._folder, path), self._target_folder)

    def _replaced(self, clip: OutputClip) -> dict[str, Any]:
        """Frames in the place of the media."""
        column, value = clip.media
        if column is None:
            self._check_can_be_added("media")
            return {"media": clip.frames}
        if isinstance(value, dict):
            return {column: {"bytes": clip.frames, "path": f"{os.path.basename(clip.key)}.{clip.suffix}"}}
        if isinstance(value, str):
            if self._paths_column not in (None, column):
                raise SampleError(f"its media are in {column}, those of earlier rows in {self._paths_column}")
            self._check_can_be_added(f"{column}_source")
            self._paths_column = column
            return {column: clip.frames, f"{column}_source": value}
        return {column: clip.frames}

    def _check_can_be_added(self, column: str) -> None:
        if self._writer is not None and column not in self._writer.schema.names:
            raise SampleError("its media are stored otherwise than those of the first rows")

    def _flush(self) -> None:
        if self._writer is None:
            self._schema = self._output_schema()
            self._writer = pa.parquet.ParquetWriter(self._file, self._schema)
        try:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
        except pa.ArrowException as error:
            raise OutputError(f"{self._name} cannot hold its rows as {self._schema}: {error}") from error
        self._writer.write_table(table)
        self._rows, self._num_bytes = [], 0

    def _output_schema(self) -> pa.Schema:
        schema = self._schema if self._schema is not None else _found_schema(self._rows)
        added = [(self._trajectories, pa.binary())]
        if self._paths_column is not None:
            added += [(self._paths_column, pa.binary()), (f"{self._paths_column}_source", pa.string())]
        if any("media" in row and "media" not in schema.names for row in self._rows):
            added += [("media", pa.binary())]
        for name, kind in added:
            position = schema.get_field_index(name)
            schema = schema.append(pa.field(name, kind)) if position < 0 else schema.set(position, pa.field(name, kind))
        return schema


def _found_schema(rows: list[dict[str, Any]]) -> pa.Schema:
    """The schema of rows that come without one. Where a column's values are of several kinds, they become JSON."""
    fields = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            kind = pa.array(values).type
        except pa.ArrowException:
            kind = pa.string()
            for row in rows:
                row[name] = None if row.get(name) is None else json.dumps(row[name])
        # A column that is empty here may hold texts in another shard.
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _num_bytes(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_num_bytes, value.values()))
    return len(value) if isinstance(value, (bytes, str)) else 8
