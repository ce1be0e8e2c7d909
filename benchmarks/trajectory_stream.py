"""Measures whether streaming takes the same memory however long the video is (docs/streaming.md shows results).

    python benchmarks/trajectory_stream.py                    # classic, 5,000 frames at short side 96
    python benchmarks/trajectory_stream.py --backend sam2     # the smallest SAM 2 at 128 x 128, random weights

The video is drawn as it is needed: shots of 250 frames in which textured sprites move before a moving background, with
cuts between them. After each clip two numbers are taken: the process's resident memory (Linux: /proc/self/statm) and
what `tracemalloc` counts of Python's and NumPy's allocations. A line is fitted to each over the frames after the
warm-up, in which the allocator's pools fill and pieces of long trajectories reach their full length. The result file is
complete after every clip, so that a run that was broken off still says how far it came.
"""

import argparse
import json
import os
import platform
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.scene_rendering import render_frames
from trajvit.processing.scene_script import SceneSettings, draw_script

SHOT_FRAMES = 250
RESULTS = Path("benchmarks/results")
MEGABYTE = 2**20

# Random weights tell no good mask from a bad one, so every mask of the coarse grid is taken.
SAM2_OPTIONS = {
    "model": "tiny",
    "image_size": 128,
    "device": "cpu",
    "max_segments": 2,
    "segmenter_options": {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
}


def endless_video(height: int, width: int) -> Iterator[np.ndarray]:
    """Yield (height, width, 3) uint8 frames, shot after shot, each drawn when it is asked for."""
    settings = SceneSettings(jpeg_quality=None, shutter_share=0.0)
    shot = 0
    while True:
        script = draw_script(shot, SHOT_FRAMES, height, width, 24.0, [0], settings)
        for frame, _ in render_frames(script):
            yield frame
        shot += 1


def make_generator(backend: str, short_side: int, folder: Path) -> TrajectoryGenerator:
    """A generator of at most 64 trajectories a clip; `folder` keeps the random weights that `sam2` needs."""
    if backend != "sam2":
        return TrajectoryGenerator(backend, max_trajectories=64, short_side=short_side)
    from random_sam2 import save_random_checkpoint

    checkpoint = save_random_checkpoint(folder / "tiny.pt", "tiny")
    return TrajectoryGenerator(
        "sam2", max_trajectories=64, short_side=short_side, checkpoint=str(checkpoint), **SAM2_OPTIONS
    )


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class MemoryLog:
    """Memory after each clip, in a JSON file that is complete at any time."""

    def __init__(self, path: Path, settings: dict[str, Any], warm_up: int) -> None:
        self.path = path
        self.settings = settings
        self.warm_up = warm_up
        self.samples: list[tuple[int, float, float]] = []
        self.counts = {"trajectories": 0, "pieces": 0, "trajectory_frames": 0, "packed_bytes": 0}
        self._start = time.perf_counter()

    def take(self, num_frames: int) -> None:
        """Note the memory in use now that `num_frames` are done."""
        traced, _ = tracemalloc.get_traced_memory()
        self.samples.append((num_frames, resident_bytes() / MEGABYTE, traced / MEGABYTE))
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.result(), indent=1) + "\n")
        unfinished.replace(self.path)

    def result(self) -> dict[str, Any]:
        frames, resident, traced = np.array(self.samples).T
        after = frames >= self.warm_up
        return {
            "settings": self.settings,
            "machine": {"processor": platform.machine(), "python": platform.python_version(), "numpy": np.__version__},
            "frames": int(frames[-1]),
            "seconds": round(time.perf_counter() - self._start, 1),
            **self.counts,
            "resident_mb": describe(frames[after], resident[after]),
            "traced_mb": describe(frames[after], traced[after]),
            "samples": [[int(f), round(r, 2), round(t, 2)] for f, r, t in self.samples],
        }


def describe(frames: np.ndarray, megabytes: np.ndarray) -> dict[str, float] | None:
    """First, least, most and last value (MB), and the slope of the fitted line in MB per 1,000 frames; None if few."""
    if len(frames) < 3:
        return None
    slope, _ = np.polyfit(frames / 1000, megabytes, 1)
    values = {"first": megabytes[0], "least": megabytes.min(), "most": megabytes.max(), "last": megabytes[-1]}
    return {name: round(float(value), 2) for name, value in (values | {"per_1000_frames": slope}).items()}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Stream the video once and return the log's result."""
    settings = {name: value for name, value in vars(arguments).items() if name != "output"}
    log = MemoryLog(arguments.output, settings, arguments.warm_up)
    height, width = arguments.short_side, round(arguments.short_side * 16 / 9)
    with tempfile.TemporaryDirectory() as folder:
        generator = make_generator(arguments.backend, arguments.short_side, Path(folder))
        tracemalloc.start()
        pieces = generator.stream(
            islice(endless_video(height, width), arguments.frames),
            clip_frames=arguments.clip_frames,
            progress=lambda stage, done, total: log.take(done) if stage == "stream" else None,
        )
        for piece in pieces:
            log.counts["trajectories"] += not piece.continues
            log.counts["pieces"] += 1
            log.counts["trajectory_frames"] += len(piece)
            log.counts["packed_bytes"] += piece.packed_masks.nbytes
        tracemalloc.stop()
    log.write()
    return log.result()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="classic", help="backend to stream with (default: classic)")
    parser.add_argument("--frames", type=int, default=5000, help="length of the video")
    parser.add_argument("--short-side", type=int, help="of the frames in pixels (default: 96; sam2: 128)")
    parser.add_argument("--clip-frames", type=int, default=32, help="frames of a clip at most")
    parser.add_argument("--warm-up", type=int, default=1250, help="frames before the line is fitted")
    parser.add_argument("--output", type=Path, help="JSON file (default: benchmarks/results/trajectory_stream_*.json)")
    chosen = parser.parse_args(arguments)
    chosen.short_side = chosen.short_side or (128 if chosen.backend == "sam2" else 96)
    chosen.output = chosen.output or RESULTS / f"trajectory_stream_{chosen.backend}.json"
    return chosen


def main(arguments: list[str] | None = None) -> None:
    chosen = parse_arguments(arguments)
    result = measure(chosen)
    print(f"{chosen.backend}: {result['frames']} frames in {result['seconds']} s")
    mask_bytes = result["packed_bytes"] / max(result["trajectory_frames"], 1)
    print(f"{result['trajectories']} trajectories in {result['pieces']} pieces, {mask_bytes:.0f} bytes for each mask")
    for name in ("resident_mb", "traced_mb"):
        values = result[name]
        if values is None:
            print(f"{name}: too few clips after the warm-up to fit a line")
        else:
            print(
                f"{name}: {values['per_1000_frames']:+.2f} MB per 1,000 frames, {values['least']:.1f}-"
                f"{values['most']:.1f} MB, from {values['first']:.1f} to {values['last']:.1f}"
            )
    print(f"results: {chosen.output}")


if __name__ == "__main__":
    main()
