"""The demo's second half: a small trained model finds synthetic clips, and objects in them, by text."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trajvit.modeling_trajvit import TrajViTForContrastive
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.video_writing import write_video
from trajvit.search import Similarities, search
from trajvit.training.synthetic import SyntheticSource

CHECKPOINT = Path(__file__).resolve().parent / "checkpoints" / "tiny_synthetic"
"""Trained on synthetic clips; its model card says on how many, and what it cannot do."""

NUM_CLIPS = 24
_SEED = 7
QUERIES = (0, 1, 4, 7)
"""Clips that are looked for by their own captions."""

_EXAMPLE = 1
_EXAMPLE_SIZE, _EXAMPLE_FRAMES, _EXAMPLE_FPS = 320, 16, 4.0
_SHOWN = 3
_DIMMED = 0.25


@dataclass(frozen=True, eq=False)
class SearchRun:
    """What the search found.

    Attributes:
        texts: What was looked for.
        wanted: For each text, the clip that it describes.
        frames: (N, T, S, S, 3) uint8, the clips.
        trajectories: Those of each clip, as the processor found them.
        similarities: Of texts with clips and trajectories.
    """

    texts: tuple[str, ...]
    wanted: tuple[int, ...]
    frames: np.ndarray
    trajectories: tuple[Trajectories, ...]
    similarities: Similarities

    def rank(self, text: int) -> int:
        """Place of the wanted clip among all, 1 for the first; clips that are as similar come before it."""
        row = self.similarities.videos[text]
        own = row[self.wanted[text]]
        return int((row >= own).sum())


def run_search(checkpoint: Path = CHECKPOINT) -> SearchRun:
    """Look for held-out clips, whose pairs of shape, colour and motion the model has never seen, by their captions."""
    model = TrajViTForContrastive.from_pretrained(checkpoint).eval()
    processor = TrajViTProcessor.from_pretrained(checkpoint)
    size, num_frames = processor.video_processor.size["height"], processor.video_processor.num_frames
    clips = _clips(range(NUM_CLIPS), size, num_frames)
    inputs = processor(videos=[clip.frames for clip in clips], return_trajectories=True)
    found = tuple(inputs.pop("trajectories"))
    texts = tuple(clips[index].captions[0] for index in QUERIES)
    similarities = search(model, processor, texts, inputs)
    return SearchRun(texts, QUERIES, np.stack([clip.frames for clip in clips]), found, similarities)


def write_example(path: Path) -> Path:
    """Write one of these clips, larger and of more frames: a purple heart, and after a cut an orange square with it."""
    (clip,) = _clips([_EXAMPLE], _EXAMPLE_SIZE, _EXAMPLE_FRAMES)
    return write_video(path, clip.frames, _EXAMPLE_FPS)


def _clips(indices: Iterable[int], size: int, num_frames: int) -> list[Any]:
    source = SyntheticSource("demo", "test", "video", NUM_CLIPS, num_frames, {"image_size": size, "seed": _SEED})
    return [source.read({"key": str(index), "index": index}) for index in indices]


def draw_search(run: SearchRun, path: Path) -> None:
    """A row for each text: the clips that are most similar, and in the first of them the trajectory that is."""
    figure = Figure(figsize=(9, 2.45 * len(run.texts)), layout="constrained")
    for row, (text, axes) in enumerate(zip(run.texts, figure.subplots(len(run.texts), _SHOWN + 1), strict=True)):
        best = run.similarities.best_videos(row, _SHOWN)
        for place, (axis, clip) in enumerate(zip(axes, best, strict=False), start=1):
            axis.imshow(run.frames[clip, run.frames.shape[1] // 2])
            mark = ", described" if clip == run.wanted[row] else ""
            axis.set_xlabel(f"{place}: {run.similarities.videos[row, clip]:.2f}{mark}", fontsize=8)
        picture, score = _highlighted(run, row, best[0])
        axes[-1].imshow(picture)
        axes[-1].set_xlabel(f"trajectory: {score:.2f}", fontsize=8)
        axes[0].set_title("\n".join(textwrap.wrap(text, 96)), fontsize=9, loc="left")
        for axis in axes:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.savefig(path, dpi=110)


def _highlighted(run: SearchRun, text: int, clip: int) -> tuple[np.ndarray, float]:
    """The frame in which the best trajectory of a clip is largest, all else dimmed, with its similarity."""
    number = run.similarities.best_trajectory(text, clip)
    trajectories = run.trajectories[clip]
    if number is None:
        return run.frames[clip, 0], float("nan")
    frame = int(trajectories.areas[number - 1].argmax())
    picture = run.frames[clip, frame].copy()
    ids = trajectories.resize(*picture.shape[:2]).ids[frame]
    picture[ids != number] = (picture[ids != number] * _DIMMED).astype(np.uint8)
    return picture, float(run.similarities.trajectories[text, clip, number - 1])
