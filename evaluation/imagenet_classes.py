"""Reads ImageNet's validation images: in a folder for each class, or in one with a list of their classes."""

import os
import re
from dataclasses import dataclass

from .annotation_files import UniqueNames, read_lines, read_table
from .annotation_json import JsonValue, read_json
from .evaluation_data import AnnotationError, ClassificationSet, MissingMediaError
from .media_index import MediaIndex

_WNID = re.compile(r"n[0-9]{8}")
_FILES = "LOC_synset_mapping.txt, or a JSON index such as imagenet_class_index.json"


@dataclass(frozen=True)
class Synsets:
    """The classes of ImageNet.

    Attributes:
        path: The file that they are from.
        wnids: Their WordNet ids, such as `n01440764`, in the order of their numbers.
        names: Their names, such as `tench, Tinca tinca`.
    """

    path: str
    wnids: tuple[str, ...]
    names: tuple[str, ...]


def read_imagenet(
    annotations: str | os.PathLike | None,
    media_folder: str | os.PathLike,
    *,
    solution: str | os.PathLike | None = None,
    trajectories_folder: str | os.PathLike | None = None,
) -> ClassificationSet:
    """ImageNet's validation images, or any images in a folder for each class.

    Args:
        annotations: The names of the classes: `LOC_synset_mapping.txt`, with a WordNet id and names in each line, or a
            JSON index from numbers to id and name, or from ids to names. None where the folders are called by names.
        media_folder: Holds a folder for each class, called by its WordNet id or its name; with `solution` the images,
            wherever they lie.
        solution: `LOC_val_solution.csv`, which says the class of each image.
        trajectories_folder: As for `MediaIndex`.

    Returns:
        The images in the order of `solution`; without it, by folder and name.

    Raises:
        AnnotationError: The annotations cannot be used, or do not fit the folders.
        MissingMediaError: There is no such media folder, or no image in it.
    """
    index = MediaIndex(media_folder, "image", trajectories_folder)
    synsets = None if annotations is None else _read_synsets(annotations)
    if solution is not None:
        if synsets is None:
            raise AnnotationError(f"{solution} names classes by WordNet ids alone; expected their names in {_FILES}")
        return _solved(solution, synsets, index)
    if not index.paths:
        raise MissingMediaError(f"there is no image in {media_folder}; expected a folder of images for each class")
    return _folders(index, synsets)


def _solved(solution: str | os.PathLike, synsets: Synsets, index: MediaIndex) -> ClassificationSet:
    numbers = {wnid: number for number, wnid in enumerate(synsets.wnids)}
    images = UniqueNames("ImageId")
    items, labels = [], []
    for row in read_table(solution, ("ImageId", "PredictionString")):
        name = row.text("ImageId")
        images.add(name, row.place)
        wnid = row.text("PredictionString").split()[0]
        if wnid not in numbers:
            raise row.fault("PredictionString", f"a WordNet id of {synsets.path} and boxes")
        items.append(index.item(name, f"{wnid}/{name}", name))
        labels.append(numbers[wnid])
    return ClassificationSet("imagenet", tuple(items), tuple(labels), synsets.names)


def _folders(index: MediaIndex, synsets: Synsets | None) -> ClassificationSet:
    folders: dict[str, list[str]] = {}
    for path in index.paths:
        folder, slash, _ = path.partition("/")
        if not slash:
            raise AnnotationError(f"{index.folder}/{path} lies in no class's folder; expected one, or solution")
        folders.setdefault(folder, []).append(path)
    if synsets is not None:
        names, numbers = synsets.names, _folder_numbers(synsets)
    elif any(_WNID.fullmatch(folder) for folder in folders):
        raise AnnotationError(
            f"the folders in {index.folder} are called by WordNet ids such as {next(iter(folders))}, and nothing says "
            f"the names of these classes; expected {_FILES} as annotations"
        )
    else:
        names = tuple(sorted(folders))
        numbers = {name: number for number, name in enumerate(names)}
    keys = UniqueNames("image")
    items, labels = [], []
    for folder in sorted(folders, key=lambda folder: (numbers.get(folder, -1), folder)):
        if folder not in numbers:
            raise AnnotationError(
                f"{index.folder}/{folder} is the folder of no class; expected the WordNet id or the name of one in "
                f"{synsets.path if synsets else index.folder}"
            )
        for path in folders[folder]:
            key = os.path.splitext(path)[0]
            keys.add(key, f"{index.folder}/{path}")
            items.append(index.item(key, path))
            labels.append(numbers[folder])
    return ClassificationSet("imagenet", tuple(items), tuple(labels), names)


def _folder_numbers(synsets: Synsets) -> dict[str, int]:
    """What the folder of each class may be called; names that two classes share stand for none."""
    numbers: dict[str, int] = {}
    shared = set()
    for number, name in enumerate(synsets.names):
        first = name.split(",")[0].strip()
        for called in {name, first, name.replace(" ", "_"), first.replace(" ", "_")}:
            if numbers.setdefault(called, number) != number:
                shared.add(called)
    for called in shared:
        del numbers[called]
    return {**numbers, **{wnid: number for number, wnid in enumerate(synsets.wnids)}}


def _read_synsets(path: str | os.PathLike) -> Synsets:
    pairs = _json_synsets(read_json(path)) if os.fspath(path).lower().endswith(".json") else _text_synsets(path)
    unique = UniqueNames("WordNet id")
    for wnid, _, place in pairs:
        if not _WNID.fullmatch(wnid):
            raise AnnotationError(f"{place}: {wnid!r:.80} is no WordNet id; expected one such as n01440764")
        unique.add(wnid, place)
    return Synsets(os.fspath(path), tuple(wnid for wnid, _, _ in pairs), tuple(name for _, name, _ in pairs))


def _text_synsets(path: str | os.PathLike) -> list[tuple[str, str, str]]:
    pairs = []
    for line in read_lines(path):
        wnid, _, name = line.text.partition(" ")
        if not name.strip():
            raise AnnotationError(f"{line.place} is {line.text!r:.80}; expected a WordNet id and a name")
        pairs.append((wnid, name.strip(), line.place))
    return pairs


def _json_synsets(content: JsonValue) -> list[tuple[str, str, str]]:
    """Classes by number, `"0": ["n01440764", "tench"]`, from 0 or 1 on, or by id, `"n01440764": "tench"`."""
    fields = list(content.fields())
    if not fields:
        raise content.fault("a class for each number, or a name for each WordNet id")
    if not all(re.fullmatch("[0-9]{1,9}", key) for key, _ in fields):
        return [(key, value.text(), value.place) for key, value in fields]
    fields.sort(key=lambda field: int(field[0]))
    first = int(fields[0][0])
    pairs = []
    for number, (key, value) in enumerate(fields, first):
        if int(key) != number or first > 1:
            raise AnnotationError(f"{value.place} follows no {int(key) - 1}; expected the numbers from 0 or 1 on")
        parts = [part.text() for part in value.elements()]
        if len(parts) != 2:
            raise value.fault("a WordNet id and a name")
        pairs.append((parts[0], parts[1], value.place))
    return pairs
