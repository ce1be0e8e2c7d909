"""Reads AVA's list of actions, a text protocol buffer (`.pbtxt`)."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from .annotation_files import read_text
from .evaluation_data import AnnotationError

_BLOCKS = ("label", "item")
_TOKEN = re.compile(
    r"""(?P<skip>[\s,;]+|\#[^\n]*)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[\w.+-]+)|(?P<mark>[{}:])"""
)
_BLOCK = 'blocks such as label { name: "stand" label_id: 12 label_type: PERSON_MOVEMENT }'


class _Token(NamedTuple):
    place: str
    kind: str
    text: str


def read_action_list(path: str | os.PathLike) -> dict[int, str]:
    """The actions of a `.pbtxt` file by their ids, in the order of the file.

    The file has a block for each, `label { name: "stand" label_id: 12 label_type: PERSON_MOVEMENT }`, or
    `item { name: "stand" id: 12 }`. Other fields in a block are passed over.

    Raises `AnnotationError` where the file is none of these, or an id or a name is there twice.
    """
    actions: dict[int, str] = {}
    for place, fields in _blocks(path):
        identifier, name = fields.get("label_id", fields.get("id", "")), fields.get("name", "").strip()
        if not re.fullmatch("[0-9]{1,9}", identifier) or identifier == "0" or not name:
            raise AnnotationError(f"{place}: the block has {fields!r:.120}; expected a name, and an id from 1 on")
        if int(identifier) in actions or name in actions.values():
            raise AnnotationError(
                f"{place}: action {identifier} {name!r} is there twice; expected each id and name once"
            )
        actions[int(identifier)] = name
    if not actions:
        raise AnnotationError(f"{path} has no action; expected {_BLOCK}")
    return actions


def _blocks(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, str]]]:
    """The fields of each block, with the place where it starts."""
    tokens = list(_tokens(path))
    tokens.append(_Token(f"{path}, at its end", "end", ""))
    at = 0

    def take(kind: str, texts: tuple[str, ...] = ()) -> _Token:
        nonlocal at
        token = tokens[at]
        if token.kind != kind or (texts and token.text not in texts):
            raise AnnotationError(f"{token.place}: {token.text!r:.40} is not expected; expected {_BLOCK}")
        at += 1
        return token

    while tokens[at].kind != "end":
        place = take("word", _BLOCKS).place
        take("mark", ("{",))
        fields: dict[str, str] = {}
        while tokens[at].text != "}" or tokens[at].kind != "mark":
            name = take("word").text
            take("mark", (":",))
            value = take("text" if tokens[at].kind == "text" else "word")
            fields[name] = re.sub(r"\\(.)", r"\1", value.text[1:-1]) if value.kind == "text" else value.text
        take("mark", ("}",))
        yield place, fields


def _tokens(path: str | os.PathLike) -> Iterator[_Token]:
    text = read_text(path)
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise AnnotationError(f"{path}, line {line}: {text[at : at + 20]!r} is not expected; expected {_BLOCK}")
        if match.lastgroup != "skip":
            yield _Token(f"{path}, line {line}", str(match.lastgroup), match[0])
        line += match[0].count("\n")
        at = match.end()
