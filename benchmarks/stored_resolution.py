"""What storing trajectories smaller saves, and what it changes of what a model sees.

    python benchmarks/stored_resolution.py VIDEO_OR_TRAJECTORIES_FILE ... [--short-side 64 --short-side 128]

A model sees the trajectory under the centre of each of 56 x 56 cells of a crop. Over random crops as in training, a row
tells how many of these cells differ from those of the trajectories as they were found, and how many of the (frame,
trajectory) pairs among them appear or disappear. For comparison, the same for crops that are moved by one row of
pixels. docs/scaling.md shows results.
"""

import json
import time
from pathlib import Path
from random import Random
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from trajectory_files import trajectories_of

from trajvit.processing.frame_size import fit_short_side
from trajvit.processing.trajectories import Trajectories
from trajvit.training.augmentation import Draw, cells_of_crop, draw_augmentation
from trajvit.training.run_config import AugmentationSettings

GRID = 56


def compare(trajectories: Trajectories, short_side: int, crops: int) -> dict[str, float]:
    """What storing one clip's trajectories at `short_side` means: bytes, ms to read, shares of cells and pairs."""
    size = trajectories.shape[1:]
    small = trajectories.resize(*fit_short_side(*size, short_side))
    content = small.to_bytes()
    began = time.process_time()
    Trajectories.from_bytes(content)
    seconds = time.process_time() - began
    ids = with_original_ids(trajectories, small)
    random = Random(0)
    shares = []
    for _ in range(crops):
        draw = draw_augmentation(AugmentationSettings(), *size, random)
        expected = cells_of_crop(trajectories.ids, draw, size, GRID)
        found = cells_of_crop(ids, draw, size, GRID)
        moved = cells_of_crop(trajectories.ids, moved_by_a_row(draw, size[0]), size, GRID)
        count = trajectories.num_trajectories
        shares.append((*differing(expected, found, count), *differing(expected, moved, count)))
    names = ("cells", "pairs", "cells_moved", "pairs_moved")
    return {"bytes": len(content), "read_ms": 1000 * seconds, **dict(zip(names, np.mean(shares, axis=0), strict=True))}


def with_original_ids(trajectories: Trajectories, small: Trajectories) -> np.ndarray:
    """(T, h, w) ids of the small maps before their gaps were closed."""
    rows = (2 * np.arange(small.height) + 1) * trajectories.height // (2 * small.height)
    columns = (2 * np.arange(small.width) + 1) * trajectories.width // (2 * small.width)
    ids = trajectories.ids[:, rows[:, None], columns]
    if len(np.unique(ids[ids > 0])) != small.num_trajectories:
        raise RuntimeError("the maps were not scaled by the pixels under the new pixels' centres")
    return ids


def moved_by_a_row(draw: Draw, height: int) -> Draw:
    """The crop one row of pixels lower, or higher where it lies at the bottom."""
    top, left, crop_height, crop_width = draw.crop
    top = top + 1 if top + 1 + crop_height <= height else max(0, top - 1)
    return Draw((top, left, crop_height, crop_width), draw.flip, draw.colors, draw.blur_sigma, draw.grayscale)


def differing(expected: torch.Tensor, found: torch.Tensor, num_trajectories: int) -> tuple[float, float]:
    """Share of (T, G, G) cells that differ, and of the pairs of a frame and a trajectory that only one of them has."""
    before, after = (pairs(cells, num_trajectories) for cells in (expected, found))
    return (expected != found).float().mean().item(), float((before != after).sum() / before.sum())


def pairs(cells: torch.Tensor, num_trajectories: int) -> np.ndarray:
    """(T, M) whether a trajectory has a cell in a frame."""
    return np.stack([np.bincount(frame.ravel(), minlength=num_trajectories + 1)[1:] > 0 for frame in cells.numpy()])


def main(
    paths: Annotated[list[Path], typer.Argument(help="Videos, or files that Trajectories.save wrote.")],
    short_side: Annotated[list[int], typer.Option(help="Pixels.")] = [256, 128, 72, 64, 56],  # noqa: B006
    crops: Annotated[int, typer.Option(min=1, help="Random crops of each clip.")] = 20,
    output: Annotated[Optional[Path], typer.Option(help="JSON file for the results.")] = None,  # noqa: UP045
) -> None:
    """Print a row for each short side, means over clips."""
    clips = [trajectories_of(path) for path in paths]
    rows: list[dict[str, Any]] = []
    for side in short_side:
        results = [compare(clip, side, crops) for clip in clips]
        rows.append(
            {"short_side": side, **{name: float(np.mean([row[name] for row in results])) for name in results[0]}}
        )
    table = Table(box=MARKDOWN)
    for heading in ("stored short side", "KB", "read, ms", "cells that differ", "pairs that differ"):
        table.add_column(heading, justify="right")
    for row in rows:
        shares = (f"{row['cells']:.1%}", f"{row['pairs']:.1%}")
        table.add_row(str(row["short_side"]), f"{row['bytes'] / 1000:.1f}", f"{row['read_ms']:.1f}", *shares)
    table.add_row("moved by a row", "", "", f"{rows[0]['cells_moved']:.1%}", f"{rows[0]['pairs_moved']:.1%}")
    Console(width=120).print(table)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
