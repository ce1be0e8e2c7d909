"""Reads captions of the synthetic world back, by a grammar of its own."""

import re
from dataclasses import dataclass

COLORS = {"red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"}
SHAPES = {"disc", "square", "triangle", "star", "cross", "ring", "heart", "crescent"}
MATERIALS = {"plain", "striped", "spotted", "checkered", "brick", "grass", "gravel"}
SIZES = {"small", "large"}

# What the words mean; X stands for another thing.
MEANINGS = {
    "moves left": "left",
    "slides to the left": "left",
    "moves right": "right",
    "slides to the right": "right",
    "moves up": "up",
    "rises": "up",
    "moves down": "down",
    "sinks": "down",
    "comes closer": "toward",
    "grows as it moves toward the camera": "toward",
    "moves away": "away",
    "shrinks as it moves away from the camera": "away",
    "circles clockwise": "clockwise",
    "goes round in a clockwise circle": "clockwise",
    "circles counterclockwise": "counterclockwise",
    "goes round in a counterclockwise circle": "counterclockwise",
    "bounces": "bounce",
    "hops up and down": "bounce",
    "stays still": "still",
    "does not move": "still",
    "moves left and stops": "stop left",
    "slides to the left until it comes to rest": "stop left",
    "moves right and stops": "stop right",
    "slides to the right until it comes to rest": "stop right",
    "enters from the left": "enter left",
    "appears at the left edge and comes in": "enter left",
    "enters from the right": "enter right",
    "appears at the right edge and comes in": "enter right",
    "leaves to the left": "leave left",
    "goes out over the left edge": "leave left",
    "leaves to the right": "leave right",
    "goes out over the right edge": "leave right",
    "passes in front of X": "front",
    "goes past X on the near side": "front",
    "passes behind X": "behind",
    "goes past X on the far side": "behind",
    "hits X": "hit",
    "bumps into X and pushes it on": "hit",
    "left of X": "is left",
    "to the left of X": "is left",
    "right of X": "is right",
    "to the right of X": "is right",
    "above X": "is above",
    "higher than X": "is above",
    "below X": "is below",
    "lower than X": "is below",
    "": "there",
}
NOUN = rf"an? (?:(?:{'|'.join(COLORS | MATERIALS | SIZES)}) )+(?:{'|'.join(SHAPES)})"


@dataclass(frozen=True)
class Noun:
    color: str
    shape: str
    material: str | None
    size: str | None


@dataclass(frozen=True)
class Event:
    noun: Noun
    meaning: str
    target: Noun | None


@dataclass(frozen=True)
class ShotClaim:
    events: tuple[Event, ...]
    in_order: bool
    camera: str | None
    background: str | None


def read_caption(text: str) -> list[ShotClaim]:
    """The claims of a caption, shot by shot in the order of time."""
    for prefix in ("we see that ", "a picture of "):
        text = text.removeprefix(prefix)
    if " after a shot in which " in text:
        shots = text.split(" after a shot in which ")[::-1]
    else:
        shots = text.split(", then after a cut ")
    return [_read_shot(shot) for shot in shots]


def _read_shot(text: str) -> ShotClaim:
    camera = background = None
    if match := re.search(r", and the camera ([a-z ]+)$", text):
        camera, text = match[1], text[: match.start()]
    if match := re.search(r", with ([a-z ]+) in the background$", text):
        background, text = match[1], text[: match.start()]
    if text.startswith("first "):
        parts, in_order = text.removeprefix("first ").split(", then "), True
    elif re.search(rf" after {NOUN}", text):
        parts, in_order = text.split(" after ")[::-1], True
    else:
        parts = re.split(r", with |, | while | and at the same time | and (?=an? )", text)
        in_order = False
    # "it" is the one thing that the other part names.
    names = [match[0] for part in parts if (match := re.match(NOUN, part))]
    parts = [re.sub(r"^it ", f"{names[0]} ", part) for part in parts]
    return ShotClaim(tuple(map(_read_event, parts)), in_order, camera, background)


def _read_event(text: str) -> Event:
    noun = re.match(NOUN, text)
    assert noun, f"no thing at the start of {text!r}"
    rest = text[noun.end() :].strip()
    target = re.search(NOUN, rest)
    if target:
        rest = rest.replace(target[0], "X")
    return Event(_read_noun(noun[0]), MEANINGS[rest], _read_noun(target[0]) if target else None)


def _read_noun(text: str) -> Noun:
    article, *words = text.split()
    assert article == ("an" if words[0][0] in "aeiou" else "a"), text
    found = []
    for legal in (COLORS, MATERIALS, SIZES):
        chosen = [word for word in words[:-1] if word in legal]
        assert len(chosen) <= 1, text
        found.append(chosen[0] if chosen else None)
    assert found[0] is not None, f"no colour in {text!r}"
    return Noun(found[0], words[-1], found[1], found[2])
