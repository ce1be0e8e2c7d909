"""Annotation files as text, lines and tables, with faults that name the file and the line."""

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .evaluation_data import AnnotationError


class Line(NamedTuple):
    """A line of a file, without blanks around it, and what messages call it."""

    place: str
    text: str


@dataclass(frozen=True)
class TableRow:
    """A row of a CSV file.

    Attributes:
        place: What messages call it: the file, and the line on which the row starts.
        values: Its values by the names of the columns.
    """

    place: str
    values: dict[str, str]

    def fault(self, column: str, expected: str) -> AnnotationError:
        """The error of a value that is not what it should be."""
        return AnnotationError(f"{self.place}: {column} is {self.values[column]!r:.80}; expected {expected}")

    def text(self, column: str) -> str:
        """A value that is not empty, without blanks around it. Raises `AnnotationError`."""
        value = self.values[column].strip()
        if not value:
            raise self.fault(column, "a text")
        return value

    def number(self, column: str, expected: str = "a number") -> float:
        """A finite number. Raises `AnnotationError`."""
        try:
            value = float(self.values[column])
        except ValueError:
            value = math.nan
        # Python takes 1_000 for a number, and no annotation means it.
        if not math.isfinite(value) or "_" in self.values[column]:
            raise self.fault(column, expected)
        return value

    def integer(self, column: str, expected: str = "a whole number") -> int:
        """A whole number. Raises `AnnotationError`."""
        if not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", self.values[column]):
            raise self.fault(column, expected)
        return int(self.values[column])


class UniqueNames:
    """Names of which each may be there only once, and where each was seen."""

    def __init__(self, what: str):
        self.what = what
        self._places: dict[str, str] = {}

    def add(self, name: str, place: str) -> None:
        """Raises `AnnotationError` where the name has been added before."""
        if name in self._places:
            raise AnnotationError(
                f"{place}: {self.what} {name!r} has been there before, in {self._places[name]}; expected each once"
            )
        self._places[name] = place


def read_text(path: str | os.PathLike) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises `AnnotationError` where there is no file, nothing in it, or bytes that are no UTF-8.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError(f"there is no annotation file {path}; expected {_neighbours(path)}") from None
    except OSError as error:
        raise AnnotationError(f"annotation file {path} cannot be read ({error.strerror}); expected a file") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AnnotationError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is no UTF-8; expected text in UTF-8"
        ) from None
    if not text.strip():
        raise AnnotationError(f"annotation file {path} is empty; expected annotations")
    return text


def read_lines(path: str | os.PathLike) -> list[Line]:
    """The lines of a file that are not blank. Raises `AnnotationError` as `read_text` does."""
    lines = enumerate(io.StringIO(read_text(path), newline=None), 1)
    return [Line(f"{path}, line {number}", text.strip()) for number, text in lines if text.strip()]


def read_table(path: str | os.PathLike, columns: Sequence[str], optional: Sequence[str] = ()) -> list[TableRow]:
    """The rows of a CSV file whose first line names its columns.

    Args:
        path: The file.
        columns: Those that it must have; it may have others.
        optional: Those that are used where they are there.

    Raises:
        AnnotationError: There is no file, nothing in it, or a line that is no CSV or does not fit the columns.
    """
    rows = _csv_rows(path)
    header = [name.strip() for name in rows[0][1]]
    missing = [name for name in columns if name not in header]
    if missing:
        raise AnnotationError(
            f"{path}, line 1: the columns are {', '.join(header)!r:.200}, without {', '.join(missing)}; expected "
            f"{', '.join(columns)}"
        )
    names = UniqueNames("column")
    for name in (name for name in header if name in (*columns, *optional)):
        names.add(name, f"{path}, line 1")
    if not rows[1:]:
        raise AnnotationError(f"{path} has no row after its header; expected annotations")
    return [_row(place, header, values) for place, values in rows[1:]]


def read_headless_table(path: str | os.PathLike, layouts: Sequence[Sequence[str]]) -> list[TableRow]:
    """The rows of a CSV file without a header.

    Args:
        path: The file.
        layouts: Columns that a row can have, told apart by their number.

    Raises:
        AnnotationError: There is no file, nothing in it, or a line that is no CSV or fits no layout.
    """
    by_length = {len(layout): layout for layout in layouts}
    rows = []
    for place, values in _csv_rows(path):
        if len(values) not in by_length:
            expected = " or ".join(f"{len(layout)} ({', '.join(layout)})" for layout in layouts)
            raise AnnotationError(f"{place}: {len(values)} values, {','.join(values)!r:.80}; expected {expected}")
        rows.append(_row(place, by_length[len(values)], values))
    return rows


def chosen_split(path: str | os.PathLike, split: str | None, splits: Iterable[str], default: str | None = None) -> str:
    """The split to read.

    Args:
        path: The file, for messages.
        split: The one asked for; None for the default, or the only one.
        splits: Those in the file.
        default: Read unless another is asked for, where the file has several.

    Raises:
        AnnotationError: There is no such split, or none was asked for where there are several.
    """
    known = list(dict.fromkeys(splits))
    if split is None:
        split = known[0] if len(known) == 1 else default
    if split not in known:
        asked = "no split is asked for" if split is None else f"there is no split {split!r}"
        raise AnnotationError(f"{path}: {asked}; expected one of {', '.join(map(repr, known))}")
    return split


def _csv_rows(path: str | os.PathLike) -> list[tuple[str, list[str]]]:
    """The rows that are not blank, each with its place."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[tuple[str, list[str]]] = []
    start = 1
    try:
        for values in reader:
            if any(value.strip() for value in values):
                rows.append((f"{path}, line {start}", values))
            start = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError(
            f"{path}, line {start}: the row is no CSV ({error}); expected values and commas"
        ) from None
    return rows


def _row(place: str, columns: Sequence[str], values: list[str]) -> TableRow:
    if len(values) != len(columns):
        raise AnnotationError(
            f"{place}: {len(values)} values, {','.join(values)!r:.80}; expected {len(columns)}, one for each column"
        )
    return TableRow(place, dict(zip(columns, values, strict=True)))


def _neighbours(path: Path) -> str:
    """What could have been meant by the path of a file that is not there."""
    if not path.parent.is_dir():
        return f"a file, but there is no folder {path.parent} either"
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file() and not entry.name.startswith("."))
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"a file; its folder has {shown or 'none'}"
