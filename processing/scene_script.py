"""What happens in a synthetic scene, before anything is drawn: shots of a camera, a background and actors, and a
sensor."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .scene_motion import Camera, Motion, PathMotion, compose, draw_camera, draw_motion
from .scene_sprites import Sprite, draw_sprite
from .scene_textures import draw_background


@dataclass(frozen=True)
class SceneSettings:
    """Ranges from which scenes are drawn. Sizes are in frame heights, speeds in frame heights per second.

    The defaults are the benchmark's. `num_sprites` and `sprite_size` are inclusive ranges; `speed` is the usual
    highest speed; `noise` (grey levels), `jpeg_quality` and `blur` (pixels) are ranges of the sensor, None turns JPEG
    artefacts off; `shutter_share` is the share of scenes whose exposure lasts half a frame, so that fast things
    smear.
    """

    num_sprites: tuple[int, int] = (4, 8)
    sprite_size: tuple[float, float] = (0.28, 0.62)
    max_parts: int = 3
    speed: float = 0.375
    still_camera_share: float = 0.25
    noise: tuple[float, float] = (1.0, 3.5)
    blur: float = 0.6
    flicker: float = 0.02
    jpeg_quality: tuple[int, int] | None = (70, 92)
    shutter_share: float = 0.35

    def __post_init__(self) -> None:
        for name in ("num_sprites", "sprite_size", "noise", "jpeg_quality"):
            bounds = getattr(self, name)
            if bounds is not None and not 0 <= bounds[0] <= bounds[1]:
                raise ValueError(f"{name} is {bounds}; expected (low, high) with 0 <= low <= high")
        if self.sprite_size[0] <= 0:
            raise ValueError(f"sprite_size is {self.sprite_size}; expected sizes above 0 frame heights")
        if self.max_parts < 1:
            raise ValueError(f"max_parts is {self.max_parts}; expected at least 1")


@dataclass(frozen=True, eq=False)
class Actor:
    """A sprite, how it moves, and how strongly the camera's motion shows on it (`parallax`: 1 as the background, more
    is nearer)."""

    sprite: Sprite
    motion: Motion | PathMotion
    parallax: float = 1.0


@dataclass(frozen=True, eq=False)
class Shot:
    """Frames start..stop-1 of a scene: a `background` (H, W, 3) uint8, a camera, and actors from the farthest to the
    nearest."""

    start: int
    stop: int
    background: np.ndarray
    background_photo: str
    camera: Camera
    actors: tuple[Actor, ...]


@dataclass(frozen=True)
class Sensor:
    """What a camera does to light: exposure (`shutter`, share of the frame interval), gain flicker, blur, noise, JPEG
    artefacts."""

    shutter: float = 0.0
    flicker: float = 0.0
    flicker_speed: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg_quality: int | None = None


@dataclass(frozen=True, eq=False)
class SceneScript:
    """A whole scene: shots that follow one another without gaps, a sensor, and the frame geometry and rate."""

    seed: int
    height: int
    width: int
    fps: float
    shots: tuple[Shot, ...]
    sensor: Sensor

    @property
    def num_frames(self) -> int:
        return self.shots[-1].stop

    @property
    def cuts(self) -> list[int]:
        """First frames of all shots but the first."""
        return [shot.start for shot in self.shots[1:]]

    def shot_times(self, shot: Shot) -> np.ndarray:
        """Return the times (N,) of a shot's frames in seconds from the shot's middle."""
        return (np.arange(shot.stop - shot.start) - (shot.stop - shot.start - 1) / 2) / self.fps

    def actor_transforms(self, shot: Shot, actor: Actor) -> np.ndarray:
        """Return (N, 2, 3) maps from an actor's sprite pixels to frame pixels for the shot's frames."""
        times = self.shot_times(shot)
        camera = shot.camera.transforms(times, self.height, self.width, actor.parallax)
        return compose(camera, actor.motion.transforms(times, actor.sprite.size, self.height, self.width))

    def background_transforms(self, shot: Shot) -> np.ndarray:
        """Return (N, 2, 3) maps from background pixels to frame pixels for the shot's frames."""
        times = self.shot_times(shot)
        rows, columns = shot.background.shape[:2]
        placement = np.array([[1, 0, (self.width - columns) / 2], [0, 1, (self.height - rows) / 2]])
        camera = shot.camera.transforms(times, self.height, self.width)
        return compose(camera, np.broadcast_to(placement, camera.shape))


def draw_script(
    seed: int,
    num_frames: int,
    height: int,
    width: int,
    fps: float,
    shot_starts: list[int],
    settings: SceneSettings | None = None,
) -> SceneScript:
    """Draw a scene: same arguments, same scene.

    Raises ValueError for sizes below 16 pixels, no frame, a rate that is not positive, or starts that are not
    increasing from 0.
    """
    settings = settings or SceneSettings()
    if min(height, width) < 16:
        raise ValueError(f"frame size is {height} x {width}; expected at least 16 x 16")
    if num_frames < 1 or fps <= 0:
        raise ValueError(
            f"num_frames is {num_frames} and fps is {fps}; expected at least one frame and a positive rate"
        )
    bounds = [*shot_starts, num_frames]
    if shot_starts[:1] != [0] or any(a >= b for a, b in pairwise(bounds)):
        raise ValueError(f"shot_starts is {shot_starts}; expected increasing frames from 0 and below {num_frames}")
    rng = np.random.default_rng([seed, 0])
    shots = tuple(_draw_shot(rng, start, stop, height, width, fps, settings) for start, stop in pairwise(bounds))
    quality = settings.jpeg_quality
    sensor = Sensor(
        shutter=0.5 if rng.random() < settings.shutter_share else 0.0,
        flicker=settings.flicker,
        flicker_speed=float(rng.uniform(1.2, 9.6)),
        blur=settings.blur,
        noise=float(rng.uniform(*settings.noise)),
        jpeg_quality=None if quality is None else int(rng.integers(quality[0], quality[1] + 1)),
    )
    return SceneScript(seed, height, width, fps, shots, sensor)


def _draw_shot(
    rng: np.random.Generator, start: int, stop: int, height: int, width: int, fps: float, settings: SceneSettings
) -> Shot:
    # Half a frame of margin for the camera; beyond it the background is mirrored.
    background, photo = draw_background(rng, round(1.5 * height), round(1.5 * width))
    camera = draw_camera(rng, settings.still_camera_share)
    actors = []
    for _ in range(int(rng.integers(settings.num_sprites[0], settings.num_sprites[1] + 1))):
        size = float(rng.uniform(*settings.sprite_size))
        sprite = draw_sprite(rng, max(4, round(size * height)), settings.max_parts)
        motion = draw_motion(rng, (stop - start) / fps, width / height, size, settings.speed)
        # Sprites that cross keep their place in the picture, so that they do enter and leave.
        parallax = 0.0 if motion.kind == "crossing" else float(rng.choice([0.0, 0.5, 1.5]))
        actors.append(Actor(sprite, motion, parallax))
    return Shot(start, stop, background, photo, camera, tuple(actors))
