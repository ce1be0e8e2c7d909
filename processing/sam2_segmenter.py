"""SAM 2's automatic masks of key frames, from features that are already there.

Shape legend: F frames, K masks, n candidates looked at together, H height, W width, S image size (square).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms

from .panoptic_map import panoptic_map
from .sam2_features import FrameFeatures, encode_frames
from .sam2_point_decoder import PointDecoder

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

# Pixels of upscaled logits that exist at a time: 64 MB.
_PIXELS_UPSCALED_TOGETHER = 1 << 24


@dataclass(frozen=True, eq=False)
class FrameMasks:
    """The masks found in one frame, the highest predicted IoU first.

    Attributes:
        logits: (K, S/4, S/4) float32 of the whole frame, > 0 inside.
        boxes: (K, 4) int64 left, top, right, bottom, all inclusive, in pixels of the size that was filtered at.
        predicted_ious: (K,) float32, the model's own estimate.
        stability_scores: (K,) float32: IoU of the masks at logits above +offset and above -offset.
        points: (K, 2) float32 x, y of the prompt, 0..1 of the frame.
    """

    logits: Tensor
    boxes: Tensor
    predicted_ious: Tensor
    stability_scores: Tensor
    points: Tensor

    @staticmethod
    def concatenate(parts: Sequence[FrameMasks]) -> FrameMasks:
        """Return the masks of all parts, in order; at least one part."""
        return FrameMasks(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.boxes for part in parts]),
            torch.cat([part.predicted_ious for part in parts]),
            torch.cat([part.stability_scores for part in parts]),
            torch.cat([part.points for part in parts]),
        )

    def select(self, keep: Tensor) -> FrameMasks:
        """Return some of the masks, by positions or by a mask."""
        return FrameMasks(
            self.logits[keep],
            self.boxes[keep],
            self.predicted_ious[keep],
            self.stability_scores[keep],
            self.points[keep],
        )


class AutomaticMaskSegmenter:
    """Prompts SAM 2 with a grid of points and keeps the masks it is sure of, as `SAM2AutomaticMaskGenerator` does.

    The options that both have bear the same names and defaults, and with the same weights the masks are the same in
    the same order; only empty masks are never kept. Masks with a NaN or an infinity are dropped with a RuntimeWarning.

    Args:
        model: SAM 2.1, in evaluation mode.
        points_per_side: The grid has this number squared.
        points_per_batch: Prompts that go through the decoder together: memory against speed, nothing else.
        pred_iou_thresh: Least predicted IoU, 0..1; the bound itself is not enough.
        stability_score_thresh: Least stability, 0..1.
        stability_score_offset: Logits that the cut-off is moved by, up and down, to measure stability.
        box_nms_thresh: Of two masks whose boxes have a higher IoU, the one with the higher predicted IoU stays.
        multimask_output: Three masks of each point (whole, part, sub-part) instead of one.
        filter_size: (H, W) at which stability and boxes are measured; the generator does it at the size of the image.
            None is the decoder's own S/4 x S/4, which needs no scaling.
        frames_per_batch: Frames that share a batch of prompts, and whose candidates are held together.
        max_segments: Most segments of a map; this and the rest as in `panoptic_map`.
        min_area: Pixels; no segment is this small or smaller.
        max_gap: Pixels; thin gaps between masks are at most this wide.
        min_hole: Pixels; smaller holes become no segment.
        autocast_dtype: Precision of the matrix products; None for the model's own.

    Raises:
        ValueError: An option is out of range.

    Source: https://github.com/facebookresearch/sam2, sam2/automatic_mask_generator.py (the defaults).
    """

    def __init__(
        self,
        model: SAM2Base,
        points_per_side: int = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        multimask_output: bool = True,
        filter_size: tuple[int, int] | None = None,
        frames_per_batch: int = 4,
        max_segments: int = 128,
        min_area: int = 16,
        max_gap: int = 8,
        min_hole: int = 64,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        counts = {
            "points_per_side": points_per_side,
            "points_per_batch": points_per_batch,
            "frames_per_batch": frames_per_batch,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count!r}")
        fractions = {
            "pred_iou_thresh": pred_iou_thresh,
            "stability_score_thresh": stability_score_thresh,
            "box_nms_thresh": box_nms_thresh,
        }
        for name, fraction in fractions.items():
            if not 0 <= fraction <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {fraction!r}")
        if stability_score_offset < 0:
            raise ValueError(f"stability_score_offset must be at least 0 logits, got {stability_score_offset!r}")
        if filter_size is not None and (len(filter_size) != 2 or min(filter_size) < 1):
            raise ValueError(f"filter_size must be None or a (height, width) in pixels, got {filter_size!r}")
        self.model = model
        self.points_per_side = points_per_side
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.multimask_output = multimask_output
        self.filter_size = filter_size
        self.frames_per_batch = frames_per_batch
        self.autocast_dtype = autocast_dtype
        self._map_options = {
            "max_segments": max_segments,
            "min_area": min_area,
            "max_gap": max_gap,
            "min_hole": min_hole,
        }
        panoptic_map([], (1, 1), **self._map_options)  # its errors name the option, before any model runs

    def __call__(self, frames: np.ndarray, features: FrameFeatures | None, size: tuple[int, int]) -> list[np.ndarray]:
        """Segment frames.

        Args:
            frames: (F, H, W, 3) uint8 RGB, looked at only where `features` is None.
            features: SAM 2's of the same frames.
            size: (h, w) of the maps in pixels.

        Returns:
            Per frame, (h, w) int32 labels 1..K, the largest segment 1. Where no mask survives, one segment.
        """
        if features is None:
            features = encode_frames(self.model, frames, autocast_dtype=self.autocast_dtype)
        return [
            panoptic_map(_binary_masks(found.logits, size), size, **self._map_options)
            for found in self.find_masks(features)
        ]

    def find_masks(self, features: FrameFeatures) -> Iterator[FrameMasks]:
        """Yield the masks of each frame, before they are made one map."""
        num_broken = 0
        for start in range(0, len(features), self.frames_per_batch):
            found, broken = self._find_together(features[start : start + self.frames_per_batch])
            num_broken += broken
            yield from found
        if num_broken:
            message = f"SAM 2 gave NaN or infinite values for {num_broken} mask candidates; they were dropped"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    @torch.inference_mode()
    def _find_together(self, features: FrameFeatures) -> tuple[list[FrameMasks], int]:
        """The masks of each of some frames, and how many candidates held no numbers."""
        device = features.stride_16.device
        num_broken = 0
        parts = [_no_masks(features)]
        frame_of_mask = [torch.zeros(0, dtype=torch.int64, device=device)]
        with torch.autocast(device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            decoder = PointDecoder(self.model, features, self.multimask_output)
            for points in self._point_grid(device).split(max(1, self.points_per_batch // len(features))):
                decoded = decoder.decode(points * self.model.image_size)
                ious = decoded.predicted_ious
                num_broken += int((~ious.isfinite()).sum())
                for positions, logits in decoder.masks(decoded, ious > self.pred_iou_thresh):
                    frames, prompts, which = positions.T
                    masks = self._measure(logits, ious[frames, prompts, which], points[prompts])
                    is_number = logits.isfinite().flatten(1).all(1)
                    num_broken += int((~is_number).sum())
                    is_sure = (masks.stability_scores >= self.stability_score_thresh) & (masks.boxes[:, 0] >= 0)
                    is_sure &= is_number
                    parts.append(masks.select(is_sure))
                    frame_of_mask.append(frames[is_sure])
        return self._without_duplicates(
            FrameMasks.concatenate(parts), torch.cat(frame_of_mask), len(features)
        ), num_broken

    def _point_grid(self, device: torch.device) -> Tensor:
        """(points_per_side^2, 2) float32 x, y in 0..1, row by row: the middles of equal cells."""
        middles = (torch.arange(self.points_per_side, dtype=torch.float64, device=device) + 0.5) / self.points_per_side
        return torch.cartesian_prod(middles, middles).flip(1).float()

    def _measure(self, logits: Tensor, predicted_ious: Tensor, points: Tensor) -> FrameMasks:
        """Measure candidates (n, S/4, S/4); an empty mask gets the box -1."""
        stability, boxes = [], []
        for scaled in _scaled(logits, self.filter_size or logits.shape[-2:]):
            surely_inside = (scaled > self.stability_score_offset).sum((1, 2))
            maybe_inside = (scaled > -self.stability_score_offset).sum((1, 2))
            stability.append(surely_inside / maybe_inside)
            boxes.append(_boxes(scaled > 0))
        return FrameMasks(logits, torch.cat(boxes), predicted_ious, torch.cat(stability), points)

    def _without_duplicates(self, masks: FrameMasks, frame_of_mask: Tensor, num_frames: int) -> list[FrameMasks]:
        """Per frame, the masks that no better one of the same frame suppresses, the best first."""
        found = []
        for frame in range(num_frames):
            own = (frame_of_mask == frame).nonzero()[:, 0]
            kept = nms(masks.boxes[own].float(), masks.predicted_ious[own], self.box_nms_thresh)
            found.append(masks.select(own[kept]))
        return found


def _no_masks(features: FrameFeatures) -> FrameMasks:
    empty = features.stride_4.new_zeros(0, dtype=torch.float32)
    return FrameMasks(
        empty.view(0, 1, 1).expand(0, *features.stride_4.shape[-2:]),
        empty.view(0, 1).expand(0, 4).long(),
        empty,
        empty,
        empty.view(0, 1).expand(0, 2),
    )


def _boxes(masks: Tensor) -> Tensor:
    """(n, 4) left, top, right, bottom of masks (n, H, W), inclusive; -1 for an empty one."""
    columns, rows = masks.any(1).int(), masks.any(2).int()
    left, top = columns.argmax(1), rows.argmax(1)
    right = masks.shape[2] - 1 - columns.flip(1).argmax(1)
    bottom = masks.shape[1] - 1 - rows.flip(1).argmax(1)
    return torch.stack([left, top, right, bottom], dim=1).where(masks.any(2).any(1, keepdim=True), -1)


def _scaled(logits: Tensor, size: tuple[int, ...]) -> Iterator[Tensor]:
    """Logits (n, H, W) at `size`, a bounded number at a time."""
    if tuple(logits.shape[-2:]) == tuple(size):
        yield logits
        return
    together = max(1, _PIXELS_UPSCALED_TOGETHER // (size[0] * size[1]))
    for start in range(0, len(logits), together):
        some = logits[start : start + together, None]
        yield F.interpolate(some, size, mode="bilinear", align_corners=False)[:, 0]


def _binary_masks(logits: Tensor, size: tuple[int, int]) -> Iterator[np.ndarray]:
    for scaled in _scaled(logits, size):
        yield from (scaled > 0).cpu().numpy()
