"""From a story to its pixels and the trajectory of each of them.

Shape legend: T frames, S pixels of height and of width.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from trajvit.processing.scene_materials import paint_material
from trajvit.processing.scene_motion import Camera, PathMotion
from trajvit.processing.scene_rendering import render_frames
from trajvit.processing.scene_script import Actor, SceneScript, Sensor
from trajvit.processing.scene_script import Shot as ScriptedShot
from trajvit.processing.scene_shapes import cut_shape
from trajvit.processing.scene_textures import fit_background
from trajvit.processing.trajectories import Trajectories

from .synthetic_stories import Shot, Story, Thing, draw_story
from .synthetic_world import MEDIA, SPLITS, WorldOptions

FPS = 8.0
"""Frames per second that timestamps and video files tell."""

_NOISE = 1.5  # Grey levels.
_PAN = 0.4  # Frame heights in a shot.
_ZOOM = 0.45  # Log scale in a shot.
_MARGIN = 1.5  # Size of a background in frames; a pan shows less of it.
# How the picture shifts (x, y) and grows when the camera moves: opposite to the camera.
_CAMERA_MOTIONS = {
    "still": (0, 0, 0),
    "pan_left": (1, 0, 0),
    "pan_right": (-1, 0, 0),
    "pan_up": (0, 1, 0),
    "pan_down": (0, -1, 0),
    "zoom_in": (0, 0, 1),
    "zoom_out": (0, 0, -1),
}


@dataclass(frozen=True, eq=False)
class Rendered:
    """A story's `frames` (T, S, S, 3) uint8 RGB and `masks` (T, S, S) int32: 0 for the background, and things counted
    from 1 through all shots."""

    story: Story
    frames: np.ndarray
    masks: np.ndarray

    @property
    def cuts(self) -> list[int]:
        """First frames of all shots but the first."""
        return list(accumulate(shot.num_frames for shot in self.story.shots[:-1]))

    @property
    def things(self) -> list[tuple[int, Thing, tuple[str, ...]]]:
        """The shot, the thing and its motions, for each thing in the order of the masks' numbers."""
        found = []
        for number, shot in enumerate(self.story.shots):
            for actor, thing in enumerate(shot.things):
                found.append((number, thing, tuple(a.motion for a in shot.actions if a.actor == actor)))
        return found

    def trajectories(self) -> Trajectories:
        """One for each thing and one for the background of each shot: every pixel has one."""
        shot_of_frame = np.searchsorted(self.cuts, np.arange(len(self.masks)), side="right")
        first_background = 1 + sum(len(shot.things) for shot in self.story.shots)
        backgrounds = (first_background + shot_of_frame).astype(np.int32)[:, None, None]
        labels = np.where(self.masks == 0, backgrounds, self.masks)
        timestamps = np.arange(len(labels)) / FPS
        return Trajectories.from_labels(labels, timestamps=timestamps, key_frames=[0, *self.cuts])


def render_sample(index: int, split: str, media: str, num_frames: int, options: WorldOptions) -> Rendered:
    """Draw and render sample number `index` of a split; the same arguments give the same sample."""
    numbers = [options.seed, SPLITS.index(split), MEDIA.index(media), index]
    rng = np.random.default_rng(numbers)
    story = draw_story(rng, split, num_frames, options)
    return render_story(rng, story, options.image_size)


def render_story(rng: np.random.Generator, story: Story, image_size: int) -> Rendered:
    """Draw what a story leaves open (textures, where the background's photo is mirrored, noise), and render it."""
    shots, start = [], 0
    for shot in story.shots:
        shots.append(_scripted(rng, shot, start, image_size))
        start += shot.num_frames
    script = SceneScript(int(rng.integers(2**31)), image_size, image_size, FPS, tuple(shots), Sensor(noise=_NOISE))
    frames = np.empty((start, image_size, image_size, 3), np.uint8)
    masks = np.empty((start, image_size, image_size), np.int32)
    for index, (frame, mask) in enumerate(render_frames(script)):
        frames[index], masks[index] = frame, mask
    return Rendered(story, frames, masks)


def _scripted(rng: np.random.Generator, shot: Shot, start: int, image_size: int) -> ScriptedShot:
    times = (np.arange(shot.num_frames) - (shot.num_frames - 1) / 2) / FPS
    actors = []
    for thing, path in zip(shot.things, shot.paths, strict=True):
        extent = float(path.extents.max())
        texture = paint_material(rng, thing.color, thing.material, round(extent * image_size))
        motion = PathMotion("path", times, path.positions, path.extents / extent)
        # Words for motions are meant in the picture: the camera's motion shows on the background only.
        actors.append(Actor(cut_shape(thing.shape, texture), motion, parallax=0.0))
    side = round(_MARGIN * image_size)
    background = fit_background(shot.background, side, side, mirrored=bool(rng.random() < 0.5))
    duration = max(shot.num_frames - 1, 1) / FPS
    x, y, growth = _CAMERA_MOTIONS[shot.camera]
    camera = Camera(pan=(x * _PAN / duration, y * _PAN / duration), zoom=growth * _ZOOM / duration)
    stop = start + shot.num_frames
    return ScriptedShot(start, stop, background, shot.background, camera, tuple(actors))
