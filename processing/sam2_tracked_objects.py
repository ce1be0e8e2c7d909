"""What SAM 2 remembers of the objects that it follows.

Shape legend: N objects, K tokens of a memory, C = 256 channels, D = 64 channels of a memory, S image size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, eq=False)
class Memory:
    """The objects as they were in one frame.

    Attributes:
        tokens: (N, K, D) bfloat16, the precision in which the `sam2` package's video predictor keeps memories.
        keys: Per layer of the memory attention (N, K, C), projected and rotated; None before they are needed.
        values: Per layer (N, K, C), in reduced precision only.
    """

    tokens: torch.Tensor
    keys: tuple[torch.Tensor, ...] | None = None
    values: tuple[torch.Tensor, ...] | None = None

    def select(self, rows: torch.Tensor) -> Memory:
        """Return the memory of some of the objects."""
        keys = None if self.keys is None else tuple(key[rows] for key in self.keys)
        values = None if self.values is None else tuple(value[rows] for value in self.values)
        return Memory(self.tokens[rows], keys, values)

    def compact(self) -> Memory:
        """Return the memory without what can be computed again."""
        return Memory(self.tokens)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor held."""
        yield self.tokens
        yield from self.keys or ()
        yield from self.values or ()


@dataclass(frozen=True, eq=False)
class LastFrame:
    """What the newest memory will be made of, should another step need it.

    Attributes:
        logits: (N, S/4, S/4) the objects' masks.
        object_scores: (N,) logits of their presence.
        projections: Of the distinct frames, the memory encoder's projection (C, S/16, S/16).
        frame_of_object: (N,) positions in `projections`.
    """

    logits: torch.Tensor
    object_scores: torch.Tensor
    projections: tuple[torch.Tensor, ...]
    frame_of_object: torch.Tensor

    def select(self, rows: torch.Tensor) -> LastFrame:
        """Return what belongs to some of the objects."""
        return LastFrame(self.logits[rows], self.object_scores[rows], self.projections, self.frame_of_object[rows])

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor held."""
        yield self.logits
        yield self.object_scores
        yield from self.projections


@dataclass(frozen=True, eq=False)
class TrackedObjects:
    """Objects that started on the same step, between two steps; never changed in place.

    Attributes:
        age: Steps since their key frame.
        last: The frame that they are in, not yet a memory.
        key_memory: Of their key frame; None at age 0, where `last` is the key frame.
        recent_memories: Of the steps before `last`, oldest first.
        key_pointer: (N, C) object pointer of the key frame.
        recent_pointers: (N, C) each, of the steps after the key frame, oldest first.
    """

    age: int
    last: LastFrame
    key_memory: Memory | None
    recent_memories: tuple[Memory, ...]
    key_pointer: torch.Tensor
    recent_pointers: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.key_pointer)

    def select(self, rows: torch.Tensor) -> TrackedObjects:
        """Return some of the objects, by a mask (N,) or by positions."""
        return replace(
            self,
            last=self.last.select(rows),
            key_memory=None if self.key_memory is None else self.key_memory.select(rows),
            recent_memories=tuple(memory.select(rows) for memory in self.recent_memories),
            key_pointer=self.key_pointer[rows],
            recent_pointers=tuple(pointer[rows] for pointer in self.recent_pointers),
        )

    def compact(self) -> TrackedObjects:
        """Return the objects without what can be computed again, for holding many of them."""
        return replace(
            self,
            key_memory=None if self.key_memory is None else self.key_memory.compact(),
            recent_memories=tuple(memory.compact() for memory in self.recent_memories),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held."""
        memories = [*self.recent_memories, *([] if self.key_memory is None else [self.key_memory])]
        tensors = [self.key_pointer, *self.recent_pointers, *self.last.tensors()]
        tensors += [tensor for memory in memories for tensor in memory.tensors()]
        return sum(tensor.nbytes for tensor in tensors)
