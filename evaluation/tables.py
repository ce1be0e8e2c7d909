"""The tables of the paper, from a folder of results.

python -m trajvit.evaluation.tables RESULTS [--table 3 ...] [--format markdown|csv|latex] [--output FOLDER] [--plots]
"""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from .published_results import all_layouts
from .result_tables import ResultTable, fill_table, fills_a_cell
from .scaling_plots import plot_cost_over_frames, plot_data_scaling
from .stored_results import read_results
from .table_latex import latex_document, latex_table
from .table_rendering import csv_document, markdown_document

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

# What is for people; standard output is for tables.
_messages = Console(stderr=True, highlight=False)


class Format(str, Enum):
    """How tables are written."""

    markdown = "markdown"
    csv = "csv"
    latex = "latex"


@app.command()
def tables(
    results: Annotated[Path, typer.Argument(help="Folder with the JSON files of evaluations.", show_default=False)],
    table: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it on Python 3.10
        typer.Option(
            help=f"Table to make, may be repeated: {', '.join(all_layouts())}. Default: all that say something."
        ),
    ] = None,
    format: Annotated[
        Optional[Format],  # noqa: UP045
        typer.Option(help="Default: markdown on standard output, and all three in a folder."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for the tables' files. Without it, they are printed."),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Draw scaling plots into --output as well.")] = False,
) -> None:
    """Print the results of evaluations in the layout of the paper's tables, beside the published values."""
    try:
        if plots and output is None:
            raise ValueError("--plots needs --output: a folder for the images")
        filled, chosen = _filled_tables(results, table)
        if output is None:
            print(_document(chosen, format or Format.markdown), end="")
            return
        output.mkdir(parents=True, exist_ok=True)
        for kind in [format] if format else Format:
            _write(chosen, kind, output)
        if plots:
            _draw(filled, output)
    except (OSError, ValueError) as error:
        _tell(f"error: {error}")
        raise typer.Exit(1) from error


def _filled_tables(folder: Path, names: Sequence[str] | None) -> tuple[dict[str, ResultTable], list[ResultTable]]:
    """All tables by name, and those to show; says which files of the folder are in none."""
    layouts = all_layouts()
    unknown = [name for name in names or () if name not in layouts]
    if unknown:
        raise ValueError(f"there is no table {unknown[0]!r}: expected one of {', '.join(layouts)}")
    stored = read_results(folder)
    for name, reason in stored.bad_files.items():
        _tell(f"skipped {name}: {reason}")
    if not stored.results:
        raise ValueError(f"{folder} has no file that can be used")
    for name, result in stored.results.items():
        if not fills_a_cell(result, layouts.values()):
            _tell(f"{name} is in no table: {result.task} on {result.dataset} with {', '.join(result.metrics)}")
    filled = {name: fill_table(layout, stored.results.values()) for name, layout in layouts.items()}
    if names:
        return filled, [filled[name] for name in dict.fromkeys(names)]
    return filled, [table for table in filled.values() if table.has_results or table.layout.source]


def _document(tables: Sequence[ResultTable], kind: Format) -> str:
    if kind is Format.latex:
        return latex_document(map(latex_table, tables))
    return csv_document(tables) if kind is Format.csv else markdown_document(tables)


def _write(tables: Sequence[ResultTable], kind: Format, folder: Path) -> None:
    """Write `tables.md`, `tables.csv`, or `tables.tex` with a file of its own for each table."""
    if kind is Format.latex:
        for table in tables:
            _save(folder / f"table_{table.layout.name}.tex", latex_table(table) + "\n")
        inputs = [f"\\input{{table_{table.layout.name}}}" for table in tables]
        _save(folder / "tables.tex", latex_document(inputs))
    else:
        suffix = "csv" if kind is Format.csv else "md"
        _save(folder / f"tables.{suffix}", _document(tables, kind))


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _tell(f"wrote {path}")


def _draw(tables: dict[str, ResultTable], folder: Path) -> None:
    plot_data_scaling(tables["4"], folder / "data_scaling.png")
    _tell(f"wrote {folder / 'data_scaling.png'}")
    if tables["efficiency"].has_results:
        plot_cost_over_frames(tables["efficiency"], folder / "cost_over_frames.png")
        _tell(f"wrote {folder / 'cost_over_frames.png'}")
    else:
        _tell("no plot of costs: there are no results of the task efficiency")


def _tell(text: str) -> None:
    _messages.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    app()
