"""Where the things of a synthetic shot are, frame by frame.

Lengths are in frame heights, positions x y from the frame's centre with y downwards. Shape legend: N frames of a shot.
"""

from dataclasses import dataclass

import numpy as np

from trajvit.processing.scene_shapes import shape_coverage

_HALF = 0.485  # From the middle to where things end that are in the picture as a whole.
_OUTSIDE = 0.53  # From the middle to where things end that are out of sight.
_TRAVEL = (0.3, 0.45)
_HOPS = 2
_NEAR_BY_FAR = 2.2  # Times a thing grows while it comes closer.
_RADIUS = (0.18, 0.24)
_FILLED = 0.95  # Share of its extent that an outline takes.
_PIXELS = 150  # Of a frame height, to find where outlines touch.
_SEEN = 0.75  # Share of the shot that it takes to enter or leave.
_DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
# Quarter turns, counterclockwise, that turn a direction to the right.
_TURNS = {"left": 2, "right": 0, "up": 3, "down": 1}


@dataclass(frozen=True, eq=False)
class Path:
    """Positions (N, 2) of a thing's middle and its extents (N,), the side of its square."""

    positions: np.ndarray
    extents: np.ndarray


def progress(num_frames: int, start: float = 0.0, stop: float = 1.0) -> np.ndarray:
    """Rise (N,) from 0 to 1 between two shares of a shot."""
    share = np.linspace(0, 1, num_frames)
    return np.clip((share - start) / (stop - start), 0, 1)


def free_path(rng: np.random.Generator, steps: list[tuple[str, np.ndarray]], extent: float) -> Path | None:
    """Draw a path of one or more motions, each with its progress (N,), that stays in the frame; None if none fits.

    `extent` is the largest on the way. Things that enter or leave are outside for a part of the shot.
    """
    motion, rise = steps[0]
    if motion.startswith(("enter", "leave")):
        return _crossing_the_border(rng, motion, rise, extent)
    offsets = np.zeros((len(rise), 2))
    extents: np.ndarray = np.full(len(rise), extent)
    for motion, rise in steps:
        if motion in ("toward", "away"):
            extents = extents * _NEAR_BY_FAR ** (rise - 1 if motion == "toward" else -rise)
        else:
            offsets = offsets + _offsets(rng, motion, rise)
    room = _HALF - extents[:, None] / 2
    low, high = (-room - offsets).max(0), (room - offsets).min(0)
    if (low > high).any():
        return None
    return Path(rng.uniform(low, high) + offsets, extents)


def passing_paths(rng: np.random.Generator, num_frames: int, mover: float, target: float) -> tuple[Path, Path] | None:
    """Draw the paths of a thing that goes past another, from one side of it to the other, and of that other one.

    None if the things are too large to be apart at both ends.
    """
    room = _HALF - mover / 2
    slack = room - _FILLED * (mover + target) / 2
    if slack < 0:
        return None
    spot, height, offset = rng.uniform(-1, 1, 3) * (min(0.05, slack), 0.2, 0.05)
    reach = _HALF - max(mover, target) / 2
    height = float(np.clip(height, -reach, reach))
    along = room * (2 * progress(num_frames) - 1)
    across = np.full(num_frames, np.clip(height + offset, -room, room))
    standing = np.full(num_frames, spot), np.full(num_frames, height)
    direction = tuple(_DIRECTIONS)[rng.integers(len(_DIRECTIONS))]
    moving = Path(_turned(direction, along, across), np.full(num_frames, mover))
    return moving, Path(_turned(direction, *standing), np.full(num_frames, target))


