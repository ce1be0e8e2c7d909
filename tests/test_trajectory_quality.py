"""The scores against loops written from their definitions, and on cases whose value is known."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from trajvit.evaluation.trajectory_quality import foreground_score, resize_ids, scene_score
from trajvit.processing.synthetic_scenes import make_scene

SAMPLES = np.array([1, 4, 7, 10, 13, 16, 19, 22])


@pytest.fixture(scope="module")
def scene():
    return make_scene(5, num_frames=24, height=64, width=96)


def true_ids(scene):
    """One trajectory per sprite and per shot's background."""
    background = len(scene.objects) + 1 + scene.shot_of_frame[:, None, None]
    return np.where(scene.masks == 0, background, scene.masks)[SAMPLES]


def blocky_ids(scene, seed=0):
    """The truth cut into blocks and disturbed: owned, mixed and missing trajectories in one volume."""
    rng = np.random.default_rng(seed)
    ids = true_ids(scene)
    rows, columns = np.mgrid[: ids.shape[1], : ids.shape[2]]
    ids = ids * 30 + (rows // 20) * 5 + columns // 24
    shuffled = rng.integers(1, ids.max(), ids.max() + 1)
    ids = np.where(rng.random(ids.shape) < 0.3, shuffled[ids], ids)
    return np.where(rng.random(ids.shape) < 0.05, 0, ids)


def naive_foreground(ids, masks):
    on_object = []
    for trajectory in set(ids.ravel().tolist()) - {0}:
        pixels = ids == trajectory
        if (pixels & masks).sum() > 0.5 * pixels.sum():
            on_object.append(trajectory)
    union = np.isin(ids, on_object)
    iou = (union & masks).sum() / (union | masks).sum()
    shown = [frame for frame in range(len(ids)) if masks[frame].any()]
    first, kept = shown[0], []
    starters = [
        trajectory
        for trajectory in set(ids[first].ravel().tolist()) - {0}
        if ((ids[first] == trajectory) & masks[first]).sum() > 0.5 * (ids[first] == trajectory).sum()
    ]
    for frame in shown[1:]:
        pixels = ids[frame][masks[frame]]
        kept.append(sum(int(value) in starters for value in pixels) / len(pixels))
    return iou, float(np.mean(kept)), len(on_object)


def naive_scene(ids, scene):
    masks, shots = scene.masks[SAMPLES], scene.shot_of_frame[SAMPLES]
    frames, height, width = ids.shape
    counts = {}
    for t, y, x in itertools.product(range(frames), range(height), range(width)):
        region = int(masks[t, y, x]) or ("background", int(shots[t]))
        if ids[t, y, x] > 0:
            counts.setdefault(int(ids[t, y, x]), Counter())[region] += 1
    owner = {trajectory: counter.most_common(1)[0][0] for trajectory, counter in counts.items()}
    asa = sum(counter.most_common(1)[0][1] for counter in counts.values()) / ids.size
    ious, lives, consistencies = [], [], []
    for region in range(1, len(scene.objects) + 1):
        visible = [int((masks[t] == region).sum()) for t in range(frames)]
        shown = sum(pixels >= 0.001 * height * width for pixels in visible)
        if shown >= 2:
            owned = [trajectory for trajectory, who in owner.items() if who == region]
            union = np.isin(ids, owned)
            ious.append((union & (masks == region)).sum() / (union | (masks == region)).sum())
            longest = 0
            for trajectory in owned:
                alive = 0
                for t in range(frames):
                    pixels = ((ids[t] == trajectory) & (masks[t] == region)).sum()
                    alive += pixels >= max(0.02 * visible[t], 4)
                longest = max(longest, alive)
            lives.append(min(1.0, longest / shown))
        kept = []
        for label, position, seen in zip(
            scene.tracks.object_ids, scene.tracks.positions, scene.tracks.visible, strict=True
        ):
            times = [t for t in range(frames) if seen[SAMPLES[t]]]
            if label == region and len(times) >= 2:
                values = []
                for t in (times[0], times[-1]):
                    x, y = np.rint(position[SAMPLES[t]]).astype(int)
                    values.append(ids[t, y, x])
                kept.append(values[0] == values[1] != 0)
        if len(kept) >= 5:
            consistencies.append(np.mean(kept))
    largest = 0
    for t in range(frames):
        for trajectory in set(ids[t].ravel().tolist()) - {0}:
            pieces, number = ndimage.label(ids[t] == trajectory)
            largest += max(int((pieces == piece).sum()) for piece in range(1, number + 1))
    return {
        "asa": asa,
        "object_iou": np.mean(ious),
        "identity_consistency": np.mean(consistencies),
        "life": np.mean(lives),
        "component_share": largest / (ids > 0).sum(),
        "coverage": (ids > 0).mean(),
        "num_trajectories": len(counts),
    }


@pytest.mark.parametrize("seed", range(5))
def test_foreground_score_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 20, 30), bool)
    masks[1:5, 4:15, 5:20] = True
    masks[3] = False
    ids = np.arange(600).reshape(20, 30) // 20 + 30 * rng.integers(0, 2, (6, 1, 1)) + 60 * masks
    ids = np.where(rng.random(ids.shape) < 0.35, rng.integers(0, 120, ids.shape), ids)
    score = foreground_score(ids, masks)
    iou, persistence, on_object = naive_foreground(ids, masks)
    assert score.oracle_iou == pytest.approx(iou)
    assert score.persistence == pytest.approx(persistence)
    assert score.num_object_trajectories == on_object
    assert score.num_trajectories == len(set(ids.ravel().tolist()) - {0})
    assert score.coverage == pytest.approx((ids > 0).mean())
    assert 0.05 < iou < 0.95


