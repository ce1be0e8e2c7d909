"""Tracking whole videos with a small random SAM 2, against each object followed alone by a plain loop."""

import warnings
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("sam2")

from random_sam2 import randomise_

from trajvit.processing import sam2_clip_tracking
from trajvit.processing.backends import Clip, no_progress
from trajvit.processing.clips import split_into_clips
from trajvit.processing.sam2_clip_tracking import TrackingSettings, track_clips
from trajvit.processing.sam2_features import FrameFeatures
from trajvit.processing.sam2_loading import build_sam2
from trajvit.processing.sam2_tracker import Sam2Tracker

IMAGE_SIZE = 64
LABEL_SIZE = (24, 36)


@pytest.fixture(scope="module")
def tracker():
    return Sam2Tracker(randomise_(build_sam2("tiny", IMAGE_SIZE)))


@pytest.fixture(scope="module")
def forgetful_tracker():
    """It finds every object absent in every frame but its first."""
    return Sam2Tracker(randomise_(build_sam2("tiny", IMAGE_SIZE), object_score_bias=-60.0))


class Bright:
    """Segments the bright halves of a frame, whose mean is above 100: left 1 and right 2, or the one there is 1."""

    def __init__(self):
        self.num_frames = 0

    def __call__(self, frames, features, size):
        self.num_frames += len(frames)
        maps = []
        for frame in frames:
            segments = np.zeros(size, np.int32)
            for columns in (slice(0, 18), slice(18, None)):
                if frame[:, slice(*(2 * c if c else None for c in (columns.start, columns.stop)))].mean() > 100:
                    segments[:, columns] = segments.max() + 1
            maps.append(segments)
        return maps


