"""Spatio-temporal action detection: a probe on the tokens of each person's box (supplement, section 4).

    accelerate launch evaluation/action_detection.py CHECKPOINT --data ava --annotations annotations --media movies \
        --train-option split=train --option detections=ava_detection_val_boxes_and_labels.csv

The probe is trained on annotated boxes, and tested on these and on detected ones by the frame mAP at an IoU of 0.5.
Each tower pools a box in its own way; one whose tokens have no places in a frame cannot take part. docs/evaluation.md
describes options and output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from trajvit.evaluation.checkpoint_loading import EvaluatedModel, load_tower
from trajvit.evaluation.completeness import check_features, check_media
from trajvit.evaluation.data_registry import open_action_detection_set
from trajvit.evaluation.evaluation_data import ActionDetectionSet, ActionKeyFrame
from trajvit.evaluation.feature_extraction import Extraction, computed_once, extract_regions
from trajvit.evaluation.feature_store import FeatureStore, hash_of
from trajvit.evaluation.metric_modules import load_metric
from trajvit.evaluation.probe_training import ProbeRecipe, probe_logits, train_probe
from trajvit.evaluation.result_files import Result
from trajvit.evaluation.task_command import TaskOptions, run_task
from trajvit.modeling_trajvit import AttentiveProbe


def evaluate_action_detection(
    model: EvaluatedModel,
    train: ActionDetectionSet,
    test: ActionDetectionSet,
    extraction: Extraction,
    recipe: ProbeRecipe | None = None,
    *,
    num_frames: int | None = None,
    allow_missing: bool = False,
    trained_on: str | None = None,
) -> Result:
    """Train a probe on the boxes of one set, and tell the actions of another's by it.

    Args:
        model: A vision tower of `load_tower(..., for_regions=True)`; its weights stay as they are.
        train, test: Of the same actions.
        extraction: How, and by how many processes, tokens are computed; each process calls this.
        recipe: Of the probe; None for the supplement's.
        num_frames, allow_missing, trained_on: As of `retrieval.evaluate_retrieval`.

    Returns:
        `mAP_ground_truth_boxes` and, where `test` has detected boxes, `mAP_detected_boxes` in percent.

    Raises:
        MissingMediaError: Media are missing, and that is not allowed.
        ValueError: The sets have other actions.
    """
    recipe = recipe or ProbeRecipe()
    if train.action_names != test.action_names:
        raise ValueError(f"{train.name} has other actions for training than for testing; expected the same")
    for data in (train, test):
        check_media(data.name, data.items, allow_missing)
    ids = sorted(test.action_names)
    stores = [
        extract_regions(model, data.items, boxes, data.seconds, extraction, num_frames)
        for data, boxes in ((train, _annotated(train)), (test, _annotated_and_detected(test)))
    ]
    train_failures, train_missing = check_features(train.name, train.items, stores[0], allow_missing)
    failures, missing = check_features(test.name, test.items, stores[1], allow_missing)
    labels = _labels(train.key_frames, train_failures, ids)

    def probed() -> dict[str, Any]:
        probe = train_probe(stores[0], labels, len(ids), recipe, model.device, extraction.show_progress)
        scores = _scores_of_boxes(probe, stores[1], test)
        found = {"ground_truth_boxes": _frame_map([own for own, _ in scores], test, failures, ids)}
        if test.has_detections:
            found["detected_boxes"] = _frame_map([own for _, own in scores], test, failures, ids, detected=True)
        return found

    name = "probe-" + hash_of(model.fingerprint, train.name, test.name, num_frames, asdict(recipe))
    found = computed_once(extraction, name, probed)
    return Result(
        task="action_detection",
        dataset=test.name,
        model=model.name,
        tower=model.tower,
        metrics={f"mAP_{boxes}": own["mAP"] for boxes, own in found.items()},
        num_items=len(test.key_frames) - len(failures),
        trained_on=trained_on,
        missing={**missing, **{f"train: {key}": reason for key, reason in train_missing.items()}},
        settings={
            **asdict(recipe),
            "AP": {boxes: own["AP"] for boxes, own in found.items()},
            "num_train_boxes": len(labels),
            "num_actions": len(ids),
            **model.settings(num_frames),
        },
    )


def _annotated(data: ActionDetectionSet) -> list[torch.Tensor]:
    return [torch.as_tensor(key_frame.boxes).float().reshape(-1, 4) for key_frame in data.key_frames]


def _annotated_and_detected(data: ActionDetectionSet) -> list[torch.Tensor]:
    """Of each key frame the annotated boxes, then the detected ones: its video is decoded once for both."""
    if not data.has_detections:
        return _annotated(data)
    found = [torch.as_tensor(key_frame.detected_boxes).float().reshape(-1, 4) for key_frame in data.key_frames]
    return [torch.cat(pair) for pair in zip(_annotated(data), found, strict=True)]


def _labels(key_frames: Sequence[ActionKeyFrame], failures: Mapping[int, str], ids: Sequence[int]) -> torch.Tensor:
    """(annotated boxes of key frames that can be used, number of ids) float32, 1 for every action of a box."""
    used = [key_frame for position, key_frame in enumerate(key_frames) if position not in failures]
    actions = [set(own) for key_frame in used for own in key_frame.actions]
    return torch.tensor([[float(action in own) for action in ids] for own in actions]).reshape(len(actions), len(ids))


def _scores_of_boxes(
    probe: AttentiveProbe, store: FeatureStore, data: ActionDetectionSet
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each key frame (R, actions) and (D, actions) float32: how sure the probe is of each of its boxes."""
    logits = [rows.sigmoid() for rows in probe_logits(probe, store)]
    rows = iter((torch.cat(logits) if logits else torch.empty(0, len(data.action_names))).numpy())
    counts = [count for chunk in store.chunks() for count in chunk.counts.tolist()]
    scores = []
    for key_frame, count in zip(data.key_frames, counts, strict=True):
        own = np.array([next(rows) for _ in range(count)], np.float32).reshape(count, len(data.action_names))
        scores.append((own[: len(key_frame.boxes)], own[len(key_frame.boxes) :]))
    return scores


