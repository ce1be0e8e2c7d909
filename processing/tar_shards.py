"""WebDataset shards: tar archives in which files of one base name, such as 7.mp4, 7.txt and 7.json, are a sample.

HF Datasets' own reader ends a shard at the first JSON or text file that it cannot parse, merges samples whose names
have dots, and fails on archives whose first samples differ in their files. This one reads nothing but the headers of
the archive, so that a damaged file in it costs its own sample alone.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from .stored_values import FilePart, Record, SampleError

_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz")


@dataclass(frozen=True)
class TarShard:
    """One archive.

    Attributes:
        name: What messages call it.
        path: A file, or a URL that fsspec opens; a URL's and a compressed archive's contents are read with its headers.
        suffixes: Endings of files' names, without the first dot, that are split off. Where none fits, the base name
            ends at its first dot, by WebDataset's convention.
    """

    name: str
    path: str
    suffixes: frozenset[str]
    folder = None
    num_records = None

    @property
    def is_divisible(self) -> bool:
        """Whether headers can be read without contents."""
        return not ("://" in self.path or self.path.endswith(_COMPRESSED))

    def records(self, start: int = 0) -> Iterator[Record]:
        """The samples from number `start` on, each by its base name with what is stored under each suffix.

        The files of a sample may lie anywhere in a local archive; in a URL's or a compressed one side by side.

        Raises:
            SampleError: The archive cannot be opened or breaks off; the samples before that place were given.
        """
        try:
            if self.is_divisible:
                with open(self.path, "rb") as file:
                    yield from islice(_anywhere(self._members(file, keep_contents=False)), start, None)
            else:
                import fsspec

                with fsspec.open(self.path, "rb", compression="infer") as file:
                    yield from islice(_side_by_side(self._members(file, keep_contents=True)), start, None)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise SampleError(f"{self.name} cannot be read any further ({type(error).__name__}: {error})") from error

    def _members(self, file: BinaryIO, keep_contents: bool) -> Iterator["_Member"]:
        with _Archive.open(fileobj=file, mode="r:", tarinfo=_Header) as archive:
            for header in archive:
                split = self._split(header.name)
                if not header.isreg() or split is None:
                    continue
                contents = archive.extractfile(header) if keep_contents else None
                value = contents.read() if contents else FilePart(self.path, header.offset_data, header.size)
                yield _Member(*split, value)
            if not isinstance(archive.fault, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                raise tarfile.ReadError(f"no header and no end at byte {archive.offset}: {archive.fault}")

    def _split(self, path: str) -> tuple[str, str] | None:
        """Key and suffix of a file's path; None for hidden files."""
        folder, _, name = path.removeprefix("./").rpartition("/")
        if name.startswith(".") or "." not in name:
            return None
        fitting = [suffix for suffix in self.suffixes if name.lower().endswith(f".{suffix}")]
        length = max(map(len, fitting)) if fitting else len(name.split(".", 1)[1])
        base, suffix = name[: -length - 1], name[-length:].lower()
        return (f"{folder}/{base}" if folder else base), suffix


class _Member(NamedTuple):
    key: str
    suffix: str
    value: Any


class _Archive(tarfile.TarFile):
    """Keeps why the header behind the last file is none: by itself, `tarfile` takes any fault there for the end."""

    fault: Exception | None = None


class _Header(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            archive.fault = error
            raise


def _anywhere(members: Iterator[_Member]) -> Iterator[Record]:
    """Samples in the order of their first files."""
    samples: dict[str, Record] = {}
    fault: Exception | None = None
    try:
        for member in members:
            samples[member.key] = _with(samples.get(member.key), member)
    except (OSError, tarfile.TarError) as error:
        fault = error
    if fault is not None and samples:
        # The one before the fault may lack files.
        samples.popitem()
    yield from samples.values()
    if fault is not None:
        raise fault


def _side_by_side(members: Iterator[_Member]) -> Iterator[Record]:
    sample: Record | None = None
    for member in members:
        if sample is not None and sample.key != member.key:
            yield sample
            sample = None
        sample = _with(sample, member)
    if sample is not None:
        yield sample


def _with(sample: Record | None, member: _Member) -> Record:
    values = {} if sample is None else sample.values
    error = None if sample is None else sample.error
    if member.suffix in values:
        error = f"has two files .{member.suffix}"
    values[member.suffix] = member.value
    return Record(member.key, values, error)
