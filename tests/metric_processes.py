"""Three metrics in one of several processes, each of which adds its own examples.

python tests/metric_processes.py FOLDER NUM_PROCESSES PROCESS
"""

import sys
from pathlib import Path

import evaluate
import numpy as np

# Loaded by path, since importing the package as well takes a process longer than all else here.
METRICS = Path(__file__).parents[1] / "evaluation/metrics"
OPTIONS = {"retrieval_recall": {}, "top_k_accuracy": {"per_class_mean": True}, "ava_frame_map": {}}
# Where in the examples each process's own end, and the sizes of the batches it adds.
SHARES = {1: [(0, 37)], 2: [(0, 26), (26, 37)]}
BATCH = 8


def examples():
    """37 examples for each metric, with equal scores among them."""
    random = np.random.default_rng(5)
    tables = {name: random.integers(0, 50, (37, 11)) / 49 for name in ("retrieval_recall", "top_k_accuracy")}
    positives = [list(random.integers(0, 11, random.integers(1, 4))) for _ in range(37)]
    boxes = np.sort(random.integers(0, 5, (37, 6, 2, 2)) / 4, axis=2).reshape(37, 6, 4)
    labels = random.integers(0, 3, (37, 6))
    found = [
        {"boxes": own[:5], "labels": kinds[:5], "scores": random.integers(0, 9, 5) / 8}
        for own, kinds in zip(boxes, labels, strict=True)
    ]
    true = [{"boxes": own[3:], "labels": kinds[3:]} for own, kinds in zip(boxes, labels, strict=True)]
    return {
        "retrieval_recall": (tables["retrieval_recall"], positives),
        "top_k_accuracy": (tables["top_k_accuracy"], random.integers(0, 11, 37)),
        "ava_frame_map": (found, true),
    }


def results(folder, num_processes, process):
    """What each metric gives, or None, in a process that adds its own examples."""
    found = {}
    first, end = SHARES[num_processes][process]
    for name, (predictions, references) in examples().items():
        metric = evaluate.load(
            str(METRICS / name),
            cache_dir=str(folder),
            num_process=num_processes,
            process_id=process,
            experiment_id=f"of_{num_processes}",
        )
        for start in range(first, end, BATCH):
            own = slice(start, min(start + BATCH, end))
            metric.add_batch(predictions=predictions[own], references=references[own])
        found[name] = metric.compute(**OPTIONS[name])
    return found


if __name__ == "__main__":
    found = results(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    if any(result is not None for result in found.values()):
        raise SystemExit(f"only the first process may have results: {found}")
