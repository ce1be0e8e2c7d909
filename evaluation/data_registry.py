"""The data sets that can be evaluated on, by name, and how their annotations are read."""

import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from .evaluation_data import ActionDetectionSet, ClassificationSet, RetrievalSet


class KnownDataset(NamedTuple):
    """A data set that can be opened by its name.

    Attributes:
        task: `retrieval`, `classification` or `action_detection`.
        reader: Module of this room and function.
        what: It is, in some words.
    """

    task: str
    reader: str
    what: str


DATASETS: dict[str, KnownDataset] = {
    "activitynet": KnownDataset("retrieval", "video_captions:read_activitynet", "ActivityNet Captions, long videos"),
    "vatex": KnownDataset("retrieval", "video_captions:read_vatex", "VATEX, ten-second clips with ten captions"),
    "msrvtt": KnownDataset("retrieval", "video_captions:read_msrvtt", "MSR-VTT, its test split or 1k-A"),
    "charades": KnownDataset("retrieval", "video_captions:read_charades", "Charades, activities at home"),
    "coco": KnownDataset("retrieval", "coco_captions:read_coco", "COCO captions, images"),
    "hub_retrieval": KnownDataset("retrieval", "hub_data:read_hub_retrieval", "any captions in HF Datasets"),
    "kinetics400": KnownDataset("classification", "video_classes:read_kinetics400", "Kinetics-400, actions"),
    "ssv2": KnownDataset("classification", "video_classes:read_ssv2", "Something-Something v2, motions of hands"),
    "ucf101": KnownDataset("classification", "video_classes:read_ucf101", "UCF-101, actions"),
    "imagenet": KnownDataset("classification", "imagenet_classes:read_imagenet", "ImageNet, images of objects"),
    "hub_classification": KnownDataset(
        "classification", "hub_data:read_hub_classification", "any labels in HF Datasets"
    ),
    "ava": KnownDataset("action_detection", "ava_annotations:read_ava", "AVA v2.2, actions of people in boxes"),
}


IMAGE_DATASETS = frozenset({"coco", "imagenet"})
"""Those of images, which are videos of one frame."""


def open_retrieval_set(
    name: str, annotations: str | os.PathLike, media: str | os.PathLike | None = None, **options: Any
) -> RetrievalSet:
    """Media and their captions.

    Args:
        name: `activitynet`, `vatex`, `msrvtt`, `charades`, `coco` or `hub_retrieval`.
        annotations: File of the data set, as its reader describes it.
        media: Folder of the videos or images.
        options: Keyword arguments of the reader.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
        ValueError: The name or an option is not known; the message lists those that are.
    """
    return cast("RetrievalSet", _open("retrieval", name, annotations, media, options))


def open_classification_set(
    name: str, annotations: str | os.PathLike | None, media: str | os.PathLike | None = None, **options: Any
) -> ClassificationSet:
    """Media and their classes: `kinetics400`, `ssv2`, `ucf101`, `imagenet` or `hub_classification`.

    Arguments and errors are those of `open_retrieval_set`; `imagenet` takes None for annotations.
    """
    return cast("ClassificationSet", _open("classification", name, annotations, media, options))


def open_action_detection_set(
    name: str, annotations: str | os.PathLike, media: str | os.PathLike | None = None, **options: Any
) -> ActionDetectionSet:
    """Key frames and the actions in their boxes: `ava`. Arguments and errors are those of `open_retrieval_set`."""
    return cast("ActionDetectionSet", _open("action_detection", name, annotations, media, options))


def dataset_options(name: str) -> tuple[str, ...]:
    """The options of a data set's reader. Raises `ValueError` where the name is not known."""
    if name not in DATASETS:
        raise ValueError(f"there is no data set {name!r}; expected one of {', '.join(DATASETS)}")
    parameters = inspect.signature(_reader(name)).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


def _open(task: str, name: str, annotations: Any, media: Any, options: dict[str, Any]) -> Any:
    names = [known for known, entry in DATASETS.items() if entry.task == task]
    if name not in names:
        raise ValueError(f"there is no data set {name!r} for {task}; expected one of {', '.join(names)}")
    legal = dataset_options(name)
    for option in options:
        if option not in legal:
            raise ValueError(f"{name} has no option {option!r}; expected one of {', '.join(legal)}")
    reader = _reader(name)
    media_folder = inspect.signature(reader).parameters["media_folder"]
    if media is None and media_folder.default is media_folder.empty:
        raise ValueError(f"{name} is opened without media; expected the folder of its videos or images")
    return reader(annotations, media, **options)


def _reader(name: str) -> Callable[..., Any]:
    module, function = DATASETS[name].reader.split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)
