"""What a synthetic clip shows: its shots, the things in them and what these do; nothing of it is drawn here."""

from dataclasses import dataclass

import numpy as np

from trajvit.processing.scene_materials import MATERIALS
from trajvit.processing.scene_textures import BACKGROUND_PHOTOS

from .synthetic_paths import Path, are_apart, free_path, passing_paths, progress, striking_paths
from .synthetic_world import CAMERAS, RELATIONS, SIZES, STEPS, WorldOptions, colors_for, shapes_for

MIN_FRAMES = 4
"""A shorter video could not tell what happens first."""

_FRAMES_OF_A_CUT = 12
_FRAMES_OF_A_BOUNCE = 6
_ATTEMPTS = 1000
_PLACEMENTS = 12
_GROWING = (0.42, 0.5)
_FIRST, _SECOND = (0.0, 0.45), (0.55, 1.0)
_LEAST_DISTANCE = 0.25
# Where things stand, or grow, a camera that moves or zooms would leave it open what does.
_WITHOUT_PAN = {"still", "stop_left", "stop_right", "pass_front", "pass_behind", "hit"}
_WITHOUT_ZOOM = _WITHOUT_PAN | {"toward", "away"}


@dataclass(frozen=True)
class Thing:
    """An object. `size` is "small", "large" or, where the extent changes, None."""

    shape: str
    color: str
    material: str
    size: str | None


@dataclass(frozen=True)
class Action:
    """What the thing number `actor` does, to or seen from the thing number `target` where there is one.

    `motion` is one of MOTIONS, or in an image one of RELATIONS; `span` is the share of the shot that it takes.
    """

    motion: str
    actor: int
    target: int | None = None
    span: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Shot:
    """A shot of N frames.

    `things` from the farthest to the nearest with their `paths`, `actions` in the order of events (`in_turn`) or at the
    same time; `background` is a photo of BACKGROUND_PHOTOS, `camera` one of CAMERAS.
    """

    num_frames: int
    things: tuple[Thing, ...]
    paths: tuple[Path, ...]
    actions: tuple[Action, ...]
    in_turn: bool
    background: str
    camera: str


@dataclass(frozen=True, eq=False)
class Story:
    """Shots that follow one another."""

    shots: tuple[Shot, ...]

    @property
    def is_image(self) -> bool:
        return len(self.shots) == 1 and self.shots[0].num_frames == 1


def draw_story(rng: np.random.Generator, split: str, num_frames: int, options: WorldOptions) -> Story:
    """Draw what a video of N frames shows, or with one frame an image."""
    if num_frames == 1:
        return Story((_draw_shot(rng, split, 1, options, ("placed",)),))
    # Captions of two shots of three things each would be too long.
    has_a_cut = num_frames >= _FRAMES_OF_A_CUT and options.num_objects[0] <= _LEGAL_NUMBERS["beside_a_cut"][1]
    if has_a_cut and rng.random() < options.cut_share:
        cut = num_frames // 2
        lengths = (cut, num_frames - cut)
        return Story(tuple(_draw_shot(rng, split, length, options, ("beside_a_cut",)) for length in lengths))
    plots = ("together", "together", "in_turn", "passing", "striking")
    return Story((_draw_shot(rng, split, num_frames, options, plots),))


def _draw_shot(
    rng: np.random.Generator, split: str, num_frames: int, options: WorldOptions, plots: tuple[str, ...]
) -> Shot:
    fewest, most = options.num_objects
    kinds = [kind for kind in plots if _LEGAL_NUMBERS[kind][0] <= most and fewest <= _LEGAL_NUMBERS[kind][1]]
    # Drawn once, so that the kinds that need more attempts are not rarer.
    kind = kinds[rng.integers(len(kinds))]
    low, high = max(fewest, _LEGAL_NUMBERS[kind][0]), min(most, _LEGAL_NUMBERS[kind][1])
    number = int(rng.integers(low, high + 1))
    for _ in range(_ATTEMPTS):
        cast = _PLOTS[kind](rng, split, num_frames, number)
        if cast is not None:
            things, paths, actions = cast
            background = BACKGROUND_PHOTOS[rng.integers(len(BACKGROUND_PHOTOS))]
            camera = _draw_camera(rng, actions, num_frames, options)
            return Shot(num_frames, things, paths, actions, kind == "in_turn", background, camera)
    raise RuntimeError(f"no place for {number} things of the split {split!r} in {_ATTEMPTS} attempts at {kind!r}")


Cast = tuple[tuple[Thing, ...], tuple[Path, ...], tuple[Action, ...]]


def _together(rng: np.random.Generator, split: str, num_frames: int, number: int) -> Cast | None:
    chosen = [str(motion) for motion in rng.permutation(_ALONE)[:number]]
    things = _draw_things(rng, split, [[motion] for motion in chosen])
    if things is None or chosen == ["still"] or ("bounce" in chosen and num_frames < _FRAMES_OF_A_BOUNCE):
        return None
    rise = progress(num_frames)
    paths = _place(rng, things, [[(motion, rise)] for motion in chosen])
    actions = tuple(Action(motion, actor) for actor, motion in enumerate(chosen))
    return None if paths is None else (things, paths, actions)


