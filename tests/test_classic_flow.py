import cv2
import numpy as np
import pytest

from trajvit.processing.frame_appearance import extract_features, histogram_distance
from trajvit.processing.optical_flow import (
    FlowEstimator,
    colour_residual,
    compose_flow,
    search_displacements,
    warp_labels,
)
from trajvit.processing.region_tracking import is_cut


def textured(seed, height, width, cell=6):
    noise = np.random.default_rng(seed).integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def window(picture, top, left, height=120, width=160):
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def test_a_known_translation_is_found_and_trusted():
    picture = textured(0, 200, 240)
    previous, current = extract_features(window(picture, 20, 30)), extract_features(window(picture, 23, 25))
    flow = FlowEstimator()(current, previous)
    inner = np.s_[12:-12, 12:-12]
    error = np.hypot(flow.vectors[..., 0] + 5, flow.vectors[..., 1] - 3)
    assert error[inner].mean() < 0.25
    assert flow.reliable[inner].mean() > 0.98


def test_the_object_that_a_panning_camera_follows_is_not_carried_along():
    picture, object_ = textured(1, 160, 300), textured(2, 20, 20)
    frames = [window(picture, 20, left) for left in (40, 72)]
    for frame in frames:
        frame[50:70, 70:90] = object_
    previous, current = map(extract_features, frames)
    flow = FlowEstimator()(current, previous)
    assert np.hypot(*np.median(flow.vectors[54:66, 74:86].reshape(-1, 2), axis=0)) < 3
    np.testing.assert_allclose(np.median(flow.vectors[20:40, 20:100].reshape(-1, 2), axis=0), (32, 0), atol=1)


def test_what_comes_from_outside_is_not_reliable():
    picture = textured(3, 160, 300)
    previous, current = (extract_features(window(picture, 20, left)) for left in (40, 60))
    reliable = FlowEstimator()(current, previous).reliable
    assert reliable[10:-10, :130].mean() > 0.95
    assert reliable[:, 150:].mean() < 0.3


def test_the_search_finds_displacements_of_whole_cells():
    picture = cv2.cvtColor(textured(4, 200, 240, cell=12).astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    found = search_displacements(picture[40:160, 40:200], picture[32:152, 52:212])
    # The later frame's window lies 8 px lower and 12 px further left, so its content came from 8 px lower, 12 px left.
    assert (found[4:-4, 5:-4] == (-12, 8)).mean() > 0.95


def test_residuals_are_colour_differences_and_capped():
    lab = np.zeros((30, 30, 3), np.float32)
    brighter = lab + np.float32((4, 3, 0))
    still = np.zeros((30, 30, 2), np.float32)
    np.testing.assert_allclose(colour_residual(brighter, lab, still), 5, rtol=1e-5)
    away = still + np.float32((100, 0))
    np.testing.assert_allclose(colour_residual(lab, lab, away), 30, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 90), (90, 2), (13, 40)])
def test_tiny_frames_have_flow(shape):
    rng = np.random.default_rng(5)
    features = [extract_features(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for _ in range(2)]
    flow = FlowEstimator()(*features)
    assert flow.vectors.shape == (*shape, 2)
    assert np.isfinite(flow.vectors).all()


def test_composed_flow_leads_back_through_both_steps():
    y, x = np.mgrid[:40, :50].astype(np.float32)
    first = np.dstack([np.full_like(x, 2), np.full_like(y, -1)])
    second = np.dstack([0.1 * x, 0.05 * y])
    inner = np.s_[5:-5, 5:-5]
    expected = np.dstack([2 + 0.1 * (x + 2), -1 + 0.05 * (y - 1)])
    np.testing.assert_allclose(compose_flow(first, second)[inner], expected[inner], atol=1e-4)


def test_labels_are_pulled_along_the_flow():
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    flow = np.zeros((3, 4, 2), np.float32)
    flow[..., 0], flow[0, 0] = 1.2, (0, 1.6)
    expected = np.array([[8, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]])
    np.testing.assert_array_equal(warp_labels(labels, flow), expected)


def test_histograms_tell_pictures_apart():
    black, white = (extract_features(np.full((9, 9, 3), value, np.uint8)).histogram for value in (0, 255))
    assert black.sum() == pytest.approx(1)
    assert histogram_distance(black, black) == 0
    assert histogram_distance(black, white) == pytest.approx(1)


def test_a_cut_is_told_from_a_fast_pan():
    picture = textured(6, 160, 300)
    previous, panned = (extract_features(window(picture, 20, left)) for left in (20, 60))
    other = extract_features(window(255 - textured(7, 160, 300) // 2, 20, 20))
    estimate = FlowEstimator()
    assert not is_cut(previous, panned, estimate(panned, previous), estimate)
    assert is_cut(previous, other, estimate(other, previous), estimate)


def test_a_cut_between_shots_before_one_wall_is_seen():
    wall = textured(8, 120, 320) // 8 + 90
    frames = [window(wall, 0, left) for left in (0, 160)]
    for frame, colour in zip(frames, ((200, 60, 50), (50, 90, 200)), strict=True):
        frame[30:90, 40:110] = colour
    previous, current = map(extract_features, frames)
    estimate = FlowEstimator()
    flow = estimate(current, previous)
    assert is_cut(previous, current, flow, estimate)


def test_the_round_trip_closes_where_the_picture_goes_on():
    picture = textured(9, 200, 240)
    previous, current = extract_features(window(picture, 20, 30)), extract_features(window(picture, 23, 25))
    estimate = FlowEstimator()
    assert estimate.round_trip_share(current, previous, estimate(current, previous)) > 0.85
    other = extract_features(window(textured(10, 200, 240), 20, 30))
    assert estimate.round_trip_share(other, previous, estimate(other, previous)) < 0.1
