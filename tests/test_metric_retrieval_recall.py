"""Recall at k and median rank, against loops from the definition, torchmetrics and the validation of training."""

import math
import statistics
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.retrieval import RetrievalHitRate

from trajvit.evaluation.metric_modules import load_metric
from trajvit.training.validation import retrieval_metrics

NAN = math.nan


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("cache"))
    return lambda config=None: load_metric("retrieval_recall", config, cache_dir=folder)


def rank_by_loop(scores, positives):
    own = [scores[place] for place in positives]
    best = NAN if any(math.isnan(score) for score in own) else max(own)
    rank = 1
    for place, score in enumerate(scores):
        if place not in positives and not score < best:
            rank += 1
    return rank


def expected(scores, positives, ks=(1, 5, 10)):
    ranks = [rank_by_loop(row, own) for row, own in zip(scores, positives, strict=True)]
    recalls = {f"R@{k}": 100 * sum(rank <= k for rank in ranks) / len(ranks) for k in ks}
    return {**recalls, "median_rank": statistics.median(ranks), "num_queries": len(ranks)}


@st.composite
def tables(draw):
    num_candidates = draw(st.integers(1, 12))
    score = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, -3.0, NAN, math.inf, -math.inf])
    row = st.lists(score, min_size=num_candidates, max_size=num_candidates)
    own = st.lists(st.integers(0, num_candidates - 1), min_size=1, max_size=4)
    rows = draw(st.lists(st.tuples(row, own), min_size=1, max_size=9))
    return [row for row, _ in rows], [own for _, own in rows]


@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_ranks_are_those_of_the_definition(load, table):
    assert load().compute(predictions=table[0], references=table[1]) == expected(*table)


def test_recalls_are_torchmetrics_hit_rates(load):
    random = np.random.default_rng(0)
    scores = random.permuted(np.tile(np.linspace(-1, 1, 30), (40, 1)), axis=1)
    positives = [random.choice(30, size=random.integers(1, 4), replace=False) for _ in scores]
    metrics = load().compute(predictions=scores, references=positives, ks=[1, 3, 7])
    target = torch.zeros(scores.shape, dtype=torch.bool)
    for query, own in enumerate(positives):
        target[query, own] = True
    queries = torch.arange(40)[:, None].expand(scores.shape)
    for k in (1, 3, 7):
        hit_rate = RetrievalHitRate(top_k=k)(torch.from_numpy(scores).flatten(), target.flatten(), queries.flatten())
        assert 0 < metrics[f"R@{k}"] < 100
        assert metrics[f"R@{k}"] == pytest.approx(100 * hit_rate.item())