def _in_turn(rng: np.random.Generator, split: str, num_frames: int, number: int) -> Cast | None:
    """One thing moves in two ways, or two things move one after the other."""
    first, second = (str(motion) for motion in rng.permutation(STEPS)[:2])
    early, late = progress(num_frames, *_FIRST), progress(num_frames, *_SECOND)
    if number == 1:
        steps = [[(first, early), (second, late)]]
        actions = (Action(first, 0, span=_FIRST), Action(second, 0, span=_SECOND))
        if {first, second} in ({"left", "right"}, {"up", "down"}, {"toward", "away"}):
            return None
    else:
        steps = [[(first, early)], [(second, late)]]
        actions = (Action(first, 0, span=_FIRST), Action(second, 1, span=_SECOND))
    things = _draw_things(rng, split, [[motion for motion, _ in thing] for thing in steps])
    paths = None if things is None else _place(rng, things, steps)
    return None if things is None or paths is None else (things, paths, actions)


def _passing(rng: np.random.Generator, split: str, num_frames: int, number: int) -> Cast | None:
    in_front = bool(rng.random() < 0.5)
    motion = "pass_front" if in_front else "pass_behind"
    things = _draw_things(rng, split, [[motion], ["still"]])
    # A small thing would hide little of a large one.
    if things is None or things[1 if in_front else 0].size == "large":
        return None
    paths = passing_paths(rng, num_frames, *_extents(rng, things))
    if paths is None:
        return None
    mover, target = (1, 0) if in_front else (0, 1)
    if in_front:
        things, paths = things[::-1], paths[::-1]
    return things, paths, (Action(motion, mover, target),)


def _striking(rng: np.random.Generator, split: str, num_frames: int, number: int) -> Cast | None:
    things = _draw_things(rng, split, [["hit"], ["struck"]])
    # Two large ones would not have the room to move.
    if things is None or "large" in (things[0].size, things[1].size):
        return None
    mover, target = _extents(rng, things)
    paths = striking_paths(rng, num_frames, (things[0].shape, things[1].shape), (mover, target))
    return things, paths, (Action("hit", 0, 1),)


def _placed(rng: np.random.Generator, split: str, num_frames: int, number: int) -> Cast | None:
    things = _draw_things(rng, split, [[] for _ in range(number)])
    paths = None if things is None else _place(rng, things, [[("still", progress(1))] for _ in things])
    if things is None or paths is None:
        return None
    if number == 1:
        return things, paths, ()
    x, y = paths[0].positions[0] - paths[1].positions[0]
    # One direction has to be the plainer one.
    if max(abs(x), abs(y)) < _LEAST_DISTANCE or min(abs(x), abs(y)) > max(abs(x), abs(y)) / 2:
        return None
    sideways, upright = RELATIONS[int(x > 0)], RELATIONS[2 + int(y > 0)]
    return things, paths, (Action(sideways if abs(x) > abs(y) else upright, 0, 1),)


_PLOTS = {
    "together": _together,
    "in_turn": _in_turn,
    "passing": _passing,
    "striking": _striking,
    "placed": _placed,
    "beside_a_cut": _together,
}
_LEGAL_NUMBERS = {
    "together": (1, 3),
    "beside_a_cut": (1, 2),
    "in_turn": (1, 2),
    "passing": (2, 2),
    "striking": (2, 2),
    "placed": (1, 3),
}
_ALONE = (
    *("left", "right", "up", "down", "toward", "away", "clockwise", "counterclockwise", "bounce", "still"),
    *("stop_left", "stop_right", "enter_left", "enter_right", "leave_left", "leave_right"),
)


def _draw_things(rng: np.random.Generator, split: str, motions: list[list[str]]) -> tuple[Thing, ...] | None:
    """Draw a thing for each list of motions that it makes, all of unlike shapes and colours; None if there is none."""
    things: list[Thing] = []
    for made in motions:
        shapes = [shape for shape in shapes_for(split, made) if shape not in [thing.shape for thing in things]]
        if not shapes:
            return None
        shape = shapes[rng.integers(len(shapes))]
        colors = [color for color in colors_for(split, shape) if color not in [thing.color for thing in things]]
        if not colors:
            return None
        material = MATERIALS[rng.integers(len(MATERIALS))]
        size = tuple(SIZES)[rng.integers(len(SIZES))]
        grows = "toward" in made or "away" in made
        things.append(Thing(shape, colors[rng.integers(len(colors))], material, None if grows else size))
    return tuple(things)


def _extents(rng: np.random.Generator, things: tuple[Thing, ...]) -> list[float]:
    return [float(rng.uniform(*(_GROWING if thing.size is None else SIZES[thing.size]))) for thing in things]


def _place(
    rng: np.random.Generator, things: tuple[Thing, ...], steps: list[list[tuple[str, np.ndarray]]]
) -> tuple[Path, ...] | None:
    """Draw paths on which the things do not touch; None if that fails."""
    paths: list[Path] = []
    for extent, made in zip(_extents(rng, things), steps, strict=True):
        for _ in range(_PLACEMENTS):
            path = free_path(rng, made, extent)
            if path is not None and all(are_apart(path, other) for other in paths):
                paths.append(path)
                break
        else:
            return None
    return tuple(paths)


def _draw_camera(rng: np.random.Generator, actions: tuple[Action, ...], num_frames: int, options: WorldOptions) -> str:
    motions = {action.motion for action in actions}
    moves = [
        camera for camera in CAMERAS[1:] if not motions & (_WITHOUT_ZOOM if camera.startswith("zoom") else _WITHOUT_PAN)
    ]
    if num_frames == 1 or not moves or rng.random() >= options.moving_camera_share:
        return "still"
    return moves[rng.integers(len(moves))]
