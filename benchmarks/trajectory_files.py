"""How small trajectories are on disk, beside other lossless ways to store the same ids.

    python benchmarks/trajectory_files.py VIDEO_OR_TRAJECTORIES_FILE ...

Trajectories of a video are generated first (16 frames, the default backend). docs/trajectories.md shows results.
"""

import io
import lzma
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from trajvit.processing.decoding import decode_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.trajectories import Trajectories

app = typer.Typer(add_completion=False)


def png(trajectories: Trajectories, id_type: type[np.unsignedinteger]) -> int:
    """Bytes of a greyscale PNG of the stacked maps."""
    return _image_bytes(_stacked(trajectories).astype(id_type), "PNG", optimize=True)


def webp(trajectories: Trajectories) -> int:
    """Bytes of a lossless WebP, at its slowest setting, of the stacked maps."""
    levels = _stacked(trajectories).astype(np.uint8)
    return _image_bytes(levels[..., None].repeat(3, axis=2), "WEBP", lossless=True, exact=True, quality=100, method=6)


def lzma_by_frame(trajectories: Trajectories) -> int:
    """Bytes of LZMA over the maps one after the other, at its slowest setting."""
    ids = trajectories.ids.astype(np.uint8).tobytes()
    return len(lzma.compress(ids, preset=9 | lzma.PRESET_EXTREME))


OTHERS: dict[str, Callable[[Trajectories], int]] = {
    "PNG, 16 bits": lambda trajectories: png(trajectories, np.uint16),
    "PNG, 8 bits": lambda trajectories: png(trajectories, np.uint8),
    "WebP": webp,
    "LZMA by frame": lzma_by_frame,
}


@app.command(help=__doc__)
def compare(
    paths: Annotated[list[Path], typer.Argument(help="Videos, or files that Trajectories.save wrote.")],
) -> None:
    """Print one row per file: sizes in KiB, seconds to write and to read."""
    table = Table(box=MARKDOWN)
    headings = ("clip", "trajectories", "frames", "ours", *OTHERS, "ours at 56 x 56", "write s", "read s")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "clip" else "right")
    for path in paths:
        trajectories = trajectories_of(path)
        started = time.process_time()
        content = trajectories.to_bytes()
        written = time.process_time()
        if Trajectories.from_bytes(content) != trajectories:
            raise RuntimeError(f"{path}: the trajectories did not come back equal.")
        read = time.process_time()
        sizes = [len(content), *(size(trajectories) for size in OTHERS.values())]
        sizes.append(len(trajectories.resize(56, 56).to_bytes()))
        table.add_row(
            path.stem,
            str(trajectories.num_trajectories),
            " x ".join(map(str, trajectories.shape)),
            *(f"{size / 1024:.1f}" for size in sizes),
            f"{written - started:.2f}",
            f"{read - written:.3f}",
        )
    Console(width=200).print(table)


def trajectories_of(path: Path) -> Trajectories:
    """What a file holds, or what the default generator finds in a video."""
    if path.suffix.lower() == ".png":
        return Trajectories.load(path)
    generator = TrajectoryGenerator()
    video = decode_video(path, frame_interval=generator.frame_interval, short_side=generator.short_side)
    return generator(video.frames, video.sample_indices, frame_indices=video.frame_indices, timestamps=video.timestamps)


def _stacked(trajectories: Trajectories) -> np.ndarray:
    return trajectories.ids.reshape(-1, trajectories.width)


def _image_bytes(pixels: np.ndarray, kind: str, **options: object) -> int:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return len(buffer.getvalue())


if __name__ == "__main__":
    app()
