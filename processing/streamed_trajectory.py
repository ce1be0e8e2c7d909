"""`StreamedTrajectory`: one trajectory of a video too long to hold, with its masks packed.

Shape legend: n frames in which the trajectory is present, H height, W width.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index

import numpy as np

from .trajectories import Trajectories


class PackedMasks:
    """The masks of one region in n frames without loss: the bits inside its boxes, deflated frame by frame.

    Args:
        corners: (n, 4) int32 pixels x0, y0, x1, y1 of the boxes, maxima exclusive.
        data: The deflated bits, one frame after the other.
        ends: (n,) int64 positions in `data` at which each frame ends.
    """

    def __init__(self, corners: np.ndarray, data: bytes, ends: np.ndarray):
        self.corners = corners
        self._data = data
        self._ends = ends

    @classmethod
    def pack(cls, ids: np.ndarray, region: int, corners: np.ndarray) -> "PackedMasks":
        """Pack where `ids`, n maps (n, H, W) of integers, are `region`; the corners are those of its boxes."""
        deflated = []
        for frame, (x0, y0, x1, y1) in zip(ids, corners.tolist(), strict=True):
            deflated.append(zlib.compress(np.packbits(frame[y0:y1, x0:x1] == region).tobytes()))
        return cls(corners.astype(np.int32), b"".join(deflated), np.cumsum([len(part) for part in deflated]))

    @classmethod
    def concatenate(cls, parts: Sequence["PackedMasks"]) -> "PackedMasks":
        """Put frames after frames; at least one part."""
        starts = np.cumsum([0] + [len(part._data) for part in parts[:-1]])
        return cls(
            np.concatenate([part.corners for part in parts]),
            b"".join(part._data for part in parts),
            np.concatenate([part._ends + start for part, start in zip(parts, starts, strict=True)]),
        )

    def take(self, start: int, stop: int) -> "PackedMasks":
        """The frames `start` to `stop` (exclusive), with 0 <= start < stop <= n."""
        first = int(self._ends[start - 1]) if start else 0
        ends = self._ends[start:stop] - first
        # Copies, so that what is taken does not keep the rest in memory.
        return PackedMasks(self.corners[start:stop].copy(), self._data[first : first + int(ends[-1])], ends)

    def crop(self, position: int) -> np.ndarray:
        """(y1 - y0, x1 - x0) bool: the mask inside its box."""
        x0, y0, x1, y1 = self.corners[position].tolist()
        start = int(self._ends[position - 1]) if position else 0
        bits = np.frombuffer(zlib.decompress(self._data[start : int(self._ends[position])]), dtype=np.uint8)
        return np.unpackbits(bits, count=(y1 - y0) * (x1 - x0)).reshape(y1 - y0, x1 - x0).view(bool)

    @property
    def nbytes(self) -> int:
        """Bytes that the masks take."""
        return len(self._data) + self._ends.nbytes + self.corners.nbytes


@dataclass(frozen=True, eq=False, repr=False)
class StreamedTrajectory:
    """A trajectory, or a piece of a long one, in the n frames in which it is present. Its length is n.

    Attributes:
        id: Its number in the stream, from 1: by first frame, then by area in it (larger first). Pieces of one
            trajectory have one id; no other trajectory ever gets it.
        frame_indices: (n,) int64, increasing: numbers of its frames in the stream's source.
        timestamps: (n,) float64: seconds of its frames; the frame indices where the stream has no times.
        areas: (n,) int64: its pixels in each frame.
        packed_masks: Its masks; `mask` gives them one by one.
        size: (H, W) of the masks, in pixels.
        is_continued: Whether an earlier piece with the same id came before this one.
        continues: Whether a later piece with the same id follows.
    """

    id: int
    frame_indices: np.ndarray
    timestamps: np.ndarray
    areas: np.ndarray
    packed_masks: PackedMasks
    size: tuple[int, int]
    is_continued: bool = False
    continues: bool = False

    @classmethod
    def from_clip(
        cls, trajectories: Trajectories, region: int, id: int, is_continued: bool, continues: bool
    ) -> "StreamedTrajectory":
        """Trajectory `region` of a clip, in 1..M, as a part of the stream's trajectory `id`."""
        present = np.flatnonzero(trajectories.areas[region - 1])
        size = (trajectories.height, trajectories.width)
        shares = trajectories.boxes[region - 1, present].astype(np.float64)
        corners = np.rint(shares * (size[::-1] * 2)).astype(np.int32)
        return cls(
            id=id,
            frame_indices=trajectories.frame_indices[present],
            timestamps=trajectories.timestamps[present],
            areas=trajectories.areas[region - 1, present],
            packed_masks=PackedMasks.pack(trajectories.ids[present], region, corners),
            size=size,
            is_continued=is_continued,
            continues=continues,
        )

    @classmethod
    def concatenate(cls, pieces: Sequence["StreamedTrajectory"]) -> "StreamedTrajectory":
        """Put the consecutive pieces of one trajectory together.

        Raises:
            ValueError: There is none, or they are not consecutive pieces of one trajectory in order.
        """
        if not pieces:
            raise ValueError("There are no pieces to put together; expected at least one.")
        for before, after in pairwise(pieces):
            follows = before.continues and after.is_continued and after.frame_indices[0] > before.frame_indices[-1]
            if before.id != after.id or before.size != after.size or not follows:
                raise ValueError(f"{after} does not follow {before}; expected consecutive pieces of one trajectory.")
        return cls(
            id=pieces[0].id,
            frame_indices=np.concatenate([piece.frame_indices for piece in pieces]),
            timestamps=np.concatenate([piece.timestamps for piece in pieces]),
            areas=np.concatenate([piece.areas for piece in pieces]),
            packed_masks=PackedMasks.concatenate([piece.packed_masks for piece in pieces]),
            size=pieces[0].size,
            is_continued=pieces[0].is_continued,
            continues=pieces[-1].continues,
        )

    def take(self, start: int, stop: int) -> "StreamedTrajectory":
        """The piece from position `start` to `stop` (exclusive), with 0 <= start < stop <= n."""
        return StreamedTrajectory(
            id=self.id,
            frame_indices=self.frame_indices[start:stop].copy(),
            timestamps=self.timestamps[start:stop].copy(),
            areas=self.areas[start:stop].copy(),
            packed_masks=self.packed_masks.take(start, stop),
            size=self.size,
            is_continued=self.is_continued or start > 0,
            continues=self.continues or stop < len(self),
        )

    @property
    def boxes(self) -> np.ndarray:
        """(n, 4) float32: x0, y0, x1, y1 as shares of width and height, maxima exclusive."""
        height, width = self.size
        return (self.packed_masks.corners / np.array([width, height, width, height])).astype(np.float32)

    def mask(self, position: int) -> np.ndarray:
        """(H, W) bool: its pixels in frame `frame_indices[position]`.

        Raises:
            IndexError: The position is outside -n..n-1.
        """
        position = index(position)
        if not -len(self) <= position < len(self):
            raise IndexError(f"position must lie in {-len(self)}..{len(self) - 1}, got {position}.")
        position %= len(self)
        x0, y0, x1, y1 = self.packed_masks.corners[position].tolist()
        mask = np.zeros(self.size, dtype=bool)
        mask[y0:y1, x0:x1] = self.packed_masks.crop(position)
        return mask

    @property
    def nbytes(self) -> int:
        """Bytes that its arrays and masks take."""
        return self.frame_indices.nbytes + self.timestamps.nbytes + self.areas.nbytes + self.packed_masks.nbytes

    def __len__(self) -> int:
        return len(self.frame_indices)

    def __repr__(self) -> str:
        return (
            f"StreamedTrajectory({self.id} in {len(self)} frames {self.frame_indices[0]}-{self.frame_indices[-1]},"
            f" {self.timestamps[0]:.2f}-{self.timestamps[-1]:.2f} s{', continued' * self.is_continued}"
            f"{', continues' * self.continues})"
        )