class Grid:
    """Cuts every frame into cells; those of one frame do not depend on its content."""

    def __init__(self, rows=2, columns=2):
        self.rows, self.columns = rows, columns

    def __call__(self, frames, features, size):
        row = np.arange(size[0])[:, None] * self.rows // size[0] * self.columns
        return [np.int32(row + np.arange(size[1]) * self.columns // size[1] + 1) for _ in frames]


def pictures(num_frames, seed=0):
    """Textures that move, (T, 48, 72, 3)."""
    random = np.random.default_rng(seed)
    noise = torch.from_numpy(random.random((1, 3, 12, 40), dtype=np.float32))
    texture = F.interpolate(noise, size=(48, 160), mode="bicubic")[0].clamp(0, 1).permute(1, 2, 0).numpy()
    return np.stack([np.uint8(255 * np.roll(texture, -2 * t, axis=1)[:, :72]) for t in range(num_frames)])


def clips_of(frames, key_frames=(0,)):
    return split_into_clips(frames, np.arange(len(frames)), list(key_frames), LABEL_SIZE)


def track(tracker, clips, segmenter=None, at_once=8, report=no_progress, **settings):
    defaults = {"max_segments": 16, "new_objects_interval": None, "drop_after": None, "segments_from_features": False}
    return track_clips(
        tracker, segmenter or Grid(), clips, TrackingSettings(**{**defaults, **settings}), lambda steps: at_once, report
    )


def follow_alone(tracker, features, mask):
    """The logits (T - 1, h, w) of one object through the T frames of a clip."""
    objects, _ = tracker.start(features, torch.tensor([0]), mask[None])
    logits = []
    for t in range(1, len(features)):
        objects, output = tracker.step(objects, features, torch.tensor([t]))
        logits.append(F.interpolate(output.logits[None], size=LABEL_SIZE, mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(logits) if logits else torch.zeros(0, *LABEL_SIZE)


def track_naively(tracker, clips, segmenter):
    """Clip by clip, object by object; then the best of the positive logits."""
    volumes = []
    for clip in clips:
        (segments,) = segmenter(clip.frames[:1], None, LABEL_SIZE)
        labels = range(1, segments.max() + 1)
        scaled = F.interpolate(
            torch.from_numpy(segments)[None, None].float(), size=(IMAGE_SIZE,) * 2, mode="nearest-exact"
        )
        features = tracker.encode(clip.frames, batch_size=1)
        claims = torch.stack([follow_alone(tracker, features, scaled[0, 0] == label) for label in labels])
        best, winner = claims.max(dim=0)
        volumes.append(np.concatenate([segments[None], np.where(best > 0, winner + 1, 0)]))
    return volumes


def assert_same(volumes, expected):
    """Equal up to the pixels whose logits differ by rounding alone."""
    assert len(volumes) == len(expected)
    for volume, other in zip(volumes, expected, strict=True):
        assert volume.shape == other.shape
        assert np.mean(volume != other) <= 5e-4


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


class Steps:
    """Counts the objects of every step, by the head that says whether they are there; starts are counted too."""

    def __init__(self, tracker, before=None):
        self.batches = []
        self._before = before
        self._handle = tracker.model.sam_mask_decoder.pred_obj_score_head.register_forward_pre_hook(self._count)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._handle.remove()

    def _count(self, module, inputs):
        if self._before is not None:
            self._before(len(inputs[0]))
        self.batches.append(len(inputs[0]))


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_object_without_a_score_ends_with_a_warning(tracker, value):
    (clip,) = clips_of(pictures(5))
    (sound,) = track(tracker, [clip])
    victim = int(np.bincount(sound[2:].reshape(-1), minlength=5)[1:].argmax())
    calls = []

    def break_one(module, inputs, output):
        calls.append(len(inputs[0]))
        if len(calls) == 3:
            output[victim] = value
        return output

    handle = tracker.model.sam_mask_decoder.pred_obj_score_head.register_forward_hook(break_one)
    try:
        with pytest.warns(RuntimeWarning, match="NaN or infinite values for 1 of 4 objects") as caught:
            (volume,) = track(tracker, [clip])
    finally:
        handle.remove()
    assert len(caught) == 1
    assert calls == [4, 4, 4, 3, 3]
    np.testing.assert_array_equal(volume[:2], sound[:2])
    assert not (volume[2:] == victim + 1).any()
    others = (sound[2:] != victim + 1) & (sound[2:] > 0)
    assert np.mean(volume[2:][others] != sound[2:][others]) <= 5e-4


def test_objects_without_logits_end_with_a_warning(tracker):
    (clip,) = clips_of(pictures(4))
    handles = [
        head.register_forward_hook(lambda module, inputs, output: output * float("nan"))
        for head in tracker.model.sam_mask_decoder.output_hypernetworks_mlps
    ]
    try:
        with pytest.warns(RuntimeWarning, match="NaN or infinite values for 4 of 4 objects"):
            (volume,) = track(tracker, [clip])
    finally:
        for handle in handles:
            handle.remove()
    assert len(np.unique(volume[0])) == 4
    assert not volume[1:].any()


def raise_beyond(most, error):
    def check(batch):
        if batch > most:
            raise error

    return check


CPU_ERROR = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize(
    ("most", "error"), [(1, CPU_ERROR), (5, torch.OutOfMemoryError("CUDA out of memory."))], ids=["cpu", "cuda"]
)
def test_where_memory_runs_out_the_chunk_is_halved_and_goes_on(tracker, video, expected, most, error):
    with Steps(tracker, raise_beyond(most, error)) as steps:
        volumes = track(tracker, video, at_once=12)
    assert_same(volumes, expected)
    assert max(steps.batches) <= most
    # Nothing is done twice but the failed steps: 12 starts, and 4 objects for each of 4 + 3 + 1 steps.
    assert sum(steps.batches) == 12 + 4 * 8


def test_memory_that_runs_out_in_mid_clip(tracker, video, expected):
    calls = []

    def check(batch):
        calls.append(batch)
        if len(calls) > 3 and batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with Steps(tracker, check) as steps:
        volumes = track(tracker, video, at_once=12)
    assert_same(volumes, expected)
    assert sum(steps.batches) == 12 + 4 * 8
    assert max(steps.batches[3:]) <= 2


def test_memory_that_does_not_suffice_for_one_object_is_said(tracker, video):
    with (
        Steps(tracker, raise_beyond(0, torch.OutOfMemoryError("CUDA out of memory."))),
        pytest.raises(torch.OutOfMemoryError, match="even one object at image_size 64; a smaller image_size"),
    ):
        track(tracker, video)


def test_other_errors_are_not_taken_for_it(tracker, video):
    with (
        Steps(tracker, raise_beyond(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))),
        pytest.raises(RuntimeError, match="mat1 and mat2"),
    ):
        track(tracker, video)


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
