"""Writes what a study found as a page: tables of means over seeds, plots, and what a difference is worth.

The page keeps whatever stands outside of its marks, so that what people write beside the tables stays.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from trajvit.training.rendered_world import EXACT

from .study_agreement import KINDS
from .study_run import WORLDS
from .study_settings import SYSTEMS, StudySettings
from .study_worlds import CLASSES, classification_sets

Record = dict[str, Any]

BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"

QUALITY = {
    "txt2vid_R@1": "txt2vid R@1",
    "txt2vid_R@5": "R@5",
    "txt2vid_R@10": "R@10",
    "txt2vid_median_rank": "median rank",
    "vid2txt_R@5": "vid2txt R@5",
    "motion_top_1": "motion, top-1",
    "shape_top_1": "shape, top-1",
    "mAP_ground_truth_boxes": "detection, mAP",
}
COSTS = {
    "parameters": "parameters, M",
    "tokens": "tokens",
    "gflop": "GFLOP a clip",
    "pretraining_s": "pretraining, s",
    "pretraining_cpu_s": "CPU seconds of it",
}
AGREEMENT = {f"first_{kind}": kind for kind in KINDS}
_LOWER_IS_BETTER = {"txt2vid_median_rank"}
_PLOTTED = ("txt2vid_R@10", "motion_top_1", "shape_top_1", "mAP_ground_truth_boxes")


class ReportError(ValueError):
    """A page that cannot be written; the message names it and says what is missing."""


def read_records(study: Path) -> list[Record]:
    """The records of all finished runs, in the order of the systems and seeds."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (study / "records").glob("*-*.json")]
    order = list(SYSTEMS)
    return sorted(records, key=lambda record: (order.index(record["system"]), record["seed"]))


def write_report(study: Path, settings: StudySettings, page: Path | None = None) -> Path:
    """Write the tables and the plot of a study.

    Args:
        study: Its folder.
        settings: Its size.
        page: Markdown file with the marks between which they go; the plot goes to `images/` beside it. None for
            `results.md` in the folder, which is made.

    Returns:
        The page.

    Raises:
        ReportError: The page lacks the marks, or no run is finished.
    """
    records = read_records(study)
    if not records:
        raise ReportError(f"{study} has no finished run; expected one at least")
    if page is None:
        page = study / "results.md"
        page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    before, after = page_around(page)
    image = page.parent / "images" / f"study_{study.name}.png"
    plot(records, chance_of(settings), image)
    chance = {**chance_of(settings), **commonest_classes(study / WORLDS)}
    parts = [
        settings_line(records, settings),
        quality_table(records, chance),
        "What the clip in first place, but for the described one, has of what a text describes, in percent:",
        agreement_table(records),
        cost_table(records),
        f"![Quality over cost](images/{image.name})",
    ]
    text = "\n\n".join(parts)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    return page


