"""The published values, read from `published_results.json`, which holds Tables 3 to 6 of the paper's supplement."""

import json
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from .table_layouts import Column, LayoutRow, TableLayout, unpublished_layouts


@cache
def published_results() -> dict[str, Any]:
    """The content of the file."""
    return json.loads((files(__name__.rpartition(".")[0]) / "published_results.json").read_text(encoding="utf-8"))


def published_layouts() -> tuple[TableLayout, ...]:
    """The supplement's tables, with a published value in every cell."""
    content = published_results()
    return tuple(_layout(table, content["paper"]) for table in content["tables"])


def all_layouts() -> dict[str, TableLayout]:
    """Every table by its name: the supplement's, then those without published values, which have headlines as notes."""
    notes: dict[str | None, list[str]] = {}
    paper = published_results()["paper"]
    for headline in published_results()["headlines"]:
        notes.setdefault(headline["table"], []).append(f"{paper}, abstract: {headline['text']}")
    layouts = [replace(layout, notes=(*layout.notes, *notes.get(layout.name, ()))) for layout in unpublished_layouts()]
    return {layout.name: layout for layout in (*published_layouts(), *layouts)}


def _layout(table: dict[str, Any], paper: str) -> TableLayout:
    columns = tuple(Column(**column, decimals=table["decimals"]) for column in table["columns"])
    rows = tuple(LayoutRow(**{**row, "published": tuple(row["published"])}) for row in table["rows"])
    subject = table["caption"].partition(".")[0]
    return TableLayout(
        name=table["name"],
        title=f"Supplement, Table {table['name']}: {subject} ({table['metric']}, %)",
        columns=columns,
        rows=rows,
        group_name="Training data" if rows[0].group else "",
        source=f"{paper}, supplement, Table {table['name']}",
        notes=tuple(table["notes"]),
    )