@pytest.mark.parametrize("seed", range(2))
def test_scene_score_equals_the_definition(scene, seed):
    ids = blocky_ids(scene, seed)
    score, expected = scene_score(ids, scene, SAMPLES), naive_scene(ids, scene)
    for name, value in expected.items():
        assert getattr(score, name) == pytest.approx(value), name
    assert 0.05 < expected["identity_consistency"] < 0.95
    assert expected["object_iou"] < 0.95


def test_the_truth_itself_is_perfect(scene):
    score = scene_score(true_ids(scene), scene, SAMPLES)
    assert (score.asa, score.object_iou, score.identity_consistency, score.life) == (1, 1, 1, 1)
    assert score.coverage == 1
    mask = scene.masks[SAMPLES] == 1
    foreground = foreground_score(mask + 1, mask)
    assert (foreground.oracle_iou, foreground.persistence, foreground.coverage) == (1, 1, 1)


def test_numbers_of_the_ids_do_not_matter(scene):
    ids = blocky_ids(scene)
    renamed = np.where(ids > 0, 100_000 - 7 * ids, -3)
    assert scene_score(renamed, scene, SAMPLES) == scene_score(ids, scene, SAMPLES)


def test_one_trajectory_for_everything(scene):
    ids = np.ones_like(true_ids(scene))
    score = scene_score(ids, scene, SAMPLES)
    largest = np.bincount(true_ids(scene).ravel()).max()
    assert score.asa == pytest.approx(largest / ids.size)
    assert (score.object_iou, score.life) == (0, 0)
    # Granularity games one score at a time: nothing ever changes its only trajectory.
    assert (score.identity_consistency, score.component_share) == (1, 1)


def test_a_trajectory_for_every_pixel(scene):
    ids = np.arange(1, true_ids(scene).size + 1).reshape(true_ids(scene).shape)
    score = scene_score(ids, scene, SAMPLES)
    assert (score.asa, score.object_iou) == (1, 1)
    assert (score.identity_consistency, score.life) == (0, 0)


def test_no_trajectory_at_all(scene):
    ids = np.zeros_like(true_ids(scene))
    score = scene_score(ids, scene, SAMPLES)
    assert (score.asa, score.object_iou, score.identity_consistency, score.life, score.coverage) == (0, 0, 0, 0, 0)
    assert math.isnan(score.component_share)
    foreground = foreground_score(ids, scene.masks[SAMPLES] == 1)
    assert (foreground.oracle_iou, foreground.persistence, foreground.num_trajectories) == (0, 0, 0)


