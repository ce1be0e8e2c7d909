"""Overlapping masks to one label map: each rule by hand, the whole against a naive form on random masks."""

import numpy as np
import pytest
from scipy import ndimage

from trajvit.processing.panoptic_map import panoptic_map


def rectangle(size, top, left, height, width):
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def random_masks(size, num_masks, seed):
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(num_masks):
        height, width = rng.integers(2, size[0] // 2), rng.integers(2, size[1] // 2)
        mask = rectangle(size, rng.integers(0, size[0] - 2), rng.integers(0, size[1] - 2), height, width)
        masks.append(mask & (rng.uniform(size=size) > rng.choice([0.0, 0.0, 0.3])))
    return np.array(masks)


def disc_opening(hole, max_gap):
    """Union of all placements, inside the frame and the hole, of the ellipse OpenCV draws in max_gap + 1 pixels."""
    import cv2

    width = max_gap + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)).astype(bool)
    covered = np.zeros_like(hole)
    for top in range(hole.shape[0] - max_gap):
        for left in range(hole.shape[1] - max_gap):
            window = np.s_[top : top + width, left : left + width]
            if hole[window][disc].all():
                covered[window] |= disc
    return covered


def segments_before_filling(masks, size, max_segments, min_area, max_gap, min_hole):
    """The rules one by one: paint large to small, take parts, take holes, keep the largest."""
    painted = np.zeros(size, int)
    for index in sorted(range(len(masks)), key=lambda i: (-masks[i].sum(), -i)):
        if masks[index].sum() > min_area:
            painted[masks[index]] = index + 1
    parts = []
    for value in np.unique(painted[painted > 0]):
        labelled, count = ndimage.label(painted == value)
        parts += [labelled == part for part in range(1, count + 1)]
    parts = [part for part in parts if part.sum() > min_area]
    covered = np.any(parts, axis=0) if parts else np.zeros(size, bool)
    labelled, count = ndimage.label(disc_opening(~covered, max_gap))
    holes = [labelled == hole for hole in range(1, count + 1) if (labelled == hole).sum() >= min_hole]
    segments = sorted(parts + holes, key=lambda segment: -segment.sum())
    # Which of equally large segments stays at the limit is not part of the rules.
    if len(segments) > max_segments:
        assert segments[max_segments - 1].sum() > segments[max_segments].sum(), "a tie decides: take another seed"
    return segments[:max_segments]


@pytest.mark.parametrize(
    ("seed", "max_segments", "min_area", "max_gap", "min_hole"),
    [(0, 128, 16, 8, 64), (1, 5, 16, 4, 20), (2, 128, 0, 7, 1), (3, 9, 40, 0, 30), (4, 128, 16, 3, 64)],
)
def test_random_masks_follow_the_rules(seed, max_segments, min_area, max_gap, min_hole):
    size = (48, 61)
    masks = random_masks(size, 14, seed)
    options = (max_segments, min_area, max_gap, min_hole)
    expected = segments_before_filling(masks, size, *options)
    result = panoptic_map(masks, size, *options)
    assert result.dtype == np.int32
    assert len(expected) == result.max() > 2
    number_of = [np.unique(result[segment]) for segment in expected]
    assert all(len(numbers) == 1 for numbers in number_of), "a segment keeps its pixels under one number"
    assert sorted(int(numbers[0]) for numbers in number_of) == list(range(1, len(expected) + 1))

    number_of_segment = [int(numbers[0]) for numbers in number_of]
    rows, columns = np.indices(size)
    distances = []
    for segment in expected:
        ys, xs = np.nonzero(segment)
        distances.append(((rows[..., None] - ys) ** 2 + (columns[..., None] - xs) ** 2).min(-1))
    distances = np.array(distances)
    distance_to_owner = np.zeros(size, int)
    for distance, number in zip(distances, number_of_segment, strict=True):
        distance_to_owner[result == number] = distance[result == number]
    np.testing.assert_array_equal(distance_to_owner, distances.min(0))
    areas = np.bincount(result.ravel())[1:]
    assert (np.diff(areas) <= 0).all(), "numbered by area"


def test_small_masks_lie_on_large_ones_in_whatever_order_they_come():
    size = (40, 40)
    large, small = rectangle(size, 0, 0, 40, 40), rectangle(size, 10, 10, 8, 8)
    expected = np.where(small, 2, 1)
    np.testing.assert_array_equal(panoptic_map([large, small], size), expected)
    np.testing.assert_array_equal(panoptic_map(iter([small, large]), size), expected)


