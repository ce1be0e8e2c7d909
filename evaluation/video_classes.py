"""Reads the annotations of Kinetics-400, Something-Something v2 and UCF-101.

Each reader returns the items in the order of the annotation file, also those whose media are not there.
"""

import os
import re
from collections.abc import Sequence

from .annotation_files import Line, TableRow, UniqueNames, chosen_split, read_lines, read_table
from .annotation_json import JsonValue, read_json
from .evaluation_data import AnnotationError, ClassificationSet, MediaItem
from .media_index import MediaIndex

Path = str | os.PathLike
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


def read_kinetics400(
    annotations: Path,
    media_folder: Path,
    *,
    split: str | None = None,
    classes: Path | None = None,
    trajectories_folder: Path | None = None,
) -> ClassificationSet:
    """Kinetics-400: clips of ten seconds, each of one action.

    Args:
        annotations: A table with the columns label, youtube_id, time_start, time_end and split, such as `val.csv`; or a
            list, not called `.csv`, with a path in the media folder and the number of a class in each line.
        media_folder: Holds `jf7RDuUTrsQ_000000_000010.mp4`, ..., all in one folder or in one for each class.
        split: Of a table with several.
        classes: Names of the classes by their numbers from 0: a line for each, or a table with the columns id and name.
            Default: the labels of the table in the order of the alphabet, which is the official order where every
            class has a clip. A list needs it.
        trajectories_folder: As for `MediaIndex`.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
    """
    index = MediaIndex(media_folder, "video", trajectories_folder)
    names = None if classes is None else _class_names(classes)
    if not os.fspath(annotations).lower().endswith(".csv"):
        if split is not None:
            raise AnnotationError(f"{annotations} is a list without splits, and {split!r} is asked for; expected none")
        if names is None:
            raise AnnotationError(f"{annotations} has numbers of classes without names; expected them in classes")
        return _listed("kinetics400", read_lines(annotations), names, index)
    rows = read_table(annotations, _COLUMNS)
    split = chosen_split(annotations, split, (row.text("split") for row in rows))
    names = names or sorted({row.text("label") for row in rows})
    rows = [row for row in rows if row.text("split") == split]
    numbers = {name: number for number, name in enumerate(names)}
    clips = UniqueNames("clip")
    items, labels = [], []
    for row in rows:
        label = row.text("label")
        if label not in numbers:
            raise row.fault("label", f"one of the {len(names)} names in {classes}")
        clip = _clip_name(row)
        clips.add(clip, row.place)
        items.append(index.item(clip, f"{label}/{clip}", f"{label.replace(' ', '_')}/{clip}"))
        labels.append(numbers[label])
    return ClassificationSet("kinetics400", tuple(items), tuple(labels), tuple(names))


def read_ssv2(
    annotations: Path,
    media_folder: Path,
    *,
    labels: Path | None = None,
    trajectories_folder: Path | None = None,
) -> ClassificationSet:
    """Something-Something v2: clips of a few seconds of what hands do with things.

    Args:
        annotations: A list of objects with `id` and `template`, such as `something-something-v2-validation.json`.
        media_folder: Holds `78687.webm`, ...
        labels: The numbers of the templates. Default: `something-something-v2-labels.json` or `labels.json` beside the
            annotations.
        trajectories_folder: As for `MediaIndex`.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
    """
    index = MediaIndex(media_folder, "video", trajectories_folder)
    names = _numbered_templates(read_json(_labels_beside(annotations) if labels is None else labels))
    numbers = {name: number for number, name in enumerate(names)}
    videos = UniqueNames("id")
    items: list[MediaItem] = []
    classes: list[int] = []
    for entry in read_json(annotations).elements():
        key = entry.field("id").identifier()
        videos.add(key, entry.place)
        template = entry.field("template")
        name = _without_brackets(template.text())
        if name not in numbers:
            raise template.fault(f"one of the {len(names)} templates of the labels, with or without brackets")
        items.append(index.item(key, key))
        classes.append(numbers[name])
    if not items:
        raise AnnotationError(f"{annotations} has no video; expected at least one")
    return ClassificationSet("ssv2", tuple(items), tuple(classes), tuple(names))


