"""The page `statistics.html` of a generation run: how many trajectories clips have, how long they live, what failed."""

import html
import io
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from .generation_folder import GenerationFolder
from .generation_statistics import GenerationStatistics, mean_of, quantile_of

_BAR = "#1f6feb"
_SOFT = "#5c6670"
_LEAST_BINS = 12


def write_page(
    folder: GenerationFolder, summary: Mapping[str, Any], statistics: GenerationStatistics, stages: Mapping[str, int]
) -> None:
    """Write the page, which needs no other file. Raises `OSError`.

    Args:
        folder: Of the run.
        summary: `GenerationSummary.to_dict()`.
        statistics: Of all clips.
        stages: How many failures there are of each stage.
    """
    template = (files(__name__.rpartition(".")[0]) / "statistics_page.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        name=html.escape(folder.output.name),
        clips=f"{statistics.clips:,}",
        failures=f"{summary['failures']:,}",
        trajectories=_number(mean_of(statistics.trajectories)),
        kilobytes=_number(_each(statistics.trajectory_bytes, statistics) / 1000),
        figures="".join(
            f"<figure>{_chart(counts, what, bins)}<figcaption>{_described(counts)}</figcaption></figure>"
            for counts, what, bins in (
                (statistics.trajectories, "trajectories of a clip", 32),
                (statistics.lifetimes, "frames in which a trajectory is present", 32),
                (statistics.coverage, "per cent of a clip's pixels in a trajectory", 50),
                (statistics.shots, "key frames of a clip", 32),
            )
        ),
        rows=_rows(_facts(summary, statistics)),
        stages=_rows([(stage, f"{count:,}") for stage, count in sorted(stages.items())] or [("none", "0")]),
    )
    path = folder.path / "statistics.html"
    path.write_text(page, encoding="utf-8")


def _facts(summary: Mapping[str, Any], statistics: GenerationStatistics) -> list[tuple[str, str]]:
    facts = [
        ("output shards", f"{summary['shards']:,}"),
        ("clips with trajectories", f"{statistics.clips:,}"),
        ("sampled frames", f"{statistics.frames:,}"),
        ("trajectories, KB a clip", _number(_each(statistics.trajectory_bytes, statistics) / 1000)),
        ("stored frames, KB a clip", _number(_each(statistics.frame_bytes, statistics) / 1000)),
    ]
    facts += [
        (f"{stage}, seconds of a worker a clip", _number(_each(spent, statistics)))
        for stage, spent in statistics.seconds.items()
    ]
    return facts + [
        ("clips of the last run", f"{summary['new_clips']:,}"),
        ("seconds of the last run", _number(summary["seconds"])),
        ("clips a second of the last run", _number(summary["clips_per_second"])),
    ]


def _each(total: float, statistics: GenerationStatistics) -> float:
    return total / statistics.clips if statistics.clips else float("nan")


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _rows(facts: list[tuple[str, str]]) -> str:
    return "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in facts)


def _described(counts: Counter[int]) -> str:
    if not counts:
        return "nothing was counted"
    low, middle, high = (quantile_of(counts, share) for share in (0.1, 0.5, 0.9))
    return f"mean {mean_of(counts):.1f}; 10 % up to {low}, half up to {middle}, 90 % up to {high}"


def _chart(counts: Counter[int], what: str, most_bins: int) -> str:
    """A histogram as SVG, with a bar for each number or for as many numbers as give at most so many bars."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    numbers = np.array(sorted(counts) or [0])
    heights = np.array([counts[number] for number in numbers.tolist()])
    width = -(-(int(numbers.max() - numbers.min()) + 1) // most_bins)
    edges = np.arange(numbers.min(), numbers.max() + width + 1, width) - 0.5
    # The same counts give the same page.
    with rc_context({"svg.hashsalt": "trajvit", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.hist(numbers, bins=edges.tolist(), weights=heights, color=_BAR, rwidth=0.9)
        axes.set_xlim(edges[0], max(edges[-1], edges[0] + _LEAST_BINS * width))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel(what, color=_SOFT)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_SOFT, labelsize=8)
        file = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    svg = file.getvalue().decode("utf-8")
    return svg[svg.index("<svg") :]