def test_of_equally_large_masks_the_first_lies_on_top():
    size = (20, 30)
    left, right = rectangle(size, 0, 0, 20, 20), rectangle(size, 0, 10, 20, 20)
    np.testing.assert_array_equal(panoptic_map([left, right], size) == 1, left)
    np.testing.assert_array_equal(panoptic_map([right, left], size) == 1, right)


def test_a_mask_cut_in_two_becomes_two_segments_and_corners_do_not_connect():
    size = (30, 50)
    bar, across = rectangle(size, 10, 0, 10, 50), rectangle(size, 0, 20, 30, 10)
    result = panoptic_map([bar, across], size, max_gap=100)
    assert len({result[15, 5], result[15, 25], result[15, 45]}) == 3
    diagonal = rectangle(size, 0, 0, 15, 25) | rectangle(size, 15, 25, 15, 25)
    result = panoptic_map([diagonal], size, max_gap=100)
    assert result[0, 0] != result[29, 49]


def test_parts_of_16_pixels_are_dropped_and_of_17_stay():
    size = (20, 40)
    ground = rectangle(size, 0, 0, 20, 40)
    sixteen, seventeen = rectangle(size, 2, 2, 4, 4), rectangle(size, 10, 10, 1, 17)
    assert panoptic_map([ground, sixteen], size).max() == 1
    assert panoptic_map([ground, seventeen], size).max() == 2


@pytest.mark.parametrize(("gap", "becomes_a_segment"), [(8, False), (9, True)])
def test_a_gap_becomes_a_segment_where_it_is_wider_than_max_gap(gap, becomes_a_segment):
    size = (30, 40)
    masks = [rectangle(size, 0, 0, 30, 12), rectangle(size, 0, 12 + gap, 30, 28 - gap)]
    result = panoptic_map(masks, size)
    assert result.max() == (3 if becomes_a_segment else 2)
    if not becomes_a_segment:
        np.testing.assert_array_equal(result[:, :16], result[0, 0])
        np.testing.assert_array_equal(result[:, 16:], result[0, -1])


def test_a_thin_strip_along_the_frame_edge_is_a_gap():
    size = (30, 40)
    assert panoptic_map([rectangle(size, 0, 6, 30, 34)], size).max() == 1


def test_a_wide_hole_below_min_hole_goes_to_the_nearest():
    size = (30, 40)
    masks = [~rectangle(size, 10, 10, 10, 10)]
    assert panoptic_map(masks, size, min_hole=64).max() == 2
    assert panoptic_map(masks, size, min_hole=101).max() == 1


def test_beyond_max_segments_the_smallest_give_way():
    size = (24, 120)
    masks = [rectangle(size, 0, left, 24, width) for left, width in ((0, 50), (50, 30), (80, 22), (102, 18))]
    result = panoptic_map(masks, size, max_segments=3)
    assert result.max() == 3
    assert result[0, -1] == result[0, 90]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 4), (37, 53)])
def test_no_mask_at_all_is_one_segment(size):
    np.testing.assert_array_equal(panoptic_map([], size), np.ones(size))
    np.testing.assert_array_equal(panoptic_map(np.zeros((2, *size), bool), size), np.ones(size))


def test_max_gap_beyond_the_frame_is_legal():
    size = (20, 20)
    assert panoptic_map([rectangle(size, 0, 0, 5, 5)], size, max_gap=1000).max() == 1


@pytest.mark.parametrize(
    ("masks", "size", "options", "message"),
    [
        ([np.ones((4, 5), np.uint8)], (4, 5), {}, "mask 1 must be bool of shape .4, 5., got uint8"),
        ([np.ones((4, 5), bool), np.ones((5, 4), bool)], (4, 5), {}, "mask 2 must be bool of shape"),
        ([], (0, 5), {}, "size must be"),
        ([], (4, 5), {"max_segments": 0}, "max_segments must be at least 1, got 0"),
        ([], (4, 5), {"min_area": -1}, "min_area must be at least 0, got -1"),
        ([], (4, 5), {"max_gap": -1}, "max_gap must be at least 0, got -1"),
        ([], (4, 5), {"min_hole": 0}, "min_hole must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named(masks, size, options, message):
    with pytest.raises(ValueError, match=message):
        panoptic_map(masks, size, **options)
