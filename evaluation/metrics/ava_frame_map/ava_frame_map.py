"""Mean average precision of action detection in key frames, by the rules of AVA.

Shape letters: D detections and G ground-truth boxes of all key frames, each with one class; L classes.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """\
Frame mAP of action detection as AVA defines it: for each class the average precision of detections over all key frames,
where a detection is right when the ground-truth box of its class and key frame that it overlaps most has an IoU of 0.5
or more with it, and no detection with a higher score has claimed that box.
"""

_CITATION = """\
@inproceedings{gu2018ava,
  title={{AVA}: A Video Dataset of Spatio-temporally Localized Atomic Visual Actions},
  author={Gu, Chunhui and Sun, Chen and Ross, David A. and Vondrick, Carl and Pantofaru, Caroline and Li, Yeqing and
    Vijayanarasimhan, Sudheendra and Toderici, George and Ricco, Susanna and Sukthankar, Rahul and Schmid, Cordelia and
    Malik, Jitendra},
  booktitle={CVPR},
  year={2018}
}
"""

_INPUTS = """
Args of `compute`:
    predictions: for each key frame a dict of its detections: "boxes" [x1, y1, x2, y2], "labels" and "scores". A person
        who may do several things is as many detections. Lists may be empty.
    references: for each key frame a dict of its ground truth: "boxes" and "labels".
    iou_threshold: 0.5 unless given.
    labels: the classes that count; those with ground truth unless given.
    max_detections: keep only so many detections of a key frame, those with the highest scores; all unless given.
Returns:
    "mAP": mean of the classes' average precision, in percent.
    "AP": that of each class with ground truth, by its id as a string.
    "num_classes": how many have ground truth, of those that count.
    "num_key_frames".
Example:
    >>> metric = evaluate.load("ava_frame_map")
    >>> found = {"boxes": [[0.1, 0.1, 0.5, 0.9]], "labels": [12], "scores": [0.8]}
    >>> metric.compute(predictions=[found], references=[{"boxes": [[0.1, 0.1, 0.5, 1.0]], "labels": [12]}])
    {'mAP': 100.0, 'num_classes': 1, 'num_key_frames': 1, 'AP': {'12': 100.0}}
"""

_BOXES = datasets.Sequence(datasets.Sequence(datasets.Value("float64"), length=4))
_LABELS = datasets.Sequence(datasets.Value("int64"))
_SCORES = datasets.Sequence(datasets.Value("float64"))


class AvaFrameMap(evaluate.Metric):
    """See `_DESCRIPTION` and `_INPUTS`."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name != "default":
            raise ValueError(f"config_name is {self.config_name!r}; expected none, this metric has one configuration")
        info = evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": {"boxes": _BOXES, "labels": _LABELS, "scores": _SCORES},
                    "references": {"boxes": _BOXES, "labels": _LABELS},
                }
            ),
            reference_urls=["https://research.google.com/ava/", "https://arxiv.org/abs/1705.08421"],
        )
        # Arrow arrays rather than lists of Python numbers; the constructor takes a format for flat features only.
        info.format = "arrow"
        return info

    def _compute(
        self,
        *,
        predictions: Any,
        references: Any,
        iou_threshold: float = 0.5,
        labels: Sequence[int] | None = None,
        max_detections: int | None = None,
    ) -> dict[str, Any]:
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"iou_threshold is {iou_threshold}; expected more than 0, at most 1")
        detections, truth = _all_boxes(predictions, "predictions"), _all_boxes(references, "references")
        classes = np.unique(truth.labels) if labels is None else _checked_classes(labels)
        detections, truth = _of_classes(detections, classes), _of_classes(truth, classes)
        if not len(truth.boxes):
            raise ValueError("references have no box of the classes that count; expected at least one")
        # As the official evaluation: first the limit, then boxes without area go.
        detections = _with_area(_highest(detections, max_detections))
        precisions = _average_precisions(detections, truth, len(classes), iou_threshold)
        return {
            "mAP": float(np.mean(list(precisions.values()))),
            "num_classes": len(precisions),
            "num_key_frames": len(predictions),
            "AP": {str(classes[number]): value for number, value in precisions.items()},
        }


class _Boxes(NamedTuple):
    """Key frame (D,) of each box, boxes (D, 4), labels (D,) and, of detections, scores (D,)."""

    key_frames: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def at(self, index: np.ndarray) -> "_Boxes":
        return _Boxes(*(values[index] for values in self))


def _average_precisions(detections: _Boxes, truth: _Boxes, num_classes: int, iou_threshold: float) -> dict[int, float]:
    """Average precision in percent of each class with ground truth, by its number.

    A ground-truth box is found at the highest score among the detections that overlap it most and enough; whichever
    come after are wrong, like all others. Detections with equal scores enter the curve together, so their order does
    not matter: the curve is that of the order that is worst for the model.
    """
    matched, overlaps = _most_overlapped(detections, truth, num_classes)
    claims = overlaps >= iou_threshold
    found_at = np.full(len(truth.boxes), -np.inf)
    np.maximum.at(found_at, matched[claims], detections.scores[claims])
    precisions = {}
    scores_of_class = _by_class(detections, detections.scores, num_classes)
    for number, found in enumerate(_by_class(truth, found_at, num_classes)):
        if len(found):
            right = np.sort(found[found > -np.inf])
            precision = _at_least(right, right) / _at_least(np.sort(scores_of_class[number]), right)
            # Each found box adds as much recall, at the best precision of this or a lower score.
            precisions[number] = 100 * float(np.maximum.accumulate(precision).sum()) / len(found)
    return precisions