def read_ucf101(
    annotations: Path,
    media_folder: Path,
    *,
    split: str = "test",
    fold: int = 1,
    trajectories_folder: Path | None = None,
) -> ClassificationSet:
    """UCF-101: clips of a few seconds, each of one action, in three folds of training and test clips.

    Args:
        annotations: A folder with `classInd.txt`, `testlist01.txt`, `trainlist01.txt`, ...
        media_folder: Holds `ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`, ...
        split: `test` or `train`.
        fold: 1, 2 or 3.
        trajectories_folder: As for `MediaIndex`.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
    """
    if split not in ("test", "train"):
        raise AnnotationError(f"UCF-101 has no split {split!r}; expected 'test' or 'train'")
    if fold not in (1, 2, 3):
        raise AnnotationError(f"UCF-101 has no fold {fold!r}; expected 1, 2 or 3")
    names = _indexed_classes(os.path.join(annotations, "classInd.txt"))
    # The official lists write one class both HandstandPushups and HandStandPushups.
    numbers = {name.lower(): number for number, name in enumerate(names)}
    index = MediaIndex(media_folder, "video", trajectories_folder)
    clips = UniqueNames("clip")
    items, labels = [], []
    for line in read_lines(os.path.join(annotations, f"{split}list0{fold}.txt")):
        match = re.fullmatch(r"((([^/\s]+)/\S+)\.\w+)(?:\s+([0-9]+))?", line.text)
        if match is None or match[3].lower() not in numbers:
            raise _fault(line, "a class of classInd.txt, a slash and a file, such as Archery/v_Archery_g01_c01.avi")
        label = numbers[match[3].lower()]
        if match[4] is not None and int(match[4]) != label + 1:
            raise _fault(line, f"{label + 1} as the number of {match[3]}, as classInd.txt has it")
        clip = match[2].split("/")[-1]
        clips.add(clip, line.place)
        items.append(index.item(clip, match[1]))
        labels.append(label)
    return ClassificationSet("ucf101", tuple(items), tuple(labels), tuple(names))


def _listed(name: str, lines: Sequence[Line], names: Sequence[str], index: MediaIndex) -> ClassificationSet:
    """A list of a path and a number of a class in each line, with blanks or a comma between."""
    items, labels = [], []
    paths = UniqueNames("path")
    for line in lines:
        match = re.fullmatch(r"(.+?)(?:\s*,\s*|\s+)([0-9]{1,9})", line.text)
        if match is None:
            raise _fault(line, "a path and the number of a class")
        if int(match[2]) >= len(names):
            raise _fault(line, f"a class from 0 to {len(names) - 1}")
        path = os.path.splitext(match[1])[0]
        paths.add(path, line.place)
        items.append(index.item(path, match[1]))
        labels.append(int(match[2]))
    return ClassificationSet(name, tuple(items), tuple(labels), tuple(names))


def _clip_name(row: TableRow) -> str:
    start, end = row.integer("time_start"), row.integer("time_end")
    if not 0 <= start < end:
        raise row.fault("time_end", f"a second after time_start, which is {start}")
    return f"{row.text('youtube_id')}_{start:06d}_{end:06d}"


def _class_names(path: Path) -> list[str]:
    if not os.fspath(path).lower().endswith(".csv"):
        names = [(line.text, line.place) for line in read_lines(path)]
    else:
        names = []
        for row in read_table(path, ("id", "name")):
            if row.integer("id") != len(names):
                raise row.fault("id", f"{len(names)}, since the classes are numbered from 0 in their order")
            names.append((row.text("name"), row.place))
    unique = UniqueNames("class")
    for name, place in names:
        unique.add(name, place)
    return [name for name, _ in names]


def _labels_beside(annotations: Path) -> str:
    folder = os.path.dirname(os.fspath(annotations))
    for name in ("something-something-v2-labels.json", "labels.json"):
        if os.path.isfile(os.path.join(folder, name)):
            return os.path.join(folder, name)
    raise AnnotationError(
        f"there is no something-something-v2-labels.json and no labels.json beside {annotations}; expected one, or "
        "another file in labels"
    )


def _numbered_templates(content: JsonValue) -> list[str]:
    """The templates in the order of their numbers."""
    numbered: dict[int, str] = {}
    names = UniqueNames("template")
    for template, number in content.fields():
        text = number.identifier()
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) in numbered:
            raise number.fault("a number from 0 on that no other template has")
        names.add(_without_brackets(template), number.place)
        numbered[int(text)] = _without_brackets(template)
    if not numbered or sorted(numbered) != list(range(len(numbered))):
        missing = next(number for number in range(len(numbered) + 1) if number not in numbered)
        raise AnnotationError(f"{content.path}: no template has the number {missing}; expected the numbers from 0 on")
    return [numbered[number] for number in range(len(numbered))]


def _without_brackets(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _indexed_classes(path: str) -> list[str]:
    """The names of `classInd.txt`, whose numbers start at 1."""
    names: list[str] = []
    unique = UniqueNames("class")
    for line in read_lines(path):
        parts = line.text.split()
        if len(parts) != 2 or parts[0] != str(len(names) + 1):
            raise _fault(line, f"the number {len(names) + 1} and a class")
        unique.add(parts[1].lower(), line.place)
        names.append(parts[1])
    return names


def _fault(line: Line, expected: str) -> AnnotationError:
    return AnnotationError(f"{line.place} is {line.text!r:.80}; expected {expected}")
