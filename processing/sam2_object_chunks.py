"""Objects that go through the frames together, and how many may.

Shape legend: N objects, S image size (square).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .sam2_schedule import portions
from .sam2_tracked_objects import TrackedObjects

# What larger batches gain on a CPU is less than what they lose by leaving its caches.
_MOST_OBJECTS_ON_CPU = 8
# Of free GPU memory; the rest is for fragmentation and for what the estimate does not see.
_USABLE_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class ObjectChunk:
    """Objects of one age, each in the same frame of its piece.

    Attributes:
        clips: (N,) the clip of each object.
        labels: (N,) its label within the clip, from 1.
        absent: (N,) in how many frames in a row it has had no pixel.
        position: Frames since the start of the pieces.
        objects: Their state; None before they have started, at position 0.
    """

    clips: tuple[int, ...]
    labels: tuple[int, ...]
    absent: tuple[int, ...]
    position: int = 0
    objects: TrackedObjects | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, rows: list[int]) -> ObjectChunk:
        """Return some of the objects."""
        if len(rows) == len(self):
            return self
        objects = self.objects
        if objects is not None:
            objects = objects.select(torch.tensor(rows, dtype=torch.int64, device=objects.key_pointer.device))
        return replace(
            self,
            clips=tuple(self.clips[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
            absent=tuple(self.absent[row] for row in rows),
            objects=objects,
        )

    def halves(self) -> list[ObjectChunk]:
        """Return two chunks of half as many objects, without what can be computed again; at least two objects."""
        compact = self.compact()
        return [compact.select(list(rows)) for rows in portions(len(self), -(-len(self) // 2))]

    def compact(self) -> ObjectChunk:
        """Return the objects without what can be computed again, for holding many of them."""
        return replace(self, objects=None if self.objects is None else self.objects.compact())


def objects_at_once(device: torch.device, bytes_per_object: int, memory_budget_gb: float | None) -> int:
    """Return how many objects a chunk may have.

    Args:
        device: Where they are followed.
        bytes_per_object: Peak memory of one.
        memory_budget_gb: 10^9 bytes that all of a chunk may take; None is most of the GPU's free memory.

    Returns:
        At least 1; on a CPU at most 8, since larger batches are slower there.
    """
    if memory_budget_gb is not None:
        budget = memory_budget_gb * 1e9
    elif device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = _USABLE_SHARE * (free + unused)
    else:
        return _MOST_OBJECTS_ON_CPU
    count = max(1, int(budget // bytes_per_object))
    return count if device.type != "cpu" else min(count, _MOST_OBJECTS_ON_CPU)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of PyTorch says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
