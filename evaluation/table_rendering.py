"""Filled tables as markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import groupby

from .result_tables import Cell, ResultTable, Row

NO_VALUE = "—"
NOT_APPLICABLE = "n/a"
MISSING_MARK = "†"
CSV_FIELDS = ("table", "row", "column", "ours", "published", "difference", "source", "num_items", "num_missing")


def markdown_document(tables: Iterable[ResultTable]) -> str:
    """All tables, with a sentence on how to read them."""
    legend = (
        "A cell is our value, and in parentheses the published one and ours minus it. Of our values in a column, among "
        "rows of the same group, the **best** is marked, and of three or more the <u>second best</u>."
    )
    return "\n\n".join(["# Results", legend, *map(markdown_table, tables)]) + "\n"


def markdown_table(table: ResultTable) -> str:
    """Title, table and notes."""
    layout = table.layout
    groups = [layout.group_name] if layout.group_name else []
    head = [*groups, "Model", *(column.full_name for column in layout.columns)]
    rule = ["---"] * (len(groups) + 1) + ["--:"] * len(layout.columns)
    lines = [_markdown_row(head), f"|{'|'.join(rule)}|"]
    for group, rows in groupby(table.rows, key=lambda row: row.group):
        for number, row in enumerate(rows):
            names = [group if number == 0 else ""] if groups else []
            names += [_escaped(row.label)]
            lines.append(_markdown_row([*names, *map(_markdown_cell, row.cells)]))
    notes = [f"- {_escaped(note)}" for note in [*table_notes(table), *models_of(table)]]
    return "\n\n".join(part for part in (f"## {layout.title}", "\n".join(lines), "\n".join(notes)) if part)


def csv_document(tables: Iterable[ResultTable]) -> str:
    """One line for each cell of all tables; numbers are not rounded. `row` begins with the row's group."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for table in tables:
        for row in table.rows:
            for cell in row.cells:
                writer.writerow(_csv_line(table, row, cell))
    return file.getvalue()


def table_notes(table: ResultTable) -> list[str]:
    """What is said below a table: the layout's notes, towers that cannot do the task, and missing media."""
    notes = [*table.layout.notes]
    for tower, reason in table.layout.not_applicable:
        labels = [row.label for row in table.rows if row.tower == tower and not all(c.applicable for c in row.cells)]
        notes += [f"{label}: {NOT_APPLICABLE}, {reason}." for label in labels]
    missing = [
        f"{row_name(row)}, {cell.column.full_name}: {cell.num_missing:,}, beside {cell.num_items:,} that count"
        for row in table.rows
        for cell in row.cells
        if cell.num_missing and cell.num_items is not None
    ]
    if missing:
        notes.append(f"{MISSING_MARK} Media are missing: {'; '.join(missing)}.")
    return notes


def models_of(table: ResultTable) -> list[str]:
    """Which models the rows' values are of, as far as the rows do not say it: a sentence, or nothing."""
    grouped = table.layout.group_name == "Training data"
    parts: dict[str, None] = {}
    for row in table.rows:
        entry = row.contribution
        if entry:
            facts = (entry.model, None if grouped else entry.trained_on, entry.device)
            unsaid = ", ".join(fact for fact in facts if fact and fact not in row.label)
            name = row_name(row) if grouped else row.label
            parts |= {f"{name}: {unsaid}": None} if unsaid else {}
    return [f"Models of our values: {'; '.join(parts)}."] if parts else []


def row_name(row: Row) -> str:
    return f"{row.group}, {row.label}" if row.group else row.label


def number(value: float, cell: Cell) -> str:
    """A value with the decimals of its column."""
    return f"{value:,.{cell.column.decimals}f}"


def signed(difference: float, cell: Cell) -> str:
    """A difference with its sign, which a difference that rounds to zero does not have."""
    text = f"{difference:+,.{cell.column.decimals}f}"
    return text if any(digit in text for digit in "123456789") else text[1:]


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    if not cell.applicable:
        return NOT_APPLICABLE
    published = "" if cell.published is None else number(cell.published, cell)
    if cell.ours is None:
        return f"{NO_VALUE} ({published})" if published else NO_VALUE
    text = number(cell.ours, cell)
    text = {"best": f"**{text}**", "second": f"<u>{text}</u>"}.get(cell.mark, text)
    text += MISSING_MARK if cell.num_missing else ""
    if cell.difference is None:
        return text
    return f"{text} ({published}, {signed(cell.difference, cell)})"


def _escaped(text: str) -> str:
    """A name that markdown shows as it is, on one line."""
    return "".join(f"\\{char}" if char in r"\|*<`[" else char for char in " ".join(text.split()))


def _csv_line(table: ResultTable, row: Row, cell: Cell) -> list[object]:
    difference = None if cell.difference is None else round(cell.difference, 6)
    source = "" if cell.published is None else table.layout.source
    items = (cell.num_items, "" if cell.num_items is None else cell.num_missing)
    name = (table.layout.name, row_name(row), cell.column.full_name)
    return [*name, cell.ours, cell.published, difference, source, *items]
