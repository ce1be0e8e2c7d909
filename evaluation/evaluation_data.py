"""The values that pass from annotation files to tasks: media with their texts, classes or action boxes.

Shape letters: R boxes of a key frame.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np


class AnnotationError(ValueError):
    """Annotations that cannot be used. The message gives file and line, what is there, and what was expected."""


class MissingMediaError(ValueError):
    """Media that an evaluation needs and that are not there or cannot be decoded; the message counts and lists them."""


@dataclass(frozen=True, eq=False)
class MediaItem:
    """A video, a stretch of one, or an image.

    Attributes:
        key: Names it, once in its set.
        media: A path, bytes, or HF Datasets' mapping of both, as `bytes_or_path` takes them; None where the annotations
            name a file that is not there.
        start, end: Seconds of the stretch; None for the video's own start or end.
        trajectories: Stored trajectories of the sampled frames, a path or bytes; None where there are none.
        expected: Where the file of missing media was looked for, for messages.
        identity: What tells the media apart from others where reading them all for that would take long; None hashes
            them.
    """

    key: str
    media: Any
    start: float | None = None
    end: float | None = None
    trajectories: Any = None
    expected: str | None = None
    identity: str | None = None


UNREAD = object()
"""Stands for media in the outline of an item: they are there, and were not read."""


class LazyItems(Sequence[MediaItem]):
    """Items whose media are read as the item is asked for; messages call them `unit`."""

    unit = "items"

    @abstractmethod
    def item(self, number: int) -> MediaItem:
        """The item of this number, from 0 on."""

    @overload
    def __getitem__(self, position: int) -> MediaItem: ...

    @overload
    def __getitem__(self, position: slice) -> list[MediaItem]: ...

    def __getitem__(self, position: int | slice) -> MediaItem | list[MediaItem]:
        if isinstance(position, slice):
            return [self.item(number) for number in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(f"position is {position} of {len(self)} {self.unit}")
        return self.item(position % len(self))

    def outlines(self) -> Iterator[MediaItem]:
        """All items, with `UNREAD` in place of media that would have to be read and have an `identity`."""
        return iter(self)


@dataclass(frozen=True, eq=False)
class RetrievalSet:
    """Media and texts that describe them.

    Attributes:
        name: Of the data set.
        items: The media.
        texts: All texts, those of an item in a row.
        item_of_text: For each text, the position of its item; every item has at least one.
    """

    name: str
    items: Sequence[MediaItem]
    texts: tuple[str, ...]
    item_of_text: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ClassificationSet:
    """Media of which each belongs to one class.

    Attributes:
        name: Of the data set.
        items: The media.
        labels: For each item, the position of its class.
        class_names: As the data set writes them.
    """

    name: str
    items: Sequence[MediaItem]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ActionKeyFrame:
    """A frame whose people are annotated with what they do.

    Attributes:
        item: The stretch of video around it.
        seconds: When in the video it is shown.
        boxes: (R, 4) float32, x1, y1, x2, y2 of the annotated people as shares of width and height.
        actions: For each of these boxes the ids of its actions, ascending; every box has at least one.
        detected_boxes: (D, 4) float32, those of a person detector; None where none are given.
        detection_scores: (D,) float32, its confidence in each.
    """

    item: MediaItem
    seconds: float
    boxes: np.ndarray
    actions: tuple[tuple[int, ...], ...]
    detected_boxes: np.ndarray | None = None
    detection_scores: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ActionDetectionSet:
    """Key frames with action boxes.

    Attributes:
        name: Of the data set.
        key_frames: In the order of their videos and times.
        action_names: By id; these alone are evaluated.
    """

    name: str
    key_frames: tuple[ActionKeyFrame, ...]
    action_names: dict[int, str]

    @property
    def items(self) -> tuple[MediaItem, ...]:
        """The stretch of video of each key frame."""
        return tuple(key_frame.item for key_frame in self.key_frames)

    @property
    def seconds(self) -> list[float]:
        """When each key frame is shown."""
        return [key_frame.seconds for key_frame in self.key_frames]

    @property
    def has_detections(self) -> bool:
        """Whether there are boxes of a detector beside the annotated ones."""
        return bool(self.key_frames) and all(own.detected_boxes is not None for own in self.key_frames)


def outlines(items: Iterable[MediaItem]) -> Iterable[MediaItem]:
    """All items for what is asked of each but its content: those of `LazyItems` come with their media unread."""
    return items.outlines() if isinstance(items, LazyItems) else items


def missing_media(items: Iterable[MediaItem]) -> dict[str, str]:
    """The keys of items without media, with what is wrong with each."""
    return {item.key: f"there is no {item.expected or 'file of it'}" for item in outlines(items) if item.media is None}
