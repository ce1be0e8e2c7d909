"""Windows of tokens around objects, in a few sizes, so that objects with equal ones make a batch.

Shape legend: N objects, n of one group, W tokens of a window, S image size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch


class TokenWindows:
    """The tokens inside the objects' dilated boxes, the sides rounded up to quarters of the frame.

    Args:
        side: Tokens of a frame's side.
        dilation: Factor of the box's sides about its centre, at least 1.
    """

    def __init__(self, side: int, dilation: float):
        self._side = side
        self._dilation = dilation
        self._step = max(1, side // 4)

    def groups(self, logits: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Group the objects by the size of their windows.

        Args:
            logits: (N, S/4, S/4) the objects' last masks, positive inside. An object without any has the whole frame.

        Yields:
            Objects (n,) and the positions of their windows' tokens (n, W).
        """
        corners, sizes = self._boxes(logits)
        for size in torch.unique(sizes, dim=0):
            rows = (sizes == size).all(dim=1).nonzero()[:, 0]
            height, width = size.tolist()
            lines = corners[rows, 0, None] + torch.arange(height, device=logits.device)
            columns = corners[rows, 1, None] + torch.arange(width, device=logits.device)
            yield rows, (lines[:, :, None] * self._side + columns[:, None, :]).flatten(1)

    def outside(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the pixels (N, S/4, S/4) that no token of the object's window covers, as bool."""
        corners, sizes = self._boxes(logits)
        tokens = torch.arange(logits.shape[-1], device=logits.device) * self._side // logits.shape[-1]
        inside = (tokens >= corners[..., None]) & (tokens < (corners + sizes)[..., None])
        return ~(inside[:, 0, :, None] & inside[:, 1, None, :])

    def _boxes(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First line and column (N, 2), and height and width (N, 2), in tokens."""
        inside = logits > 0
        pixels_per_token = logits.shape[-1] / self._side
        corners, sizes = [], []
        for other_axis in (2, 1):
            occupied = inside.any(dim=other_axis)
            first = occupied.float().argmax(dim=1) / pixels_per_token
            last = (occupied.shape[1] - occupied.flip(1).float().argmax(dim=1)) / pixels_per_token
            wanted = (last - first) * self._dilation / self._step
            size = (wanted.ceil().clamp(min=1) * self._step).clamp(max=self._side)
            size = torch.where(occupied.any(dim=1), size, self._side).long()
            corner = ((first + last - size) / 2).round().long()
            corners.append(torch.minimum(corner.clamp(min=0), self._side - size))
            sizes.append(size)
        return torch.stack(corners, dim=1), torch.stack(sizes, dim=1)
