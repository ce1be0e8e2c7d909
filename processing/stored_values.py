"""Values of a record before they are decoded: bytes, text, or where in a file they lie.

Whoever lists records passes on only where a value lies, wherever a file can be read at any place; the worker that
decodes it reads it. So a shuffled block of records holds no media, and skipping records reads none.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class SampleError(ValueError):
    """A sample that cannot be used. The message says why; it is skipped, counted and named by its key."""


class Record(NamedTuple):
    """A sample as its shard stores it.

    Attributes:
        key: Its name in the shard.
        values: What is stored, by column or suffix.
        error: Why it cannot be used.
    """

    key: str
    values: dict[str, Any]
    error: str | None = None


class Shard(Protocol):
    """A part of a data set that is read front to back, in the same order each time.

    Attributes:
        name: What messages call it.
        folder: What paths in it are relative to; None for none.
        is_divisible: Whether it can be read from any record on without reading those before.
    """

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> str | None: ...

    @property
    def is_divisible(self) -> bool: ...

    @property
    def num_records(self) -> int | None:
        """How many records it has, None where only reading it would tell."""

    def records(self, start: int = 0) -> Iterator[Record]:
        """Its records, from number `start` on. Raises `SampleError` where it cannot be read any further."""


@dataclass(frozen=True)
class FilePart:
    """A file, or the bytes of one that a tar archive keeps for a member.

    Attributes:
        path: The file.
        offset: First byte.
        size: Number of bytes; None for the whole file.
    """

    path: str
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Its bytes. Raises `SampleError` where they cannot be read or the file ends before them."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read(-1 if self.size is None else self.size)
        except OSError as error:
            raise SampleError(f"cannot be read ({error})") from error
        if self.size is not None and len(data) < self.size:
            raise SampleError(f"breaks off after {len(data)} of {self.size} bytes: {self.path} is truncated")
        return data


def bytes_or_path(value: Any, folder: str | None, what: str) -> bytes | str:
    """The content of a file, or where `decode_video` finds it.

    Args:
        value: Bytes, a `FilePart`, a path or URL, or HF Datasets' mapping of `bytes` and `path`.
        folder: What paths are relative to; None for the current folder.
        what: What errors call it.

    Raises:
        SampleError: There is nothing, or nothing of these kinds.
    """
    if isinstance(value, dict) and set(value) <= {"bytes", "path"}:
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if isinstance(value, FilePart):
        value = value.path if value.size is None else value.read()
    if isinstance(value, (bytearray, memoryview)):
        value = bytes(value)
    if value is None or (isinstance(value, (bytes, str)) and not value):
        raise SampleError(f"its {what} is empty")
    if isinstance(value, str):
        return value if folder is None or "://" in value else os.path.join(folder, value)
    if isinstance(value, bytes):
        return value
    raise SampleError(f"its {what} is of type {type(value).__name__}: expected bytes, a path or a mapping of them")
