"""In which order SAM 2 goes through a video's clips: which frames are encoded together, where objects start.

Frames are positions in the video's sampled frames. Clips are independent, so short ones go side by side; a long one
goes window by window, so that the features of few frames are held at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .backends import Clip

MAX_FRAMES = 64
"""Most frames whose features are held at a time."""


@dataclass(frozen=True)
class Span:
    """A clip's frames in the video.

    Attributes:
        first: Its key frame.
        last: Its last frame, which is the next clip's key frame where there is a boundary.
        has_boundary: Whether the last frame belongs to the next clip.
    """

    first: int
    last: int
    has_boundary: bool


@dataclass(frozen=True)
class Piece:
    """A part of a clip.

    Attributes:
        clip: Position of the clip.
        start: The frame in which the objects are known: the clip's key frame, or the last frame of the piece before.
        end: The last frame into which they are followed; may be `start`.
        is_key: Whether `start` is the clip's key frame.
        starts_objects: Whether objects start at `start`: at a key frame, or where new objects are looked for.
        is_last: Whether the clip ends here.
    """

    clip: int
    start: int
    end: int
    is_key: bool
    starts_objects: bool
    is_last: bool

    @property
    def num_steps(self) -> int:
        """How many frames the objects are followed."""
        return self.end - self.start


@dataclass(frozen=True)
class Window:
    """What is done together.

    Attributes:
        pieces: Of different clips. Those that are not their clip's last are equally long, none is longer.
        frames: Increasing; the frames whose features are needed now, and those needed before and after.
    """

    pieces: tuple[Piece, ...]
    frames: tuple[int, ...]


def clip_spans(clips: Sequence[Clip]) -> list[Span]:
    """Return where the clips lie in their video's sampled frames; a boundary frame is counted once."""
    spans = []
    first = 0
    for clip in clips:
        last = first + len(clip.sampled) - 1
        spans.append(Span(first, last, clip.has_boundary))
        first = last if clip.has_boundary else last + 1
    return spans


def plan_windows(
    spans: Sequence[Span],
    new_objects_interval: int | None = None,
    encode_single_frames: bool = True,
    max_frames: int = MAX_FRAMES,
) -> list[Window]:
    """Plan how to go through a video.

    Args:
        spans: Its clips, in order.
        new_objects_interval: Every so many frames of a clip new objects are looked for; None for key frames only. A
            boundary frame is left to the clip that it starts.
        encode_single_frames: Whether frames need features from which nothing is followed; the segmenter may.
        max_frames: Most frames whose features are held at a time; at least 2.

    Returns:
        Windows in order: every clip's pieces one after the other, every frame needed in consecutive windows only.
    """
    rounds: list[list[Piece]] = []
    for group in _groups(spans, max_frames):
        first = len(rounds)
        for clip in group:
            # The clips of a group go side by side, so only a clip alone may need shorter pieces.
            for number, piece in enumerate(_pieces(clip, spans[clip], max_frames - 1, new_objects_interval)):
                if first + number == len(rounds):
                    rounds.append([])
                rounds[first + number].append(piece)
    needed = [{frame for piece in pieces for frame in _needed_frames(piece, encode_single_frames)} for pieces in rounds]
    last_use = {frame: number for number, frames in enumerate(needed) for frame in frames}
    windows = []
    held: set[int] = set()
    for number, pieces in enumerate(rounds):
        held = {frame for frame in held | needed[number] if last_use[frame] >= number}
        windows.append(Window(tuple(pieces), tuple(sorted(held))))
    return windows


def portions(count: int, at_most: int) -> list[range]:
    """Cut 0..count-1 into as few ranges of at most `at_most` as possible, of about equal length."""
    num_portions = -(-count // at_most)
    edges = [count * i // num_portions for i in range(num_portions + 1)] if num_portions else []
    return [range(start, end) for start, end in pairwise(edges)]


def _groups(spans: Sequence[Span], max_frames: int) -> list[list[int]]:
    """Consecutive clips with at most `max_frames` frames in all; a longer clip is alone."""
    groups: list[list[int]] = []
    for clip, span in enumerate(spans):
        if groups and span.last - spans[groups[-1][0]].first < max_frames:
            groups[-1].append(clip)
        else:
            groups.append([clip])
    return groups


def _pieces(clip: int, span: Span, max_steps: int, interval: int | None) -> list[Piece]:
    starts_objects = {span.first}
    if interval is not None:
        starts_objects.update(range(span.first + interval, span.last + (not span.has_boundary), interval))
    edges = sorted(starts_objects)
    cuts = [
        start for edge, end in zip(edges, [*edges[1:], span.last], strict=True) for start in _cut(edge, end, max_steps)
    ]
    return [
        Piece(clip, start, end, start == span.first, start in starts_objects, number == len(cuts) - 1)
        for number, (start, end) in enumerate(zip(cuts, [*cuts[1:], span.last], strict=True))
    ]


def _cut(first: int, last: int, max_steps: int) -> list[int]:
    """Where pieces of at most `max_steps` begin; the first one does even if nothing follows."""
    return [first, *range(first + max_steps, last, max_steps)]


def _needed_frames(piece: Piece, encode_single_frames: bool) -> range:
    is_start_needed = piece.starts_objects and (piece.num_steps > 0 or encode_single_frames)
    return range(piece.start if is_start_needed else piece.start + 1, piece.end + 1)
