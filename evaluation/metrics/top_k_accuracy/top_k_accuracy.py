"""Top-k accuracy of classification.

Shape letters: N examples, n of them at once, C classes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """\
Top-k accuracy in percent: how often the right class is among the k with the highest scores. Equal scores and NaN count
against the model: the rank of the right class is 1 and how many others have a score that is not lower.
"""

_INPUTS = """
Args of `compute`:
    predictions: for each example its scores of all classes, higher is better; as many for every example.
    references: for each example the position of its class.
    ks: the k of the accuracies, 1 and 5 unless given. With as many classes as k or fewer the accuracy is 100.
    per_class_mean: also return "mean_class_accuracy".
Returns:
    "top_k_accuracy" for each k, as "top_1_accuracy": percentage of the examples.
    "mean_class_accuracy": the top-1 accuracy of each class, averaged over the classes that have examples.
    "num_examples".
Example:
    >>> metric = evaluate.load("top_k_accuracy")
    >>> metric.compute(predictions=[[0.9, 0.1, 0.2], [0.8, 0.3, 0.5]], references=[0, 2], ks=[1, 2])
    {'top_1_accuracy': 50.0, 'top_2_accuracy': 100.0, 'num_examples': 2}
"""

# Bounds what comparing scores needs beside the scores: this many of them at once.
_SCORES_AT_ONCE = 2**22


class TopKAccuracy(evaluate.Metric):
    """See `_DESCRIPTION` and `_INPUTS`."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name != "default":
            raise ValueError(f"config_name is {self.config_name!r}; expected none, this metric has one configuration")
        info = evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )
        # Arrow arrays rather than lists of Python numbers; the constructor takes a format for flat features only.
        info.format = "arrow"
        return info

    def _compute(
        self, *, predictions: Any, references: Any, ks: Sequence[int] = (1, 5), per_class_mean: bool = False
    ) -> dict[str, Any]:
        ks = _checked_ks(ks)
        ranks, labels = _ranks_and_labels(predictions, references)
        if not len(ranks):
            raise ValueError("there is no example; expected at least one")
        results: dict[str, Any] = {f"top_{k}_accuracy": 100 * int((ranks <= k).sum()) / len(ranks) for k in ks}
        if per_class_mean:
            examples = np.bincount(labels)
            right = np.bincount(labels, ranks == 1)
            results["mean_class_accuracy"] = 100 * float(np.mean(right[examples > 0] / examples[examples > 0]))
        return {**results, "num_examples": len(ranks)}


def _checked_ks(ks: Sequence[int]) -> list[int]:
    ks = list(ks)
    if not ks or not all(isinstance(k, (int, np.integer)) and k >= 1 for k in ks):
        raise ValueError(f"ks are {ks}; expected at least one integer, each 1 or more")
    return [int(k) for k in ks]


def _ranks_and_labels(predictions: Any, references: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (N,) of the right classes, 1 for the best, and these classes (N,), both int64."""
    ranks, labels = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    num_classes = None
    for (first, scores), (_, chunk) in zip(_chunks(predictions), _chunks(references), strict=True):
        values, lengths = _flat(scores, first)
        if num_classes is None and len(lengths):
            num_classes = int(lengths[0])
        if (lengths != num_classes).any():
            example = int((lengths != num_classes).argmax())
            raise ValueError(
                f"predictions of example {first + example} are {lengths[example]} scores; expected {num_classes}, "
                "one for each class, as for the example before"
            )
        labels.append(_checked_labels(chunk, int(num_classes or 0), first))
        ranks += _ranks_of_rows(values.reshape(len(lengths), -1), labels[-1])
    return np.concatenate(ranks), np.concatenate(labels)


def _ranks_of_rows(scores: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """Ranks of the classes `labels` (n,) among scores (n, C), some examples at a time."""
    rows = max(1, _SCORES_AT_ONCE // max(1, scores.shape[1]))
    for start in range(0, len(scores), rows):
        block = scores[start : start + rows]
        own = np.take_along_axis(block, labels[start : start + rows, None], axis=1)
        # Nothing is below NaN, and no class below itself, which is counted as the first.
        yield (~(block < own)).sum(1)


def _checked_labels(chunk: Any, num_classes: int, first: int) -> np.ndarray:
    if chunk.null_count:
        raise ValueError("references have a class that is None; expected integers")
    labels = chunk.to_numpy()
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        example = int(outside.argmax())
        raise ValueError(
            f"references of example {first + example} is {labels[example]}; expected the position of a class, "
            f"0 to {num_classes - 1}"
        )
    return labels


def _chunks(column: Any) -> Iterator[tuple[int, Any]]:
    """An Arrow column's pieces, each with the number of rows before it."""
    first = 0
    for chunk in getattr(column, "chunks", [column]):
        yield first, chunk
        first += len(chunk)


def _flat(lists: Any, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all lists one after another, NaN where one is None, and how many each has."""
    if lists.null_count:
        example = first + lists.is_null().to_pylist().index(True)
        raise ValueError(f"predictions of example {example} is None; expected a list of numbers")
    return lists.flatten().to_numpy(zero_copy_only=False), np.diff(lists.offsets.to_numpy())
