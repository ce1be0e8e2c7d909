"""Reads the captions of COCO: the official files, and Karpathy's splits."""

import os

from .annotation_files import UniqueNames, chosen_split
from .annotation_json import JsonValue, read_json
from .captioned_items import on_one_line, retrieval_set
from .evaluation_data import AnnotationError, MediaItem, RetrievalSet
from .media_index import MediaIndex


def read_coco(
    annotations: str | os.PathLike,
    media_folder: str | os.PathLike,
    *,
    split: str | None = None,
    trajectories_folder: str | os.PathLike | None = None,
) -> RetrievalSet:
    """COCO captions: photographs with five captions, a few with six or seven.

    Args:
        annotations: An official file with `images` and `annotations` such as `captions_val2017.json`, or Karpathy's
            `dataset_coco.json`, whose images hold their sentences.
        media_folder: Holds the images, also in folders such as `val2014`.
        split: Of Karpathy's file: `train`, `restval`, `val` or `test`. Default: `test`.
        trajectories_folder: As for `MediaIndex`.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
    """
    content = read_json(annotations)
    index = MediaIndex(media_folder, "image", trajectories_folder)
    images = list(content.field("images").elements())
    if not images:
        raise content.field("images").fault("at least one image")
    if images[0].has("sentences"):
        return retrieval_set("coco", _karpathy(content.path, images, split, index))
    if split is not None:
        raise AnnotationError(f"{annotations} has no splits, and {split!r} is asked for; expected no split")
    return retrieval_set("coco", _official(content, images, index))


def _official(content: JsonValue, images: list[JsonValue], index: MediaIndex) -> list[tuple[MediaItem, list[str]]]:
    ids, names = UniqueNames("image id"), UniqueNames("file_name")
    items: dict[str, MediaItem] = {}
    for image in images:
        identifier, name = image.field("id").identifier(), image.field("file_name").text()
        ids.add(identifier, image.place)
        names.add(name, image.place)
        items[identifier] = index.item(os.path.splitext(name)[0], name)
    captions: dict[str, list[str]] = {identifier: [] for identifier in items}
    for annotation in content.field("annotations").elements():
        image = annotation.field("image_id")
        if image.identifier() not in captions:
            raise image.fault("the id of one of images")
        captions[image.identifier()].append(_caption(annotation.field("caption")))
    for image in images:
        if not captions[image.field("id").identifier()]:
            raise AnnotationError(f"{image.place}: none of annotations has its id; expected at least one caption")
    return [(items[identifier], captions[identifier]) for identifier in items]


def _karpathy(
    path: str, images: list[JsonValue], split: str | None, index: MediaIndex
) -> list[tuple[MediaItem, list[str]]]:
    splits = [image.field("split").text() for image in images]
    split = chosen_split(f"{path}: images", split, splits, default="test")
    names = UniqueNames("filename")
    captioned = []
    for image, its_split in zip(images, splits, strict=True):
        if its_split != split:
            continue
        name = image.field("filename").text()
        names.add(name, image.place)
        captions = [_caption(sentence.field("raw")) for sentence in image.field("sentences").elements()]
        if not captions:
            raise image.field("sentences").fault("at least one sentence")
        folder = f"{image.field('filepath').text()}/" if image.has("filepath") else ""
        captioned.append((index.item(os.path.splitext(name)[0], folder + name, name), captions))
    return captioned


def _caption(caption: JsonValue) -> str:
    return on_one_line(caption.text())
