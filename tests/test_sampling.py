"""Uniform and dense sampling against slow definitions written from their words."""

from fractions import Fraction

import numpy as np
import pytest

from trajvit.processing.sampling import dense_indices, uniform_sample_indices


def frame_in_the_middle(segment: int, num_segments: int, num_available: int) -> int:
    """The frame whose span [k, k + 1) holds the middle of one of the equal segments of [0, num_available)."""
    start = Fraction(segment * num_available, num_segments)
    stop = Fraction((segment + 1) * num_available, num_segments)
    middle = (start + stop) / 2
    return next(k for k in range(num_available) if k <= middle < k + 1)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 7, 16])
def test_uniform_samples_are_the_middles_of_equal_segments(num_frames):
    for num_available in range(num_frames, 70):
        expected = [frame_in_the_middle(i, num_frames, num_available) for i in range(num_frames)]
        assert uniform_sample_indices(num_available, num_frames).tolist() == expected


def test_known_samples():
    assert uniform_sample_indices(32, 16).tolist() == list(range(1, 32, 2))
    assert uniform_sample_indices(48, 16).tolist() == list(range(1, 48, 3))
    assert uniform_sample_indices(10**12, 1).tolist() == [5 * 10**11]


def test_a_short_video_gives_each_frame_once():
    assert uniform_sample_indices(5, 16).tolist() == [0, 1, 2, 3, 4]
    assert uniform_sample_indices(1, 16).tolist() == [0]
    assert uniform_sample_indices(7, None).tolist() == list(range(7))


@pytest.mark.parametrize(("num_available", "num_frames", "named"), [(0, 16, "num_available"), (9, 0, "num_frames")])
def test_there_must_be_frames_to_sample(num_available, num_frames, named):
    with pytest.raises(ValueError, match=f"{named} must be at least 1"):
        uniform_sample_indices(num_available, num_frames)


def test_dense_frames_lie_an_interval_apart():
    seconds = np.arange(240) / 24
    sampled = uniform_sample_indices(240, 16)
    dense = dense_indices(seconds, sampled, frame_interval=1 / 8)
    assert set(sampled) <= set(dense)
    assert (dense[0], dense[-1]) == (sampled[0], sampled[-1])
    steps = np.diff(seconds[dense])
    # 15 frames lie between samples, and five steps of 1/8 s are exactly that long.
    assert np.allclose(steps, 1 / 8)


def test_a_gap_is_divided_evenly_when_the_interval_does_not_fit():
    dense = dense_indices(np.arange(101) / 100, np.array([0, 100]), frame_interval=0.3)
    assert dense.tolist() == [0, 33, 67, 100]


def test_dense_frames_are_bounded_in_a_long_video():
    seconds = np.arange(100_000) / 30
    sampled = uniform_sample_indices(100_000, 16)
    dense = dense_indices(seconds, sampled, frame_interval=1 / 8, max_between=8)
    assert len(dense) == 16 + 15 * 8
    assert dense_indices(seconds, sampled, 1 / 8, max_between=0).tolist() == sampled.tolist()
    assert dense_indices(seconds, sampled, None).tolist() == sampled.tolist()


def test_dense_frames_of_a_slow_video_are_all_there_are():
    seconds = np.arange(16) / 5
    sampled = uniform_sample_indices(16, 16)
    assert dense_indices(seconds, sampled, 1 / 8).tolist() == list(range(16))
    assert dense_indices(seconds, np.array([0, 2, 4]), 1 / 8).tolist() == [0, 1, 2, 3, 4]


def test_dense_frames_are_nearest_in_time_where_the_rate_varies():
    seconds = np.array([0.0, 0.01, 0.02, 0.03, 0.48, 0.49, 0.97, 1.0])
    # A second in four parts: 0.25, 0.5 and 0.75; the frame nearest to 0.25 is at 0.03, to 0.5 at 0.49, to 0.75 at 0.97.
    assert dense_indices(seconds, np.array([0, 7]), 0.25).tolist() == [0, 3, 5, 6, 7]


@pytest.mark.parametrize("seed", range(20))
def test_dense_frames_are_ordered_and_hold_the_samples(seed):
    rng = np.random.default_rng(seed)
    seconds = np.cumsum(rng.exponential(0.05, size=rng.integers(1, 200)))
    sampled = uniform_sample_indices(len(seconds), int(rng.integers(1, 20)))
    dense = dense_indices(seconds, sampled, frame_interval=0.1, max_between=3)
    assert (np.diff(dense) > 0).all()
    assert np.isin(sampled, dense).all()
    between = np.diff(np.searchsorted(dense, sampled)) - 1
    assert (between <= 3).all()


def test_times_that_stand_still_give_no_dense_frames():
    assert dense_indices(np.zeros(10), np.array([0, 9]), 0.1).tolist() == [0, 9]


@pytest.mark.parametrize(("interval", "max_between", "named"), [(0, 8, "frame_interval"), (0.1, -1, "max_between")])
def test_dense_settings_are_checked(interval, max_between, named):
    with pytest.raises(ValueError, match=named):
        dense_indices(np.arange(5.0), np.array([0, 4]), interval, max_between)