def striking_paths(
    rng: np.random.Generator, num_frames: int, shapes: tuple[str, str], extents: tuple[float, float]
) -> tuple[Path, Path]:
    """Draw the paths of a thing that comes up to another and stops where it touches it, and of that other one, which
    then goes on the same way."""
    mover, target = extents
    height = rng.uniform(-0.25, 0.25)
    spot = rng.uniform(0.02, 0.1)
    direction = tuple(_DIRECTIONS)[rng.integers(len(_DIRECTIONS))]
    contact = spot - touching_distance(shapes, extents, direction)
    start, end = mover / 2 - _HALF, _HALF - target / 2
    # They touch in a frame, not between two.
    touch = (num_frames // 2) / (num_frames - 1)
    coming = start + (contact - start) * progress(num_frames, 0, touch)
    pushed = spot + (end - spot) * progress(num_frames, touch, 1)
    across = np.full(num_frames, height)
    moving = Path(_turned(direction, coming, across), np.full(num_frames, mover))
    return moving, Path(_turned(direction, pushed, across), np.full(num_frames, target))


def touching_distance(shapes: tuple[str, str], extents: tuple[float, float], along: str) -> float:
    """How far two middles are apart where the first thing, on its way to the other, touches it."""
    # Turned so that the first one comes from the left; rows of pixels that both have are those around the middle.
    covered = [
        np.rot90(shape_coverage(shape, max(4, round(extent * _PIXELS))) > 127, _TURNS[along])
        for shape, extent in zip(shapes, extents, strict=True)
    ]
    rows = min(len(mask) for mask in covered)
    mover, target = (mask[(len(mask) - rows) // 2 :][:rows] for mask in covered)
    meet = mover.any(1) & target.any(1)
    front = mover.shape[1] - np.argmax(mover[:, ::-1], axis=1) - mover.shape[1] / 2
    back = np.argmax(target, axis=1) - target.shape[1] / 2
    return float((front - back)[meet].max() / _PIXELS)


def are_apart(one: Path, other: Path) -> bool:
    """Whether two things do not touch in any frame."""
    distances = np.linalg.norm(one.positions - other.positions, axis=1)
    return bool((distances > (one.extents + other.extents) / 2).all())


def _offsets(rng: np.random.Generator, motion: str, rise: np.ndarray) -> np.ndarray:
    """Positions (N, 2) in relation to any place, of a motion that stays in the frame."""
    if motion == "still":
        return np.zeros((len(rise), 2))
    if motion == "bounce":
        height = rng.uniform(*_TRAVEL)
        return np.stack([np.zeros(len(rise)), -height * np.abs(np.sin(_HOPS * np.pi * rise))], axis=1)
    if motion in ("clockwise", "counterclockwise"):
        # With y downwards growing angles turn clockwise.
        turn = 2 * np.pi * rise * (1 if motion == "clockwise" else -1) + rng.uniform(0, 2 * np.pi)
        return rng.uniform(*_RADIUS) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if motion.startswith("stop_"):
        rise = np.minimum(2 * rise, 1)
    return rng.uniform(*_TRAVEL) * rise[:, None] * np.array(_DIRECTIONS[motion.removeprefix("stop_")])


def _crossing_the_border(rng: np.random.Generator, motion: str, rise: np.ndarray, extent: float) -> Path:
    """A path (N, 2) across the left or right border; all of the thing is outside at one end and inside at the other."""
    inside, outside = rng.uniform(-0.15, 0.15), -_OUTSIDE - extent / 2
    if motion.startswith("enter"):
        x = outside + (inside - outside) * np.minimum(rise / _SEEN, 1)
    else:
        x = inside + (outside - inside) * np.maximum((rise - 1) / _SEEN + 1, 0)
    room = _HALF - extent / 2
    positions = np.stack([x if motion.endswith("left") else -x, np.full(len(x), rng.uniform(-room, room))], axis=1)
    return Path(positions, np.full(len(x), extent))


def _turned(direction: str, forward: np.ndarray, sideways: np.ndarray) -> np.ndarray:
    """Positions (N, 2) of which those along and those across a direction are given."""
    along = np.array(_DIRECTIONS[direction])
    return forward[:, None] * along + sideways[:, None] * np.array([-along[1], along[0]])
