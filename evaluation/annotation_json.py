"""Annotations in JSON, whose faults name the file and the place of a value, such as `sentences[17].caption`."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .annotation_files import read_text
from .evaluation_data import AnnotationError


@dataclass(frozen=True)
class JsonValue:
    """A value in a JSON file.

    Attributes:
        path: The file.
        keys: Its place in there, such as `sentences[17].caption`; empty for the whole.
        value: As `json` gives it.
    """

    path: str
    keys: str
    value: Any

    @property
    def place(self) -> str:
        """What messages call it."""
        return f"{self.path}: {self.keys}" if self.keys else self.path

    def fault(self, expected: str) -> AnnotationError:
        """The error of a value that is not what it should be."""
        return AnnotationError(f"{self.place} is {_shown(self.value)}; expected {expected}")

    def field(self, name: str) -> "JsonValue":
        """The value of a key. Raises `AnnotationError` where this is no object, or there is no such key."""
        self._require_object(f"an object with {name}")
        if name not in self.value:
            raise AnnotationError(
                f"{self.place} has the keys {', '.join(self.value)!r:.120}, and none is {name}; expected {name}"
            )
        return self._inside(name)

    def has(self, name: str) -> bool:
        """Whether there is such a key. Raises `AnnotationError` where this is no object."""
        self._require_object("an object")
        return name in self.value

    def fields(self) -> Iterator[tuple[str, "JsonValue"]]:
        """All keys with their values. Raises `AnnotationError` where this is no object."""
        self._require_object("an object")
        for name in self.value:
            yield name, self._inside(name)

    def elements(self) -> Iterator["JsonValue"]:
        """The values of a list. Raises `AnnotationError` where this is none."""
        if not isinstance(self.value, list):
            raise self.fault("a list")
        for number, value in enumerate(self.value):
            yield JsonValue(self.path, f"{self.keys}[{number}]", value)

    def text(self) -> str:
        """A text that is not empty, without blanks around it. Raises `AnnotationError`."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.fault("a text")
        return self.value.strip()

    def number(self) -> float:
        """A number. Raises `AnnotationError`."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.fault("a number")
        try:
            value = float(self.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.fault("a finite number")
        return value

    def identifier(self) -> str:
        """A text or a whole number, as text. Raises `AnnotationError`."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return str(self.value)
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.fault("a text or a whole number")
        return self.value.strip()

    def _inside(self, name: str) -> "JsonValue":
        return JsonValue(self.path, f"{self.keys}.{name}" if self.keys else name, self.value[name])

    def _require_object(self, expected: str) -> None:
        if not isinstance(self.value, dict):
            raise self.fault(expected)


def read_json(path: str | os.PathLike) -> JsonValue:
    """The content of a JSON file.

    Raises `AnnotationError` where there is no file, nothing in it, no JSON, or an object that has a key twice.
    """
    text = read_text(path)
    try:
        return JsonValue(str(path), "", json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant))
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"{path}, line {error.lineno}: no JSON from column {error.colno} on ({error.msg}); expected JSON"
        ) from None
    except RecursionError:
        raise AnnotationError(f"{path}: lists within lists without end; expected annotations in JSON") from None
    except ValueError as error:
        raise AnnotationError(f"{path}: {error}; expected JSON of finite numbers, with each key once") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {double!r} twice")
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _shown(value: Any) -> str:
    """A value in a message: short ones as they are, of large ones what they are."""
    if isinstance(value, dict):
        return f"an object with {', '.join(value)!r:.80}" if value else "an object without keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{value!r:.80}"
