"""Seeded synthetic videos with exact ground truth: instance masks, point tracks, cuts and the attributes of every
object."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from .scene_rendering import render_frames
from .scene_script import SceneScript, SceneSettings, Shot, draw_script
from .scene_sprites import material_points

# Three backgrounds that differ and sprites that cross, chosen by eye.
_DEMO_SEED = 7
_POINTS_PER_SPRITE = 40
_BACKGROUND_GRID = (22, 30)
# Nearer to the border a pixel of a point's surroundings is missing.
_BORDER = 2


@dataclass(frozen=True, eq=False)
class SceneObject:
    """A sprite as it appears in a scene.

    `id` is its value in the masks, `depth_order` its place in painter order within its shot (0 is farthest), `shape`
    and `color` name its outline and the colour of its largest part, `part_colors` those of all parts from the
    largest, `motion` its kind of path. `centers` (N, 2) are x y in pixels, NaN outside the shot; `speed` is the mean
    over the shot in frame heights per second; `visible_area` (N,) counts its pixels in each frame.
    """

    id: int
    shot: int
    depth_order: int
    shape: str
    color: str
    part_colors: tuple[str, ...]
    motion: str
    centers: np.ndarray
    speed: float
    visible_area: np.ndarray


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Material points: `object_ids` (P,) int64 (0 for background), `positions` (P, N, 2) float32 x y, `visible` (P,
    N) bool.

    Positions are pixels with centres at integers, NaN outside the point's shot. A point is visible where the mask at
    its nearest pixel shows its own object; a background point belongs to one shot's background.
    """

    object_ids: np.ndarray
    positions: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered scene of N frames.

    `frames` (N, H, W, 3) uint8 RGB; `masks` (N, H, W) int32, 0 for the background and one id per sprite through all
    shots; `tracks` of material points; `cuts`, the first frames of later shots; `fps`; `objects`, the sprite with id
    k at position k - 1.
    """

    frames: np.ndarray
    masks: np.ndarray
    tracks: PointTracks
    cuts: list[int]
    fps: float
    objects: tuple[SceneObject, ...]

    @property
    def shot_of_frame(self) -> np.ndarray:
        """The shot (N,) int64 each frame belongs to."""
        return np.searchsorted(self.cuts, np.arange(len(self.frames)), side="right")


def make_scene(
    seed: int,
    num_frames: int = 61,
    height: int = 256,
    width: int = 384,
    cut: bool | None = None,
    fps: float = 24.0,
    settings: SceneSettings | None = None,
) -> Scene:
    """Draw and render the scene of a seed; the same arguments give the same scene.

    `cut` asks for one cut near the middle; None leaves it to the seed (every third has one). Raises ValueError for a
    negative seed, an illegal geometry, or a cut in fewer than two frames.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    if cut is None:
        cut = seed % 3 == 2 and num_frames > 1
    if cut and num_frames < 2:
        raise ValueError(f"num_frames is {num_frames}; a cut needs at least two frames")
    starts = [0]
    if cut:
        reach = num_frames // 10
        offset = int(np.random.default_rng([seed, 3]).integers(-reach, reach + 1))
        starts.append(num_frames // 2 + offset)
    return render_scene(draw_script(seed, num_frames, height, width, fps, starts, settings))


def render_scene(script: SceneScript) -> Scene:
    """Render a scripted scene into memory together with its tracks and objects."""
    frames = np.empty((script.num_frames, script.height, script.width, 3), np.uint8)
    masks = np.empty((script.num_frames, script.height, script.width), np.int32)
    for index, (frame, mask) in enumerate(render_frames(script)):
        frames[index], masks[index] = frame, mask
    return Scene(frames, masks, _track_points(script, masks), script.cuts, script.fps, _describe_objects(script, masks))


def demo_script(seconds: float = 10.0, height: int = 480, width: int = 854, fps: float = 24.0) -> SceneScript:
    """Return the script of the demonstration clip: three shots of unequal length, so two cuts."""
    num_frames = round(seconds * fps)
    starts = [0, round(0.4 * num_frames), round(0.75 * num_frames)]
    settings = SceneSettings(num_sprites=(4, 6), speed=0.3, noise=(1.0, 2.0), jpeg_quality=None, shutter_share=0.0)
    return draw_script(_DEMO_SEED, num_frames, height, width, fps, starts, settings)


def write_demo_clip(path: str | Path, seconds: float = 10.0, height: int = 480, width: int = 854) -> Path:
    """Write the demonstration clip, 24 frames a second, to an MP4 at `path` and return the path."""
    from .video_writing import write_video

    script = demo_script(seconds, height, width)
    return write_video(path, (frame for frame, _ in render_frames(script)), fps=Fraction(24))


def _track_points(script: SceneScript, masks: np.ndarray) -> PointTracks:
    rng = np.random.default_rng([script.seed, 4])
    ids, positions = [], []
    first_id = 1
    for shot in script.shots:
        rows, columns = shot.background.shape[:2]
        y, x = np.meshgrid(
            *(np.linspace(0, n - 1, k) for n, k in zip((rows, columns), _BACKGROUND_GRID, strict=True)), indexing="ij"
        )
        groups = [(0, np.stack([x.ravel(), y.ravel()], axis=1), script.background_transforms(shot))]
        for number, actor in enumerate(shot.actors):
            points = material_points(rng, actor.sprite, _POINTS_PER_SPRITE)
            groups.append((first_id + number, points, script.actor_transforms(shot, actor)))
        for label, points, transforms in groups:
            moved = np.full((len(points), script.num_frames, 2), np.nan, np.float32)
            moved[:, shot.start : shot.stop] = _apply(transforms, points)
            ids.append(np.full(len(points), label, np.int64))
            positions.append(moved)
        first_id += len(shot.actors)
    object_ids, tracks = np.concatenate(ids), np.concatenate(positions)
    return PointTracks(object_ids, tracks, _visible(object_ids, tracks, masks))


def _apply(transforms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return `points` (P, 2) under each of the maps (N, 2, 3) as (P, N, 2)."""
    return np.einsum("nij,pj->pni", transforms[:, :, :2], points) + transforms[None, :, :, 2]


def _visible(object_ids: np.ndarray, positions: np.ndarray, masks: np.ndarray) -> np.ndarray:
    height, width = masks.shape[1:]
    pixel = np.rint(np.nan_to_num(positions, nan=-1.0)).astype(np.int64)
    x, y = pixel[..., 0], pixel[..., 1]
    inside = (x >= _BORDER) & (x < width - _BORDER) & (y >= _BORDER) & (y < height - _BORDER)
    point, frame = np.nonzero(inside)
    visible = np.zeros(inside.shape, bool)
    visible[point, frame] = masks[frame, y[point, frame], x[point, frame]] == object_ids[point]
    return visible


def _describe_objects(script: SceneScript, masks: np.ndarray) -> tuple[SceneObject, ...]:
    count = sum(len(shot.actors) for shot in script.shots) + 1
    areas = np.stack([np.bincount(mask.ravel(), minlength=count) for mask in masks])
    objects: list[SceneObject] = []
    for number, shot in enumerate(script.shots):
        for order, actor in enumerate(shot.actors):
            centers = np.full((script.num_frames, 2), np.nan)
            centers[shot.start : shot.stop] = _actor_centers(script, shot, order)
            steps = np.linalg.norm(np.diff(centers[shot.start : shot.stop], axis=0), axis=1)
            objects.append(
                SceneObject(
                    id=len(objects) + 1,
                    shot=number,
                    depth_order=order,
                    shape=actor.sprite.shape,
                    color=actor.sprite.color,
                    part_colors=tuple(part.color for part in actor.sprite.parts),
                    motion=actor.motion.kind,
                    centers=centers,
                    speed=float(steps.mean() * script.fps / script.height) if len(steps) else 0.0,
                    visible_area=areas[:, len(objects) + 1],
                )
            )
    return tuple(objects)


def _actor_centers(script: SceneScript, shot: Shot, order: int) -> np.ndarray:
    actor = shot.actors[order]
    middle = np.full((1, 2), (actor.sprite.size - 1) / 2)
    return _apply(script.actor_transforms(shot, actor), middle)[0]
