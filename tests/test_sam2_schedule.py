"""The order of work against what it must satisfy, for clips of all lengths, and against plans written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajvit.processing.backends import Clip
from trajvit.processing.sam2_schedule import Piece, Span, clip_spans, plan_windows, portions


def spans_of(lengths, last_has_boundary=False):
    """Clips of so many sampled frames, each sharing its last frame with the next."""
    pictures = [np.zeros((length, 1, 1, 3), np.uint8) for length in lengths]
    clips = [
        Clip(frames, np.arange(len(frames)), k + 1 < len(lengths) or last_has_boundary)
        for k, frames in enumerate(pictures)
    ]
    return clip_spans(clips)


# A clip with a boundary has two frames at least, its key frame and the next clip's.
videos = st.builds(
    lambda lengths, last: [*lengths, last], st.lists(st.integers(2, 30), max_size=20), st.integers(1, 30)
)


@given(videos, st.none() | st.integers(1, 12), st.booleans(), st.integers(2, 20))
def test_a_plan_follows_every_clip_and_holds_few_frames(lengths, interval, encode_single_frames, max_frames):
    spans = spans_of(lengths)
    windows = plan_windows(spans, interval, encode_single_frames, max_frames)
    num_encoded = dict.fromkeys(range(spans[-1].last + 1), 0)
    before: set[int] = set()
    position = {clip: span.first for clip, span in enumerate(spans)}
    begun: set[int] = set()
    finished: set[int] = set()
    for window in windows:
        assert len(window.frames) <= max_frames
        assert list(window.frames) == sorted(set(window.frames))
        for frame in set(window.frames) - before:
            num_encoded[frame] += 1
        before = set(window.frames)
        assert len({piece.clip for piece in window.pieces}) == len(window.pieces)
        longest = max(piece.num_steps for piece in window.pieces)
        for piece in window.pieces:
            span = spans[piece.clip]
            assert piece.clip not in finished
            assert piece.start == position[piece.clip]
            assert piece.is_key == (piece.clip not in begun)
            begun.add(piece.clip)
            assert piece.is_last or piece.num_steps == longest > 0
            assert set(range(piece.start + 1, piece.end + 1)) <= before
            if piece.starts_objects and (piece.num_steps or encode_single_frames):
                assert piece.start in before
            position[piece.clip] = piece.end
            if piece.is_last:
                finished.add(piece.clip)
                assert piece.end == span.last
    assert finished == set(range(len(spans)))
    # Each distinct frame once; one that is a clip of its own only for a segmenter that needs features.
    single = {span.first for span in spans if span.first == span.last and len(spans) == 1}
    assert num_encoded == {frame: int(encode_single_frames or frame not in single) for frame in num_encoded}


@given(videos, st.integers(1, 12), st.booleans())
def test_new_objects_start_every_few_frames(lengths, interval, last_has_boundary):
    if last_has_boundary and lengths[-1] == 1:
        lengths = [*lengths, 2]
    spans = spans_of(lengths, last_has_boundary)
    starts = {
        (piece.clip, piece.start)
        for window in plan_windows(spans, interval, max_frames=16)
        for piece in window.pieces
        if piece.starts_objects
    }
    expected = {
        (clip, frame)
        for clip, span in enumerate(spans)
        for frame in range(span.first, span.last + 1)
        if (frame - span.first) % interval == 0 and (frame == span.first or frame < span.last or not span.has_boundary)
    }
    assert starts == expected


def test_short_clips_go_side_by_side():
    (window,) = plan_windows(spans_of([5, 4, 2]))
    assert window.frames == tuple(range(9))
    assert window.pieces == (
        Piece(0, 0, 4, True, True, True),
        Piece(1, 4, 7, True, True, True),
        Piece(2, 7, 8, True, True, True),
    )


def test_a_long_clip_goes_window_by_window():
    windows = plan_windows(spans_of([2, 10]), max_frames=4)
    assert [window.pieces for window in windows] == [
        (Piece(0, 0, 1, True, True, True),),
        (Piece(1, 1, 4, True, True, False),),
        (Piece(1, 4, 7, False, False, False),),
        (Piece(1, 7, 10, False, False, True),),
    ]
    assert [window.frames for window in windows] == [(0, 1), (1, 2, 3, 4), (5, 6, 7), (8, 9, 10)]


def test_new_objects_are_looked_for_in_all_clips_of_a_group_at_once():
    windows = plan_windows(spans_of([6, 4, 5]), 2)
    assert [[(piece.clip, piece.start, piece.end) for piece in window.pieces] for window in windows] == [
        [(0, 0, 2), (1, 5, 7), (2, 8, 10)],
        [(0, 2, 4), (1, 7, 8), (2, 10, 12)],
        [(0, 4, 5), (2, 12, 12)],
    ]
    # The boundary frames 5 and 8 are held from their clip's start until the clip before ends in them.
    assert [window.frames for window in windows] == [
        (0, 1, 2, 5, 6, 7, 8, 9, 10),
        (2, 3, 4, 5, 7, 8, 10, 11, 12),
        (4, 5, 12),
    ]


def test_a_hundred_cuts_in_a_hundred_frames():
    windows = plan_windows(spans_of([2] * 99 + [1]))
    assert [len(window.pieces) for window in windows] == [63, 37]
    assert [len(window.frames) for window in windows] == [64, 37]


def test_an_image_needs_features_only_for_the_segmenter():
    assert [window.frames for window in plan_windows([Span(0, 0, False)])] == [(0,)]
    assert [window.frames for window in plan_windows([Span(0, 0, False)], encode_single_frames=False)] == [()]


@pytest.mark.parametrize(
    ("count", "at_most", "lengths"),
    [(0, 3, []), (3, 3, [3]), (4, 3, [2, 2]), (10, 4, [3, 3, 4]), (5, 1, [1] * 5), (7, 100, [7])],
)
def test_portions_are_few_and_even(count, at_most, lengths):
    found = portions(count, at_most)
    assert [len(portion) for portion in found] == lengths
    assert [i for portion in found for i in portion] == list(range(count))
