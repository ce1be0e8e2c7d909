import cv2
import numpy as np
import pytest

from trajvit.processing.backends import Clip, TrackingBackend, get_backend
from trajvit.processing.classic_backend import ClassicBackend
from trajvit.processing.generator import TrajectoryGenerator


def textured(seed, height, width, cell=6):
    """A smooth random RGB picture with detail everywhere, so that flow is well defined."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def moving_square(num_frames=8, height=72, width=96, side=24, step=4):
    """A square of one picture gliding over another: frames and its masks."""
    background, square = textured(0, height, width) // 3, 255 - textured(1, side, side) // 4
    frames, masks = np.repeat(background[None], num_frames, 0), np.zeros((num_frames, height, width), bool)
    for t in range(num_frames):
        at = np.s_[t, 24 : 24 + side, 8 + t * step : 8 + t * step + side]
        frames[at], masks[at] = square, True
    return frames, masks


def one_clip(frames, sampled=None):
    return [Clip(frames, np.arange(len(frames)) if sampled is None else np.asarray(sampled), False)]


def test_is_a_backend_of_that_name():
    backend = get_backend("classic", num_superpixels=50)
    assert isinstance(backend, TrackingBackend)
    assert backend.name == "classic"
    assert backend.num_superpixels == 50


@pytest.mark.parametrize(
    ("option", "value"),
    [("num_superpixels", 0), ("min_fragment", -1), ("colour_weight", -0.5), ("motion_weight", float("nan"))],
)
def test_options_out_of_range_are_refused_by_name(option, value):
    with pytest.raises(ValueError, match=option.removesuffix("_weight")):
        ClassicBackend(**{option: value})


def test_a_budget_below_one_is_refused():
    with pytest.raises(ValueError, match="max_trajectories"):
        ClassicBackend().track(one_clip(np.zeros((1, 8, 8, 3), np.uint8)), 0)


def test_a_moving_object_keeps_its_trajectories():
    frames, masks = moving_square()
    labels = ClassicBackend(num_superpixels=150).track(one_clip(frames), 12)[0]
    on_object = [label for label in np.unique(labels) if masks[labels == label].mean() > 0.5]
    found = np.isin(labels, on_object)
    assert (found & masks).sum() / (found | masks).sum() > 0.9
    from_the_start = np.intersect1d(on_object, labels[0])
    assert np.isin(labels[-1][masks[-1]], from_the_start).mean() > 0.9


def test_same_labels_whatever_the_number_of_threads():
    frames, _ = moving_square()
    threads = cv2.getNumThreads()
    try:
        volumes = []
        for count in (1, 4):
            cv2.setNumThreads(count)
            volumes.append(ClassicBackend().track(one_clip(frames, [0, 3, 7]), 20)[0])
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*volumes)


@pytest.mark.parametrize("shape", [(1, 40, 60), (3, 1, 1), (3, 2, 120), (2, 120, 3), (3, 5, 3), (2, 16, 200)], ids=str)
@pytest.mark.parametrize("content", ["noise", "blank", "still"])
def test_every_pixel_is_covered_within_the_budget(shape, content):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    frames = {"noise": noise, "blank": np.zeros_like(noise), "still": np.repeat(noise[:1], shape[0], 0)}[content]
    labels = ClassicBackend().track(one_clip(frames), 8)[0]
    assert labels.shape == shape
    assert labels.dtype == np.int32
    assert (labels > 0).all()
    assert len(np.unique(labels)) <= 8


def test_no_label_spans_a_cut():
    before, after = textured(2, 48, 64), 255 - textured(3, 48, 64) // 2
    frames = np.stack([before] * 3 + [after] * 3)
    labels = ClassicBackend().track(one_clip(frames), 10)[0]
    assert not np.intersect1d(labels[:3], labels[3:]).size
    assert len(np.unique(labels)) <= 10


def test_a_boundary_at_a_cut_is_left_empty():
    before, after = textured(2, 48, 64), 255 - textured(3, 48, 64) // 2
    clips = [
        Clip(np.stack([before] * 3 + [after]), np.array([0, 1, 2, 3]), True),
        Clip(np.stack([after] * 2), np.array([0, 1]), False),
    ]
    first, second = ClassicBackend().track(clips, 10)
    assert (first[:3] > 0).all()
    assert (first[3] == 0).all()
    assert (second > 0).all()


def test_regions_that_live_on_through_a_key_frame_agree_at_the_boundary():
    frames, _ = moving_square()
    clips = [Clip(frames[:4], np.arange(4), True), Clip(frames[3:], np.arange(5), False)]
    whole = ClassicBackend().track(one_clip(frames), 16)[0]
    first, second = ClassicBackend().track(clips, 16)
    np.testing.assert_array_equal(first[-1], second[0])
    np.testing.assert_array_equal(np.concatenate([first[:-1], second]), whole)


def test_more_shots_than_the_budget_still_get_one_trajectory_each():
    shades = np.random.default_rng(1).permutation(20) * 13
    frames = np.repeat(shades.astype(np.uint8), 24 * 32 * 3).reshape(20, 24, 32, 3)
    labels = ClassicBackend().track(one_clip(frames), 5)[0]
    assert (labels > 0).all()
    assert all(len(np.unique(frame)) == 1 for frame in labels)


def test_progress_ends_at_its_total():
    calls = []
    frames, _ = moving_square(num_frames=3)
    ClassicBackend().track(one_clip(frames), 8, lambda *call: calls.append(call))
    for stage in {call[0] for call in calls}:
        last = [call for call in calls if call[0] == stage][-1]
        assert last[1] == last[2] > 0


def test_the_generator_uses_it_by_name():
    frames, _ = moving_square(num_frames=5)
    trajectories = TrajectoryGenerator("classic", max_trajectories=16)(frames, [0, 2, 4])
    assert trajectories.shape == (3, 72, 96)
    assert trajectories.coverage == 1.0
    assert trajectories.num_trajectories <= 16
