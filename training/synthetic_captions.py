"""Captions of synthetic clips, and captions that nearly fit them.

All text stands in tables of templates, from which `synthetic_vocabulary.py` collects the words.
"""

from dataclasses import replace

from .synthetic_stories import Action, Shot, Story, Thing
from .synthetic_world import COLORS

VERBS = {
    "left": ("moves left", "slides to the left"),
    "right": ("moves right", "slides to the right"),
    "up": ("moves up", "rises"),
    "down": ("moves down", "sinks"),
    "toward": ("comes closer", "grows as it moves toward the camera"),
    "away": ("moves away", "shrinks as it moves away from the camera"),
    "clockwise": ("circles clockwise", "goes round in a clockwise circle"),
    "counterclockwise": ("circles counterclockwise", "goes round in a counterclockwise circle"),
    "bounce": ("bounces", "hops up and down"),
    "still": ("stays still", "does not move"),
    "stop_left": ("moves left and stops", "slides to the left until it comes to rest"),
    "stop_right": ("moves right and stops", "slides to the right until it comes to rest"),
    "enter_left": ("enters from the left", "appears at the left edge and comes in"),
    "enter_right": ("enters from the right", "appears at the right edge and comes in"),
    "leave_left": ("leaves to the left", "goes out over the left edge"),
    "leave_right": ("leaves to the right", "goes out over the right edge"),
    "pass_front": ("passes in front of {target}", "goes past {target} on the near side"),
    "pass_behind": ("passes behind {target}", "goes past {target} on the far side"),
    "hit": ("hits {target}", "bumps into {target} and pushes it on"),
    "left_of": ("left of {target}", "to the left of {target}"),
    "right_of": ("right of {target}", "to the right of {target}"),
    "above": ("above {target}", "higher than {target}"),
    "below": ("below {target}", "lower than {target}"),
}
"""What a thing does or where it is: for short and full captions, and for paraphrases."""

OPPOSITES = {
    "left": "right",
    "up": "down",
    "toward": "away",
    "clockwise": "counterclockwise",
    "bounce": "still",
    "stop_left": "stop_right",
    "enter_left": "enter_right",
    "leave_left": "leave_right",
    "pass_front": "pass_behind",
    "left_of": "right_of",
    "above": "below",
}
OPPOSITES |= {other: one for one, other in OPPOSITES.items()}

ADJECTIVES = {"plain": "plain", "striped": "striped", "spotted": "spotted", "checkered": "checkered"}
"""Materials that are said before the colour; the others are nouns and stand behind it."""

BACKGROUNDS = {
    "astronaut": "an astronaut",
    "brick": "a brick wall",
    "chelsea": "a cat",
    "coffee": "a cup of coffee",
    "coins": "coins",
    "grass": "grass",
    "gravel": "gravel",
    "ihc": "a slice of tissue",
    "motorcycle_left": "a motorcycle",
    "rocket": "a rocket",
}
"""What the photo of each name shows."""

CAMERAS = {
    "pan_left": "the camera pans left",
    "pan_right": "the camera pans right",
    "pan_up": "the camera tilts up",
    "pan_down": "the camera tilts down",
    "zoom_in": "the camera zooms in",
    "zoom_out": "the camera zooms out",
}

JOINTS = {
    "together": ("{a} while {b}", "{b} and at the same time {a}"),
    "together_with_more": ("{a}, {b}", "{b}, {a}"),
    "in_turn": ("first {a}, then {b}", "{b} after {a}"),
    "cut": ("{a}, then after a cut {b}", "{b} after a shot in which {a}"),
    "with": ("{a}, with {b}", "{b} and {a}"),
}
"""How two clauses become one sentence: for short and full captions, and for paraphrases."""

FRAMES = {
    "video": "we see that {a}",
    "image": "a picture of {a}",
    "background": "{a}, with {b} in the background",
    "camera": "{a}, and {b}",
}
"""What goes around a paraphrase, and what a full caption adds."""

PRONOUN = "it"

NEGATIVES = ("motion", "color", "order", "role")
"""What can be wrong in a hard negative."""


def captions(story: Story, styles: tuple[str, ...]) -> tuple[str, ...]:
    """A true caption of each style: "short", "full" or "paraphrase"."""
    return tuple(caption(story, style) for style in styles)


def caption(story: Story, style: str) -> str:
    """The caption of a style; equal stories have equal captions."""
    parts = [_shot_caption(shot, style) for shot in story.shots]
    whole = parts[0] if len(parts) == 1 else _join("cut", style, parts[0], parts[1])
    if style != "paraphrase":
        return whole
    return FRAMES["image" if story.is_image else "video"].format(a=whole)


