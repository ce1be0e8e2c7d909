"""Frame mAP, against loops from the official rules and cases by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajvit.evaluation.metric_modules import load_metric

LEFT, RIGHT = [0.0, 0.0, 0.4, 1.0], [0.6, 0.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return load_metric("ava_frame_map", cache_dir=str(tmp_path_factory.mktemp("cache")))


def found(*detections):
    """Detections (box, label, score) of a key frame."""
    return {name: [detection[place] for detection in detections] for place, name in enumerate(FIELDS)}


def true(*boxes):
    """Ground truth (box, label) of a key frame."""
    return {name: [box[place] for box in boxes] for place, name in enumerate(FIELDS[:2])}


FIELDS = ("boxes", "labels", "scores")


def overlap(box, other):
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0) * max(height, 0)
    area = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (area - shared)


def precision_by_loop(predictions, references, label, order=None):
    """Average precision of a class: key frames one after another, then the curve in the order of scores or as given."""
    detections = [
        (score, frame, box)
        for frame, key_frame in enumerate(predictions)
        for box, own, score in zip(*(key_frame[name] for name in FIELDS), strict=True)
        if own == label
    ]
    truth = [
        [box for box, own in zip(key_frame["boxes"], key_frame["labels"], strict=True) if own == label]
        for key_frame in references
    ]
    by_score = sorted(range(len(detections)), key=lambda place: -detections[place][0])
    claimed, hits = set(), {}
    for place in by_score:
        _, frame, box = detections[place]
        overlaps = [overlap(box, other) for other in truth[frame]]
        best = max(range(len(overlaps)), key=lambda number: overlaps[number], default=None)
        hit = best is not None and overlaps[best] >= 0.5 and (frame, best) not in claimed
        hits[place] = hit
        claimed |= {(frame, best)} if hit else set()
    count = sum(map(len, truth))
    right = [hits[place] for place in (by_score if order is None else order)]
    precisions = [sum(right[: place + 1]) / (place + 1) for place in range(len(right))]
    area = sum(max(precisions[place:]) for place, hit in enumerate(right) if hit)
    return 100 * area / count


def random_key_frames(random, num_key_frames, num_classes):
    """Detections near true boxes, some of another class, several at one, and elsewhere; no two scores are equal."""
    predictions, references = [], []
    for _ in range(num_key_frames):
        corners = random.integers(0, 6, (random.integers(0, 6), 2))
        boxes = np.concatenate([corners, corners + random.integers(3, 6, corners.shape)], 1) / 10
        labels = random.integers(0, num_classes, len(boxes))
        references.append({"boxes": boxes, "labels": labels})
        boxes, labels = np.concatenate([boxes, [LEFT, RIGHT]]), np.append(labels, [0, 1])
        near = random.integers(0, len(boxes), random.integers(0, 9))
        shifts = np.tile(random.integers(-1, 2, (len(near), 2)), 2) / 10
        labels = np.where(random.random(len(near)) < 0.7, labels[near], random.integers(0, num_classes, len(near)))
        predictions.append({"boxes": boxes[near] + shifts, "labels": labels, "scores": random.random(len(near))})
    return predictions, references


@pytest.mark.parametrize("seed", range(4))
def test_precisions_are_those_of_the_loop(metric, seed):
    predictions, references = random_key_frames(np.random.default_rng(seed), 60, 5)
    results = metric.compute(predictions=predictions, references=references)
    wanted = {str(label): precision_by_loop(predictions, references, label) for label in range(5)}
    assert results["AP"] == pytest.approx(wanted)
    assert all(1 < value < 99 for value in wanted.values())
    assert results["mAP"] == pytest.approx(np.mean(list(wanted.values())))
    assert (results["num_classes"], results["num_key_frames"]) == (5, 60)


@st.composite
def tied_key_frames(draw):
    box = st.sampled_from([LEFT, [0.0, 0.0, 0.5, 1.0], [0.1, 0.0, 0.5, 1.0], [0.2, 0.0, 0.8, 1.0], RIGHT])
    detections = st.lists(st.tuples(box, st.just(3), st.sampled_from([0.25, 0.5])), max_size=3)
    boxes = st.lists(st.tuples(box, st.just(3)), max_size=2)
    key_frames = draw(st.lists(st.tuples(detections, boxes), min_size=1, max_size=2))
    return [found(*own) for own, _ in key_frames], [true(*own) for _, own in key_frames]


@settings(max_examples=40, deadline=None)
@given(key_frames=tied_key_frames())
def test_equal_scores_are_in_the_worst_order(metric, key_frames):
    predictions, references = key_frames
    if not any(key_frame["boxes"] for key_frame in references):
        return
    scores = [score for key_frame in predictions for score in key_frame["scores"]]
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[first] >= scores[second] for first, second in itertools.pairwise(order))
    ]
    worst = min(precision_by_loop(predictions, references, 3, order) for order in orders)
    results = metric.compute(predictions=predictions, references=references)
    assert results["mAP"] == pytest.approx(worst)
    backwards = [{name: values[::-1] for name, values in key_frame.items()} for key_frame in predictions]
    assert metric.compute(predictions=backwards[::-1], references=references[::-1]) == results


def test_by_hand(metric):
    # Class 1: right, wrong, right of three: precisions 1, 2/3 and nothing for the third.
    predictions = [found((LEFT, 1, 0.9), (RIGHT, 1, 0.8), (LEFT, 2, 0.7)), found((LEFT, 1, 0.6))]
    references = [true((LEFT, 1), (RIGHT, 2)), true((LEFT, 1), (RIGHT, 1))]
    results = metric.compute(predictions=predictions, references=references)
    assert results["AP"] == pytest.approx({"1": 100 * (1 + 2 / 3) / 3, "2": 0})
    assert results["mAP"] == pytest.approx(50 * (1 + 2 / 3) / 3)


def test_a_duplicate_is_wrong_even_beside_a_free_box(metric):
    references = [true((LEFT, 1), ([0.0, 0.0, 0.5, 1.0], 1))]
    # Both overlap the first box most; the second's IoU with the other box is 0.8.
    predictions = [found((LEFT, 1, 0.9), (LEFT, 1, 0.8))]
    assert metric.compute(predictions=predictions, references=references)["mAP"] == 50
    predictions = [found((LEFT, 1, 0.9), ([0.0, 0.0, 0.5, 1.0], 1, 0.8))]
    assert metric.compute(predictions=predictions, references=references)["mAP"] == 100
    duplicated = [found((LEFT, 1, 0.9), (LEFT, 1, 0.8), (RIGHT, 1, 0.7))]
    results = metric.compute(predictions=duplicated, references=[true((LEFT, 1), (RIGHT, 1))])
    assert results["mAP"] == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_of_equally_overlapped_boxes_the_first_is_claimed(metric):
    references = [true((LEFT, 1), (LEFT, 1))]
    assert metric.compute(predictions=[found((LEFT, 1, 0.9), (LEFT, 1, 0.8))], references=references)["mAP"] == 50


def test_an_overlap_of_exactly_the_threshold_is_enough(metric):
    references = [true(([0.0, 0.0, 1.0, 1.0], 7))]
    half, less = found(([0.0, 0.0, 0.5, 1.0], 7, 0.3)), found(([0.0, 0.0, np.nextafter(0.5, 0), 1.0], 7, 0.3))
    assert metric.compute(predictions=[half], references=references)["mAP"] == 100
    assert metric.compute(predictions=[less], references=references)["mAP"] == 0
    assert metric.compute(predictions=[half], references=references, iou_threshold=0.6)["mAP"] == 0
    assert metric.compute(predictions=[less], references=references, iou_threshold=0.4)["mAP"] == 100


def test_classes_and_key_frames_without_ground_truth(metric):
    predictions = [found((LEFT, 1, 0.5), (LEFT, 4, 0.9)), found((LEFT, 1, 0.9)), found()]
    references = [true((LEFT, 1)), true(), true((RIGHT, 2))]
    # The detection in the second key frame is wrong; class 4 does not count; class 2 is never detected.
    results = metric.compute(predictions=predictions, references=references)
    assert results == {"mAP": 25, "AP": {"1": 50, "2": 0}, "num_classes": 2, "num_key_frames": 3}
    results = metric.compute(predictions=predictions, references=references, labels=[4, 1])
    assert results == {"mAP": 50, "AP": {"1": 50}, "num_classes": 1, "num_key_frames": 3}
    results = metric.compute(predictions=[found()] * 3, references=references)
    assert results == {"mAP": 0, "AP": {"1": 0, "2": 0}, "num_classes": 2, "num_key_frames": 3}


def test_boxes_without_area(metric):
    line = [0.2, 0.0, 0.2, 1.0]
    predictions = [found((line, 1, 0.9), (LEFT, 1, 0.8))]
    assert metric.compute(predictions=predictions, references=[true((LEFT, 1))])["mAP"] == 100
    assert metric.compute(predictions=predictions, references=[true((LEFT, 1), (line, 1))])["mAP"] == 50


def test_a_limit_of_detections_keeps_the_highest_scores(metric):
    predictions = [found((RIGHT, 1, 0.3), (RIGHT, 2, 0.9), (LEFT, 1, 0.2), (LEFT, 5, 1.0)), found((LEFT, 1, 0.1))]
    references = [true((LEFT, 1), (RIGHT, 2)), true((LEFT, 1))]
    # Class 5 has no ground truth and takes no place.
    limited = metric.compute(predictions=predictions, references=references, max_detections=2)
    kept = [found((RIGHT, 1, 0.3), (RIGHT, 2, 0.9)), found((LEFT, 1, 0.1))]
    assert limited == metric.compute(predictions=kept, references=references)
    assert limited["AP"] != metric.compute(predictions=predictions, references=references)["AP"]
    # Of equal scores the first.
    predictions = [found((LEFT, 1, 0.5), (RIGHT, 1, 0.5))]
    results = metric.compute(predictions=predictions, references=[true((LEFT, 1))], max_detections=1)
    assert results["mAP"] == 100


def test_batches_of_any_size_give_the_same(metric):
    predictions, references = random_key_frames(np.random.default_rng(9), 40, 3)
    wanted = metric.compute(predictions=predictions, references=references)
    metric.add(prediction=predictions[0], reference=references[0])
    for start, end in ((1, 2), (2, 30), (30, 40)):
        metric.add_batch(predictions=predictions[start:end], references=references[start:end])
    assert metric.compute() == wanted


GOOD, TRUTH = [found((LEFT, 1, 0.5))], [true((LEFT, 1))]


@pytest.mark.parametrize(
    ("predictions", "references", "options", "message"),
    [
        ([found(([0.5, 0, 0.4, 1], 1, 0.5))], TRUTH, {}, "boxes of predictions of key frame 0 have .0.5, .* x1 <= x2"),
        (GOOD, [true(([0, 0.5, 1, 0.4], 1))], {}, "boxes of references of key frame 0 have .* y1 <= y2"),
        ([found((np.full(4, np.nan), 1, 0.5))], TRUTH, {}, "boxes of predictions of key frame 0 have .nan.*finite"),
        ([found((LEFT, 1, float("nan")))], TRUTH, {}, "scores of predictions of key frame 0 have nan; expected finite"),
        (GOOD * 2, [*TRUTH, true((LEFT, -1))], {}, "labels of references of key frame 1 have -1; expected ids"),
        (
            [{"boxes": [LEFT], "labels": [1, 2], "scores": [0.5]}],
            TRUTH,
            {},
            "labels of predictions of key frame 0 are 2; expected 1, one for each box",
        ),
        ([{"boxes": [LEFT], "labels": [1], "scores": []}], TRUTH, {}, "scores of .* key frame 0 are 0; expected 1"),
        ([{"boxes": [LEFT[:3]], "labels": [1], "scores": [0.5]}], TRUTH, {}, "don't match the expected format"),
        (
            [{"boxes": [LEFT], "labels": [None], "scores": [0.5]}],
            TRUTH,
            {},
            "labels of predictions have a value",
        ),
        ([{"boxes": None, "labels": [1], "scores": [0.5]}], TRUTH, {}, "boxes of predictions of key frame 0 is None"),
        (GOOD, TRUTH * 2, {}, "Mismatch in the number of predictions .1. and references .2."),
        (GOOD, [true()], {}, "references have no box of the classes that count"),
        ([], [], {}, "references have no box"),
        (GOOD, TRUTH, {"labels": [2]}, "references have no box of the classes that count"),
        (GOOD, TRUTH, {"labels": []}, "labels are .*; expected at least one id"),
        (GOOD, TRUTH, {"labels": [-1]}, "labels are .-1."),
        (GOOD, TRUTH, {"iou_threshold": 0}, "iou_threshold is 0; expected more than 0, at most 1"),
        (GOOD, TRUTH, {"max_detections": 0}, "max_detections is 0; expected at least 1"),
    ],
)
def test_bad_input_is_named(tmp_path, predictions, references, options, message):
    metric = load_metric("ava_frame_map", cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=references, **options)


def test_another_configuration_is_an_error():
    with pytest.raises(ValueError, match="config_name is 'scores'"):
        load_metric("ava_frame_map", "scores")
