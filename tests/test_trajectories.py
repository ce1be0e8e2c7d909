"""Trajectories against naive loops and scikit-image, and its rules."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops

from trajvit.processing.trajectories import Trajectories

small_labels = hnp.arrays(
    np.int16,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
    elements=st.integers(-2, 7),
)


def number_naively(labels):
    """The numbering rule, word for word: first frame, then area there (larger first), then the smaller label."""
    keys = []
    for label in {int(value) for value in labels.flat if value > 0}:
        areas = [int((frame == label).sum()) for frame in labels]
        first = next(t for t, area in enumerate(areas) if area)
        keys.append((first, -areas[first], label))
    numbers = {label: number for number, (_, _, label) in enumerate(sorted(keys), start=1)}
    return np.array([numbers.get(int(value), 0) for value in labels.flat]).reshape(labels.shape)


def close_up_naively(ids):
    rank = {old: new for new, old in enumerate(sorted({int(value) for value in ids.flat if value > 0}), start=1)}
    return np.array([rank.get(int(value), 0) for value in ids.flat]).reshape(ids.shape)


@settings(deadline=None)
@given(small_labels)
def test_from_labels_numbers_by_first_frame_then_area_then_label(labels):
    trajectories = Trajectories.from_labels(labels)
    assert trajectories.ids.dtype == np.int32
    np.testing.assert_array_equal(trajectories.ids, number_naively(labels))


@settings(deadline=None)
@given(small_labels)
def test_the_numbering_does_not_depend_on_the_labels_magnitude(labels):
    stretched = np.where(labels > 0, labels.astype(np.int64) * 10**15, labels)
    assert Trajectories.from_labels(stretched) == Trajectories.from_labels(labels)
    canonical = Trajectories.from_labels(labels)
    assert Trajectories.from_labels(canonical.ids) == canonical
    assert Trajectories(canonical.ids) == canonical


@settings(deadline=None)
@given(small_labels)
def test_areas_boxes_presence_lifetimes_and_coverage_against_loops(labels):
    trajectories = Trajectories.from_labels(labels)
    num_frames, height, width = labels.shape
    count = trajectories.num_trajectories
    assert trajectories.areas.shape == trajectories.presence.shape == (count, num_frames)
    assert trajectories.boxes.shape == (count, num_frames, 4)
    assert (trajectories.areas.dtype, trajectories.boxes.dtype) == (np.int64, np.float32)
    for m in range(1, count + 1):
        for t in range(num_frames):
            y, x = np.nonzero(trajectories.ids[t] == m)
            assert trajectories.areas[m - 1, t] == len(y)
            assert trajectories.presence[m - 1, t] == (len(y) > 0)
            box = (min(x) / width, min(y) / height, (max(x) + 1) / width, (max(y) + 1) / height) if len(y) else (0,) * 4
            np.testing.assert_allclose(trajectories.boxes[m - 1, t], box, rtol=1e-6)
        assert trajectories.lifetimes[m - 1] == sum((trajectories.ids[t] == m).any() for t in range(num_frames))
    assert trajectories.coverage == pytest.approx((labels > 0).mean())


def test_areas_and_boxes_against_scikit_image_at_real_size():
    labels = np.random.default_rng(0).integers(0, 60, (3, 12, 20)).repeat(8, axis=1).repeat(9, axis=2)
    trajectories = Trajectories.from_labels(labels)
    seen = 0
    for t, frame in enumerate(trajectories.ids):
        for region in regionprops(frame):
            top, left, bottom, right = region.bbox
            assert trajectories.areas[region.label - 1, t] == region.area
            box = [left / 180, top / 96, right / 180, bottom / 96]
            np.testing.assert_allclose(trajectories.boxes[region.label - 1, t], box, rtol=1e-6)
            seen += 1
    assert seen == trajectories.presence.sum() > 100


def test_areas_sum_to_the_covered_pixels_where_every_pixel_is_its_own_trajectory():
    trajectories = Trajectories(np.arange(1, 70_001).reshape(2, 175, 200))
    assert trajectories.num_trajectories == 70_000
    assert (trajectories.areas.sum(axis=1) == 1).all()
    assert (trajectories.lifetimes == 1).all()


@settings(deadline=None)
@given(small_labels, st.integers(1, 9), st.integers(1, 9))
def test_resize_takes_the_pixel_under_the_new_centre_as_torch_nearest_exact(labels, height, width):
    trajectories = Trajectories.from_labels(labels)
    resized = trajectories.resize(height, width)
    frames = torch.from_numpy(trajectories.ids.astype(np.float64))[:, None]
    expected = torch.nn.functional.interpolate(frames, size=(height, width), mode="nearest-exact")[:, 0].numpy()
    np.testing.assert_array_equal(resized.ids, close_up_naively(expected))


@settings(deadline=None)
@given(small_labels, st.data())
def test_crop_flip_and_select_close_gaps_and_keep_order(labels, data):
    trajectories = Trajectories.from_labels(labels)
    ids = trajectories.ids
    _, height, width = ids.shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, columns = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    cropped = trajectories.crop(top, left, rows, columns)
    np.testing.assert_array_equal(cropped.ids, close_up_naively(ids[:, top : top + rows, left : left + columns]))

    np.testing.assert_array_equal(trajectories.hflip().ids, ids[:, :, ::-1])
    assert trajectories.hflip().hflip() == trajectories
    if trajectories.num_trajectories:
        flipped, boxes = trajectories.hflip().boxes, trajectories.boxes
        present = trajectories.presence
        np.testing.assert_allclose(flipped[present][:, [0, 2]], 1 - boxes[present][:, [2, 0]], atol=1e-6)

    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(trajectories.areas), max_size=len(trajectories.areas))),
        dtype=bool,
    )
    chosen = np.flatnonzero(mask) + 1
    selected = trajectories.select(mask)
    np.testing.assert_array_equal(selected.ids, close_up_naively(np.where(np.isin(ids, chosen), ids, 0)))
    assert trajectories.select(chosen[::-1]) == selected
    np.testing.assert_array_equal(selected.areas, trajectories.areas[mask])


@settings(deadline=None)
@given(st.integers(1, 8), st.data())
def test_select_frames_keeps_where_the_frames_came_from(num_frames, data):
    starts = data.draw(st.sets(st.integers(0, num_frames - 1)))
    trajectories = Trajectories.from_labels(
        np.arange(num_frames * 2).reshape(num_frames, 1, 2) // 3,
        frame_indices=np.arange(num_frames) * 5 + 2,
        timestamps=np.arange(num_frames) / 6,
        key_frames=sorted(starts | {0}),
    )
    positions = sorted(data.draw(st.sets(st.integers(0, num_frames - 1), min_size=1)))
    kept = trajectories.select_frames(positions)
    np.testing.assert_array_equal(kept.ids, close_up_naively(trajectories.ids[positions]))
    np.testing.assert_array_equal(kept.frame_indices, trajectories.frame_indices[positions])
    np.testing.assert_array_equal(kept.timestamps, trajectories.timestamps[positions])
    # A kept frame starts a clip unless the kept frame before it lies in the same clip.
    clips = [max(start for start in trajectories.key_frames if start <= position) for position in positions]
    assert list(kept.key_frames) == [i for i in range(len(clips)) if i == 0 or clips[i] != clips[i - 1]]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.int64, np.uint64])
def test_any_integer_type_and_one_pixel_of_one_frame(dtype):
    trajectories = Trajectories(np.ones((1, 1, 1), dtype=dtype))
    assert (trajectories.shape, trajectories.num_trajectories, trajectories.coverage) == ((1, 1, 1), 1, 1.0)
    np.testing.assert_array_equal(trajectories.boxes, [[[0, 0, 1, 1]]])
    assert Trajectories.from_labels(np.ones((1, 1, 1), dtype=dtype)) == trajectories


def test_no_trajectory_at_all():
    trajectories = Trajectories(np.zeros((2, 3, 4), dtype=int))
    assert trajectories.num_trajectories == 0
    assert trajectories.boxes.shape == (0, 2, 4)
    assert trajectories.lifetimes.shape == (0,)
    assert trajectories.coverage == 0
    assert trajectories.resize(1, 1).crop(0, 0, 1, 1).select([]).hflip().num_trajectories == 0


def test_defaults_and_attributes():
    trajectories = Trajectories(np.zeros((3, 2, 4), dtype=int), frame_indices=[4, 9, 12])
    assert (trajectories.num_frames, trajectories.height, trajectories.width) == (3, 2, 4)
    np.testing.assert_array_equal(trajectories.timestamps, [4.0, 9.0, 12.0])
    assert trajectories.timestamps.dtype == np.float64
    assert trajectories.frame_indices.dtype == np.int64
    assert trajectories.key_frames == (0,)
    np.testing.assert_array_equal(Trajectories(np.zeros((3, 1, 1), dtype=int)).frame_indices, [0, 1, 2])


def test_it_is_immutable_and_keeps_its_own_copy():
    source = np.ones((2, 2, 2), dtype=np.int32)
    trajectories = Trajectories(source)
    source[:] = 0
    assert trajectories.coverage == 1
    for name in ("ids", "frame_indices", "timestamps", "areas", "boxes", "presence", "lifetimes"):
        array = getattr(trajectories, name)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(AttributeError, match=f"immutable; {name} cannot be set"):
            setattr(trajectories, name, array)
    assert trajectories.ids.flags.c_contiguous
    assert trajectories.ids is trajectories.ids


def test_equality_looks_at_everything():
    ids = np.array([[[1, 2]], [[1, 0]]])
    trajectories = Trajectories(ids)
    assert trajectories == Trajectories(ids.astype(np.uint8), [0, 1], [0.0, 1.0], [0])
    assert trajectories != Trajectories(ids[:, :, ::-1])
    assert trajectories != Trajectories(ids, frame_indices=[0, 2], timestamps=[0.0, 1.0])
    assert trajectories != Trajectories(ids, timestamps=[0.0, 1.5])
    assert trajectories != Trajectories(ids, key_frames=[0, 1])
    assert trajectories != Trajectories(ids[:1])
    assert trajectories != "trajectories"
    with pytest.raises(TypeError, match="unhashable"):
        hash(trajectories)


def test_a_worker_process_receives_an_equal_read_only_object():
    trajectories = Trajectories(np.array([[[1, 2]], [[1, 0]]]), [3, 4], [0.5, 0.75], [0, 1])
    received = pickle.loads(pickle.dumps(trajectories))
    assert received == trajectories
    assert not received.ids.flags.writeable


def test_repr_says_what_it_is():
    trajectories = Trajectories(np.array([[[1, 2]], [[1, 0]]]), [3, 4], [0.5, 0.75], [0, 1])
    assert repr(trajectories) == (
        "Trajectories(2 in 2 frames of 1 x 2, 0.50-0.75 s, key frames [0, 1], coverage 0.750)"
    )


VOLUME = np.ones((3, 2, 2), dtype=int)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ids": VOLUME.astype(np.float32)}, TypeError, r"ids must be integers or bool, got float32"),
        ({"ids": VOLUME[0]}, ValueError, r"ids must have shape \(frames, height, width\).*\(2, 2\)"),
        ({"ids": VOLUME[:0]}, ValueError, r"ids must have shape .*\(0, 2, 2\)"),
        ({"ids": -VOLUME}, ValueError, r"ids must be 0 .* got -1"),
        ({"ids": VOLUME + 1}, ValueError, r"1..M without holes: the highest is 2.*first is 1"),
        ({"ids": VOLUME * 10**12}, ValueError, r"1..M without holes, got 1000000000000 in 12 pixels"),
        ({"frame_indices": [0, 1]}, ValueError, r"frame_indices .*shape \(3,\); got \(2,\)"),
        ({"frame_indices": [0, 2, 2]}, ValueError, r"frame_indices must increase strictly.*\[0, 2, 2\]"),
        ({"frame_indices": [-1, 2, 3]}, ValueError, r"frame_indices must increase strictly, from 0.*\[-1, 2, 3\]"),
        ({"frame_indices": np.array([0, 5, 3], np.uint8)}, ValueError, r"frame_indices .*\[0, 5, 3\]"),
        ({"frame_indices": [0.0, 1.0, 2.0]}, TypeError, r"frame_indices must be integers, got float64"),
        ({"timestamps": [0, 1]}, ValueError, r"timestamps .*shape \(3,\); got \(2,\)"),
        ({"timestamps": [0, np.nan, 1]}, ValueError, r"timestamps must be finite.*nan"),
        ({"timestamps": [0, 2, 1]}, ValueError, r"timestamps .*must not decrease.*\[0.0, 2.0, 1.0\]"),
        ({"timestamps": ["0", "1", "2"]}, TypeError, r"timestamps must be real numbers"),
        ({"key_frames": []}, ValueError, r"key_frames must increase strictly within 0..2; got \[\]"),
        ({"key_frames": [1]}, ValueError, r"key_frames must start with 0; got \[1\]"),
        ({"key_frames": [0, 3]}, ValueError, r"key_frames .*within 0..2; got \[0, 3\]"),
        ({"key_frames": [0, 2, 1]}, ValueError, r"key_frames .*\[0, 2, 1\]"),
        ({"key_frames": [0, 1.5]}, TypeError, r"key_frames must be integers"),
    ],
)
def test_errors_name_the_array_its_value_and_the_expectation(arguments, error, message):
    with pytest.raises(error, match=message):
        Trajectories(**{"ids": VOLUME, **arguments})


def test_labels_have_the_rules_of_ids_but_for_their_values():
    with pytest.raises(TypeError, match="float64"):
        Trajectories.from_labels(VOLUME / 2)
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        Trajectories.from_labels(VOLUME[0])
    assert Trajectories.from_labels(-VOLUME).num_trajectories == 0
    huge = np.array([[[2**64 - 1, 2**63]]], dtype=np.uint64)
    np.testing.assert_array_equal(Trajectories.from_labels(huge).ids, [[[2, 1]]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.resize(0, 4), ValueError, "at least 1 pixel, got 0 x 4"),
        (lambda t: t.resize(2.5, 4), TypeError, "float"),
        (lambda t: t.crop(0, 1, 2, 2), ValueError, r"columns must be a part of 0..2, got 2 from 1"),
        (lambda t: t.crop(-1, 0, 1, 1), ValueError, r"rows must be a part of 0..2, got 1 from -1"),
        (lambda t: t.crop(0, 0, 0, 1), ValueError, r"rows must be a part of 0..2, got 0 from 0"),
        (lambda t: t.select([True, False]), ValueError, r"shape \(1,\) here, got \(2,\)"),
        (lambda t: t.select([0]), ValueError, r"must lie in 1..1, got \[0\]"),
        (lambda t: t.select([2]), ValueError, r"must lie in 1..1, got \[2\]"),
        (lambda t: t.select([0.5]), TypeError, "must be integers, got float64"),
        (lambda t: t.select_frames([]), ValueError, r"positions must increase strictly within 0..2; got \[\]"),
        (lambda t: t.select_frames([1, 1]), ValueError, r"positions .*\[1, 1\]"),
        (lambda t: t.select_frames([3]), ValueError, r"positions .*within 0..2; got \[3\]"),
    ],
)
def test_methods_say_what_they_expect(call, error, message):
    with pytest.raises(error, match=message):
        call(Trajectories(VOLUME))
