"""Top-1 and top-5 accuracy of scores that come in batches."""

from collections.abc import Iterable, Sequence

import torch

from .metric_modules import load_metric


def accuracies(batches: Iterable[torch.Tensor], labels: Sequence[int], num_classes: int) -> dict[str, float]:
    """`top_1` and, of five classes or more, `top_5`, in percent.

    Args:
        batches: (n, C) scores of n items each, in the order of `labels`.
        labels: The class of each item.
        num_classes: C.
    """
    metric = load_metric("top_k_accuracy")
    done = 0
    for scores in batches:
        metric.add_batch(predictions=scores.numpy(), references=list(labels[done : done + len(scores)]))
        done += len(scores)
    found = metric.compute(ks=[k for k in (1, 5) if k <= num_classes])
    return {name.removesuffix("_accuracy"): value for name, value in found.items() if name.startswith("top_")}
