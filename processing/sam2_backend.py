"""The tracking backend of the paper: SAM 2 follows every segment of every key frame (main paper, section 3)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from .backends import Clip, Progress, no_progress
from .sam2_clip_tracking import TrackingSettings, track_clips
from .sam2_loading import SIZES, load_sam2
from .sam2_object_chunks import objects_at_once
from .sam2_tracker import Sam2Tracker
from .segmenters import KeyFrameSegmenter

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_AUTOCAST_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What the backend gives a segmenter itself.
_NOT_OPTIONS = {
    "automatic": {"model", "autocast_dtype", "max_segments"},
    "edges": {"processor", "device", "autocast_dtype", "max_segments"},
}


@dataclass(frozen=True, eq=False)
class _Networks:
    """What is loaded at the first use."""

    tracker: Sam2Tracker
    segmenter: KeyFrameSegmenter
    max_segments: int


class Sam2Backend:
    """Panoptic trajectories by SAM 2.1: the segments of each key frame, followed to the next.

    Settings are checked when the backend is made; weights are loaded at the first use, on the device there is, and
    are no part of a pickled or copied backend. Only sampled frames are looked at.
    """

    name = "sam2"
    frame_interval: float | None = None

    def __init__(
        self,
        *,
        model: str | None = "small",
        checkpoint: str | os.PathLike | None = None,
        image_size: int = 512,
        device: str = "auto",
        dtype: str = "float32",
        segmenter: str = "automatic",
        segmenter_options: Mapping[str, Any] | None = None,
        max_segments: int = 128,
        objects_per_chunk: int | None = None,
        memory_budget_gb: float | None = None,
        new_objects_interval: int | None = None,
        drop_after: int | None = None,
        memory_pooling: int = 1,
        attention_window: float | None = None,
    ) -> None:
        """Configure the backend.

        Args:
            model: "tiny", "small", "base_plus" or "large"; None reads the size off the checkpoint.
            checkpoint: A Hub id, or a local `.pt` or `.safetensors` file. None is Meta's, from the Hub.
            image_size: Pixels of the square in which SAM 2 sees a frame; a positive multiple of 32.
            device: "cpu", "cuda", "cuda:1" and the like; "auto" is CUDA where there is a device.
            dtype: Precision of the matrix products: "float32", "bfloat16", or on CUDA "float16".
            segmenter: What cuts key frames into segments: "automatic" (SAM 2's automatic masks) or "edges" (an edge
                detector, as the paper's public code).
            segmenter_options: Keyword arguments of `AutomaticMaskSegmenter` or `EdgeSegmenter`.
            max_segments: Most segments of a key frame; never more than the generator's `max_trajectories`.
            objects_per_chunk: How many objects are followed together; it does not change the result. None: as many as
                the memory allows, on a CPU 8.
            memory_budget_gb: 10^9 bytes that a chunk may take where `objects_per_chunk` is None. None: most of the
                GPU's free memory.
            new_objects_interval: Every so many sampled frames of a clip, what no trajectory covers is segmented and
                starts new trajectories. None: on key frames only.
            drop_after: An object without a pixel in so many sampled frames in a row is followed no further, which
                saves time where many leave for good; it cannot come back. None: objects are followed to the clip's end.
            memory_pooling: Memories are pooled so many times in each direction; more than 1 is an approximation.
            attention_window: Memories are attended to only inside the object's box, dilated by this factor, which is
                an approximation. None: everywhere.

        Raises:
            TypeError, ValueError: An option is of another type or out of its range; the message names it.
        """
        if model is not None and model not in SIZES:
            raise ValueError(f"model must be one of {', '.join(SIZES)}, or None, got {model!r}.")
        if model is None and checkpoint is None:
            raise ValueError("model=None reads the size off the checkpoint, so checkpoint must be given.")
        if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be a Hub id or the path of a file, got {checkpoint!r}.")
        _require_one_of("dtype", dtype, _AUTOCAST_DTYPES)
        _require_one_of("segmenter", segmenter, _NOT_OPTIONS)
        _require_integer("image_size", image_size, 32)
        if image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32 pixels, got {image_size}.")
        _require_integer("max_segments", max_segments)
        _require_integer("memory_pooling", memory_pooling)
        num_tokens = image_size // 16
        if num_tokens % memory_pooling:
            raise ValueError(
                f"memory_pooling must divide the {num_tokens} tokens of a frame's side, got {memory_pooling}."
            )
        for name, integer in (
            ("objects_per_chunk", objects_per_chunk),
            ("new_objects_interval", new_objects_interval),
            ("drop_after", drop_after),
        ):
            if integer is not None:
                _require_integer(name, integer)
        _require_number("memory_budget_gb", memory_budget_gb, more_than=0)
        _require_number("attention_window", attention_window, least=1)
        if attention_window is not None and memory_pooling > 1:
            raise ValueError(
                f"attention_window and memory_pooling exclude each other, got {attention_window} and {memory_pooling}."
            )
        _check_device(device, dtype)
        self.model, self.checkpoint, self.image_size = model, checkpoint, int(image_size)
        self.device, self.dtype = device, dtype
        self.segmenter = segmenter
        self.segmenter_options = _checked_segmenter_options(segmenter, segmenter_options)
        self.max_segments = int(max_segments)
        self.objects_per_chunk, self.memory_budget_gb = objects_per_chunk, memory_budget_gb
        self.new_objects_interval, self.drop_after = new_objects_interval, drop_after
        self.memory_pooling, self.attention_window = int(memory_pooling), attention_window
        self._networks: _Networks | None = None

    @property
    def frame_short_side(self) -> int:
        """SAM 2 sees squares of this size; frames need not be larger."""
        return self.image_size

    def load(self, max_trajectories: int) -> None:
        """Load the weights, for videos of at most so many trajectories, if they are not loaded yet.

        Raises:
            ImportError, OSError, ValueError: As for `track`.
        """
        self._loaded(min(self.max_segments, max_trajectories), no_progress)

    def track(self, clips: Sequence[Clip], max_trajectories: int, progress: Progress | None = None) -> list[np.ndarray]:
        """See `TrackingBackend.track`. The stages reported are "load", "segment" and "track".

        Raises:
            ImportError, OSError, ValueError: The weights cannot be loaded, see `load_sam2`, or there is no such device.
            torch.OutOfMemoryError: The memory does not suffice for a single object.
        """
        if not clips:
            return []
        report = progress if progress is not None else no_progress
        networks = self._loaded(min(self.max_segments, max_trajectories), report)
        settings = TrackingSettings(
            max_segments=networks.max_segments,
            new_objects_interval=self.new_objects_interval,
            drop_after=self.drop_after,
            segments_from_features=self.segmenter == "automatic",
        )
        size_of_chunks = partial(self._objects_at_once, networks.tracker)
        return track_clips(networks.tracker, networks.segmenter, clips, settings, size_of_chunks, report)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_networks": None}

    def _loaded(self, max_segments: int, report: Progress) -> _Networks:
        if self._networks is None:
            report("load", 0, 1)
            device = _resolved(self.device)
            _check_device(device, self.dtype)
            _require_present(device)
            network = load_sam2(self.model, self.checkpoint, self.image_size, device)
            tracker = Sam2Tracker(
                network,
                autocast_dtype=_AUTOCAST_DTYPES[self.dtype],
                memory_pooling=self.memory_pooling,
                attention_window=self.attention_window,
            )
            self._networks = _Networks(tracker, self._build_segmenter(network, max_segments), max_segments)
            report("load", 1, 1)
        elif self._networks.max_segments != max_segments:
            tracker = self._networks.tracker
            self._networks = _Networks(tracker, self._build_segmenter(tracker.model, max_segments), max_segments)
        return self._networks

    def _build_segmenter(self, network: SAM2Base, max_segments: int) -> KeyFrameSegmenter:
        given = {"max_segments": max_segments, "autocast_dtype": _AUTOCAST_DTYPES[self.dtype]}
        if self.segmenter == "edges":
            return _segmenter_class("edges")(device=network.device, **given, **self.segmenter_options)
        return _segmenter_class("automatic")(network, **given, **self.segmenter_options)

    def _objects_at_once(self, tracker: Sam2Tracker, num_steps: int) -> int:
        if self.objects_per_chunk is not None:
            return self.objects_per_chunk
        return objects_at_once(tracker.model.device, tracker.bytes_per_object(num_steps), self.memory_budget_gb)


def _resolved(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_device(device: Any, dtype: str) -> None:
    if not isinstance(device, str):
        raise TypeError(f'device must be a name such as "cpu" or "cuda:0", or "auto", got {device!r}.')
    if device == "auto":
        return
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f'device must be "auto" or a device of PyTorch such as "cuda:0", got {device!r}.') from error
    if kind == "cpu" and dtype == "float16":
        raise ValueError("dtype 'float16' needs a GPU; on the device 'cpu' it must be 'float32' or 'bfloat16'.")


def _require_present(device: str) -> None:
    """Settings may name a device that another machine has; using them needs it here."""
    wanted = torch.device(device)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices here;"
            ' "auto" takes CUDA where there is one and else the CPU.'
        )


def _segmenter_class(name: str) -> Any:
    if name == "edges":
        from .edge_segmenter import EdgeSegmenter

        return EdgeSegmenter
    from .sam2_segmenter import AutomaticMaskSegmenter

    return AutomaticMaskSegmenter


def _checked_segmenter_options(segmenter: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"segmenter_options must be a dict, got {type(options).__name__}.")
    segmenter_class = _segmenter_class(segmenter)
    legal = [name for name in inspect.signature(segmenter_class).parameters if name not in _NOT_OPTIONS[segmenter]]
    unknown = [name for name in options if name not in legal]
    if unknown:
        raise ValueError(
            f"The segmenter {segmenter!r} has no option {', '.join(map(repr, unknown))}; it has: {', '.join(legal)}."
        )
    if segmenter == "automatic":
        # It looks at its model only when it is called, and at the ranges of the others at once.
        try:
            segmenter_class(cast("SAM2Base", None), **options)
        except TypeError as error:
            raise TypeError(f"segmenter_options has a value of another type, {dict(options)}: {error}") from error
    return dict(options)


def _require_one_of(name: str, value: Any, legal: Mapping[str, Any]) -> None:
    if not isinstance(value, str) or value not in legal:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, legal))}, got {value!r}.")


def _require_integer(name: str, value: Any, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")


def _require_number(name: str, value: Any, least: float = 0, more_than: float | None = None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number or None, got {value!r}.")
    if not value >= least or (more_than is not None and not value > more_than) or not np.isfinite(value):
        expected = f"more than {more_than}" if more_than is not None else f"at least {least}"
        raise ValueError(f"{name} must be {expected}, got {value}.")