@pytest.mark.parametrize("spoilt", [(), (NAN,), (0.0, 1.0)])
def test_agrees_with_validation_in_training(load, spoilt):
    random = torch.Generator().manual_seed(0)
    videos = torch.randn(20, 6, generator=random, dtype=torch.float64)
    texts = videos.repeat_interleave(2, 0) + torch.randn(40, 6, generator=random, dtype=torch.float64)
    # One similarity is given the first value, or two are made equal to others.
    videos[3], texts[9] = (videos[4], texts[8]) if len(spoilt) == 2 else (videos[3], texts[9])
    if len(spoilt) == 1:
        texts[7, 0] = spoilt[0]
    ours = retrieval_metrics(videos, texts)
    similarities = texts @ videos.T
    found = load().compute(predictions=similarities, references=[[text // 2] for text in range(40)])
    assert {name: ours[f"txt2vid_{name}"] for name in ("R@1", "R@5", "R@10", "median_rank")} == pytest.approx(
        {name: value for name, value in found.items() if name != "num_queries"}
    )
    found = load().compute(predictions=similarities.T, references=[[2 * video, 2 * video + 1] for video in range(20)])
    assert {name: ours[f"vid2txt_{name}"] for name in ("R@1", "R@5", "R@10", "median_rank")} == pytest.approx(
        {name: value for name, value in found.items() if name != "num_queries"}
    )


@pytest.mark.parametrize("value", [0.0, 1.0, NAN])
def test_equal_scores_find_nothing(load, value):
    metrics = load().compute(predictions=np.full((30, 30), value), references=np.arange(30)[:, None])
    assert metrics == {"R@1": 0, "R@5": 0, "R@10": 0, "median_rank": 30, "num_queries": 30}


def test_other_positives_do_not_stand_in_the_way(load):
    metrics = load().compute(predictions=[[0.5, 0.9, 0.8, 0.1]], references=[[1, 2, 0]])
    assert metrics["R@1"] == 100
    metrics = load().compute(predictions=[[0.5]], references=[[0]])
    assert metrics == {"R@1": 100, "R@5": 100, "R@10": 100, "median_rank": 1, "num_queries": 1}


def test_batches_of_any_size_give_the_same(load, monkeypatch):
    random = np.random.default_rng(1)
    scores = random.integers(0, 40, (23, 17)).astype(np.float32)
    positives = [list(random.integers(0, 17, random.integers(1, 4))) for _ in scores]
    wanted = expected(scores.tolist(), positives)
    assert 0 < wanted["R@1"] < 100
    metric = load()
    metric.add(prediction=scores[0], reference=positives[0])
    for start, end in ((1, 2), (2, 12), (12, 23)):
        metric.add_batch(predictions=scores[start:end], references=positives[start:end])
    assert metric.compute() == wanted
    monkeypatch.setattr(sys.modules[type(metric).__module__], "_SCORES_AT_ONCE", 40)
    assert metric.compute(predictions=torch.from_numpy(scores), references=positives) == wanted
    ranks = [rank_by_loop(row, own) for row, own in zip(scores.tolist(), positives, strict=True)]
    assert load("ranks").compute(predictions=ranks) == wanted
    by_ranks = load("ranks")
    by_ranks.add_batch(predictions=np.array(ranks[:20]))
    by_ranks.add_batch(predictions=np.array(ranks[20:]))
    assert by_ranks.compute() == wanted


@pytest.mark.parametrize(
    ("scores", "positives", "options", "message"),
    [
        ([[0.1, 0.2], [0.3, 0.4]], [[0], []], {}, "references of query 1 are empty; expected at least one positive"),
        ([[0.1, 0.2], [0.3, 0.4]], [[0], [1, 2]], {}, "references of query 1 have 2; .* 0 to 1"),
        ([[0.1, 0.2]], [[-1]], {}, "references of query 0 have -1; .* 0 to 1"),
        ([[0.1, 0.2], [0.3]], [[0], [0]], {}, "predictions of query 1 are 1 scores; expected 2"),
        ([[0.1, 0.2]], [[0], [1]], {}, "Mismatch in the number of predictions .1. and references .2."),
        ([], [], {}, "there is no query"),
        ([[]], [[0]], {}, "references of query 0 have 0"),
        ([None], [[0]], {}, "predictions of query 0 is None"),
        ([[0.1]], [[None]], {}, "references have a position that is None"),
        ([["a"]], [[0]], {}, "could not convert string to float|don't match the expected format"),
        ([[0.1]], [[0]], {"ks": [0]}, "ks are .0.; expected at least one integer"),
        ([[0.1]], [[0]], {"ks": []}, "ks are "),
    ],
)
def test_bad_input_is_named(tmp_path, scores, positives, options, message):
    metric = load_metric("retrieval_recall", cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=scores, references=positives, **options)


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([3, 0], "predictions of query 1 is 0; expected a rank of at least 1"),
        ([3, None], "predictions has a rank that is None"),
        ([], "there is no query"),
    ],
)
def test_bad_ranks_are_named(tmp_path, ranks, message):
    metric = load_metric("retrieval_recall", "ranks", cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=ranks)


def test_another_configuration_is_an_error(load):
    with pytest.raises(ValueError, match="config_name is 'rank'; expected 'scores' or 'ranks'"):
        load("rank")
