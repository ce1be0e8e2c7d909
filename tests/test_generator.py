"""The generator, with small real backends and pictures whose answer is known."""

import numpy as np
import pytest
from flat_colors import Blocks, Colors, moving_square, with_a_cut

from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.key_frames import KeyFrameDetector


class Broken:
    """Returns what it is given."""

    name = "broken"
    frame_interval = None

    def __init__(self, volumes):
        self.volumes = volumes

    def track(self, clips, max_trajectories, progress=None):
        return self.volumes


def test_a_moving_square_is_one_trajectory():
    frames = moving_square(5)
    trajectories = TrajectoryGenerator(Colors())(frames)
    np.testing.assert_array_equal(trajectories.ids, np.where((frames == (20, 220, 60)).all(-1), 2, 1))
    assert trajectories.key_frames == (0,)
    np.testing.assert_array_equal(trajectories.frame_indices, np.arange(5))


def test_only_the_sampled_frames_are_in_the_result_but_the_backend_sees_those_between():
    frames = moving_square(12)
    backend = Colors()
    samples = [1, 4, 5, 10]
    trajectories = TrajectoryGenerator(backend)(
        frames, samples, frame_indices=[10, 40, 50, 100], timestamps=[0.1, 0.4, 0.5, 1.0]
    )
    np.testing.assert_array_equal(trajectories.ids, np.where((frames[samples] == (20, 220, 60)).all(-1), 2, 1))
    assert trajectories.frame_indices.tolist() == [10, 40, 50, 100]
    assert trajectories.timestamps.tolist() == [0.1, 0.4, 0.5, 1.0]
    (clip,) = backend.clips
    np.testing.assert_array_equal(clip.frames, frames[1:11])
    assert clip.sampled.tolist() == [0, 3, 4, 9]


def test_a_cut_splits_clips_and_shares_the_boundary_frame():
    frames = with_a_cut()
    backend = Colors()
    trajectories = TrajectoryGenerator(backend)(frames)
    assert trajectories.key_frames == (0, 6)
    first, second = backend.clips
    np.testing.assert_array_equal(first.frames, frames[:7])
    np.testing.assert_array_equal(second.frames, frames[6:])
    assert (first.has_boundary, second.has_boundary) == (True, False)
    # The second scene's colours are on the boundary frame too, so the join finds them again: two more,
    # which begin at the cut and do not carry on those of the first scene.
    assert trajectories.num_trajectories == 4
    np.testing.assert_array_equal(trajectories.presence[:2].all(axis=1), False)
    assert [np.flatnonzero(row)[0] for row in trajectories.presence] == [0, 0, 6, 6]
    assert not trajectories.presence[:2, 6:].any()


def test_key_frames_come_from_the_sampled_frames_by_the_given_detector():
    frames = with_a_cut()
    samples = [0, 3, 6, 9]
    assert TrajectoryGenerator(Blocks())(frames, samples).key_frames == (0, 2)
    strict = KeyFrameDetector(min_votes=3, rgb_threshold=200)
    assert TrajectoryGenerator(Blocks(), key_frame_detector=strict)(frames, samples).key_frames == (0,)
    # Blocks stand still, so across the cut they are joined again (IoU 1) unless the threshold forbids it.
    assert TrajectoryGenerator(Blocks())(frames, samples).num_trajectories == 4


def test_the_join_threshold_is_passed_on():
    """On the boundary frame the clips' halves overlap by 7 of 10 columns."""

    class Halves:
        name = "halves"
        frame_interval = None

        def track(self, clips, max_trajectories, progress=None):
            return [
                np.where(np.arange(clip.frames.shape[2]) < 30 + 12 * k, 1, 2)
                + np.zeros((len(clip.sampled), 40, 1), int)
                for k, clip in enumerate(clips)
            ]

    frames = with_a_cut()
    assert TrajectoryGenerator(Halves(), join_iou=0.5)(frames).num_trajectories == 2
    assert TrajectoryGenerator(Halves(), join_iou=0.65)(frames).num_trajectories == 3
    assert TrajectoryGenerator(Halves(), join_iou=0.75)(frames).num_trajectories == 4


