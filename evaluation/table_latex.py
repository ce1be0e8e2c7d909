"""Filled tables as LaTeX, for documents that load `booktabs` and `graphicx`."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from .result_tables import Cell, ResultTable
from .table_rendering import MISSING_MARK, NO_VALUE, NOT_APPLICABLE, models_of, number, signed, table_notes

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    MISSING_MARK: r"$^\dagger$",
    NO_VALUE: "---",
    **{char: f"\\{char}" for char in "{}$&#%_"},
    # Behind the end of a line these would be its options.
    "[": "{[}",
    "*": "{*}",
    # In the text of a document with the default encoding these would be other signs.
    **{char: f"${char}$" for char in "<>|"},
}
_WIDEST_AS_IT_IS = 3
_PUBLISHED_LINE = r"\quad published (difference)"


def latex_document(bodies: Iterable[str]) -> str:
    """A document that compiles by itself; each body is a table of `latex_table`, or an `\\input` of one."""
    head = (
        "\\documentclass{article}",
        "\\usepackage[margin=2cm]{geometry}",
        "\\usepackage{booktabs,graphicx}",
        "\\begin{document}",
    )
    return "\n\n".join(["\n".join(head), *bodies, "\\end{document}"]) + "\n"


def latex_table(table: ResultTable) -> str:
    """A `table` environment with caption, label and notes; what the rows' models are is a comment.

    More than three columns are fitted to the width of the line, with published values on a line below ours.
    """
    layout = table.layout
    wide = len(layout.columns) > _WIDEST_AS_IT_IS
    two_lines = wide and bool(layout.source)
    groups = [layout.group_name] if layout.group_name else []
    lines = [f"\\begin{{tabular}}{{{'l' * (len(groups) + 1)}{'r' * len(layout.columns)}}}", "\\toprule"]
    lines += [*_head(table, groups), "\\midrule"]
    for number_of_group, (group, rows) in enumerate(groupby(table.rows, key=lambda row: row.group)):
        lines += ["\\midrule"] if number_of_group else []
        for position, row in enumerate(rows):
            names = [latex_text(group) if position == 0 else ""] if groups else []
            names.append(latex_text(row.label))
            lines.append(_line([*names, *map(_own_value if two_lines else _cell, row.cells)]))
            if two_lines and any(cell.published is not None for cell in row.cells):
                names = [*("" for _ in groups), _PUBLISHED_LINE]
                lines.append(_line([*names, *map(_published_value, row.cells)]))
    lines += ["\\bottomrule", "\\end{tabular}"]
    if wide:
        lines = ["\\resizebox{\\linewidth}{!}{%", *lines[:-1], f"{lines[-1]}}}"]
    notes = [f"\\par\\smallskip\\footnotesize {latex_text(note)}" for note in table_notes(table)]
    return "\n".join(
        [
            *(f"% {' '.join(model.split())}" for model in models_of(table)),
            "\\begin{table}[htbp]",
            "\\centering",
            f"\\caption{{{latex_text(layout.title)}}}",
            f"\\label{{tab:{layout.name.replace('_', '-')}}}",
            "\\par\\smallskip",
            *lines,
            *notes,
            "\\end{table}",
        ]
    )


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is, on one line; a character outside ASCII as its code point."""
    signs = (_SPECIAL.get(char, char) for char in " ".join(text.split()))
    return "".join(sign if sign.isascii() else f"{{[}}U+{ord(sign):04X}]" for sign in signs)


def _head(table: ResultTable, groups: Sequence[str]) -> list[str]:
    """The names of columns, below the headings that neighbours share."""
    columns = table.layout.columns
    names = _line([*map(latex_text, groups), "Model", *(latex_text(column.name) for column in columns)])
    if not any(column.heading for column in columns):
        return [names]
    cells, rules = [""] * (len(groups) + 1), []
    first = len(cells) + 1
    for heading, shared in groupby(columns, key=lambda column: column.heading):
        width = len(list(shared))
        cells.append(f"\\multicolumn{{{width}}}{{c}}{{{latex_text(heading)}}}")
        rules.append(f"\\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    return [_line(cells), " ".join(rules), names]


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _cell(cell: Cell) -> str:
    """Our value, and in parentheses the published one and the difference."""
    own = _own_value(cell)
    if cell.published is None or not cell.applicable:
        return own
    difference = "" if cell.difference is None else f", ${signed(cell.difference, cell)}$"
    return f"{own} ({number(cell.published, cell)}{difference})"


def _own_value(cell: Cell) -> str:
    if not cell.applicable:
        return NOT_APPLICABLE
    if cell.ours is None:
        return _SPECIAL[NO_VALUE]
    text = number(cell.ours, cell)
    text = {"best": f"\\textbf{{{text}}}", "second": f"\\underline{{{text}}}"}.get(cell.mark, text)
    return text + (_SPECIAL[MISSING_MARK] if cell.num_missing else "")


def _published_value(cell: Cell) -> str:
    """The published value, and in parentheses the difference, for the line below ours."""
    difference = "" if cell.difference is None else f" (${signed(cell.difference, cell)}$)"
    return _SPECIAL[NO_VALUE] if cell.published is None else number(cell.published, cell) + difference
