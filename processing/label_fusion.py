"""From the logits of many objects, a few at a time, to one label for every pixel.

Shape legend: F frames, N objects, s side of the square logits, H height, W width of the labels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

# Bounds the memory of upscaled logits: about 256 MB of float32 and keys on an accelerator, 16 MB on the CPU's caches.
_PIXELS_AT_ONCE = {"cpu": 2**20}
_PIXELS_AT_ONCE_ELSEWHERE = 2**24
_HIGHEST_LABEL = 2**31 - 1


class LabelFusion:
    """Labels of several frames: at each pixel that of the object with the highest positive logit.

    Of equally high ones the smaller label wins. NaN counts as absent. Objects may be added in any order and in any
    portions; the labels are the same.

    Args:
        num_frames: F.
        size: (H, W) in pixels.
        device: Where the work is done.
    """

    def __init__(self, num_frames: int, size: tuple[int, int], device: torch.device | str = "cpu"):
        self._size = size
        # Logit and label of the winner in one integer, so that the winner is a maximum, which no order changes.
        self._winners = torch.zeros((num_frames, *size), dtype=torch.int64, device=device)

    @torch.inference_mode()
    def add(self, frames: Sequence[int], labels: Sequence[int], logits: torch.Tensor) -> None:
        """Let objects compete for the pixels of their frames.

        Args:
            frames: (N,) the frame of each object, 0..F-1.
            labels: (N,) the label of each object, from 1.
            logits: (N, s, s) float, positive inside the object. They are scaled to (H, W) bilinearly, pixel centres
                aligned.

        Raises:
            ValueError: A label is less than 1 or needs more than 31 bits.
        """
        if len(labels) and not 1 <= min(labels) <= max(labels) <= _HIGHEST_LABEL:
            raise ValueError(f"labels must lie in 1..{_HIGHEST_LABEL}, got {min(labels)}..{max(labels)}.")
        # Where no logit is positive none becomes so by interpolation.
        present = (logits > 0).flatten(1).any(dim=1).cpu().tolist()
        rows = [row for row in range(len(logits)) if present[row]]
        at_once = _PIXELS_AT_ONCE.get(self._winners.device.type, _PIXELS_AT_ONCE_ELSEWHERE)
        portion = max(1, at_once // (self._size[0] * self._size[1]))
        # Rows of one frame lie together, so that few of its maxima are taken in one call.
        rows.sort(key=lambda row: frames[row])
        for start in range(0, len(rows), portion):
            self._add_portion(rows[start : start + portion], frames, labels, logits)

    def labels(self) -> np.ndarray:
        """Return the labels so far, (F, H, W) int32, 0 where no object is."""
        winners = self._winners
        # The lower half of a winner's integer counts down from the highest label.
        return torch.where(winners > 0, _HIGHEST_LABEL - (winners & _HIGHEST_LABEL), 0).to(torch.int32).cpu().numpy()

    def _add_portion(self, rows: list[int], frames: Sequence[int], labels: Sequence[int], logits: torch.Tensor) -> None:
        chosen = logits[torch.tensor(rows, device=logits.device)].float().to(self._winners.device)
        upscaled = F.interpolate(chosen[:, None], size=self._size, mode="bilinear", align_corners=False)[:, 0]
        label_keys = torch.tensor([_HIGHEST_LABEL - labels[row] for row in rows], device=upscaled.device)
        # The bits of positive floats are ordered as the floats are.
        keys = (upscaled.view(torch.int32).to(torch.int64) << 31) + label_keys[:, None, None]
        keys = torch.where(upscaled > 0, keys, 0)
        first = 0
        while first < len(rows):
            frame = frames[rows[first]]
            end = next((i for i in range(first, len(rows)) if frames[rows[i]] != frame), len(rows))
            best = keys[first:end].amax(dim=0)
            torch.maximum(self._winners[frame], best, out=self._winners[frame])
            first = end