def test_no_more_than_the_cap_and_the_largest_stay():
    frames = moving_square(3)
    assert TrajectoryGenerator(Blocks(5, 5), max_trajectories=7)(frames).num_trajectories == 7
    (kept,) = TrajectoryGenerator(Colors(), max_trajectories=1)(frames).areas
    assert kept.tolist() == [40 * 60 - 100] * 3


def test_an_image_is_one_frame():
    trajectories = TrajectoryGenerator(Colors())(moving_square(1))
    assert trajectories.shape == (1, 40, 60)
    assert trajectories.areas.tolist() == [[2300], [100]]


def test_a_video_without_any_trajectory():
    trajectories = TrajectoryGenerator(Colors())(np.zeros((2, 8, 8, 3), dtype=np.uint8))
    assert trajectories.num_trajectories == 0
    assert trajectories.shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((40, 60), 256, (40, 60)),  # never scaled up
        ((40, 60), 40, (40, 60)),
        ((40, 60), 20, (20, 30)),
        ((60, 40), 20, (30, 20)),
        ((41, 97), 20, (20, 47)),
        ((30, 6000), 1, (1, 200)),
    ],
)
def test_the_working_resolution(size, short_side, expected):
    trajectories = TrajectoryGenerator(Blocks(1, 1), short_side=short_side)(np.zeros((2, *size, 3), np.uint8))
    assert trajectories.shape == (2, *expected)


