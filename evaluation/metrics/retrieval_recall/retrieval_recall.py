"""Recall at k and median rank of retrieval.

Shape letters: Q queries, n of them at once, C candidates, P positives of all n.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """\
Recall at k, in percent, and median rank of retrieval. A query may have several positive candidates; its rank is that of
the best one: 1 and how many candidates that are not positive have a score that is not lower. Equal scores and NaN count
against the model.
"""

_INPUTS = """
Configuration "scores" (the default):
    predictions: for each query its scores of all candidates, higher is better; as many for every query.
    references: for each query the positions of its positive candidates, at least one.
Configuration "ranks":
    predictions: for each query its rank, 1 for the best. There are no references.
Args of `compute`:
    ks: the k of the recalls, 1, 5 and 10 unless given.
Returns:
    "R@k" for each k: percentage of the queries whose rank is at most k.
    "median_rank": the mean of the middle two where the number of queries is even.
    "num_queries".
Example:
    >>> metric = evaluate.load("retrieval_recall")
    >>> metric.compute(predictions=[[0.9, 0.1, 0.2], [0.8, 0.3, 0.5]], references=[[0], [1, 2]], ks=[1])
    {'R@1': 50.0, 'median_rank': 1.5, 'num_queries': 2}
"""

_SCORES = {
    "predictions": datasets.Sequence(datasets.Value("float64")),
    "references": datasets.Sequence(datasets.Value("int64")),
}
_FEATURES = {"default": _SCORES, "scores": _SCORES, "ranks": {"predictions": datasets.Value("int64")}}
# Bounds what comparing scores needs beside the scores: this many of them at once.
_SCORES_AT_ONCE = 2**22


class RetrievalRecall(evaluate.Metric):
    """See `_DESCRIPTION` and `_INPUTS`."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _FEATURES:
            raise ValueError(f"config_name is {self.config_name!r}; expected 'scores' or 'ranks'")
        info = evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(_FEATURES[self.config_name]),
        )
        # Arrow arrays rather than lists of Python numbers; the constructor takes a format for flat features only.
        info.format = "arrow"
        return info

    def _compute(self, *, predictions: Any, references: Any = None, ks: Sequence[int] = (1, 5, 10)) -> dict[str, Any]:
        ks = _checked_ks(ks)
        ranks = _given_ranks(predictions) if self.config_name == "ranks" else _ranks(predictions, references)
        if not len(ranks):
            raise ValueError("there is no query; expected at least one")
        recalls = {f"R@{k}": 100 * int((ranks <= k).sum()) / len(ranks) for k in ks}
        return {**recalls, "median_rank": float(np.median(ranks)), "num_queries": len(ranks)}


def _checked_ks(ks: Sequence[int]) -> list[int]:
    ks = list(ks)
    if not ks or not all(isinstance(k, (int, np.integer)) and k >= 1 for k in ks):
        raise ValueError(f"ks are {ks}; expected at least one integer, each 1 or more")
    return [int(k) for k in ks]


def _given_ranks(predictions: Any) -> np.ndarray:
    if predictions.null_count:
        raise ValueError("predictions has a rank that is None; expected integers of at least 1")
    ranks = np.concatenate([np.empty(0, np.int64), *(chunk.to_numpy() for _, chunk in _chunks(predictions))])
    if len(ranks) and ranks.min() < 1:
        query = int(np.argmin(ranks))
        raise ValueError(f"predictions of query {query} is {ranks[query]}; expected a rank of at least 1")
    return ranks


def _ranks(predictions: Any, references: Any) -> np.ndarray:
    """Ranks (Q,) int64 from the lists of scores and of positives."""
    ranks = [np.empty(0, np.int64)]
    num_candidates = None
    for (first, scores), (_, positives) in zip(_chunks(predictions), _chunks(references), strict=True):
        values, lengths = _flat(scores, "predictions", first)
        if num_candidates is None and len(lengths):
            num_candidates = int(lengths[0])
        if (lengths != num_candidates).any():
            query = int((lengths != num_candidates).argmax())
            raise ValueError(
                f"predictions of query {first + query} are {lengths[query]} scores; expected {num_candidates}, "
                "one for each candidate, as for the query before"
            )
        own, counts = _flat(positives, "references", first)
        _check_positives(own, counts, int(num_candidates or 0), first)
        ranks += _ranks_of_rows(values.reshape(len(lengths), -1), own, counts)
    return np.concatenate(ranks)


def _ranks_of_rows(scores: np.ndarray, positives: np.ndarray, counts: np.ndarray) -> Iterator[np.ndarray]:
    """Ranks of queries with scores (n, C), whose `counts` (n,) positives (P,) follow one another; some at a time."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    rows = max(1, _SCORES_AT_ONCE // max(1, scores.shape[1]))
    for start in range(0, len(scores), rows):
        block = scores[start : start + rows]
        own = positives[ends[start] : ends[start + len(block)]]
        query = np.repeat(np.arange(len(block)), counts[start : start + rows])
        # The maximum of numbers of which one is NaN is NaN, which no candidate is below.
        best = np.maximum.reduceat(block[query, own], ends[start : start + len(block)] - ends[start])
        ahead = ~(block < best[:, None])
        ahead[query, own] = False
        yield 1 + ahead.sum(1)


def _check_positives(positives: np.ndarray, counts: np.ndarray, num_candidates: int, first: int) -> None:
    if not counts.all():
        raise ValueError(
            f"references of query {first + int(np.argmin(counts))} are empty; expected at least one positive"
        )
    outside = (positives < 0) | (positives >= num_candidates)
    if outside.any():
        place = int(np.argmax(outside))
        query = first + int(np.searchsorted(np.cumsum(counts), place, side="right"))
        raise ValueError(
            f"references of query {query} have {positives[place]}; expected positions of candidates, "
            f"0 to {num_candidates - 1}"
        )


def _chunks(column: Any) -> Iterator[tuple[int, Any]]:
    """An Arrow column's pieces, each with the number of rows before it."""
    first = 0
    for chunk in getattr(column, "chunks", [column]):
        yield first, chunk
        first += len(chunk)


def _flat(lists: Any, name: str, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of all lists one after another, and how many each has. A value that is None is NaN among floats."""
    if lists.null_count:
        query = first + lists.is_null().to_pylist().index(True)
        raise ValueError(f"{name} of query {query} is None; expected a list of numbers")
    values = lists.flatten()
    if name == "references" and values.null_count:
        raise ValueError("references have a position that is None; expected integers")
    return values.to_numpy(zero_copy_only=False), np.diff(lists.offsets.to_numpy())
