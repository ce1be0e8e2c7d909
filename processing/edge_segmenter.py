"""Segments of key frames between the edges that a model predicts, as DirectSAM's authors use it.

Shape legend: F frames, H height, W width.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from scipy.ndimage import find_objects
from skimage.measure import label as connected_parts
from torch import Tensor, nn
from torch.nn import functional as F

from .panoptic_map import panoptic_map
from .sam2_features import FrameFeatures

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel

DEFAULT_EDGE_MODEL = "chendelong/DirectSAM-1800px-0424"


class EdgeSegmenter:
    """Cuts frames where a semantic-segmentation model of transformers sees edges.

    What the model takes for an edge with a probability below `edge_threshold` falls into connected parts; each part
    is dilated, to give back its share of the edges around it, and together they become a panoptic map.

    Args:
        model: Hub id or folder of a checkpoint for `AutoModelForSemanticSegmentation`, with its image processor; or
            such a model, which stays where it is. No code of a checkpoint is run.
        processor: The image processor, where `model` is not an id or a folder.
        edge_threshold: Probability, 0..1 (main paper's public code: 0.2).
        edge_label: Which of the model's labels is the edge, by name or number; not for a model with one label.
        input_size: (H, W) or one side of a square at which the model sees frames; None is the processor's own.
        dilation: Pixels of the map by which each part grows in all directions.
        frames_per_batch: Frames that go through the model together.
        max_segments: Most segments of a map; this and the rest as in `panoptic_map`.
        min_area: Pixels; no segment is this small or smaller.
        max_gap: Pixels; thin gaps between parts are at most this wide.
        min_hole: Pixels; smaller holes become no segment.
        device: Where a model that is loaded here shall lie.
        autocast_dtype: Precision of the matrix products; None for the model's own.

    Raises:
        ValueError: An option is out of range, or the model has no such label.
        OSError: There is no such checkpoint, or the Hub cannot be reached.

    Source: https://huggingface.co/chendelong/DirectSAM-1800px-0424 (a Segformer with one label).
    """

    def __init__(
        self,
        model: str | os.PathLike | PreTrainedModel = DEFAULT_EDGE_MODEL,
        processor: BaseImageProcessor | None = None,
        edge_threshold: float = 0.2,
        edge_label: str | int | None = None,
        input_size: int | tuple[int, int] | None = None,
        dilation: int = 2,
        frames_per_batch: int = 1,
        max_segments: int = 128,
        min_area: int = 16,
        max_gap: int = 8,
        min_hole: int = 64,
        device: str | torch.device = "cpu",
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        if not 0 < edge_threshold <= 1:
            raise ValueError(f"edge_threshold must lie above 0 and at most at 1, got {edge_threshold!r}")
        if dilation < 0:
            raise ValueError(f"dilation must be at least 0 pixels, got {dilation!r}")
        if frames_per_batch < 1:
            raise ValueError(f"frames_per_batch must be at least 1, got {frames_per_batch!r}")
        self.edge_threshold = edge_threshold
        self.input_size = _height_and_width(input_size)
        self.dilation = dilation
        self.frames_per_batch = frames_per_batch
        self.autocast_dtype = autocast_dtype
        self._map_options = {
            "max_segments": max_segments,
            "min_area": min_area,
            "max_gap": max_gap,
            "min_hole": min_hole,
        }
        panoptic_map([], (1, 1), **self._map_options)  # its errors name the option, before any model is loaded
        self.model, self.processor = _load(model, processor, device)
        self.edge_label = _number_of_label(self.model, edge_label)

    def __call__(self, frames: np.ndarray, features: FrameFeatures | None, size: tuple[int, int]) -> list[np.ndarray]:
        """Segment frames.

        Args:
            frames: (F, H, W, 3) uint8 RGB.
            features: Not used.
            size: (h, w) of the maps in pixels.

        Returns:
            Per frame, (h, w) int32 labels 1..K, the largest segment 1. Where the model gives NaN for a frame, one
            segment, with a RuntimeWarning.
        """
        maps = []
        num_broken = 0
        for start in range(0, len(frames), self.frames_per_batch):
            for logits in self._edge_logits(frames[start : start + self.frames_per_batch]):
                num_broken += not bool(logits.isfinite().all())
                scaled = F.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)[0, 0]
                maps.append(self._map(scaled.sigmoid().cpu().numpy()))
        if num_broken:
            message = f"The edge model gave NaN or infinite values for {num_broken} of {len(frames)} frames"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return maps

    @torch.inference_mode()
    def _edge_logits(self, frames: np.ndarray) -> Tensor:
        """(F, h, w) float32 log-odds that a pixel lies on an edge, at the model's own resolution."""
        options = {} if self.input_size is None else {"size": self.input_size}
        # The map covers the whole frame, so the model has to see the whole frame.
        inputs = self.processor(
            images=list(frames),
            return_tensors="pt",
            input_data_format="channels_last",
            do_center_crop=False,
            **options,
        )
        parameter = next(self.model.parameters())
        pixels = inputs["pixel_values"].to(parameter.device, parameter.dtype)
        with torch.autocast(pixels.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            logits = self.model(pixel_values=pixels).logits.float()
        edge = logits[:, self.edge_label]
        others = [channel for channel in range(logits.shape[1]) if channel != self.edge_label]
        return edge - logits[:, others].logsumexp(1) if others else edge

    def _map(self, edge_probability: np.ndarray) -> np.ndarray:
        parts = connected_parts(edge_probability < self.edge_threshold, connectivity=1)
        return panoptic_map(self._dilated(parts), parts.shape, **self._map_options)

    def _dilated(self, parts: np.ndarray) -> Iterator[np.ndarray]:
        """The (H, W) bool masks of the largest parts, dilated."""
        width = 2 * self.dilation + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        boxes = find_objects(parts)
        areas = np.bincount(parts.ravel())[1:]
        for index in np.argsort(-areas, kind="stable")[: self._map_options["max_segments"]]:
            if areas[index] <= self._map_options["min_area"]:
                break
            window = tuple(
                slice(max(0, side.start - self.dilation), side.stop + self.dilation) for side in boxes[index]
            )
            mask = np.zeros(parts.shape, bool)
            mask[window] = cv2.dilate((parts[window] == index + 1).astype(np.uint8), disc) > 0
            yield mask


def _load(
    model: str | os.PathLike | PreTrainedModel, processor: BaseImageProcessor | None, device: str | torch.device
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    if isinstance(model, nn.Module):
        if processor is None:
            raise ValueError("processor must be given together with a model that is already loaded, got None")
        return model.eval(), processor
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    if processor is None:
        processor = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)
    network = AutoModelForSemanticSegmentation.from_pretrained(model, trust_remote_code=False)
    return network.to(device).eval().requires_grad_(False), processor


def _height_and_width(input_size: int | tuple[int, int] | None) -> dict[str, int] | None:
    if input_size is None:
        return None
    sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"input_size must be None, a side or (height, width) in pixels, got {input_size!r}")
    return {"height": sides[0], "width": sides[1]}


def _number_of_label(model: PreTrainedModel, edge_label: str | int | None) -> int:
    names = {int(number): name for number, name in (model.config.id2label or {}).items()}
    if edge_label is None and len(names) == 1:
        return 0
    for number, name in names.items():
        if edge_label in (number, name):
            return number
    raise ValueError(f"edge_label must be one of the model's labels, {names}, got {edge_label!r}")
