"""From media to the padded inputs of a model, a batch at a time, in worker processes that change nothing but the speed.

An item that cannot be used is left out of its batch and named with the reason; the others are not lost.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from trajvit.processing.clips import keep_largest
from trajvit.processing.stored_values import SampleError
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.trajectory_inputs import pad_batch
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor
from trajvit.training.clip_reading import Reading, read_media
from trajvit.training.worker_processes import START_METHOD, keep_memory, start_server

from .evaluation_data import MediaItem

PIXELS = "pixel_values_videos"


@dataclass(frozen=True, eq=False)
class MediaBatch:
    """Inputs of a model.

    Attributes:
        positions: Of the items that are in it, among all.
        inputs: As `TrajViTVideoProcessor` returns them, a row for each of these; empty where there is none.
        frame_seconds: For each of these, when in its source its frames are shown.
        failures: Positions of the items that cannot be used, with the reason.
    """

    positions: tuple[int, ...]
    inputs: dict[str, torch.Tensor]
    frame_seconds: tuple[tuple[float, ...], ...]
    failures: dict[int, str]


class MediaBatches(Dataset[MediaBatch]):
    """What torch's DataLoader calls a data set, whose indices are lists of positions.

    Args:
        items: All media.
        video_processor: Makes inputs of frames.
        num_frames: Frames sampled from each; None for the processor's number.
    """

    def __init__(
        self, items: Sequence[MediaItem], video_processor: TrajViTVideoProcessor, num_frames: int | None = None
    ):
        self._items = items
        self._processor = video_processor
        self._num_frames = video_processor.num_frames if num_frames is None else num_frames
        self._reading = reading_of(video_processor)

    def __getitem__(self, positions: Sequence[int]) -> MediaBatch:
        frames, maps, used, seconds = [], [], [], []
        failures: dict[int, str] = {}
        for position in positions:
            try:
                pixels, cells, shown = self._read(self._items[position])
            except SampleError as error:
                failures[position] = str(error)
                continue
            frames.append(pixels)
            maps.append(cells)
            used.append(position)
            seconds.append(shown)
        if not used:
            return MediaBatch((), {}, (), failures)
        inputs = pad_batch(frames, maps if self._reading.needs_trajectories else None)
        return MediaBatch(tuple(used), inputs, tuple(seconds), failures)

    def _read(self, item: MediaItem) -> tuple[torch.Tensor, Any, tuple[float, ...]]:
        """Frames (T, 3, H, W), trajectories at the feature grid or None, and the seconds of the frames."""
        if item.media is None:
            raise SampleError(f"there is no {item.expected or 'file of it'}")
        video, trajectories = read_media(
            item.media, None, item.trajectories, self._num_frames, self._reading, item.start, item.end
        )
        try:
            outputs = self._processor(
                video, trajectories=trajectories, generate_trajectories=False, return_tensors="pt"
            )
        except ValueError as error:
            raise SampleError(f"no inputs can be made of it: {error}") from error
        grid, most = self._processor.feature_size, self._reading.max_trajectories
        cells = None if trajectories is None else trajectories.resize(grid, grid)
        if cells is not None and cells.num_trajectories > most:
            # Stored trajectories may be more than a model is made for; training leaves the smallest out as well.
            cells = Trajectories.from_labels(keep_largest(cells.ids, most))
        return outputs[PIXELS][0], cells, tuple(video.timestamps.tolist())


def reading_of(video_processor: TrajViTVideoProcessor) -> Reading:
    """How media are decoded for a processor: as it would itself."""
    sides = [side for side in dict(video_processor.size).values() if side is not None]
    needs_trajectories = video_processor.generate_trajectories
    settings = dict(video_processor.generator)
    short_side = max([*sides, settings["short_side"]] if needs_trajectories else sides)
    return Reading(
        needs_trajectories=needs_trajectories,
        generator=settings,
        max_trajectories=settings["max_trajectories"],
        short_side=short_side,
    )


def load_batches(
    batches: Sequence[Sequence[int]],
    items: Sequence[MediaItem],
    video_processor: TrajViTVideoProcessor,
    num_frames: int | None = None,
    num_workers: int = 0,
) -> Iterator[MediaBatch]:
    """The batches of these positions, in order.

    Args:
        batches: Positions of each.
        items, video_processor, num_frames: As of `MediaBatches`.
        num_workers: Processes that decode; with 0 the caller's does.
    """
    if not batches:
        return iter(())
    num_workers = min(num_workers, len(batches))
    if num_workers:
        start_server([__name__])
    loader = DataLoader(
        MediaBatches(items, video_processor, num_frames),
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        # Else it would draw from torch's global generator.
        generator=torch.Generator(),
        multiprocessing_context=START_METHOD if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        # A batch of 32 clips of 16 frames at 224 pixels is 300 MB of shared memory.
        prefetch_factor=1 if num_workers else None,
    )
    return iter(loader)


def _start_worker(worker: int) -> None:
    import cv2

    keep_memory()
    # What is said of training: features are computed once, so that no sample is read again.
    warnings.filterwarnings("ignore", "a sample has no stored trajectories")
    # Torch's DataLoader does the same for torch.
    cv2.setNumThreads(1)
