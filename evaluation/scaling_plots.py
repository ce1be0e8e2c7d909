"""Plots of filled tables: mean R@5 over the size of the training data, and what a video costs over its frames."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from .result_tables import Contribution, ResultTable, Row
from .table_layouts import PRINTED_NAMES

Points = dict[str, list[tuple[float, float]]]

_COLORS = {tower: f"C{position}" for position, tower in enumerate(PRINTED_NAMES)}
_NAMES = {tower: name.removesuffix(" (ours)") for tower, name in PRINTED_NAMES.items()}
# For the models of one tower, which share its colour.
_LINE_STYLES = ("-", "--", ":", "-.")
_MILLIONS = re.compile(r"panda-(\d+)m")


def mean_recalls(table: ResultTable) -> tuple[Points, Points]:
    """Our and the published mean over all columns of a table of Panda subsets, over millions of clips, by tower.

    A row of which we have only some columns has no mean of ours. Several models of one tower and size are averaged.
    """
    ours: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    published: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in table.rows:
        size = _MILLIONS.fullmatch(row.trained_on or "")
        for found, values in (
            (ours, [cell.ours for cell in row.cells]),
            (published, [cell.published for cell in row.cells]),
        ):
            known = [value for value in values if value is not None]
            if size and len(known) == len(values):
                found[row.tower][float(size[1])].append(mean(known))
    return _points(ours), _points(published)


def plot_data_scaling(table: ResultTable, path: Path) -> None:
    """Draw Table 4: ours as solid lines, the published values as dashed ones."""
    ours, published = mean_recalls(table)
    figure = Figure(figsize=(5.6, 4), layout="constrained")
    axes = figure.subplots()
    for found, whose, line in ((published, "published", "--"), (ours, "ours", "-")):
        for tower, points in found.items():
            color = _COLORS.get(tower, "black")
            axes.plot(
                *zip(*points, strict=True),
                color=color,
                linestyle=line,
                marker="o",
                markerfacecolor=color if found is ours else "white",
                label=f"{_NAMES.get(tower, tower)}, {whose}",
            )
    axes.set(xscale="log", xlabel="training clips, million", ylabel="R@5, mean of 4 data sets in both directions, %")
    sizes = {size for found in (ours, published) for points in found.values() for size, _ in points}
    _plain_ticks(axes, sorted(sizes))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def plot_cost_over_frames(table: ResultTable, path: Path) -> None:
    """Draw the table of costs, a panel for each quantity that was measured; both axes are logarithmic.

    Raises `ValueError` for a table without results.
    """
    columns = [
        number
        for number, column in enumerate(table.layout.columns)
        if "{frames}" in column.metric and any(row.cells[number].ours for row in table.rows)
    ]
    if not columns:
        raise ValueError("there are no costs to draw: expected results of the task efficiency")
    width = min(len(columns), 3)
    height = -(-len(columns) // width)
    figure = Figure(figsize=(3.6 * width, 3.1 * height + 0.5), layout="constrained")
    panels = figure.subplots(height, width, squeeze=False).flatten()
    lines = _rows_of_models(table)
    for panel, number in zip(panels, columns, strict=False):
        drawn: Counter[str] = Counter()
        for rows in lines:
            _draw_cost(rows, number, panel, _LINE_STYLES[drawn[rows[0].tower] % len(_LINE_STYLES)])
            drawn[rows[0].tower] += 1
        panel.set(xscale="log", yscale="log", title=table.layout.columns[number].name, xlabel="frames")
        _plain_ticks(panel, sorted({int(row.group) for row in table.rows}))
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    for panel in panels[len(columns) :]:
        panel.set_axis_off()
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120)


def _points(found: dict[str, dict[float, list[float]]]) -> Points:
    return {tower: [(size, mean(sizes[size])) for size in sorted(sizes)] for tower, sizes in found.items()}


def _rows_of_models(table: ResultTable) -> list[list[Row]]:
    """The rows of each model, over all numbers of frames."""
    found: dict[Contribution, list[Row]] = {}
    for row in table.rows:
        if row.contribution:
            found.setdefault(replace(row.contribution, group="", found=()), []).append(row)
    return [*found.values()]


def _draw_cost(rows: Sequence[Row], number: int, panel: Axes, line: str) -> None:
    points = [(int(row.group), value) for row in rows if (value := row.cells[number].ours)]
    if points:
        # A label names its model only where others have the same number of frames.
        label = max((row.label for row in rows), key=len)
        heavy = rows[0].tower == "trajvit"
        panel.plot(
            *zip(*points, strict=True),
            color=_COLORS.get(rows[0].tower, "black"),
            linestyle=line,
            linewidth=2.5 if heavy else 1.5,
            zorder=3 if heavy else 2,
            marker="o",
            markersize=4,
            label=label,
        )


def _plain_ticks(axes: Axes, places: Sequence[float]) -> None:
    """Ticks of the horizontal axis where something was measured, and a light grid."""
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