def test_half_covered_object():
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :2] = True
    ids = np.zeros((2, 4, 4), int)
    ids[:, :1] = 1
    score = foreground_score(ids, masks)
    assert score.oracle_iou == pytest.approx(0.5)
    assert score.persistence == pytest.approx(0.5)
    assert score.coverage == pytest.approx(0.25)


def test_exactly_half_is_not_on_the_object():
    masks = np.zeros((1, 2, 2), bool)
    masks[0, 0] = True
    assert foreground_score(np.ones((1, 2, 2), int), masks).num_object_trajectories == 0


def test_identity_lost_after_the_first_frame():
    masks = np.zeros((3, 4, 4), bool)
    masks[:, 1:3, 1:3] = True
    ids = np.where(masks, [[[1]], [[1]], [[2]]], 3)
    score = foreground_score(ids, masks)
    assert score.oracle_iou == 1
    assert score.persistence == pytest.approx(0.5)


def test_frames_without_the_object_count_for_iou_alone():
    masks = np.zeros((4, 4, 4), bool)
    masks[1, 0] = masks[3, 0] = True
    ids = np.where(masks, 1, 2)
    ids[2, 0] = 1
    score = foreground_score(ids, masks)
    assert score.persistence == 1
    assert score.oracle_iou == pytest.approx(8 / 12)


def test_empty_masks_and_a_single_view_are_undefined_not_wrong():
    masks = np.zeros((2, 4, 4), bool)
    score = foreground_score(np.ones((2, 4, 4), int), masks)
    assert math.isnan(score.oracle_iou)
    assert math.isnan(score.persistence)
    masks[1, 0] = True
    score = foreground_score(np.where(masks, 2, 1), masks)
    assert score.oracle_iou == 1
    assert math.isnan(score.persistence)


def test_a_scene_without_sprites_has_no_object_scores(scene):
    empty = replace(scene, masks=np.zeros_like(scene.masks), objects=(), cuts=[])
    empty = replace(empty, tracks=replace(scene.tracks, object_ids=np.zeros_like(scene.tracks.object_ids)))
    score = scene_score(np.ones((8, 64, 96), int), empty, SAMPLES)
    assert score.asa == 1
    assert math.isnan(score.object_iou)
    assert math.isnan(score.identity_consistency)


def test_an_id_across_a_cut_is_wrong_on_one_side(scene):
    ids = true_ids(scene)
    merged = np.where(ids > len(scene.objects), len(scene.objects) + 1, ids)
    assert scene_score(merged, scene, SAMPLES).asa < 0.9


def test_ids_are_compared_at_the_resolution_of_the_masks(scene):
    ids = blocky_ids(scene)
    coarse = ids[:, ::2, ::2]
    repeated = coarse.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(resize_ids(coarse, 64, 96), repeated)
    assert scene_score(coarse, scene, SAMPLES) == scene_score(repeated, scene, SAMPLES)
    mask = scene.masks[SAMPLES] == 1
    assert foreground_score(coarse, mask) == foreground_score(repeated, mask)


@pytest.mark.parametrize(("size", "expected"), [(3, [0, 2, 4]), (7, [0, 1, 1, 2, 3, 3, 4]), (5, [0, 1, 2, 3, 4])])
def test_resize_takes_the_nearest_pixel_centre(size, expected):
    assert resize_ids(np.arange(5)[None, :, None], size, 1)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("ids", "masks", "message"),
    [
        (np.ones((2, 4)), np.zeros((2, 4, 4), bool), r"float64 of shape \(2, 4\)"),
        (np.ones((3, 4, 4), int), np.zeros((2, 4, 4), bool), "ids have 3 frames, the truth has 2"),
        (np.ones((2, 4, 4), int), np.zeros((2, 4, 4), np.uint8), "masks are uint8"),
        (np.ones((0, 4, 4), int), np.zeros((0, 4, 4), bool), "with no empty axis"),
    ],
)
def test_wrong_arrays_are_named(ids, masks, message):
    with pytest.raises(ValueError, match=message):
        foreground_score(ids, masks)


def test_wrong_samples_are_named(scene):
    with pytest.raises(ValueError, match=r"0\.\.23"):
        scene_score(np.ones((1, 64, 96), int), scene, [24])
