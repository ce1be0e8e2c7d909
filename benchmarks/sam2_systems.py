"""The systems that the SAM 2 benchmark runs, ours among them, and the video that they run on.

Shape legend: N objects of a clip, S image size (square).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from random_sam2 import randomise_
from sam2_references import (
    Row,
    Tracked,
    TrackingTask,
    frame_masks,
    track_in_one_batch,
    track_with_predictor,
    track_with_transformers,
    transformers_model,
    write_clip,
)

from trajvit.processing.sam2_features import FrameFeatures
from trajvit.processing.sam2_loading import build_sam2
from trajvit.processing.sam2_tracker import NO_OBJECT, Sam2Tracker

PREDICTOR_CLASS = "sam2.sam2_video_predictor.SAM2VideoPredictor"
OURS, PREDICTOR, ONE_BATCH, TRANSFORMERS = "ours", "predictor", "one batch", "transformers"
# Settings of the tracker that change its result.
APPROXIMATE: dict[str, dict[str, Any]] = {
    "bfloat16": {"autocast_dtype": torch.bfloat16},
    "memory 2 x 2": {"memory_pooling": 2},
    "bfloat16, memory 2 x 2": {"autocast_dtype": torch.bfloat16, "memory_pooling": 2},
    "window 2": {"attention_window": 2.0},
    "dropped after 2": {"drop_after": 2},
}
EXACT = (OURS, PREDICTOR, ONE_BATCH, TRANSFORMERS)

System = Callable[[TrackingTask], Tracked]


@dataclass(frozen=True)
class Scenario:
    """One row of options; everything stored is stored under its name."""

    model: str
    image_size: int
    clip_lengths: tuple[int, ...]
    objects: int
    chunk: int
    device: str
    dtype: str
    threads: int
    object_score_bias: float

    @property
    def name(self) -> str:
        lengths = "+".join(map(str, self.clip_lengths))
        parts = (self.model, self.image_size, f"{lengths}frames", f"{self.objects}objects", f"chunk{self.chunk}")
        return "-".join(map(str, (*parts, self.device, self.dtype, f"{self.threads}threads", self.object_score_bias)))

    @property
    def object_frames(self) -> int:
        """Objects times frames of a video, key frames included."""
        return self.objects * sum(self.clip_lengths)

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def on_one_core(self) -> bool:
        return not self.on_cuda and self.threads == 1

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        return None if self.dtype == "float32" else getattr(torch, self.dtype)


def make_task(scenario: Scenario, folder: Path) -> TrackingTask:
    """Write each clip's frames, discs that move over a blurred background, and make Voronoi cells their masks."""
    size = scenario.image_size
    folders, masks = [], []
    for index, length in enumerate(scenario.clip_lengths):
        random = np.random.default_rng(index)
        background = cv2.resize(
            random.integers(0, 255, (16, 16, 3), np.uint8), (size, size), interpolation=cv2.INTER_CUBIC
        )
        discs = [(random.random(2), random.normal(0, 0.02, 2), random.integers(0, 255, 3).tolist()) for _ in range(12)]
        frames = []
        for step in range(length):
            frame = background.copy()
            for number, (start, velocity, color) in enumerate(discs):
                x, y = (size * (start + step * velocity)).astype(int).tolist()
                cv2.circle(frame, (x, y), size * (5 + number) // 128, color, -1)
            frames.append(frame)
        folders.append(write_clip(frames, folder / str(index)))
        masks.append(_voronoi_cells(random.random((scenario.objects, 2)), size))
    return TrackingTask.read(folders, masks)


def _voronoi_cells(centres: np.ndarray, size: int) -> torch.Tensor:
    axis = (np.arange(size) + 0.5) / size
    nearest = np.full((size, size), np.inf)
    labels = np.zeros((size, size), int)
    for label, (x, y) in enumerate(centres):
        distance = (axis[None] - x) ** 2 + (axis[:, None] - y) ** 2
        closer = distance < nearest
        nearest[closer], labels[closer] = distance[closer], label
    return torch.from_numpy(labels == np.arange(len(centres))[:, None, None])


def track_with_ours(tracker: Sam2Tracker, task: TrackingTask, chunk: int, drop_after: int | None = None) -> Tracked:
    """Follow all objects with `Sam2Tracker`, `chunk` at a time, the longest clips first; finished rows leave.

    Objects that were absent for `drop_after` frames in a row leave too.
    """
    tracked = Tracked.empty(task)
    features = tracker.encode(task.frames)
    longest_first = sorted(task.clips, key=lambda clip: -clip.length)
    rows = [(clip, number) for clip in longest_first for number in range(len(clip.masks))]
    for start in range(0, len(rows), chunk):
        _track_chunk(tracker, features, rows[start : start + chunk], tracked, drop_after)
    return tracked


def _track_chunk(
    tracker: Sam2Tracker, features: FrameFeatures, rows: list[Row], tracked: Tracked, drop_after: int | None
) -> None:
    device = features.stride_16.device
    size = tracked.masks[0].shape[-1]
    key_frames = torch.tensor([clip.first for clip, _ in rows], device=device)
    key_masks = torch.stack([clip.masks[number] for clip, number in rows]).to(device)
    objects, output = tracker.start(features, key_frames, key_masks)
    absences = torch.zeros(len(rows), dtype=torch.long)
    for step in range(rows[0][0].length):
        if step > 0:
            stays = torch.tensor([clip.length > step for clip, _ in rows])
            if drop_after is not None:
                stays &= absences < drop_after
            if not stays.all():
                for clip, number in compress(rows, (~stays).tolist()):
                    tracked.logits[clip.index][step:, number] = NO_OBJECT
                rows = list(compress(rows, stays.tolist()))
                objects, absences = objects.select(stays.to(device)), absences[stays]
            if not rows:
                return
            frames = torch.tensor([clip.first + step for clip, _ in rows], device=device)
            objects, output = tracker.step(objects, features, frames)
        absences = torch.where(output.object_scores.cpu() > 0, 0, absences + 1)
        tracked.add(rows, step, output.logits, frame_masks(output.logits, size))


def build_system(name: str, scenario: Scenario) -> System:
    """Build a system with its model on the scenario's device; all but transformers have the same weights."""
    target = {"target": PREDICTOR_CLASS} if name == PREDICTOR else {}
    model = build_sam2(scenario.model, scenario.image_size, **target)
    model = randomise_(model, object_score_bias=scenario.object_score_bias).to(scenario.device)
    if name == OURS or name in APPROXIMATE:
        options = {"autocast_dtype": scenario.autocast_dtype, **APPROXIMATE.get(name, {})}
        drop_after = options.pop("drop_after", None)
        tracker = Sam2Tracker(model, **options)
        return partial(track_with_ours, tracker, chunk=scenario.chunk, drop_after=drop_after)
    run: System
    if name == PREDICTOR:
        run = partial(track_with_predictor, model)
    elif name == ONE_BATCH:
        run = partial(track_in_one_batch, model)
    else:
        run = partial(track_with_transformers, *transformers_model(model))
    device, dtype = torch.device(scenario.device).type, scenario.autocast_dtype

    def run_in_precision(task: TrackingTask) -> Tracked:
        with nullcontext() if dtype is None else torch.autocast(device, dtype=dtype):
            return run(task)

    return run_in_precision