def test_scaling_down_averages_areas():
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    backend = Colors()
    TrajectoryGenerator(backend, short_side=8, key_frame_detector=KeyFrameDetector(min_scene_len=9))(frames)
    means = frames.reshape(2, 8, 4, 12, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(backend.clips[0].frames, means, atol=0.51)


class LargeFrames(Colors):
    """Wants larger frames than the labels; takes every k-th pixel of them."""

    frame_short_side = 32

    def track(self, clips, max_trajectories, progress=None):
        volumes = super().track(clips, max_trajectories, progress)
        steps = [len(volume[0]) // clip.label_size[0] for volume, clip in zip(volumes, clips, strict=True)]
        return [volume[:, ::step, ::step] for volume, step in zip(volumes, steps, strict=True)]


def test_a_backend_may_want_larger_frames_than_the_labels():
    frames = np.repeat(np.repeat(with_a_cut(), 2, axis=1), 2, axis=2)[:, :64, :96]
    backend = LargeFrames()
    generator = TrajectoryGenerator(backend, short_side=16)
    assert generator.frame_short_side == 32
    trajectories = generator(frames, [0, 2, 5, 6, 8])
    assert trajectories.shape == (5, 16, 24)
    for clip in backend.clips:
        assert clip.frames.shape[1:] == (32, 48, 3)
        assert clip.label_size == (16, 24)
    # Key frames are those that a backend with small frames gets too.
    small = TrajectoryGenerator(Colors(), short_side=16)
    assert small.frame_short_side == 16
    assert small(frames, [0, 2, 5, 6, 8]).key_frames == trajectories.key_frames == (0, 3)


def test_frames_are_neither_scaled_up_nor_smaller_than_the_labels():
    backend = LargeFrames()
    assert TrajectoryGenerator(backend, short_side=16)(np.zeros((1, 16, 24, 3), np.uint8)).shape == (1, 16, 24)
    assert backend.clips[0].frames.shape == (1, 16, 24, 3)
    generator = TrajectoryGenerator(backend, short_side=64)
    assert generator.frame_short_side == 64
    assert generator(np.zeros((1, 128, 192, 3), np.uint8)).shape == (1, 64, 96)
    assert backend.clips[0].frames.shape == (1, 64, 96, 3)


def test_labels_must_have_the_label_size():
    class LabelsAtFrameSize(Colors):
        frame_short_side = 32

    with pytest.raises(ValueError, match=r"must return integers \(2, 16, 24\) for clip 0, got int32 \(2, 32, 48\)"):
        TrajectoryGenerator(LabelsAtFrameSize(), short_side=16)(np.zeros((2, 32, 48, 3), np.uint8))


def test_the_input_is_not_changed():
    frames = with_a_cut()
    before = frames.copy()
    TrajectoryGenerator(Colors())(frames)
    np.testing.assert_array_equal(frames, before)


def test_progress_reaches_the_end_of_every_stage():
    calls = []
    generator = TrajectoryGenerator(Colors(), short_side=20)
    generator(with_a_cut(), progress=lambda *call: calls.append(call))
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages == ["scale", "key frames", "track", "join"]
    for name in stages:
        done = [(d, total) for stage, d, total in calls if stage == name]
        assert done == sorted(done)
        assert done[-1][0] == done[-1][1]


def test_equal_calls_give_equal_trajectories():
    generator = TrajectoryGenerator(Colors())
    assert generator(with_a_cut()) == generator(with_a_cut())
    assert TrajectoryGenerator(Colors(first_label=900))(with_a_cut()) == generator(with_a_cut())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"frames": np.zeros((2, 3, 8, 9), np.uint8)}, ValueError, r"\(2, 3, 8, 9\), whose channels come first"),
        ({"frames": np.zeros((8, 9, 3), np.uint8)}, ValueError, r"\(8, 9, 3\); one image is frames\[None\]"),
        ({"frames": np.zeros((2, 8, 9, 3), np.float32)}, TypeError, "uint8 .* got float32"),
        ({"sample_indices": [2, 1]}, ValueError, r"sample_indices must increase strictly within 0..4; got \[2, 1\]"),
        ({"sample_indices": [1, 1]}, ValueError, r"sample_indices .*\[1, 1\]"),
        ({"sample_indices": [0, 5]}, ValueError, r"sample_indices .*within 0..4; got \[0, 5\]"),
        ({"sample_indices": []}, ValueError, r"sample_indices .*\[\]"),
        ({"sample_indices": [0.5]}, TypeError, "sample_indices must be integers"),
        ({"frame_indices": [0, 1]}, ValueError, r"frame_indices .*shape \(5,\); got \(2,\)"),
        ({"timestamps": [0, 1, 2, 3, np.nan]}, ValueError, "timestamps must be finite"),
    ],
)
def test_bad_input_is_named_before_anything_is_tracked(arguments, error, message):
    backend = Colors()
    with pytest.raises(error, match=message):
        TrajectoryGenerator(backend)(**{"frames": moving_square(5), **arguments})
    assert backend.clips == []


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"max_trajectories": 0}, ValueError, "max_trajectories must be at least 1, got 0"),
        ({"max_trajectories": 12.5}, TypeError, "max_trajectories must be an integer, got 12.5"),
        ({"short_side": -3}, ValueError, "short_side must be at least 1, got -3"),
        ({"join_iou": 1.2}, ValueError, "join_iou must lie in 0..1, got 1.2"),
        ({"backend": "sam9"}, ValueError, r"Unknown backend 'sam9'; known backends: .*classic"),
        ({"backend": 7}, TypeError, "must be a name or have `name`, `frame_interval` and `track`, got int"),
        ({"rows": 3}, ValueError, r"Options \['rows'\] need a backend's name"),
    ],
)
def test_bad_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        TrajectoryGenerator(**{"backend": Blocks(), **settings})


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        (None, "one label volume per clip, 1 in all; got NoneType"),
        ([], "one label volume per clip, 1 in all; got 0 volumes"),
        ([np.zeros((5, 40, 60))], r"integers \(5, 40, 60\) for clip 0, got float64 \(5, 40, 60\)"),
        ([np.zeros((4, 40, 60), int)], r"integers \(5, 40, 60\) for clip 0, got int64 \(4, 40, 60\)"),
        ([[[0]]], r"integers \(5, 40, 60\) for clip 0, got list"),
    ],
)
def test_what_a_backend_must_not_return_is_named(volumes, message):
    with pytest.raises(ValueError, match=f"Backend 'broken' must return {message}"):
        TrajectoryGenerator(Broken(volumes))(moving_square(5))