def hard_negatives(story: Story, style: str = "short") -> dict[str, str]:
    """Captions that differ from the story's own in one thing only, and are wrong.

    Returns:
        By what is wrong, where the story has it: "motion" (the opposite one; in an image the opposite place), "color"
        (two things' colours swapped; of a single thing another colour), "order" (what happens first) and "role" (who
        does it to whom).
    """
    changed = {
        "motion": _with_opposite_motion(story),
        "color": _with_swapped_colors(story),
        "order": _with_swapped_order(story),
        "role": _with_swapped_roles(story),
    }
    return {kind: caption(other, style) for kind, other in changed.items() if other is not None}


def _shot_caption(shot: Shot, style: str) -> str:
    clauses = [_clause(shot, action, style) for action in shot.actions]
    if shot.num_frames == 1:
        told = {index for action in shot.actions for index in (action.actor, action.target)}
        others = [_noun(thing, style) for index, thing in enumerate(shot.things) if index not in told]
        parts = clauses + others
        text = parts[0] if len(parts) == 1 else _join("with", style, *parts)
    elif shot.in_turn:
        first, second = shot.actions
        if first.actor == second.actor:
            # The thing is named where the sentence begins with it or, in a paraphrase, in its later half.
            clauses[1] = f"{PRONOUN} {_verb(shot, second, style)}"
        text = _join("in_turn", style, *clauses)
    else:
        text = _together(clauses, style)
    if style != "full":
        return text
    text = FRAMES["background"].format(a=text, b=BACKGROUNDS[shot.background.rsplit(".", 1)[0]])
    return text if shot.camera == "still" else FRAMES["camera"].format(a=text, b=CAMERAS[shot.camera])


def _clause(shot: Shot, action: Action, style: str) -> str:
    return f"{_noun(shot.things[action.actor], style)} {_verb(shot, action, style)}"


def _verb(shot: Shot, action: Action, style: str) -> str:
    target = "" if action.target is None else _noun(shot.things[action.target], style)
    return VERBS[action.motion][style == "paraphrase"].format(target=target)


def _noun(thing: Thing, style: str) -> str:
    words = [thing.color, thing.shape]
    if style == "full":
        words.insert(0 if thing.material in ADJECTIVES else 1, thing.material)
        if thing.size is not None:
            words.insert(0, thing.size)
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words])


def _together(clauses: list[str], style: str) -> str:
    if len(clauses) == 1:
        return clauses[0]
    *more, one, other = clauses
    text = _join("together", style, one, other)
    for clause in reversed(more):
        text = _join("together_with_more", style, clause, text)
    return text


def _join(joint: str, style: str, one: str, other: str) -> str:
    return JOINTS[joint][style == "paraphrase"].format(a=one, b=other)


def _with_opposite_motion(story: Story) -> Story | None:
    for shot in story.shots:
        for number, action in enumerate(shot.actions):
            if action.motion in OPPOSITES:
                actions = list(shot.actions)
                actions[number] = replace(action, motion=OPPOSITES[action.motion])
                return _with_shot(story, shot, replace(shot, actions=tuple(actions)))
    return None


def _with_swapped_colors(story: Story) -> Story | None:
    for shot in story.shots:
        if len(shot.things) > 1:
            first, second, *others = shot.things
            swapped = replace(first, color=second.color), replace(second, color=first.color)
            return _with_shot(story, shot, replace(shot, things=(*swapped, *others)))
    if len(story.shots) == 2:
        first, second = (shot.things[0] for shot in story.shots)
        if first.color != second.color:
            shots = (
                replace(story.shots[0], things=(replace(first, color=second.color),)),
                replace(story.shots[1], things=(replace(second, color=first.color),)),
            )
            return Story(shots)
    shot = story.shots[0]
    color = COLORS[(COLORS.index(shot.things[0].color) + 1) % len(COLORS)]
    return _with_shot(story, shot, replace(shot, things=(replace(shot.things[0], color=color),)))


def _with_swapped_order(story: Story) -> Story | None:
    if len(story.shots) == 2:
        swapped = Story(story.shots[::-1])
        # Two shots may, rarely, be told in the same words.
        return None if caption(swapped, "short") == caption(story, "short") else swapped
    shot = story.shots[0]
    return Story((replace(shot, actions=shot.actions[::-1]),)) if shot.in_turn else None


def _with_swapped_roles(story: Story) -> Story | None:
    shot = story.shots[0]
    if shot.num_frames == 1 or not shot.actions or shot.actions[0].target is None:
        return None
    action = shot.actions[0]
    assert action.target is not None
    return Story((replace(shot, actions=(replace(action, actor=action.target, target=action.actor),)),))


def _with_shot(story: Story, old: Shot, new: Shot) -> Story:
    return Story(tuple(new if shot is old else shot for shot in story.shots))
