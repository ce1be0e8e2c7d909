"""Tracking whole videos with a small random SAM 2, against each object followed alone by a plain loop."""

import warnings
import weakref

import numpy as np
import pytest

pytest.importorskip("sam2")

from random_sam2 import randomise_
from sam2_clips import (
    IMAGE_SIZE,
    LABEL_SIZE,
    Bright,
    Grid,
    Steps,
    assert_same,
    clips_of,
    pictures,
    track,
    track_naively,
)

from trajvit.processing import sam2_clip_tracking
from trajvit.processing.backends import Clip
from trajvit.processing.sam2_features import FrameFeatures
from trajvit.processing.sam2_loading import build_sam2
from trajvit.processing.sam2_tracker import Sam2Tracker


@pytest.fixture(scope="module")
def tracker():
    return Sam2Tracker(randomise_(build_sam2("tiny", IMAGE_SIZE)))


@pytest.fixture(scope="module")
def forgetful_tracker():
    """It finds every object absent in every frame but its first."""
    return Sam2Tracker(randomise_(build_sam2("tiny", IMAGE_SIZE), object_score_bias=-60.0))


@pytest.fixture(scope="module")
def video():
    """Nine frames, cut before frames 4, 7 and 8, and what a plain loop finds in them."""
    return clips_of(pictures(9), [0, 4, 7, 8])


@pytest.fixture(scope="module")
def expected(tracker, video):
    return track_naively(tracker, video, Grid())


def test_all_objects_of_all_clips_together_are_each_as_if_alone(tracker, video, expected):
    volumes = track(tracker, video)
    assert [volume.dtype for volume in volumes] == [np.int32] * 4
    assert [len(volume) for volume in volumes] == [5, 4, 2, 1]
    assert_same(volumes, expected)
    # The comparison says something: objects are seen, they move, and they meet.
    followed = np.concatenate([volume[1:] for volume in expected])
    assert len(np.unique(followed)) > 2
    assert np.mean(followed > 0) > 0.2
    assert any((volume[1] != volume[-1]).any() for volume in expected if len(volume) > 2)


@pytest.mark.parametrize("at_once", [1, 3])
def test_how_many_are_followed_together_does_not_matter(tracker, video, expected, at_once):
    assert_same(track(tracker, video, at_once=at_once), expected)


def test_a_clip_alone_is_as_in_its_video(tracker, video, expected):
    for clip, volume in zip(video, expected, strict=True):
        assert_same(track(tracker, [clip]), [volume])


def test_equal_runs_give_equal_labels(tracker, video):
    for volume, again in zip(track(tracker, video[1:]), track(tracker, video[1:]), strict=True):
        np.testing.assert_array_equal(volume, again)


def test_only_sampled_frames_are_looked_at(tracker, video, expected):
    dense = [
        Clip(
            np.repeat(clip.frames, 2, axis=0)[: 2 * len(clip.frames) - 1],
            2 * clip.sampled,
            clip.has_boundary,
            LABEL_SIZE,
        )
        for clip in video
    ]
    for clip in dense:
        clip.frames[1::2] = 255 - clip.frames[1::2]
    assert_same(track(tracker, dense), expected)


class EncoderCalls:
    """Counts encoded frames, and the most frames whose features were alive when others were encoded, these included."""

    def __init__(self, model):
        self.num_encoded, self.most_alive = 0, 0
        self._features = weakref.WeakSet()
        self._handle = model.image_encoder.register_forward_pre_hook(self._count)

    def _count(self, module, inputs):
        self.num_encoded += len(inputs[0])
        alive = {features.stride_16.untyped_storage().data_ptr(): len(features) for features in self._features}
        self.most_alive = max(self.most_alive, sum(alive.values()) + len(inputs[0]))

    def __enter__(self):
        self._init = FrameFeatures.__init__

        def init_and_remember(features, *levels):
            self._init(features, *levels)
            self._features.add(features)

        FrameFeatures.__init__ = init_and_remember
        return self

    def __exit__(self, *error):
        FrameFeatures.__init__ = self._init
        self._handle.remove()


def test_every_distinct_frame_is_encoded_once(tracker, video):
    with EncoderCalls(tracker.model) as calls:
        track(tracker, video, segments_from_features=True)
    assert calls.num_encoded == 9


def test_a_long_clip_is_followed_in_windows_as_in_one_piece(tracker, monkeypatch):
    clips = clips_of(pictures(12), [0, 10])
    monkeypatch.setattr(sam2_clip_tracking, "MAX_FRAMES", 4)
    with EncoderCalls(tracker.model) as calls:
        volumes = track(tracker, clips, Grid(1, 2), at_once=1)
    assert calls.num_encoded == 12
    assert calls.most_alive == 4
    assert_same(volumes, track_naively(tracker, clips, Grid(1, 2)))


def test_the_features_of_few_frames_are_held(tracker, monkeypatch):
    monkeypatch.setattr(sam2_clip_tracking, "MAX_FRAMES", 8)
    clips = clips_of(pictures(24), [0, 3, 5, 20, 22])
    with EncoderCalls(tracker.model) as calls:
        track(tracker, clips, Grid(1, 1), new_objects_interval=5, segments_from_features=True)
    assert calls.num_encoded == 24
    assert 4 < calls.most_alive <= 8


