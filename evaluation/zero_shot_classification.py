"""Zero-shot classification of videos or images by the texts of their classes.

    accelerate launch evaluation/zero_shot_classification.py CHECKPOINT --data kinetics400 --annotations val.csv \
        --media videos

A class is the mean of the embeddings of its name in all prompt templates. docs/evaluation.md describes options and
output.
"""

from collections.abc import Sequence

import torch
from torch import nn

from trajvit.evaluation.checkpoint_loading import EvaluatedModel, load_contrastive
from trajvit.evaluation.classification_accuracy import accuracies
from trajvit.evaluation.completeness import check_features, check_media
from trajvit.evaluation.data_registry import open_classification_set
from trajvit.evaluation.evaluation_data import ClassificationSet
from trajvit.evaluation.feature_extraction import Extraction, embed_media, embed_texts
from trajvit.evaluation.prompt_templates import TEMPLATES, fill, spoken_class_name
from trajvit.evaluation.result_files import Result
from trajvit.evaluation.task_command import OptionError, TaskOptions, run_task

_ROWS_AT_ONCE = 4096


def evaluate_zero_shot_classification(
    model: EvaluatedModel,
    data: ClassificationSet,
    extraction: Extraction,
    templates: Sequence[str],
    *,
    num_frames: int | None = None,
    allow_missing: bool = False,
    trained_on: str | None = None,
) -> Result:
    """Embed media and the classes' prompts; an item's classes are ranked by the similarity to its embedding.

    Args:
        model: A contrastive one.
        data: Media with their classes.
        extraction: How, and by how many processes, they are embedded; each process calls this.
        templates: Prompts with one `{}` each, in which the name of a class goes.
        num_frames, allow_missing, trained_on: As of `retrieval.evaluate_retrieval`.

    Returns:
        `top_1` and, of five classes or more, `top_5` in percent.

    Raises:
        MissingMediaError: Media are missing, and that is not allowed.
        ValueError: A template is not one.
    """
    check_media(data.name, data.items, allow_missing)
    names = [spoken_class_name(data.name, name) for name in data.class_names]
    classes = embed_classes(model, names, templates, extraction)
    store = embed_media(model, data.items, extraction, num_frames)
    failures, missing = check_features(data.name, data.items, store, allow_missing)
    labels = [label for position, label in enumerate(data.labels) if position not in failures]
    scores = (rows @ classes.T for rows in store.vectors().split(_ROWS_AT_ONCE))
    return Result(
        task="zero_shot_classification",
        dataset=data.name,
        model=model.name,
        tower=model.tower,
        metrics=accuracies(scores, labels, len(classes)),
        num_items=len(labels),
        trained_on=trained_on,
        missing=missing,
        settings={
            "templates": list(templates),
            "num_classes": len(data.class_names),
            **model.settings(num_frames),
        },
    )


def embed_classes(
    model: EvaluatedModel, class_names: Sequence[str], templates: Sequence[str], extraction: Extraction
) -> torch.Tensor:
    """(number of classes, d) float32: the normalised mean of the normalised embeddings of each class's prompts."""
    prompts = [prompt for name in class_names for prompt in fill(templates, name)]
    embedded = embed_texts(model, prompts, extraction).unflatten(0, (len(class_names), len(templates)))
    return nn.functional.normalize(embedded.mean(1), dim=-1)


def main(options: TaskOptions) -> Result:
    data = open_classification_set(options.data, **options.reading)
    name = options.templates or ("objects" if options.data == "imagenet" else "video_actions")
    if name not in TEMPLATES:
        raise OptionError(f"--templates is {name!r}; expected one of {', '.join(TEMPLATES)}")
    return evaluate_zero_shot_classification(
        load_contrastive(options.checkpoint, options.device, options.torch_dtype),
        data,
        options.extraction,
        TEMPLATES[name],
        num_frames=options.frames,
        allow_missing=options.allow_missing,
        trained_on=options.trained_on,
    )


if __name__ == "__main__":
    run_task(main, __doc__)
