"""Writes what benchmarks/towers.py and benchmarks/packing.py measured into docs/tower_benchmarks.md, with plots.

    python benchmarks/tower_report.py benchmarks/results/towers_large_cpu.json benchmarks/results/packing_large_cpu.json

Each file of towers gives a section of the page (its settings, what is said about TrajViT beside ViT3D, the table, and
the plot docs/images/<name of the file>.png), each file of packing a table. The sections of one run of this script take
the place of those that the page had.
"""

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter
from PIL import Image

DOCS = Path(__file__).resolve().parent.parent / "docs"
Record = dict[str, Any]

# Panels of a plot: the record's field, the panel's title, and what a sentence calls the quantity.
PANELS = {
    "tokens": ("tokens", "tokens"),
    "gflop": ("GFLOP, forward", "FLOPs"),
    "forward_s": ("seconds, forward", "time"),
    "training_s": ("seconds, training step", "time of a training step"),
    "forward_mb": ("MB, forward", "memory"),
    "training_mb": ("MB, training step", "memory of a training step"),
}


def best(record: Record, field: str) -> float | None:
    """A field's number: of a list of times the shortest, None where it is missing or empty."""
    value = record.get(field)
    if isinstance(value, list):
        return min(value, default=None)
    return value


def tower_name(record: Record) -> str:
    return f"{record['tower']}, noise" if record["clip"] == "noise" else record["tower"]


def markdown(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def table(records: Sequence[Record]) -> str:
    """A row for each record; training columns only where something was trained."""
    runs = [name for name in ("forward", "training") if any(f"{name}_s" in record for record in records)]
    names = ["T", "tower", "parameters", "tokens", "of the tubelets", "GFLOP"]
    for name in runs:
        names += [f"{name}, s", f"{name}, MB"]
    return markdown(names, (row(record, runs) for record in records))


def row(record: Record, runs: Sequence[str]) -> list[str]:
    cells = [str(record["frames"]), f"`{tower_name(record)}`"]
    if "gflop" in record:
        share = (record["tokens"] - 1) / record["tubelets"]
        cells += [f"{record['parameters'] / 1e6:.1f} M", f"{record['tokens']:,.0f}", f"{share:.1%}"]
        cells.append(f"{record['gflop']:,.1f}")
    else:
        cells += ["-"] * 4
    for name in runs:
        if f"{name}_failed" in record:
            cells += [record[f"{name}_failed"], "-"]
            continue
        time, memory = best(record, f"{name}_s"), best(record, f"{name}_mb")
        cells += ["-" if time is None else f"{time:,.3f}", "-" if memory is None else f"{memory:,.0f}"]
    return cells


def findings(records: Sequence[Record]) -> list[str]:
    """What TrajViT costs beside ViT3D at each T that both were measured at, as sentences."""
    clips = {record["clip"] for record in records} - {"noise"}
    by_case = {(record["tower"], record["frames"]): record for record in records if record["clip"] in clips}
    sentences = []
    for frames in sorted({record["frames"] for record in records}):
        ours, dense = (by_case.get((tower, frames), {}) for tower in ("trajvit", "vit3d"))
        ratios = []
        for field, (_, quantity) in PANELS.items():
            mine, theirs = best(ours, field), best(dense, field)
            if mine and theirs:
                ratios.append(f"{theirs / mine:.1f} times the {quantity}")
        if ratios:
            cost = f"{ours['gflop']:,.1f} GFLOP against {dense['gflop']:,.1f}"
            sentences.append(f"- T = {frames}: {cost}. ViT3D has {', '.join(ratios)} of TrajViT.")
    return sentences


def plot(records: Sequence[Record], path: Path) -> None:
    """One panel for each quantity that was measured, over T, a line for each tower; both axes logarithmic."""
    fields = [field for field in PANELS if any(best(record, field) for record in records)]
    columns = -(-len(fields) // 2)
    figure = Figure(figsize=(4.2 * columns, 6.8), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False).flatten()
    colors = {tower: f"C{number}" for number, tower in enumerate(dict.fromkeys(r["tower"] for r in records))}
    for axis, field in zip(axes, fields, strict=False):
        for name in dict.fromkeys(map(tower_name, records)):
            line = [record for record in records if tower_name(record) == name]
            points = sorted((record["frames"], best(record, field) or math.nan) for record in line)
            style = {"color": colors[line[0]["tower"]], "linestyle": "--" if line[0]["clip"] == "noise" else "-"}
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, **style)
        axis.set(xscale="log", yscale="log", title=PANELS[field][0], xlabel="frames")
        axis.xaxis.set_major_locator(FixedLocator(sorted({record["frames"] for record in records})))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter(StrMethodFormatter("{x:,g}"))
            side.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    for axis in axes[len(fields) :]:
        axis.set_axis_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=90)
    # A palette makes the file a third of the size.
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)


