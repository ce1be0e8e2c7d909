"""`failures.parquet`: every clip that has no trajectories, and why."""

from collections import Counter

from .atomic_files import move_into_place
from .generation_folder import GenerationFolder
from .output_shards import HashedFile
from .shard_records import ShardRecord

_COLUMNS = ("key", "stage", "error", "shard", "position")
_ROWS_AT_ONCE = 4096


def write_failures(folder: GenerationFolder) -> Counter[str]:
    """Collect the failures of all finished shards in `failures.parquet`, in the order of the shards' names.

    Columns: `key` of the clip, `stage` and `error`, the input `shard`, and `position`, the record's number in it (null
    where the shard itself cannot be read). Returns how many there are of each stage. Raises `OSError`.
    """
    import pyarrow as pa
    import pyarrow.parquet

    schema = pa.schema([*((name, pa.string()) for name in _COLUMNS[:-1]), (_COLUMNS[-1], pa.int64())])
    stages: Counter[str] = Counter()
    file = HashedFile(folder.parts, ".parquet")
    try:
        with pa.parquet.ParquetWriter(file, schema) as writer:
            rows: list[dict] = []
            for record in folder.records():
                stages.update(failure.stage for failure in record.failures)
                rows += _rows(record)
                if len(rows) >= _ROWS_AT_ONCE:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        file.finish()
        move_into_place(file.path, folder.path / "failures.parquet")
        return stages
    finally:
        file.discard()


def _rows(record: ShardRecord) -> list[dict]:
    return [{**vars(failure), "shard": record.shard} for failure in record.failures]