def page_around(page: Path) -> tuple[str, str]:
    """What a page has before and behind the marks. Raises `ReportError` where it has none."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ReportError(f"{page} has no place for the study; expected a file with lines {BEGIN} and {END}")
    return before, after


def settings_line(records: Sequence[Record], settings: StudySettings) -> str:
    devices = sorted({record["device"] for record in records})
    seeds = len({record["seed"] for record in records})
    spread = "Means over seeds, with the standard deviation between seeds." if seeds > 1 else "One seed."
    return (
        f"{len(records)} runs on {', '.join(devices)}: {settings.steps:,} steps of {settings.batch_size} clips out of "
        f"{settings.train_clips:,} ({settings.num_frames} frames of {settings.image_size} pixels), learning rate "
        f"{settings.learning_rate:g}; transformers of width {settings.hidden_size} and {settings.num_layers} layers. "
        f"Retrieval among {settings.test_clips} clips. {spread}"
    )


def quality_table(records: Sequence[Record], chance: Mapping[str, float]) -> str:
    """A row for each system, and what `chance` gives; the best mean of a column is bold."""
    names = _systems(records)
    values = {(name, metric): _of(records, name, metric) for name in names for metric in QUALITY}
    best = {metric: _best(metric, [values[name, metric] for name in names]) for metric in QUALITY}
    rows = []
    for name in names:
        cells = []
        for metric in QUALITY:
            own = values[name, metric]
            shown = _with_deviation(own)
            cells.append(f"**{shown}**" if own and mean(own) == best[metric] else shown)
        rows.append([f"`{name}`", *cells])
    rows.append(["chance", *(f"{chance[metric]:.1f}" if metric in chance else "-" for metric in QUALITY)])
    return _markdown(["system", *QUALITY.values()], rows)


def agreement_table(records: Sequence[Record]) -> str:
    """A row for each system, and what any other clip has."""
    names = _systems(records)
    rows = [[f"`{name}`", *(_with_deviation(_of(records, name, metric)) for metric in AGREEMENT)] for name in names]
    anything = [_of(records, names[0], f"any_{kind}") for kind in KINDS]
    rows.append(["any clip", *(f"{own[0]:.1f}" if own else "-" for own in anything)])
    return _markdown(["system", *AGREEMENT.values()], rows)


def cost_table(records: Sequence[Record]) -> str:
    rows = []
    for name in _systems(records):
        cells = []
        for metric in COSTS:
            own = _of(records, name, metric)
            scale = 1e6 if metric == "parameters" else 1.0
            cells.append(f"{mean(own) / scale:,.{0 if metric.startswith('pretraining') else 2}f}" if own else "-")
        rows.append([f"`{name}`", *cells])
    return _markdown(["system", *COSTS.values()], rows)


def chance_of(settings: StudySettings) -> dict[str, float]:
    """What ranking at random gives, where that is known."""
    count = settings.test_clips
    recalls = {f"{side}_R@{k}": 100 * k / count for side in ("txt2vid", "vid2txt") for k in (1, 5, 10)}
    return {**recalls, "txt2vid_median_rank": (count + 1) / 2}


def commonest_classes(worlds: Path) -> dict[str, float]:
    """Top-1 accuracies of always naming the class that most clips for training have."""
    if not worlds.is_dir():
        return {}
    found = {}
    for what in CLASSES:
        train, test = classification_sets(worlds, EXACT, what)
        commonest = Counter(train.labels).most_common(1)[0][0]
        found[f"{what}_top_1"] = 100 * test.labels.count(commonest) / len(test.labels)
    return found


def plot(records: Sequence[Record], chance: Mapping[str, float], path: Path) -> None:
    """Each quality over the FLOPs of a clip, a point for each system with its deviation between seeds."""
    figure = Figure(figsize=(10, 7.6), layout="constrained")
    names = _systems(records)
    for axis, metric in zip(figure.subplots(2, 2).flatten(), _PLOTTED, strict=True):
        for number, name in enumerate(names):
            own = _of(records, name, metric)
            if not own:
                continue
            axis.errorbar(
                mean(_of(records, name, "gflop")),
                mean(own),
                yerr=stdev(own) if len(own) > 1 else None,
                fmt="*" if name.startswith("trajvit") else "o",
                markersize=13 if name.startswith("trajvit") else 7,
                color=f"C{number}",
                capsize=3,
                label=f"{name} ({mean(_of(records, name, 'tokens')):.0f} tokens)",
            )
        if metric in chance:
            axis.axhline(chance[metric], color="grey", linestyle=":", linewidth=1)
        axis.set(xscale="log", xlabel="GFLOP of a clip", ylabel="percent", title=QUALITY[metric])
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _systems(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["system"] for record in records))


def _of(records: Sequence[Record], name: str, metric: str) -> list[float]:
    found = ({**record["metrics"], **record} for record in records if record["system"] == name)
    return [float(values[metric]) for values in found if metric in values and math.isfinite(float(values[metric]))]


def _best(metric: str, columns: Sequence[list[float]]) -> float:
    means = [mean(own) for own in columns if own]
    if not means:
        return math.nan
    return min(means) if metric in _LOWER_IS_BETTER else max(means)


def _with_deviation(values: Sequence[float]) -> str:
    if not values:
        return "n/a"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _markdown(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
