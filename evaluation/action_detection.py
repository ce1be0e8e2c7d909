"""Spatio-temporal action detection: a probe on the tokens of each person's box (supplement, section 4).

    accelerate launch evaluation/action_detection.py CHECKPOINT --data ava --annotations annotations --media movies \
        --train-option split=train --option detections=ava_detection_val_boxes_and_labels.csv

The probe is trained on annotated boxes, and tested on these and on detected ones by the frame mAP at an IoU of 0.5.
Each tower pools a box in its own way; one whose tokens have no places in a frame cannot take part. docs/evaluation.md
describes options and output.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from trajvit.evaluation.checkpoint_loading import EvaluatedModel, load_tower
from trajvit.evaluation.completeness import check_features, check_media
from trajvit.evaluation.data_registry import open_action_detection_set
from trajvit.evaluation.evaluation_data import ActionDetectionSet, ActionKeyFrame
from trajvit.evaluation.feature_extraction import Extraction, extract_regions
from trajvit.evaluation.feature_store import FeatureStore
from trajvit.evaluation.metric_modules import load_metric
from trajvit.evaluation.probe_training import ProbeRecipe, probe_logits, train_probe
from trajvit.evaluation.result_files import Result
from trajvit.evaluation.task_command import TaskOptions, run_task


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
    store = extract_regions(model, train.key_frames, extraction, num_frames)
    _, missing = check_features(train.name, train.items, store, allow_missing)
    show_progress = extraction.show_progress and extraction.process_index == 0
    labels = _labels(train.key_frames, store, ids)
    probe = train_probe(store, labels, len(ids), recipe, model.device, show_progress)

    annotated = extract_regions(model, test.key_frames, extraction, num_frames)
    failures, lacking = check_features(test.name, test.items, annotated, allow_missing)
    missing |= lacking
    boxes = [key_frame.boxes for key_frame in test.key_frames]
    metrics, per_action = {}, {}
    metrics["mAP_ground_truth_boxes"], per_action["ground_truth_boxes"] = _frame_map(probe, annotated, boxes, test, ids)
    found = [key_frame.detected_boxes for key_frame in test.key_frames]
    if all(own is not None for own in found):
        detected = extract_regions(model, test.key_frames, extraction, num_frames, detected=True)
        metrics["mAP_detected_boxes"], per_action["detected_boxes"] = _frame_map(probe, detected, found, test, ids)
    return Result(
        task="action_detection",
        dataset=test.name,
        model=model.name,
        tower=model.tower,
        metrics=metrics,
        num_items=len(test.key_frames) - len(failures),
        trained_on=trained_on,
        missing=missing,
        settings={
            **asdict(recipe),
            "AP": per_action,
            "num_train_boxes": len(labels),
            "num_actions": len(ids),
            **model.settings(num_frames),
        },
    )


def _labels(key_frames: Sequence[ActionKeyFrame], store: FeatureStore, ids: Sequence[int]) -> torch.Tensor:
    """(boxes whose features are stored, number of ids) float32, 1 for every action of a box."""
    failures = store.failures()
    used = [key_frame for position, key_frame in enumerate(key_frames) if position not in failures]
    actions = [set(own) for key_frame in used for own in key_frame.actions]
    return torch.tensor([[float(action in own) for action in ids] for own in actions]).reshape(len(actions), len(ids))


def _frame_map(
    probe: Any, store: FeatureStore, boxes: Sequence[Any], data: ActionDetectionSet, ids: Sequence[int]
) -> tuple[float, dict[str, float]]:
    """mAP in percent, and the average precision of each action by its name.

    Every box is a detection of every action, as sure as the probe is. Key frames whose media cannot be used do not
    count.
    """
    failures = store.failures()
    scores = torch.cat([logits.sigmoid() for logits in probe_logits(probe, store)]).numpy()
    metric = load_metric("ava_frame_map")
    done = 0
    for position, key_frame in enumerate(data.key_frames):
        if position in failures:
            continue
        own = np.asarray(boxes[position], dtype=np.float64).reshape(-1, 4)
        rows = scores[done : done + len(own)]
        done += len(own)
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
                "scores": rows.ravel().tolist(),
            },
            reference={"boxes": [box for box, _ in pairs], "labels": [action for _, action in pairs]},
        )
    found = metric.compute()
    return found["mAP"], {data.action_names[int(action)]: value for action, value in found["AP"].items()}


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