def section(name: str, records: Sequence[Record]) -> str:
    """The part of the page that tells one result file of towers, in the order of T."""
    records = sorted(records, key=lambda record: record["frames"])
    first = records[0]
    threads = f", {first['threads']} threads" if first["device"] == "cpu" else ""
    rounds = sorted({len(record["forward_s"]) for record in records if record.get("forward_s")} or {0})
    best_of = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    clip = "the scene" if first["clip"] in ("scene", "noise") else f"`{Path(first['clip']).name}`"
    heading = (
        f"### `{first['size']}`, {first['device']}, {first['dtype']}\n\n"
        f"Batch {first['batch']}{threads}, {clip}, TrajViT with {first['trajectories']} trajectories; "
        f"best of {best_of} round{'s' if rounds[-1] > 1 else ''}.\n"
    )
    parts = [heading, "\n".join(findings(records)), table(records), f"![costs over T](images/{name}.png)"]
    return "\n\n".join(part.rstrip("\n") for part in parts if part)


def packing_section(records: Sequence[Record]) -> str:
    first = records[0]
    names = ["tower", "tokens of the videos", "packed, GFLOP", "each alone", "padded", "packed / alone"]
    names += ["padded / packed", "packed, s", "each alone, s", "padded, s"]
    rows = []
    for record in records:
        packed, alone, padded = (record["gflop"][form] for form in ("packed", "alone", "padded"))
        times = (f"{min(record['seconds'][form]):,.3f}" for form in ("packed", "alone", "padded"))
        lengths = ", ".join(map(str, record["tokens"]))
        flops = (f"{value:,.1f}" for value in (packed, alone, padded))
        ratios = (f"{packed / alone:.3f}", f"{padded / packed:.2f}")
        rows.append([f"`{record['tower']}`", lengths, *flops, *ratios, *times])
    heading = f"`{first['size']}`, {first['device']}, {first['dtype']}, T={first['frames']}."
    return f"{heading}\n\n{markdown(names, rows)}"


def write_between(page: Path, name: str, text: str) -> None:
    """Replaces what the page has between the comments `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises `ValueError` for a page without them.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, opened, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{page.name} has no place for {name!r}: expected {begin.strip()} and {end.strip()}.")
    page.write_text(f"{before}{begin}{text}\n{end}{after}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="files of benchmarks/towers.py and packing.py")
    parser.add_argument("--page", type=Path, default=DOCS / "tower_benchmarks.md")
    options = parser.parse_args(arguments)
    sections: dict[str, list[str]] = {"towers": [], "packing": []}
    for path in options.results:
        records = json.loads(path.read_text())
        if "tubelets" in records[0] or "forward_s" in records[0]:
            sections["towers"].append(section(path.stem, records))
            plot(records, options.page.parent / "images" / f"{path.stem}.png")
        else:
            sections["packing"].append(packing_section(records))
    for name, parts in sections.items():
        if parts:
            write_between(options.page, name, "\n\n".join(parts))


if __name__ == "__main__":
    main()
