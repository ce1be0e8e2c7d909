"""Splitting at key frames, joining at boundary frames and the cap, against loops written from the text."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trajvit.processing.backends import Clip
from trajvit.processing.clips import join_clips, keep_largest, match_regions, split_into_clips

label_maps = hnp.arrays(np.int64, (4, 5), elements=st.integers(0, 4))


@st.composite
def videos(draw):
    """Dense frames, each of its own colour, with sampled positions among them and key frames among those."""
    samples = sorted(draw(st.sets(st.integers(0, 30), min_size=1, max_size=10)))
    key_frames = sorted(draw(st.sets(st.integers(0, len(samples) - 1))) | {0})
    return np.arange(31, dtype=np.uint8)[:, None, None, None].repeat(3, axis=-1), np.array(samples), key_frames


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(videos())
def test_clips_run_from_key_frame_to_key_frame_inclusive(video):
    frames, samples, key_frames = video
    clips = split_into_clips(frames, samples, key_frames)
    assert len(clips) == len(key_frames)
    for k, clip in enumerate(clips):
        end = key_frames[k + 1] if k + 1 < len(key_frames) else len(samples) - 1
        assert clip.has_boundary == (k + 1 < len(key_frames))
        expected = list(range(samples[key_frames[k]], samples[end] + 1))
        assert clip.frames[:, 0, 0, 0].tolist() == expected
        assert clip.sampled.dtype == np.int64
        assert [expected[i] for i in clip.sampled] == samples[key_frames[k] : end + 1].tolist()
        assert np.shares_memory(clip.frames, frames)
        assert clip.label_size == frames.shape[1:3]
    for clip in split_into_clips(frames, samples, key_frames, label_size=(7, 5)):
        assert clip.label_size == (7, 5)


def match_naively(first, second, min_iou):
    """Every pair of regions; best for both, ties to the smaller label, at least min_iou."""
    labels_1, labels_2 = sorted(set(first.flat) - {0}), sorted(set(second.flat) - {0})
    iou = {
        (a, b): ((first == a) & (second == b)).sum() / ((first == a) | (second == b)).sum()
        for a in labels_1
        for b in labels_2
    }
    matches = []
    for a in labels_1:
        for b in labels_2:
            best_for_a = max(labels_2, key=lambda other, a=a: iou[a, other])
            best_for_b = max(labels_1, key=lambda other, b=b: iou[other, b])
            if best_for_a == b and best_for_b == a and iou[a, b] >= min_iou and iou[a, b] > 0:
                matches.append((a, b))
    return matches


@settings(deadline=None, max_examples=300)
@given(label_maps, label_maps, st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_matches_are_the_mutually_best_pairs(first, second, min_iou):
    before, after = match_regions(first, second, min_iou)
    assert list(zip(before.tolist(), after.tolist(), strict=True)) == match_naively(first, second, min_iou)
    assert len(set(before.tolist())) == len(before)
    assert len(set(after.tolist())) == len(after)


def test_the_threshold_is_inclusive_and_counts_pixels_of_no_region():
    first = np.array([[1, 1, 0, 0]])
    second = np.array([[2, 2, 2, 2]])
    assert [pairs.tolist() for pairs in match_regions(first, second, 0.5)] == [[1], [2]]
    assert [pairs.tolist() for pairs in match_regions(first, second, 0.51)] == [[], []]


def join_naively(clips, volumes, join_iou):
    """Clip by clip: labels at a boundary that match the next clip's first frame are carried on, all else is new."""
    result, next_label, boundary = [], 1, None
    for clip, volume in zip(clips, volumes, strict=True):
        new_labels = {}
        if boundary is not None:
            first = np.where(volume[0] > 0, volume[0], 0)
            new_labels = {b: a for a, b in match_naively(boundary, first, join_iou)}
        for label in sorted({int(value) for value in volume.flat if value > 0} - set(new_labels)):
            new_labels[label] = next_label
            next_label += 1
        relabelled = np.array([[[new_labels.get(int(v), 0) for v in row] for row in frame] for frame in volume])
        boundary = relabelled[-1] if clip.has_boundary else None
        result.extend(relabelled[:-1] if clip.has_boundary else relabelled)
    return np.stack(result)


