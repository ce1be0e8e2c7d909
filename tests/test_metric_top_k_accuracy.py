"""Top-k accuracy, against a loop from the definition, scikit-learn and torchmetrics."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torchmetrics.classification import MulticlassAccuracy

from trajvit.evaluation.metric_modules import load_metric

NAN = math.nan


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return load_metric("top_k_accuracy", cache_dir=str(tmp_path_factory.mktemp("cache")))


def accuracy_by_loop(scores, labels, k):
    right = 0
    for row, label in zip(scores, labels, strict=True):
        ahead = sum(not score < row[label] for place, score in enumerate(row) if place != label)
        right += ahead < k
    return 100 * right / len(labels)


@st.composite
def tables(draw):
    num_classes = draw(st.integers(1, 8))
    score = st.sampled_from([0.0, -0.0, 0.25, 1.0, NAN, math.inf, -math.inf])
    row = st.lists(score, min_size=num_classes, max_size=num_classes)
    rows = draw(st.lists(st.tuples(row, st.integers(0, num_classes - 1)), min_size=1, max_size=9))
    return [row for row, _ in rows], [label for _, label in rows]


@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_accuracies_are_those_of_the_definition(metric, table):
    found = metric.compute(predictions=table[0], references=table[1], ks=(1, 2, 5))
    wanted = {f"top_{k}_accuracy": accuracy_by_loop(*table, k) for k in (1, 2, 5)}
    assert found == {**wanted, "num_examples": len(table[1])}


@pytest.fixture(scope="module")
def example():
    """Scores of which no two of a row are equal, and labels of which class 4 has none."""
    random = np.random.default_rng(0)
    scores = random.permuted(np.tile(np.linspace(-2, 3, 9, dtype=np.float32), (60, 1)), axis=1)
    return scores, random.choice([0, 1, 2, 3, 5, 6, 7, 8], 60)


def test_agrees_with_scikit_learn_and_torchmetrics(metric, example):
    scores, labels = example
    found = metric.compute(predictions=scores, references=labels, ks=(1, 3, 5), per_class_mean=True)
    for k in (1, 3, 5):
        assert 0 < found[f"top_{k}_accuracy"] < 100
        by_scikit_learn = top_k_accuracy_score(labels, scores, k=k, labels=range(9))
        assert found[f"top_{k}_accuracy"] == pytest.approx(100 * by_scikit_learn)
        by_torchmetrics = MulticlassAccuracy(9, top_k=k, average="micro")
        value = by_torchmetrics(torch.from_numpy(scores), torch.from_numpy(labels)).item()
        assert found[f"top_{k}_accuracy"] == pytest.approx(100 * value)
    assert found["mean_class_accuracy"] != pytest.approx(found["top_1_accuracy"])
    with pytest.warns(UserWarning, match="classes not in y_true"):
        balanced = balanced_accuracy_score(labels, scores.argmax(1))
    assert found["mean_class_accuracy"] == pytest.approx(100 * balanced)


@pytest.mark.parametrize("value", [0.0, NAN])
def test_equal_scores_are_never_right(metric, value):
    found = metric.compute(predictions=np.full((12, 6), value), references=np.arange(12) % 6, per_class_mean=True)
    assert found == {"top_1_accuracy": 0, "top_5_accuracy": 0, "mean_class_accuracy": 0, "num_examples": 12}


def test_few_classes_are_all_among_the_first(metric):
    found = metric.compute(predictions=[[1.0, 1.0, 1.0]], references=[2])
    assert found == {"top_1_accuracy": 0, "top_5_accuracy": 100, "num_examples": 1}
    assert metric.compute(predictions=[[0.0]], references=[0], ks=[1])["top_1_accuracy"] == 100


def test_batches_of_any_size_give_the_same(metric, example, monkeypatch):
    scores, labels = example
    wanted = metric.compute(predictions=scores, references=labels, per_class_mean=True)
    metric.add(prediction=scores[0], reference=labels[0])
    for start, end in ((1, 8), (8, 9), (9, 60)):
        metric.add_batch(predictions=torch.from_numpy(scores[start:end]), references=list(labels[start:end]))
    assert metric.compute(per_class_mean=True) == wanted
    monkeypatch.setattr(sys.modules[type(metric).__module__], "_SCORES_AT_ONCE", 20)
    assert metric.compute(predictions=scores.tolist(), references=labels, per_class_mean=True) == wanted


@pytest.mark.parametrize(
    ("scores", "labels", "options", "message"),
    [
        ([[0.1, 0.2], [0.1, 0.2]], [0, 2], {}, "references of example 1 is 2; .* 0 to 1"),
        ([[0.1, 0.2]], [-1], {}, "references of example 0 is -1; .* 0 to 1"),
        ([[0.1, 0.2], [0.3]], [0, 0], {}, "predictions of example 1 are 1 scores; expected 2"),
        ([[0.1, 0.2]], [0, 1], {}, "Mismatch in the number of predictions .1. and references .2."),
        ([], [], {}, "there is no example"),
        ([[]], [0], {}, "references of example 0 is 0"),
        ([None], [0], {}, "predictions of example 0 is None"),
        ([[0.1]], [None], {}, "references have a class that is None"),
        ([[0.1]], [0], {"ks": [1, 0]}, "ks are .1, 0.; expected at least one integer"),
        ([[0.1]], [0], {"ks": [1.5]}, "ks are .1.5.; expected at least one integer"),
    ],
)
def test_bad_input_is_named(tmp_path, scores, labels, options, message):
    metric = load_metric("top_k_accuracy", cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=scores, references=labels, **options)


def test_another_configuration_is_an_error():
    with pytest.raises(ValueError, match="config_name is 'ranks'"):
        load_metric("top_k_accuracy", "ranks")
