"""Fills the layouts of tables with results, beside the published values."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from .result_files import Result
from .table_layouts import PRINTED_NAMES, Column, LayoutRow, TableLayout


@dataclass(frozen=True)
class Cell:
    """What a table says in one place.

    Attributes:
        column: The cell's column.
        ours: Our value in the column's unit; None where there is no result.
        published: The published value; None where none is known.
        num_items: How many items our value is over.
        num_missing: How many more it should be over, whose media are missing.
        applicable: False where the tower cannot do the task.
        mark: `best` or `second` among our values of the same group and column, or nothing.
    """

    column: Column
    ours: float | None = None
    published: float | None = None
    num_items: int | None = None
    num_missing: int = 0
    applicable: bool = True
    mark: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the published value."""
        return None if self.ours is None or self.published is None else self.ours - self.published


@dataclass(frozen=True)
class Contribution:
    """The results of one model that share a row.

    Attributes:
        tower, model, trained_on: As in the results.
        dataset, device: Only where the row's columns take any data set.
        group: The number of frames, where metrics depend on it.
        found: The result that fills each column.
    """

    tower: str
    model: str
    trained_on: str | None
    dataset: str = ""
    device: str = ""
    group: str = ""
    found: tuple[tuple[Column, Result], ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of a filled table; `contribution` is None where there are no results for it."""

    group: str
    label: str
    tower: str
    trained_on: str | None
    cells: tuple[Cell, ...]
    contribution: Contribution | None = None


@dataclass(frozen=True)
class ResultTable:
    """A layout with its rows filled."""

    layout: TableLayout
    rows: tuple[Row, ...]

    @property
    def has_results(self) -> bool:
        return any(row.contribution for row in self.rows)


def fill_table(layout: TableLayout, results: Iterable[Result]) -> ResultTable:
    """Put results into a table.

    Several models that belong in one row of the layout get a row each, named by what tells them apart.
    """
    contributions = _contributions(layout, results)
    rows = []
    for place in layout.rows:
        own = [entry for entry in contributions if _belongs(entry, place)]
        rows += [_row(layout, place, entry) for entry in own] or [_row(layout, place, None)]
    for entry in contributions:
        if not any(_belongs(entry, place) for place in layout.rows):
            rows.append(_row(layout, _place_of_its_own(layout, entry), entry))
    if layout.over_frames:
        towers = [*PRINTED_NAMES]
        rows.sort(key=lambda row: (int(row.group), towers.index(row.tower) if row.tower in towers else len(towers)))
    elif layout.group_name:
        rows.sort(key=lambda row: layout.groups.index(row.group))
    return ResultTable(layout, _marked(_told_apart(rows)))


def fills_a_cell(result: Result, layouts: Iterable[TableLayout]) -> bool:
    """Whether any of the tables has a place for something that a result found."""
    return any(_contributions(layout, [result]) for layout in layouts)


def _contributions(layout: TableLayout, results: Iterable[Result]) -> list[Contribution]:
    found: dict[Contribution, dict[Column, Result]] = {}
    trained_on = {row.trained_on for row in layout.rows}
    for result in results:
        if layout.group_name == "Training data" and result.trained_on not in trained_on:
            continue
        for column in layout.columns:
            if column.task != result.task or column.dataset not in (None, result.dataset):
                continue
            for group in _frame_counts(result) if layout.over_frames else ("",):
                if column.metric.format(frames=group) in result.metrics:
                    entry = Contribution(result.tower, result.model, result.trained_on, group=group)
                    if column.dataset is None:
                        device = str(result.settings.get("device", ""))
                        entry = replace(entry, dataset=result.dataset, device=device)
                    found.setdefault(entry, {})[column] = result
    return [replace(entry, found=tuple(columns.items())) for entry, columns in found.items()]


def _frame_counts(result: Result) -> list[str]:
    matches = (re.fullmatch(r".+@(\d+)", name) for name in result.metrics)
    return sorted({match[1] for match in matches if match}, key=int)


def _belongs(entry: Contribution, place: LayoutRow) -> bool:
    return entry.tower == place.tower and place.trained_on in (None, entry.trained_on)


def _place_of_its_own(layout: TableLayout, entry: Contribution) -> LayoutRow:
    label = PRINTED_NAMES.get(entry.tower, entry.tower)
    if layout.over_frames:
        return LayoutRow(entry.tower, label, group=entry.group)
    if layout.group_name:
        group = next(row.group for row in layout.rows if row.trained_on == entry.trained_on)
        return LayoutRow(entry.tower, label, entry.trained_on, group)
    if any(row.trained_on for row in layout.rows):
        label = f"{label}, {_training_data(entry)}"
    return LayoutRow(entry.tower, label, entry.trained_on)


def _row(layout: TableLayout, place: LayoutRow, entry: Contribution | None) -> Row:
    found = dict(entry.found) if entry else {}
    cells = []
    for number, column in enumerate(layout.columns):
        cell = Cell(
            column,
            published=place.published[number] if place.published else None,
            applicable=column in found or place.tower not in dict(layout.not_applicable),
        )
        if entry and column in found:
            result = found[column]
            cell = replace(
                cell,
                ours=result.metrics[column.metric.format(frames=entry.group)] / column.divisor,
                num_items=result.num_items,
                num_missing=len(result.missing),
            )
        cells.append(cell)
    return Row(place.group, place.label, place.tower, place.trained_on, tuple(cells), entry)


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """Rows of one group and label get what differs between their models behind the label."""
    named = []
    for row in rows:
        alike = [other for other in rows if (other.group, other.label) == (row.group, row.label)]
        if len(alike) == 1:
            named.append(row)
            continue
        parts = [_names(other.contribution) for other in alike if other.contribution]
        own = _names(row.contribution) if row.contribution else ()
        differing = [part for number, part in enumerate(own) if len({names[number] for names in parts}) > 1]
        named.append(replace(row, label=", ".join([row.label, *differing])))
    return named


def _names(entry: Contribution) -> tuple[str, ...]:
    return (entry.model, _training_data(entry), entry.dataset or "no data set", entry.device or "unknown device")


def _training_data(entry: Contribution) -> str:
    return entry.trained_on or "unknown training data"


def _marked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Mark our best of two or more printed values of each group and column, and the second best of three or more."""
    marked: list[Row] = []
    for _, grouped in groupby(rows, key=lambda row: row.group):
        group = list(grouped)
        columns = [_marked_column(cells) for cells in zip(*(row.cells for row in group), strict=True)]
        marked += [replace(row, cells=cells) for row, cells in zip(group, zip(*columns, strict=True), strict=True)]
    return tuple(marked)


def _marked_column(cells: Sequence[Cell]) -> list[Cell]:
    column = cells[0].column
    printed = [None if cell.ours is None else round(cell.ours, column.decimals) for cell in cells]
    count = sum(value is not None for value in printed)
    if column.lowest_is_best is None or count < 2:
        return [*cells]
    order = sorted({value for value in printed if value is not None}, reverse=not column.lowest_is_best)
    marks = {order[0]: "best"}
    if count > 2 and len(order) > 1:
        marks[order[1]] = "second"
    return [
        cell if value is None else replace(cell, mark=marks.get(value, ""))
        for cell, value in zip(cells, printed, strict=True)
    ]
