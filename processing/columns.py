"""Which value of a record is the media, the captions, the trajectories and the key."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .captions import value_in
from .stored_values import Record, SampleError

VIDEO_SUFFIXES = ("mp4", "webm", "mkv", "mov", "avi", "m4v", "mpg", "mpeg", "wmv", "flv", "gif")
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "jp2", "avif")
TRAJECTORIES = ("traj.png", "trajectories")

_FILE_NAMES = ("media", "file_name", "path")
_MEDIA = {
    "video": (*VIDEO_SUFFIXES, "video", *_FILE_NAMES, "video_path"),
    "image": (*IMAGE_SUFFIXES, "image", *_FILE_NAMES, "image_path"),
    "any": (*VIDEO_SUFFIXES, "video", *IMAGE_SUFFIXES, "image", *_FILE_NAMES, "video_path", "image_path"),
}
SUFFIXES = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES, "any": (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)}
"""Endings of media files, by what media are wanted."""

_CAPTIONS = ("captions", "caption", "txt", "text", "json")


class Media(NamedTuple):
    """What is to be decoded of a record.

    Attributes:
        column: The column, or the suffix of the file, that it is; None where it is a field inside one.
        value: As it is stored.
    """

    column: str | None
    value: Any


class Columns:
    """Finds the parts of a record by the names that a stream's settings give, or by usual ones.

    Args:
        given: Name of the column, or the suffix of the file, for each of `media`, `captions`, `trajectories` and `key`
            that has no usual one. A dotted name goes into a column of objects or into a JSON file: `json.title`.
        kind: Of media: `video`, `image`, or `any` of them.
    """

    def __init__(self, given: Mapping[Any, str], kind: str):
        self.given = dict(given)
        self.kind = kind

    @property
    def suffixes(self) -> frozenset[str]:
        """The suffixes that end a sample's key, which may have dots itself."""
        names = {*VIDEO_SUFFIXES, *IMAGE_SUFFIXES, *_CAPTIONS, *TRAJECTORIES}
        # Where k.left.mp4 is the media, k.right.mp4 belongs to the same sample.
        media = self.given.get("media", "")
        if "." in media:
            names.discard(media.lower().rsplit(".", 1)[-1])
        for name in self.given.values():
            parts = name.lower().split(".")
            names |= {".".join(parts[: end + 1]) for end in range(len(parts))}
        return frozenset(names)

    def key(self, record: Record) -> str:
        """What the sample is called wherever it lies; its own name in its shard unless a key is given.

        Raises `SampleError`.
        """
        if "key" not in self.given:
            return record.key
        column, fields = self._place(record.values, "key")
        key = value_in(record.values[column], column, fields)
        if isinstance(key, bytes) or not str(key).strip():
            raise SampleError(f"its key {self.given['key']} is {key!r:.40}: expected a text or a number")
        return str(key)

    def row(self, record: Record) -> dict[str, Any]:
        """The parts of a record, still as they are stored.

        Returns:
            `media`; `captions` by their names, and the `caption_fields` in which they lie; `trajectories`, None where
            there are none; and `error`: what is missing, which is left to the reader of the row to raise.
        """
        try:
            if record.error is not None:
                raise SampleError(record.error)
            captions, fields = self._captions(record.values)
            return {
                "media": self.media(record).value,
                "captions": captions,
                "caption_fields": fields,
                "trajectories": self._trajectories(record.values),
                "error": None,
            }
        except SampleError as error:
            return {"error": str(error)}

    def media(self, record: Record) -> "Media":
        """The media of a record, as they are stored.

        Raises `SampleError`.
        """
        values = record.values
        if "media" in self.given:
            column, fields = self._place(values, "media")
            return Media(None if fields else column, value_in(values[column], column, fields))
        what = "video or image" if self.kind == "any" else self.kind
        column = self._first(values, _MEDIA[self.kind], what, "media")
        return Media(column, values[column])

    def _captions(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        if "captions" in self.given:
            column, fields = self._place(values, "captions")
            return {column: values[column]}, fields
        self._first(values, _CAPTIONS, "caption", "captions")
        return {name: values[name] for name in _CAPTIONS if values.get(name) is not None}, ()

    def _trajectories(self, values: Mapping[str, Any]) -> Any:
        names = [self.given["trajectories"]] if "trajectories" in self.given else TRAJECTORIES
        return next((values[name] for name in names if values.get(name) is not None), None)

    def _first(self, values: Mapping[str, Any], names: Sequence[str], what: str, part: str) -> str:
        for name in names:
            if values.get(name) is not None:
                return name
        raise SampleError(
            f"has no {what} among {_listed(values)}: expected one of {_listed(names)}, or its name in columns.{part}"
        )

    def _place(self, values: Mapping[str, Any], part: str) -> tuple[str, tuple[str, ...]]:
        """Where a name of the settings leads: to the longest start of it that there is, then to fields inside."""
        parts = self.given[part].split(".")
        for end in range(len(parts), 0, -1):
            column = ".".join(parts[:end])
            if values.get(column) is not None:
                return column, tuple(parts[end:])
        raise SampleError(f"has no {self.given[part]} (columns.{part}) among {_listed(values)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "nothing"