def _most_overlapped(detections: _Boxes, truth: _Boxes, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the position (D,) of the box it overlaps most, the first of equals, and their IoU (D,).

    Only boxes of the same class and key frame count; where there are none the IoU is 0.
    """
    places = truth.key_frames * num_classes + truth.labels
    order = np.argsort(places, kind="stable")
    wanted = detections.key_frames * num_classes + detections.labels
    first = np.searchsorted(places[order], wanted, side="left")
    counts = np.searchsorted(places[order], wanted, side="right") - first
    matched, overlaps = np.zeros(len(wanted), np.int64), np.zeros(len(wanted))
    open_ones = np.flatnonzero(counts)
    step = 0
    while len(open_ones):
        candidates = order[first[open_ones] + step]
        iou = _iou(detections.boxes[open_ones], truth.boxes[candidates])
        better = iou > overlaps[open_ones]
        matched[open_ones[better]], overlaps[open_ones[better]] = candidates[better], iou[better]
        step += 1
        open_ones = open_ones[counts[open_ones] > step]
    return matched, overlaps


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU (D,) of boxes (D, 4), which have an area, with others (D, 4)."""
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    intersection = np.maximum(sides, 0).prod(1)
    return intersection / (_areas(boxes) + _areas(others) - intersection)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _at_least(ascending: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the sorted values are as high as each threshold or higher."""
    return len(ascending) - np.searchsorted(ascending, thresholds, side="left")


def _by_class(boxes: _Boxes, values: np.ndarray, num_classes: int) -> list[np.ndarray]:
    ends = np.cumsum(np.bincount(boxes.labels, minlength=num_classes))[:-1]
    return np.split(values[np.argsort(boxes.labels, kind="stable")], ends)


def _of_classes(boxes: _Boxes, classes: np.ndarray) -> _Boxes:
    """The boxes of these classes (L,), ascending, with the classes' numbers 0 to L - 1 for labels."""
    numbers = np.searchsorted(classes, boxes.labels)
    counts = np.flatnonzero(np.append(classes, -1)[numbers] == boxes.labels)
    return boxes._replace(labels=numbers).at(counts)


def _highest(detections: _Boxes, max_detections: int | None) -> _Boxes:
    """At most so many detections of each key frame, those with the highest scores, the first of equals."""
    if max_detections is None:
        return detections
    if max_detections < 1:
        raise ValueError(f"max_detections is {max_detections}; expected at least 1, or None for no limit")
    order = np.lexsort((-detections.scores, detections.key_frames))
    key_frames = detections.key_frames[order]
    rank = np.arange(len(order)) - np.searchsorted(key_frames, key_frames, side="left")
    return detections.at(np.sort(order[rank < max_detections]))


def _with_area(detections: _Boxes) -> _Boxes:
    return detections.at(np.flatnonzero((detections.boxes[:, 2:] > detections.boxes[:, :2]).all(1)))


def _checked_classes(labels: Sequence[int]) -> np.ndarray:
    classes = np.unique(np.asarray(labels))
    if classes.size == 0 or classes.dtype.kind not in "iu" or classes[0] < 0:
        raise ValueError(f"labels are {labels}; expected at least one id of a class, integers of at least 0")
    return classes.astype(np.int64)


def _all_boxes(column: Any, name: str) -> _Boxes:
    """The boxes of all key frames of an Arrow column."""
    no_boxes = _Boxes(np.empty(0, np.int64), np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))
    parts = [no_boxes, *_boxes_of_chunks(column, name)]
    boxes = _Boxes(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    for problem, wrong, expected in (
        ("boxes", ~np.isfinite(boxes.boxes).all(1), "finite x1, y1, x2, y2"),
        ("boxes", (boxes.boxes[:, 2:] < boxes.boxes[:, :2]).any(1), "x1, y1, x2, y2 with x1 <= x2 and y1 <= y2"),
        ("labels", boxes.labels < 0, "ids of classes of at least 0"),
        ("scores", ~np.isfinite(boxes.scores), "finite numbers"),
    ):
        if wrong.any():
            place = int(np.argmax(wrong))
            value = getattr(boxes, problem)[place].tolist()
            raise ValueError(
                f"{problem} of {name} of key frame {boxes.key_frames[place]} have {value}; expected {expected}"
            )
    return boxes


def _boxes_of_chunks(column: Any, name: str) -> Iterator[_Boxes]:
    first = 0
    for chunk in getattr(column, "chunks", [column]):
        if chunk.null_count:
            raise ValueError(f"{name} of key frame {first + chunk.is_null().to_pylist().index(True)} is None")
        numbers, counts = _flat(chunk.field("boxes"), f"boxes of {name}", first)
        boxes = numbers.flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
        columns = [boxes]
        for part in ("labels", "scores") if name == "predictions" else ("labels",):
            values, lengths = _flat(chunk.field(part), f"{part} of {name}", first)
            if (lengths != counts).any():
                place = int((lengths != counts).argmax())
                raise ValueError(
                    f"{part} of {name} of key frame {first + place} are {lengths[place]}; "
                    f"expected {counts[place]}, one for each box"
                )
            columns.append(values.to_numpy(zero_copy_only=False))
        # Ground truth has no scores.
        columns += [np.zeros(len(boxes))] * (3 - len(columns))
        yield _Boxes(np.repeat(np.arange(first, first + len(chunk)), counts), *columns)
        first += len(chunk)


def _flat(lists: Any, name: str, first: int) -> tuple[Any, np.ndarray]:
    """All lists' values one after another, an Arrow array, and how many each list has."""
    if lists.null_count:
        raise ValueError(f"{name} of key frame {first + lists.is_null().to_pylist().index(True)} is None")
    values = lists.flatten()
    if values.null_count:
        raise ValueError(f"{name} have a value that is None")
    return values, np.diff(lists.offsets.to_numpy())