def partition(labels):
    """Labels renumbered in order of first appearance, so that equal partitions are equal arrays."""
    numbers = {0: 0}
    return np.array([numbers.setdefault(int(value), len(numbers)) for value in labels.flat]).reshape(labels.shape)


@st.composite
def tracked_clips(draw):
    lengths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    clips, volumes = [], []
    for k, length in enumerate(lengths):
        has_boundary = k + 1 < len(lengths)
        count = length + has_boundary
        clips.append(Clip(np.zeros((count, 3, 4, 3), np.uint8), np.arange(count), has_boundary))
        volume = draw(hnp.arrays(np.int16, (count, 3, 4), elements=st.integers(-1, 3)))
        if volumes and draw(st.booleans()):
            # As after tracking through a key frame: the same regions under other labels.
            volume[0] = np.where(volumes[-1][-1] > 0, volumes[-1][-1] * 1000, 0)
        volumes.append(volume)
    return clips, volumes


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(tracked_clips(), st.sampled_from([0.3, 0.5, 1.0]))
def test_joining_against_a_loop(tracked, join_iou):
    clips, volumes = tracked
    joined = join_clips(clips, volumes, join_iou)
    assert joined.shape == (sum(len(c.sampled) - c.has_boundary for c in clips), 3, 4)
    np.testing.assert_array_equal(partition(joined), partition(join_naively(clips, volumes, join_iou)))


def two_clips(boundary, start):
    first = Clip(np.zeros((2, 1, 4, 3), np.uint8), np.arange(2), True)
    second = Clip(np.zeros((1, 1, 4, 3), np.uint8), np.arange(1), False)
    return [first, second], [np.array([[[1, 1, 2, 2]], [boundary]]), np.array([[start]])]


@pytest.mark.parametrize(
    ("boundary", "start", "expected"),
    [
        ([1, 1, 2, 2], [9, 9, 7, 7], [1, 1, 2, 2]),  # the same regions go on under their first names
        ([0, 0, 0, 0], [1, 1, 2, 2], [3, 3, 4, 4]),  # a cut: equal labels in two clips say nothing
        ([1, 1, 2, 2], [2, 2, 1, 0], [1, 1, 2, 0]),  # IoU 1 and exactly 0.5
        ([1, 1, 1, 2], [5, 6, 7, 8], [3, 4, 5, 2]),  # a third of region 1 each: too little
        ([1, 1, 1, 1], [5, 5, 6, 6], [1, 1, 3, 3]),  # two equally good halves: one of them, not both
    ],
)
def test_joining_by_hand(boundary, start, expected):
    clips, volumes = two_clips(boundary, start)
    joined = join_clips(clips, volumes, 0.5)
    np.testing.assert_array_equal(partition(joined), partition(np.array([[[1, 1, 2, 2]], [expected]])))


def test_a_trajectory_goes_on_through_a_clip_of_one_frame():
    frames = np.zeros((4, 1, 2, 3), np.uint8)
    clips = split_into_clips(frames, np.arange(4), [0, 1, 2])
    volumes = [np.full((len(clip.sampled), 1, 2), k + 5) for k, clip in enumerate(clips)]
    joined = join_clips(clips, volumes, 0.5)
    assert joined.shape == (4, 1, 2)
    assert len(np.unique(joined)) == 1


@settings(deadline=None)
@given(hnp.arrays(np.int64, (3, 4, 4), elements=st.integers(0, 9)), st.integers(1, 12))
def test_the_largest_in_space_and_time_stay(labels, max_trajectories):
    sizes = {label: int((labels == label).sum()) for label in set(labels.flat) - {0}}
    staying = sorted(sizes, key=lambda label: (-sizes[label], label))[:max_trajectories]
    np.testing.assert_array_equal(keep_largest(labels, max_trajectories), np.where(np.isin(labels, staying), labels, 0))
