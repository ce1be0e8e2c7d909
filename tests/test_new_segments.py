"""New segments in areas whose answer is drawn by hand."""

import numpy as np

from trajvit.processing.new_segments import new_segments

SHAPE = (40, 60)


def canvas(*boxes):
    """(H, W) bool, true in the boxes (top, bottom, left, right)."""
    picture = np.zeros(SHAPE, bool)
    for top, bottom, left, right in boxes:
        picture[top:bottom, left:right] = True
    return picture


def test_what_is_covered_starts_nothing():
    segments = np.int32(np.arange(60) // 20 + 1) * np.ones((40, 1), np.int32)
    assert not new_segments(segments, np.ones(SHAPE, bool), 10).any()
    (number_of_first,) = np.unique(new_segments(segments, ~canvas((0, 40, 0, 20)), 10)[:, :20])
    assert number_of_first == 1


def test_uncovered_parts_of_segments_are_numbered_by_area():
    segments = np.where(np.arange(60) < 25, 7, 3) * np.ones((40, 1), np.int32)
    uncovered = canvas((5, 35, 10, 50))
    new = new_segments(segments, ~uncovered, 10)
    np.testing.assert_array_equal(new > 0, uncovered)
    np.testing.assert_array_equal(new == 1, uncovered & (segments == 3))
    np.testing.assert_array_equal(new == 2, uncovered & (segments == 7))
    assert new.dtype == np.int32


def test_separate_parts_of_a_segment_are_separate():
    uncovered = canvas((0, 20, 0, 20), (0, 20, 30, 60))
    new = new_segments(np.ones(SHAPE, int), ~uncovered, 10)
    np.testing.assert_array_equal(new, np.where(uncovered, np.where(np.arange(60) < 25, 2, 1), 0))


def test_thin_gaps_and_small_areas_are_left():
    thin = canvas((0, 40, 20, 28))
    assert not new_segments(np.ones(SHAPE, int), ~thin, 10).any()
    wide = canvas((0, 40, 20, 30))
    np.testing.assert_array_equal(new_segments(np.ones(SHAPE, int), ~wide, 10) > 0, wide)
    assert not new_segments(np.ones(SHAPE, int), ~canvas((10, 17, 10, 17)), 10, min_width=2).any()
    # At the frame's edge a strip may be half as wide: it is where things come into view.
    strip = canvas((0, 40, 0, 5))
    np.testing.assert_array_equal(new_segments(np.ones(SHAPE, int), ~strip, 10) > 0, strip)
    assert not new_segments(np.ones(SHAPE, int), ~canvas((0, 40, 0, 4)), 10).any()


def test_the_largest_stay_and_none_without_a_segment():
    uncovered = canvas((0, 12, 0, 12), (0, 40, 20, 40), (20, 40, 45, 60))
    full = new_segments(np.ones(SHAPE, int), ~uncovered, 10)
    np.testing.assert_array_equal(new_segments(np.ones(SHAPE, int), ~uncovered, 2), np.where(full <= 2, full, 0))
    assert not new_segments(np.ones(SHAPE, int), ~uncovered, 0).any()
    assert not new_segments(np.zeros(SHAPE, int), ~uncovered, 10).any()


def test_nothing_covered():
    np.testing.assert_array_equal(new_segments(np.full(SHAPE, 9), np.zeros(SHAPE, bool), 3), np.ones(SHAPE))
