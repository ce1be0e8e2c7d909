"""Embeddings that are read a block of rows at a time, wherever they lie: in memory, in a mapped file, on a device."""

from typing import TypeAlias

import numpy as np
import torch

Embeddings: TypeAlias = np.ndarray | torch.Tensor
_TYPES = (torch.float16, torch.bfloat16, torch.float32)
# Rows that were normalised before they were rounded to 16 bits are a little longer or shorter than 1.
_MAX_LENGTH = 1.01


class EmbeddingBlocks:
    """Normalised rows (N, d), in blocks of a fixed grid.

    Args:
        rows: (N, d) of float16, bfloat16 or float32; N and d at least 1. A NumPy array may be mapped from a file.
        name: What messages call them.
        block: Rows of a block; the last has what is left.
        device: Where blocks go.

    Raises:
        ValueError: Rows are of another type or shape, not finite, or longer than 1, and so not normalised.
    """

    def __init__(self, rows: Embeddings, name: str, block: int, device: torch.device) -> None:
        if block < 1:
            raise ValueError(f"block is {block}; expected at least 1 row")
        kind = rows.dtype if isinstance(rows, torch.Tensor) else getattr(torch, str(rows.dtype), None)
        if rows.ndim != 2 or 0 in rows.shape or kind not in _TYPES:
            raise ValueError(
                f"{name} are {rows.dtype} of shape {tuple(rows.shape)}; expected float16, bfloat16 or float32 (N, d), "
                "N and d at least 1"
            )
        self.rows = rows
        self.name = name
        self.block = block
        self.device = device
        self._check_lengths()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        return self.rows.shape[1]

    def starts(self, first: int = 0, step: int = 1) -> range:
        """First rows of blocks `first`, `first + step`, ..."""
        return range(first * self.block, len(self), step * self.block)

    def at(self, start: int) -> torch.Tensor:
        """(n, d) float32 on the device: the block that starts here."""
        return self._loaded(self.rows[start : start + self.block])

    def picked(self, index: np.ndarray) -> torch.Tensor:
        """(n, d) float32 on the device: the rows at these positions (n,) int64."""
        if isinstance(self.rows, torch.Tensor):
            return self._loaded(self.rows[torch.from_numpy(index).to(self.rows.device)])
        return self._loaded(self.rows[index])

    def _loaded(self, rows: Embeddings) -> torch.Tensor:
        # A copy, since an array that is mapped from a file may not be written to and torch has no such tensors.
        tensor = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(np.array(rows))
        # Converted on the device, so that 16 bits a value are carried there.
        return tensor.to(self.device).float()

    def _check_lengths(self) -> None:
        for start in self.starts():
            lengths = torch.linalg.vector_norm(self.at(start), dim=1)
            # NaN is not below anything.
            wrong = torch.nonzero(~(lengths <= _MAX_LENGTH))
            if len(wrong):
                place = int(wrong[0])
                raise ValueError(
                    f"row {start + place} of {self.name} has length {lengths[place].item():.6g}; "
                    "expected finite values and a length of 1, as normalised embeddings have"
                )


def device_of(rows: Embeddings, device: str | torch.device | None) -> torch.device:
    """The device asked for, else that of the rows, else the CPU."""
    if device is not None:
        return torch.device(device)
    return rows.device if isinstance(rows, torch.Tensor) else torch.device("cpu")
