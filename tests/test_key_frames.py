"""Key frames against the supplement's own words computed with numpy, and scenes made by hand."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenedetect import FrameTimecode, SceneDetector

from trajvit.processing.key_frames import DETECTORS, KeyFrameDetector
from trajvit.processing.rgb_detector import RGBDetector


def measures(frames):
    """(T, 3): mean HSV difference, luma histogram correlation and intensity difference to the frame before."""
    rows = [(0.0, 1.0, 0.0)]
    for before, after in pairwise(frames):
        hsv = [cv2.cvtColor(frame, cv2.COLOR_RGB2HSV).astype(float) for frame in (before, after)]
        luma = [cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)[..., 0] for frame in (before, after)]
        histograms = [np.histogram(y, bins=256, range=(0, 256))[0] for y in luma]
        rows.append(
            (
                np.mean([np.abs(hsv[1][..., c] - hsv[0][..., c]).mean() for c in range(3)]),
                np.corrcoef(histograms)[0, 1],
                abs(after.mean() - before.mean()),
            )
        )
    return np.array(rows)


def votes_of(measured, hsv=27.0, histogram=0.15, rgb=12.0):
    return np.stack([measured[:, 0] >= hsv, measured[:, 1] <= 1 - histogram, measured[:, 2] > rgb], axis=1)


def textured(rng, low=0, high=256, size=(36, 48)):
    """A random picture with some structure: blurred noise stretched to low..high."""
    noise = cv2.GaussianBlur(rng.normal(size=(*size, 3)), (0, 0), 3)
    unit = (noise - noise.min()) / np.ptp(noise)
    return (low + unit * (high - 1 - low)).astype(np.uint8)


def drifting_video(rng, num_frames=12):
    """Frames that differ from the one before by a random amount, often near the thresholds, sometimes by a cut."""
    frames = [textured(rng)]
    for _ in range(num_frames - 1):
        if rng.random() < 0.2:
            frames.append(textured(rng, *sorted(rng.choice(256, 2, replace=False) + [0, 2])))
            continue
        amount = rng.uniform(0, 0.4)
        mixed = (1 - amount) * frames[-1] + amount * textured(rng) + rng.uniform(-18, 18)
        frames.append(np.clip(mixed, 0, 255).astype(np.uint8))
    return np.stack(frames)


def test_votes_are_what_the_supplement_says_on_random_videos():
    detector = KeyFrameDetector()
    seen = []
    for seed in range(40):
        frames = drifting_video(np.random.default_rng(seed))
        measured = measures(frames)
        expected = votes_of(measured)
        np.testing.assert_array_equal(detector.votes(frames), expected)
        assert detector(frames) == sorted({0, *np.flatnonzero(expected.sum(axis=1) >= 2).tolist()})
        seen.append(expected)
    votes = np.concatenate(seen)
    # Every combination that tells the detectors apart has occurred, or the comparison would say little.
    assert len({tuple(row) for row in votes.tolist()}) >= 6
    assert 0.15 < (votes.sum(axis=1) >= 2).mean() < 0.85


@pytest.mark.parametrize("column", range(3))
def test_each_threshold_is_exact_and_its_own(column):
    frames = drifting_video(np.random.default_rng(3), num_frames=8)
    measured = measures(frames)
    names = ("hsv_threshold", "histogram_threshold", "rgb_threshold")
    scores = measured[:, column] if column != 1 else 1 - measured[:, 1]
    score = np.sort(scores[1:])[3]
    for step, is_above in ((-1e-4, True), (1e-4, False)):
        votes = KeyFrameDetector(**{names[column]: score + step}).votes(frames)
        reference = KeyFrameDetector().votes(frames)
        position = int(np.flatnonzero(scores == score)[0])
        assert votes[position, column] == is_above
        others = [c for c in range(3) if c != column]
        np.testing.assert_array_equal(votes[:, others], reference[:, others])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))
def test_min_votes_and_min_scene_len(min_votes, min_scene_len, seed):
    frames = drifting_video(np.random.default_rng(seed), num_frames=8)
    count = votes_of(measures(frames)).sum(axis=1)
    expected = [0]
    for t in range(1, len(frames)):
        if count[t] >= min_votes and t - expected[-1] >= min_scene_len:
            expected.append(t)
    assert KeyFrameDetector(min_votes=min_votes, min_scene_len=min_scene_len)(frames) == expected


def test_at_the_threshold_itself():
    """PySceneDetect's two vote from their threshold on; the supplement's intensity must exceed its own."""
    grey = np.full((3, 4, 4, 3), 50, dtype=np.uint8)
    grey[1] += 12
    grey[2] += 25
    assert KeyFrameDetector().votes(grey)[:, 2].tolist() == [False, False, True]
    # Grey has no hue and no saturation, so the mean over the three channels is a third of the step: 81 / 3 = 27.
    steps = np.array([50, 131, 51, 131], dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    assert KeyFrameDetector().votes(steps)[:, 0].tolist() == [False, True, False, False]


def test_the_channels_are_red_green_blue():
    """Red and blue have unequal luma, so a detector that mixed them up would see other histograms."""
    rng = np.random.default_rng(0)
    frame = np.zeros((32, 32, 3), dtype=np.uint8)
    frame[..., 0] = rng.integers(0, 256, (32, 32))
    frames = np.stack([frame, np.roll(frame, 2, axis=-1), np.roll(frame, 1, axis=-1)])
    np.testing.assert_array_equal(KeyFrameDetector().votes(frames), votes_of(measures(frames)))


def scene(seed, num_frames):
    picture = textured(np.random.default_rng(seed), 20 * (seed % 5), 150 + 20 * (seed % 5))
    return [np.roll(picture, t, axis=1) for t in range(num_frames)]


def test_cuts_even_on_consecutive_frames():
    # A minimum scene length inside the detectors would merge or delay the cuts that follow each other closely.
    frames = np.stack([*scene(0, 5), *scene(4, 1), *scene(1, 1), *scene(3, 2), *scene(0, 4)])
    assert KeyFrameDetector()(frames) == [0, 5, 6, 7, 9]
    assert KeyFrameDetector(min_scene_len=2)(frames) == [0, 5, 7, 9]
    assert KeyFrameDetector(min_scene_len=6)(frames) == [0, 6]


def test_a_cut_right_after_the_first_frame():
    frames = np.stack([*scene(0, 1), *scene(4, 3)])
    assert KeyFrameDetector()(frames) == [0, 1]


def test_a_slow_fade_and_a_still_are_no_cuts_but_a_flash_is_two():
    picture = textured(np.random.default_rng(5), 60, 200)
    fade = np.stack([np.round(picture * (1 - t / 40)).astype(np.uint8) for t in range(16)])
    assert KeyFrameDetector().votes(fade)[:, [0, 2]].sum() == 0
    assert KeyFrameDetector()(fade) == [0]
    still = np.stack([picture] * 9)
    assert not KeyFrameDetector().votes(still).any()
    still[4] = 255
    assert KeyFrameDetector()(still) == [0, 4, 5]


def test_one_frame_and_one_pixel():
    assert KeyFrameDetector()(np.zeros((1, 1, 1, 3), dtype=np.uint8)) == [0]
    assert KeyFrameDetector(0, 0, 0, min_votes=1).votes(np.zeros((1, 1, 1, 3), dtype=np.uint8)).tolist() == [
        [False] * 3
    ]


def test_votes_do_not_depend_on_what_was_seen_before():
    detector = KeyFrameDetector()
    frames = drifting_video(np.random.default_rng(1))
    first = detector.votes(frames)
    detector.votes(frames[::-1])
    np.testing.assert_array_equal(detector.votes(frames), first)
    assert first.shape == (12, len(DETECTORS))
    assert first.dtype == bool


def test_strided_frames_are_as_good_as_contiguous_ones():
    frames = drifting_video(np.random.default_rng(2))
    np.testing.assert_array_equal(
        KeyFrameDetector().votes(frames[::2, :, ::-1]), KeyFrameDetector().votes(frames[::2, :, ::-1].copy())
    )


def test_the_rgb_detector_is_a_pyscenedetect_detector():
    class Stats:
        def __init__(self):
            self.metrics = {}

        def set_metrics(self, timecode, metrics):
            self.metrics[timecode] = metrics

    detector = RGBDetector(threshold=10, min_scene_len=3)
    assert isinstance(detector, SceneDetector)
    detector.stats_manager = Stats()
    levels = [10, 30, 50, 70, 71, 10]
    times = [FrameTimecode(t, fps=25.0) for t in range(len(levels))]
    frames = [np.full((2, 2, 3), level, dtype=np.uint8) for level in levels]
    cuts = [detector.process_frame(time, frame) for time, frame in zip(times, frames, strict=True)]
    # Frames 1 and 2 lie too near the start, frame 5 too near the cut at 3.
    assert cuts == [[], [], [], [times[3]], [], []]
    (key,) = detector.get_metrics()
    assert [detector.stats_manager.metrics[time][key] for time in times] == [0, 20, 20, 20, 1, 61]


@pytest.mark.parametrize(
    ("settings_", "error", "message"),
    [
        ({"hsv_threshold": -1}, ValueError, "hsv_threshold must lie in 0..255, got -1"),
        ({"hsv_threshold": float("nan")}, ValueError, "hsv_threshold must lie in 0..255, got nan"),
        ({"histogram_threshold": 1.5}, ValueError, "histogram_threshold must lie in 0..1, got 1.5"),
        ({"rgb_threshold": "12"}, TypeError, "rgb_threshold must be a number, got '12'"),
        ({"rgb_threshold": True}, TypeError, "rgb_threshold must be a number, got True"),
        ({"min_votes": 0}, ValueError, "min_votes must lie in 1..3, got 0"),
        ({"min_votes": 4}, ValueError, "min_votes must lie in 1..3, got 4"),
        ({"min_votes": 2.0}, TypeError, "min_votes must be an integer, got 2.0"),
        ({"min_scene_len": 0}, ValueError, "min_scene_len must be at least 1 sampled frame, got 0"),
        ({"min_scene_len": None}, TypeError, "min_scene_len must be an integer, got None"),
    ],
)
def test_settings_out_of_range_are_named(settings_, error, message):
    with pytest.raises(error, match=message):
        KeyFrameDetector(**settings_)


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        ([[0]], TypeError, r"numpy array \(T, H, W, 3\) of uint8 RGB, got list"),
        (np.zeros((2, 4, 4, 3)), TypeError, "must be uint8 .* got float64"),
        (np.zeros((4, 4, 3), np.uint8), ValueError, r"got \(4, 4, 3\); one image is frames\[None\]"),
        (np.zeros((2, 3, 4, 5), np.uint8), ValueError, r"got \(2, 3, 4, 5\), whose channels come first"),
        (np.zeros((2, 4, 4, 1), np.uint8), ValueError, r"got \(2, 4, 4, 1\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, r"got \(0, 4, 4, 3\)"),
    ],
)
def test_frames_that_are_no_frames_are_named(frames, error, message):
    with pytest.raises(error, match=message):
        KeyFrameDetector()(frames)
