"""From what a data set stores as a sample's caption to a tuple of texts."""

import ast
import json
from typing import Any

from .stored_values import FilePart, SampleError

LISTS = ("captions", "caption", "text")
"""Fields of a JSON object that hold its captions, the first that is there."""


def read_captions(found: dict[str, Any], fields: tuple[str, ...] = ()) -> tuple[str, ...]:
    """All captions of a sample, from that of the places that holds most.

    Args:
        found: What may hold them, by its name (a column, or the suffix of a file): text, UTF-8 bytes, a `FilePart`, a
            list of texts, or JSON of these. JSON objects, under a name that ends in `json`, have them in one of
            `LISTS`.
        fields: Nested fields of objects in which they lie instead.

    Returns:
        At least one caption, stripped, none empty.

    Raises:
        SampleError: There is none, or something holds no text; the message says where.
    """
    texts: tuple[str, ...] = ()
    for name, stored in found.items():
        value = _parsed(name, value_in(stored, name, fields), is_json=_is_json(name) and not fields)
        captions = _texts(name, _field(value) if isinstance(value, dict) else value)
        if len(captions) > len(texts):
            texts = captions
    if not texts:
        raise SampleError(f"has no caption: {' and '.join(found) or 'nothing that holds one'} is empty")
    return texts


def value_in(stored: Any, name: str, fields: tuple[str, ...]) -> Any:
    """The value of nested fields of an object, or of the JSON of one.

    Raises `SampleError` where a field is missing.
    """
    value = _parsed(name, stored, is_json=True) if fields else stored
    for field in fields:
        if not isinstance(value, dict) or field not in value:
            has = f"has {sorted(value)}" if isinstance(value, dict) else f"is {type(value).__name__}"
            raise SampleError(f"{name} has no field {field!r}: it {has}")
        value = value[field]
    return value


def _is_json(name: str) -> bool:
    return name.lower().endswith("json")


def _parsed(name: str, stored: Any, is_json: bool) -> Any:
    """Text and lists as they are; bytes as text; text that holds JSON, or a list, as what it holds."""
    value = stored.read() if isinstance(stored, FilePart) else stored
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            value = bytes(value).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SampleError(f"{name} is not UTF-8 ({error})") from error
    if not isinstance(value, str):
        return value
    if is_json:
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise SampleError(f"{name} is no JSON ({error})") from error
    return _list_in(value) if value.lstrip().startswith("[") else value


def _list_in(text: str) -> Any:
    """A list that is written as text, as tables hold it, in JSON or as Python prints it; other text as it is."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list):
            return value
    return text


def _field(value: dict[str, Any]) -> Any:
    return next((value[field] for field in LISTS if value.get(field) is not None), None)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    for element in values:
        if element is not None and not isinstance(element, str):
            raise SampleError(
                f"{name} holds {type(element).__name__} {element!r:.40}: expected a text or a list of them"
            )
    return tuple(text.strip() for text in values if text is not None and text.strip())
