"""Whether a claim about a clip is true, judged by its pixels and masks alone. Lengths are in frame heights."""

import cv2
import numpy as np
from caption_claims import Event, Noun, ShotClaim

from trajvit.processing.scene_textures import color_name

AXES = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}


class Seen:
    """A thing in the frames of a shot."""

    def __init__(self, frames: np.ndarray, masks: np.ndarray, number: int):
        self.mask = masks == number
        self.side = masks.shape[1]
        self.color = color_name(frames[self.mask].mean(0))
        self.area = self.mask.sum((1, 2))
        self.center = np.full((len(masks), 2), np.nan)
        self.box = np.full((len(masks), 4), np.nan)
        for frame in np.flatnonzero(self.area):
            y, x = np.nonzero(self.mask[frame])
            self.center[frame] = x.mean() / self.side, y.mean() / self.side
            self.box[frame] = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / self.side
        self.extent = float(np.nanmax(np.maximum(self.box[:, 2] - self.box[:, 0], self.box[:, 3] - self.box[:, 1])))

    def moved(self, first: int, last: int) -> np.ndarray:
        return self.center[last] - self.center[first]

    def rests(self, first: int, last: int) -> bool:
        stretch = self.center[first : last + 1]
        areas = self.area[first : last + 1]
        return bool(np.ptp(stretch, axis=0).max() < 0.015 and np.ptp(areas) < 0.08 * areas.max())


def is_true(claim: ShotClaim, frames: np.ndarray, masks: np.ndarray) -> bool:
    """Whether all that is said of the things of a shot holds; its background and camera are not looked at."""
    things = [Seen(frames, masks, number) for number in np.unique(masks[masks > 0])]
    last = len(frames) - 1
    if not claim.in_order:
        return all(_event_holds(event, things, 0, last) for event in claim.events)
    half = len(frames) // 2
    windows = [(0, half - 1), (half, last)]
    for event, window, other in zip(claim.events, windows, windows[::-1], strict=True):
        if not _event_holds(event, things, *window):
            return False
        one_thing = claim.events[0].noun == claim.events[1].noun
        if not one_thing and not _find(event.noun, things).rests(*other):
            return False
    return True


def _find(noun: Noun, things: list[Seen]) -> Seen | None:
    found = [thing for thing in things if thing.color == noun.color]
    assert len(found) <= 1, "two things of a shot have one colour"
    if not found:
        return None
    seen = found[0]
    if noun.size is not None and (noun.size == "large") != (seen.extent > 0.265):
        return None
    return seen if has_shape(seen, noun.shape) else None


def has_shape(seen: Seen, shape: str) -> bool:
    """Whether the mask is of this shape, by its hole, where its centroid lies in its box, and its share of the box."""
    whole = (seen.box[:, :2].min(1) > 0) & (seen.box[:, 2:].max(1) < 1)
    # Where a thing is hidden in part it looks like another one.
    frames = np.flatnonzero(whole & (seen.area >= 0.97 * seen.area[whole].max(initial=0)))
    mask = seen.mask[frames[-1]].astype(np.uint8)
    y, x = np.nonzero(mask)
    mask = np.ascontiguousarray(mask[y.min() : y.max() + 1, x.min() : x.max() + 1])
    _, levels = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    y, x = np.nonzero(mask)
    left_of_middle = 0.5 - (x.mean() + 0.5) / mask.shape[1]
    above_middle = 0.5 - (y.mean() + 0.5) / mask.shape[0]
    share = mask.mean()
    if (levels[0, :, 3] >= 0).any():
        found = "ring"
    elif left_of_middle > 0.04:
        found = "crescent"
    elif above_middle < -0.1:
        found = "triangle"
    elif above_middle > 0.06:
        found = "heart"
    else:
        found = "square" if share > 0.92 else "disc" if share > 0.72 else "cross" if share > 0.52 else "star"
    return found == shape