def _frame_map(
    scores: Sequence[np.ndarray],
    data: ActionDetectionSet,
    failures: Mapping[int, str],
    ids: Sequence[int],
    detected: bool = False,
) -> dict[str, Any]:
    """`mAP` in percent, and the average precision of each action by its name in `AP`.

    Every box is a detection of every action. Key frames whose media cannot be used do not count.
    """
    metric = load_metric("ava_frame_map")
    for position, key_frame in enumerate(data.key_frames):
        if position in failures:
            continue
        boxes = key_frame.detected_boxes if detected else key_frame.boxes
        own = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        pairs = [
            (box, action)
            for box, actions in zip(key_frame.boxes.tolist(), key_frame.actions, strict=True)
            for action in actions
            if action in data.action_names
        ]
        metric.add(
            prediction={
                "boxes": own.repeat(len(ids), axis=0).tolist(),
                "labels": [*ids] * len(own),
                "scores": scores[position].ravel().tolist(),
            },
            reference={"boxes": [box for box, _ in pairs], "labels": [action for _, action in pairs]},
        )
    found = metric.compute()
    return {
        "mAP": found["mAP"],
        "AP": {data.action_names[int(action)]: value for action, value in found["AP"].items()},
    }


def main(options: TaskOptions) -> Result:
    model = load_tower(options.checkpoint, options.device, options.torch_dtype, for_regions=True)
    return evaluate_action_detection(
        model,
        open_action_detection_set(options.data, **options.train_reading),
        open_action_detection_set(options.data, **options.reading),
        options.extraction,
        options.recipe,
        num_frames=options.num_frames,
        allow_missing=options.allow_missing,
        trained_on=options.trained_on,
    )


if __name__ == "__main__":
    run_task(main, __doc__)
