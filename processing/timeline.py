"""A picture of when each trajectory lives."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from .trajectories import Trajectories
from .trajectory_colors import trajectory_colors

_KEY = "#da7000"
_INK = "#1b1f24"
_SOFT = "#5c6670"


def timeline(trajectories: Trajectories, path: str | Path | None = None) -> Figure:
    """Draw one row per trajectory with a bar where it is present, and above it how many live at a time.

    Rows follow the ids, from the top; a bar reaches from a frame's time to the next frame's. Key frames are dashed
    orange lines. With `path` the figure is also written there (a PNG, or what the suffix says); missing folders are
    made.
    """
    edges = _frame_edges(trajectories.timestamps)
    num_rows = trajectories.num_trajectories
    figure = Figure(figsize=(12, 2.2 + min(max(num_rows, 8) * 0.052, 10)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    density, lives = figure.subplots(2, 1, sharex=True, height_ratios=[1, max(3.0, num_rows / 24)])
    _draw_density(density, trajectories, edges)
    _draw_lives(lives, trajectories, edges)
    for axes in (density, lives):
        for position in trajectories.key_frames:
            axes.axvline(edges[position], color=_KEY, linewidth=1.4, linestyle=(0, (4, 2)), zorder=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#c6ccd2")
        axes.tick_params(colors=_SOFT, labelsize=9)
    for position in trajectories.key_frames:
        label = density.annotate(
            "key frame", (edges[position], 1), (4, 4), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
        label.set(color=_KEY, fontsize=9)
    lives.set_xlim(edges[0], edges[-1])
    if path is not None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return figure


def _frame_edges(timestamps: np.ndarray) -> np.ndarray:
    """Return T + 1 times: each frame lasts until the next, the last one as long as the usual frame."""
    steps = np.diff(timestamps)
    usual = float(np.median(steps)) if len(steps) else 1.0
    return np.append(timestamps, timestamps[-1] + (usual or 1.0))


def _draw_density(axes, trajectories: Trajectories, edges: np.ndarray) -> None:
    alive = trajectories.presence.sum(0)
    axes.stairs(alive, edges, fill=True, color="#d8dee4")
    axes.stairs(alive, edges, color=_INK, linewidth=1.2)
    axes.set_ylim(0, max(1, int(alive.max()) * 1.1))
    axes.set_ylabel("alive", color=_INK, fontsize=10)


def _draw_lives(axes, trajectories: Trajectories, edges: np.ndarray) -> None:
    colors = trajectory_colors(trajectories.num_trajectories)[1:] / 255
    bars, bar_colors = [], []
    for row, presence in enumerate(trajectories.presence):
        # +1 where a run of frames starts, -1 just after it ends.
        change = np.diff(presence.astype(np.int8), prepend=0, append=0)
        for start, stop in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True):
            left, right = edges[start], edges[stop]
            top, bottom = row + 0.6, row + 1.4
            bars.append([(left, top), (right, top), (right, bottom), (left, bottom)])
            bar_colors.append(colors[row])
    axes.add_collection(PolyCollection(bars, facecolors=bar_colors, edgecolors="none"))
    axes.set_ylim(trajectories.num_trajectories + 0.8, 0.2)
    axes.set_ylabel("trajectory", color=_INK, fontsize=10)
    axes.set_xlabel("seconds", color=_INK, fontsize=10)
