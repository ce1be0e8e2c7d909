"""Action classification by an attentive probe on the tokens of a frozen vision tower (supplement, section 1).

    accelerate launch evaluation/attentive_probing.py CHECKPOINT --data ssv2 --annotations validation.json \
        --media videos --train-option annotations=train.json

Tokens of all videos are computed once and kept; another recipe of the probe then takes no decoding and no tower.
docs/evaluation.md describes options and output.
"""

from dataclasses import asdict

import torch

from trajvit.evaluation.checkpoint_loading import EvaluatedModel, load_tower
from trajvit.evaluation.classification_accuracy import accuracies
from trajvit.evaluation.completeness import check_features, check_media
from trajvit.evaluation.data_registry import open_classification_set
from trajvit.evaluation.evaluation_data import ClassificationSet
from trajvit.evaluation.feature_extraction import Extraction, computed_once, extract_tokens
from trajvit.evaluation.feature_store import FeatureStore, hash_of
from trajvit.evaluation.probe_training import ProbeRecipe, probe_logits, train_probe
from trajvit.evaluation.result_files import Result
from trajvit.evaluation.task_command import TaskOptions, run_task


def evaluate_attentive_probing(
    model: EvaluatedModel,
    train: ClassificationSet,
    test: ClassificationSet,
    extraction: Extraction,
    recipe: ProbeRecipe | None = None,
    *,
    num_frames: int | None = None,
    allow_missing: bool = False,
    trained_on: str | None = None,
) -> Result:
    """Train a probe on the tokens of one set, and classify those of another by it.

    Args:
        model: A vision tower, or a model with one; its weights stay as they are.
        train, test: Of the same classes.
        extraction: How, and by how many processes, tokens are computed; each process calls this.
        recipe: Of the probe; None for the supplement's.
        num_frames, allow_missing, trained_on: As of `retrieval.evaluate_retrieval`.

    Returns:
        `top_1` and, of five classes or more, `top_5` in percent.

    Raises:
        MissingMediaError: Media are missing, and that is not allowed.
        ValueError: The sets have other classes.
    """
    recipe = recipe or ProbeRecipe()
    if train.class_names != test.class_names:
        raise ValueError(
            f"{train.name} has other classes for training ({len(train.class_names)}) than for testing "
            f"({len(test.class_names)}); expected the same"
        )
    for data in (train, test):
        check_media(data.name, data.items, allow_missing)
    stores: list[FeatureStore] = []
    labels: list[torch.Tensor] = []
    missing: dict[str, str] = {}
    for data in (train, test):
        store = extract_tokens(model, data.items, extraction, num_frames)
        failures, lacking = check_features(data.name, data.items, store, allow_missing)
        # A set for training may use the keys of that for testing.
        missing |= lacking if data is test else {f"train: {key}": reason for key, reason in lacking.items()}
        stores.append(store)
        labels.append(torch.tensor([label for item, label in enumerate(data.labels) if item not in failures]))

    def probed() -> dict[str, float]:
        probe = train_probe(
            stores[0], labels[0], len(train.class_names), recipe, model.device, extraction.show_progress
        )
        return accuracies(probe_logits(probe, stores[1]), labels[1].tolist(), len(test.class_names))

    name = "probe-" + hash_of(model.fingerprint, train.name, test.name, num_frames, asdict(recipe))
    return Result(
        task="attentive_probing",
        dataset=test.name,
        model=model.name,
        tower=model.tower,
        metrics=computed_once(extraction, name, probed),
        num_items=len(labels[1]),
        trained_on=trained_on,
        missing=missing,
        settings={
            **asdict(recipe),
            "num_train_items": len(labels[0]),
            "num_classes": len(test.class_names),
            **model.settings(num_frames),
        },
    )


def main(options: TaskOptions) -> Result:
    return evaluate_attentive_probing(
        load_tower(options.checkpoint, options.device, options.torch_dtype),
        open_classification_set(options.data, **options.train_reading),
        open_classification_set(options.data, **options.reading),
        options.extraction,
        options.recipe,
        num_frames=options.frames,
        allow_missing=options.allow_missing,
        trained_on=options.trained_on,
    )


if __name__ == "__main__":
    run_task(main, __doc__)
