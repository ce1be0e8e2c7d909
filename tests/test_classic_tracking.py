"""Superpixels, label propagation and occlusion links on small pictures whose right answer is known."""

import cv2
import numpy as np
import pytest
from skimage.segmentation import watershed

from trajvit.processing.backends import Clip
from trajvit.processing.border_snapping import (
    absorb_fragments,
    border_free_seeds,
    flood,
    snap_to_edges,
    thick_gaps,
)
from trajvit.processing.classic_backend import ClassicBackend
from trajvit.processing.clips import join_clips
from trajvit.processing.frame_appearance import extract_features
from trajvit.processing.label_propagation import LabelPropagator
from trajvit.processing.occlusion_links import find_occlusion_links, measure_lives
from trajvit.processing.optical_flow import BackwardFlow
from trajvit.processing.superpixels import segment_frame


def two_halves(height=40, width=60, column=30):
    """Red left of the column, blue right of it."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, :column], frame[:, column:] = (200, 40, 40), (40, 40, 200)
    return frame


def still(height, width):
    return BackwardFlow(np.zeros((height, width, 2), np.float32), np.ones((height, width), bool))


def test_flat_areas_become_one_region_each():
    assert segment_frame(extract_features(np.full((40, 60, 3), 90, np.uint8))).max() == 1
    labels = segment_frame(extract_features(two_halves()), num_superpixels=60)
    assert len(np.unique(labels)) < 20
    assert not np.intersect1d(labels[:, :30], labels[:, 30:]).size


def test_without_merging_there_are_about_as_many_superpixels_as_asked_for():
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC)
    labels = segment_frame(extract_features(picture), num_superpixels=100, flat_cost=0)
    assert 60 <= labels.max() <= 140
    np.testing.assert_array_equal(np.unique(labels), np.arange(1, labels.max() + 1))


@pytest.mark.parametrize("displacement", [-2, -1, 1, 2])
def test_a_displaced_border_snaps_back_to_the_edge(displacement):
    gradient = extract_features(two_halves(column=30)).gradient
    labels = np.ones((40, 60), np.int32)
    labels[:, 30:] = 2
    displaced = np.roll(labels, displacement, axis=1)
    displaced[:, :5], displaced[:, -5:] = 1, 2
    np.testing.assert_array_equal(snap_to_edges(displaced, gradient), labels)


def test_an_uncovered_area_stays_open_until_a_sampled_frame_and_then_is_new():
    before, after = two_halves(), two_halves()
    after[8:32, 40:56] = (240, 240, 60)
    flow = still(40, 60)
    flow.reliable[8:32, 40:56] = False
    propagator = LabelPropagator()
    first = propagator.step(extract_features(before), None, is_sampled=True)
    between = propagator.step(extract_features(after), flow, is_sampled=False)
    assert (between[12:28, 44:52] == 0).all()
    assert (between[:, :36] > 0).all()
    last = propagator.step(extract_features(after), still(40, 60), is_sampled=True)
    assert (last > 0).all()
    assert not np.isin(last[10:30, 42:54], first).any()
    assert (last[:, :18] == first[:, :18]).all()


def test_labels_are_not_reused_after_a_restart():
    features = extract_features(two_halves())
    propagator = LabelPropagator()
    first = propagator.step(features, None, is_sampled=True)
    propagator.restart()
    assert propagator.step(features, None, is_sampled=False) is None
    second = propagator.step(features, None, is_sampled=True)
    assert not np.intersect1d(first, second).size
    assert propagator.num_labels == second.max()


def test_the_flow_is_needed_to_go_on():
    propagator = LabelPropagator()
    propagator.step(extract_features(two_halves()), None, is_sampled=True)
    with pytest.raises(ValueError, match="flow"):
        propagator.step(extract_features(two_halves()), None, is_sampled=True)


def test_seeds_leave_the_strip_but_keep_thin_regions():
    labels = np.ones((20, 30), np.int32)
    labels[:, 15:] = 2
    labels[:, 5:8], labels[10, 20:24] = 3, 4
    seeds = border_free_seeds(labels, 2)
    assert (seeds[:, 13:17] == 0).all()
    assert (seeds[:, 6] == 3).all()
    assert (seeds[:, [5, 7]] == 0).all()
    assert (seeds[10, 20:24] == 4).all()
    assert (seeds[:, 26:] == 2).all()


def test_flooding_the_gaps_equals_a_watershed_of_the_whole_frame():
    rng = np.random.default_rng(1)
    seeds = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((12, 12))).astype(np.int32)
    seeds[border_free_seeds(seeds, 3) == 0] = 0
    gradient = rng.uniform(0, 10, seeds.shape).astype(np.float32)
    np.testing.assert_array_equal(flood(seeds, gradient), watershed(gradient, seeds))


def test_only_thick_gaps_may_become_something_new():
    labels = np.ones((40, 40), np.int32)
    labels[3:8, 2:38] = 0
    labels[20:35, 10:30] = 0
    expected = np.zeros((40, 40), bool)
    expected[20:35, 10:30] = True
    np.testing.assert_array_equal(thick_gaps(labels), expected)


def test_fragments_go_to_their_surroundings_unless_they_are_all_there_is():
    labels = np.ones((20, 20), np.int32)
    labels[:, 12:] = 2
    labels[4:6, 3:5] = 2
    labels[15:17, 15:17] = 3
    expected = labels.copy()
    expected[4:6, 3:5] = 1
    flat = np.zeros((20, 20), np.float32)
    np.testing.assert_array_equal(absorb_fragments(labels, flat, 10), expected)
    np.testing.assert_array_equal(absorb_fragments(labels, flat, 0), labels)


def test_lives_and_the_link_across_a_gap():
    labels = np.ones((4, 20, 30), np.int32)
    labels[0, 4:10, 2:8] = labels[1, 4:10, 6:12] = 2
    labels[3, 4:10, 14:20] = 3
    labels[3, 12:18, 14:20] = 4
    lab = np.zeros((4, 20, 30, 3), np.float32)
    lab[(labels == 2) | (labels == 3)] = (60, 10, 10)
    lab[labels == 4] = (60, 60, 10)
    lives = measure_lives(labels, list(lab), 5)
    np.testing.assert_array_equal(lives.first, [0, 0, 3, 3, 4])
    np.testing.assert_array_equal(lives.last, [3, 1, 3, 3, -1])
    np.testing.assert_allclose(lives.last_centre[1], (8.5, 6.5))
    np.testing.assert_allclose(lives.first_centre[2], (16.5, 6.5))
    np.testing.assert_array_equal(lives.largest_area, [600, 36, 36, 36, 0])

    camera = np.array([(0, 0), (4, 0), (8, 0), (12, 0)], float)
    one_shot = np.zeros(4, np.int64)
    pairs, lengths = find_occlusion_links(lives, one_shot, camera, short_side=20)
    np.testing.assert_array_equal(pairs, [[1, 2]])
    np.testing.assert_allclose(lengths, 4 * 6)
    assert not len(find_occlusion_links(lives, np.array([0, 0, 1, 1]), camera, short_side=20)[0])
    assert not len(find_occlusion_links(lives, one_shot, -camera, short_side=20)[0])


def behind_a_pillar(num_frames=13):
    """A disc passes behind a pillar that hides it completely in one frame, before a still textured wall."""
    noise = np.random.default_rng(3).integers(60, 120, (12, 20, 3), dtype=np.uint8)
    wall = cv2.resize(noise, (144, 100), interpolation=cv2.INTER_CUBIC)
    frames, masks = [], []
    for t in range(num_frames):
        frame, mask = wall.copy(), np.zeros((100, 144), np.uint8)
        centre = (16 + 9 * t, 50)
        cv2.circle(mask, centre, 8, 1, -1)
        cv2.circle(frame, centre, 8, (230, 60, 50), -1)
        frame[:, 60:80], mask[:, 60:80] = (20, 30, 40), 0
        frames.append(frame)
        masks.append(mask > 0)
    return np.stack(frames), np.stack(masks)


@pytest.mark.parametrize("occlusion_links", [True, False])
def test_identity_survives_an_occlusion_by_links_alone(occlusion_links):
    frames, masks = behind_a_pillar()
    assert any(not mask.any() for mask in masks)
    backend = ClassicBackend(num_superpixels=150, occlusion_links=occlusion_links)
    labels = backend.track([Clip(frames, np.arange(len(frames)), False)], 16)[0]
    before, after = (np.bincount(labels[t][masks[t]]).argmax() for t in (0, -1))
    assert (before == after) == occlusion_links
    for t, label in ((0, before), (-1, after)):
        assert (labels[t][masks[t]] == label).mean() > 0.9
        assert masks[t][labels[t] == label].mean() > 0.9


def test_a_trajectory_hidden_at_a_key_frame_does_not_break_the_budget():
    frames, masks = behind_a_pillar()
    hidden = next(t for t, mask in enumerate(masks) if not mask.any())
    first, second = frames[: hidden + 1], frames[hidden:]
    clips = [Clip(first, np.arange(len(first)), True), Clip(second, np.arange(len(second)), False)]
    volumes = ClassicBackend(num_superpixels=150).track(clips, 16)
    both_sides = np.intersect1d(volumes[0], volumes[1])
    # The case is there: some label of both clips is not on the boundary frame, so the join makes two of it.
    assert np.setdiff1d(both_sides, volumes[1][0]).size
    joined = join_clips(clips, volumes)
    assert (joined > 0).all()
    assert len(np.unique(joined)) <= 16