def test_a_hundred_cuts_in_a_hundred_frames(tracker):
    clips = clips_of(pictures(100), range(100))
    with EncoderCalls(tracker.model) as calls:
        volumes = track(tracker, clips, Grid(1, 2), at_once=64)
    assert calls.num_encoded == 100
    assert calls.most_alive == 64
    assert [len(volume) for volume in volumes] == [2] * 99 + [1]
    (segments,) = Grid(1, 2)(clips[0].frames[:1], None, LABEL_SIZE)
    for volume in volumes:
        np.testing.assert_array_equal(volume[0], segments)
    assert_same(volumes[::33], track_naively(tracker, clips[::33], Grid(1, 2)))


def test_an_image_needs_no_features(tracker):
    clips = clips_of(pictures(1))
    with EncoderCalls(tracker.model) as calls:
        (volume,) = track(tracker, clips)
    assert calls.num_encoded == 0
    assert volume.shape == (1, *LABEL_SIZE)
    assert len(np.unique(volume)) == 4


def test_a_key_frame_without_any_segment_starts_nothing(tracker):
    frames = pictures(4)
    frames[:2] = 0
    first, second = track(tracker, clips_of(frames, [0, 2]), Bright())
    assert not first.any()
    assert second[0].any()


def test_new_objects_start_where_no_trajectory_is(forgetful_tracker):
    """Objects vanish at once; the left half is bright always, the right one from frame 3 on."""
    frames = np.full((8, 48, 72, 3), 200, np.uint8)
    frames[:3, :, 36:] = 0
    segmenter = Bright()
    (volume,) = track(forgetful_tracker, clips_of(frames), segmenter, new_objects_interval=2)
    assert segmenter.num_frames == 4
    shown = [np.unique(frame).tolist() for frame in volume]
    assert shown == [[0, 1], [0], [0, 2], [0], [3, 4], [0], [5, 6], [0]]
    assert (volume[4, :, :18] == 3).all()
    assert (volume[4, :, 18:] == 4).all()
    # Without the option only the key frame's object is ever found.
    (volume,) = track(forgetful_tracker, clips_of(frames), Bright())
    assert np.unique(volume).tolist() == [0, 1]


def test_new_objects_take_no_pixel_of_a_trajectory_and_are_followed(tracker):
    clips = clips_of(pictures(7), [0, 5])
    segmenter = Bright()
    frames = clips[0].frames.copy()
    frames[0, :, 36:] = 0
    frames[2:, :, 36:] //= 2
    frames[2:, :, 36:] += 120
    clips = [Clip(frames, clips[0].sampled, True, LABEL_SIZE), clips[1]]
    before = track(tracker, clips, segmenter)
    after = track(tracker, clips, segmenter, new_objects_interval=2)
    (new,) = np.setdiff1d(after[0], before[0])
    areas = (after[0] == new).sum(axis=(1, 2))
    start = int(np.flatnonzero(areas)[0])
    assert start in (2, 4)
    assert areas[start] >= 64
    assert areas[start + 1] > 0
    np.testing.assert_array_equal(after[0][:start], before[0][:start])
    np.testing.assert_array_equal(after[0][start] == new, (before[0][start] == 0) & (after[0][start] > 0))
    # Of the other clip, no new object is looked for in its two frames.
    np.testing.assert_array_equal(after[1], before[1])


def test_no_more_new_objects_than_there_is_room_for(forgetful_tracker):
    frames = np.full((5, 48, 72, 3), 200, np.uint8)
    (volume,) = track(forgetful_tracker, clips_of(frames), Grid(3, 3), new_objects_interval=2, max_segments=5)
    assert len(np.unique(volume[2])) == 1 + 5
    assert len(np.unique(volume[4])) == 1 + 5


def test_objects_gone_for_some_frames_are_dropped(forgetful_tracker):
    clips = clips_of(pictures(8))
    with Steps(forgetful_tracker) as steps:
        (volume,) = track(forgetful_tracker, clips)
    assert steps.batches == [4] * 8
    with Steps(forgetful_tracker) as steps:
        (dropped,) = track(forgetful_tracker, clips, drop_after=3)
    assert steps.batches == [4] * 4
    np.testing.assert_array_equal(dropped, volume)


def test_objects_in_view_are_not_dropped(tracker, video, expected):
    assert_same(track(tracker, video, drop_after=50), expected)


def test_finished_objects_leave_the_batch(tracker, video):
    with Steps(tracker) as steps:
        track(tracker, video, at_once=12)
    # Clips of 4, 3, 1 and 0 steps with four objects each; the first batch of all starts them.
    assert steps.batches == [12, 12, 8, 8, 4]


def test_progress_reaches_the_end_of_every_stage(tracker, video):
    calls = []
    track(tracker, video, at_once=5, report=lambda *call: calls.append(call))
    for stage, total in (("segment", 4), ("track", 12)):
        done = [(d, t) for name, d, t in calls if name == stage]
        assert done == sorted(done)
        assert len(done) >= 2
        assert done[-1] == (total, total)


def test_no_warning_without_a_reason(tracker, video):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        track(tracker, video[2:])