def _event_holds(event: Event, things: list[Seen], first: int, last: int) -> bool:
    seen = _find(event.noun, things)
    if seen is None:
        return False
    if event.target is not None:
        other = _find(event.target, things)
        return other is not None and other is not seen and _between(event.meaning, seen, other, first, last)
    meaning, _, side = event.meaning.partition(" ")
    if meaning in ("enter", "leave"):
        return _crosses_the_border(seen, meaning, side, first, last)
    if (seen.area[first : last + 1] == 0).any():
        return False
    if meaning == "there":
        return True
    if meaning in ("toward", "away"):
        growth = seen.area[last] / seen.area[first]
        return bool(growth > 2.5 if meaning == "toward" else growth < 0.4)
    if np.ptp(seen.area[first : last + 1]) > 0.15 * seen.area.max():
        return False
    if meaning == "still":
        return seen.rests(first, last)
    if meaning == "stop":
        late = last - (last - first) // 3
        return seen.rests(late, last) and _goes(seen, side, first, late)
    if meaning in AXES:
        # Unlike a thing that stops; but when things move in turn, each has rested by the end of its window.
        still_goes = last - first < 10 or not seen.rests(last - 4, last)
        return _goes(seen, meaning, first, last) and still_goes
    if meaning in ("clockwise", "counterclockwise"):
        around = seen.center[first : last + 1] - (seen.center.min(0) + seen.center.max(0)) / 2
        # y grows downwards, so what turns clockwise turns to larger angles.
        turned = np.diff(np.unwrap(np.arctan2(around[:, 1], around[:, 0]))).sum()
        return bool(turned > 5.5 if meaning == "clockwise" else turned < -5.5)
    assert meaning == "bounce", meaning
    height = -seen.center[first : last + 1, 1]
    ups_and_downs = np.diff(np.sign(np.diff(height)))
    return bool(np.ptp(seen.center[:, 0]) < 0.02 and np.ptp(height) > 0.2 and np.count_nonzero(ups_and_downs) >= 3)


def _goes(seen: Seen, side: str, first: int, last: int) -> bool:
    axis, sign = AXES[side]
    steps = sign * np.diff(seen.center[first : last + 1, axis])
    across = np.ptp(seen.center[first : last + 1, 1 - axis])
    return bool(steps.sum() > 0.25 and (steps > -0.005).all() and across < 0.02)


def _crosses_the_border(seen: Seen, meaning: str, side: str, first: int, last: int) -> bool:
    outside, inside = (first, last) if meaning == "enter" else (last, first)
    visible = np.flatnonzero(seen.area[first : last + 1]) + first
    edge = visible[0] if meaning == "enter" else visible[-1]
    at_border = seen.box[edge, 0] == 0 if side == "left" else seen.box[edge, 2] == 1
    is_inside = seen.box[inside, 0] > 0 and seen.box[inside, 2] < 1 and seen.area[inside] > 0
    return bool(seen.area[outside] == 0 and is_inside and at_border)


def _between(meaning: str, seen: Seen, other: Seen, first: int, last: int) -> bool:
    if meaning.startswith("is "):
        x, y = seen.center[first] - other.center[first]
        ahead = {"is left": -x, "is right": x, "is above": -y, "is below": y}[meaning]
        return bool(ahead > 0.1)
    if meaning == "hit":
        return _pushes(seen, other, first, last)
    hidden = [1 - thing.area[first : last + 1].min() / thing.area.max() for thing in (seen, other)]
    travelled = np.linalg.norm(seen.moved(first, last))
    is_past = travelled > 0.5 and np.linalg.norm(other.moved(first, last)) < 0.02
    nearer, farther = hidden if meaning == "front" else hidden[::-1]
    return bool(is_past and farther > 0.2 and nearer < 0.1)


def _pushes(seen: Seen, other: Seen, first: int, last: int) -> bool:
    gaps = np.array([_gap(a, b) for a, b in zip(seen.mask, other.mask, strict=True)])
    touch = first + int(gaps[first : last + 1].argmin())
    if not first < touch < last or gaps[touch] > 3:
        return False
    came, went = seen.moved(first, touch), other.moved(touch, last)
    same_way = came @ went > 0.95 * np.linalg.norm(came) * np.linalg.norm(went)
    others_rest = np.linalg.norm(other.moved(first, touch)) < 0.03 and np.linalg.norm(seen.moved(touch, last)) < 0.03
    return bool(same_way and others_rest and min(np.linalg.norm(came), np.linalg.norm(went)) > 0.15)


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    distances = cv2.distanceTransform((~one).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(distances[other].min())
