"""How sprites and the camera of a synthetic scene move. Lengths are in frame heights, times in seconds from the
shot's middle."""

from dataclasses import dataclass, replace

import numpy as np

MOTIONS = ("crossing", "linear", "elliptic", "still")


@dataclass(frozen=True)
class Motion:
    """Path, rotation and growth of a sprite: position(t) = origin + velocity t + radii (cos, sin)(angular_speed t +
    phase).

    `kind` names what was drawn (one of MOTIONS). `origin`, `velocity` (per second) and `radii` are x y in frame
    heights, `origin` from the frame's centre. `angular_speed` and `spin` are radians per second, `growth` is the log
    scale per second.
    """

    kind: str
    origin: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    radii: tuple[float, float] = (0.0, 0.0)
    angular_speed: float = 0.0
    phase: float = 0.0
    angle: float = 0.0
    spin: float = 0.0
    growth: float = 0.0

    def centers(self, times: np.ndarray) -> np.ndarray:
        """Return the positions (N, 2) at `times` (N,), x y in frame heights from the frame's centre."""
        turn = self.angular_speed * times + self.phase
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        return np.asarray(self.origin) + np.asarray(self.velocity) * times[:, None] + np.asarray(self.radii) * circle

    def transforms(self, times: np.ndarray, sprite_size: int, height: int, width: int) -> np.ndarray:
        """Return (N, 2, 3) affine maps from sprite pixels to frame pixels (x y, pixel centres at integers)."""
        scale = np.exp(self.growth * times)
        angle = self.angle + self.spin * times
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        linear = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
        middle = np.full(2, (sprite_size - 1) / 2)
        centers = self.centers(times) * height + frame_center(height, width)
        return np.concatenate([linear, (centers - linear @ middle)[..., None]], axis=2)


@dataclass(frozen=True, eq=False)
class PathMotion:
    """A path given by its points, straight between them and at rest before the first and after the last.

    `kind` names it. At `times` (K,), increasing, the sprite's middle is at `positions` (K, 2), x y in frame heights
    from the frame's centre, and its size is multiplied by `scales` (K,).
    """

    kind: str
    times: np.ndarray
    positions: np.ndarray
    scales: np.ndarray

    def transforms(self, times: np.ndarray, sprite_size: int, height: int, width: int) -> np.ndarray:
        """Return (N, 2, 3) affine maps from sprite pixels to frame pixels, as those of `Motion`."""
        centers = np.stack([np.interp(times, self.times, axis) for axis in self.positions.T], axis=1)
        linear = np.interp(times, self.times, self.scales)[:, None, None] * np.eye(2)
        middle = np.full(2, (sprite_size - 1) / 2)
        offset = centers * height + frame_center(height, width) - linear @ middle
        return np.concatenate([linear, offset[..., None]], axis=2)


@dataclass(frozen=True)
class Camera:
    """Pan, sway and zoom of a shot; the identity in the shot's middle but for the sway.

    `pan` is x y in frame heights per second, `sway` an amplitude in frame heights with two `sway_speeds` and
    `sway_phases` (radians), `zoom` the log scale per second.
    """

    pan: tuple[float, float] = (0.0, 0.0)
    zoom: float = 0.0
    sway: float = 0.0
    sway_speeds: tuple[float, float] = (0.0, 0.0)
    sway_phases: tuple[float, float] = (0.0, 0.0)

    @property
    def still(self) -> bool:
        return self.pan == (0.0, 0.0) and self.zoom == 0 and self.sway == 0

    def transforms(self, times: np.ndarray, height: int, width: int, parallax: float = 1.0) -> np.ndarray:
        """Return (N, 2, 3) affine maps from the scene, in frame pixels at the shot's middle, to the frame at `times`
        (N,).

        `parallax` scales the camera's effect: 1 for the background, 0 for what moves along with the camera.
        """
        swing = self.sway * np.sin(times[:, None] * np.asarray(self.sway_speeds) + np.asarray(self.sway_phases))
        shift = parallax * height * (np.asarray(self.pan) * times[:, None] + swing)
        scale = np.exp(parallax * self.zoom * times)
        center = frame_center(height, width)
        linear = scale[:, None, None] * np.eye(2)
        return np.concatenate([linear, (center - scale[:, None] * center + shift)[..., None]], axis=2)


def frame_center(height: int, width: int) -> np.ndarray:
    """Return the x y of a frame's centre with pixel centres at integers."""
    return np.array([(width - 1) / 2, (height - 1) / 2])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Return the (N, 2, 3) affine maps that apply `inner` (N, 2, 3) first and `outer` (N, 2, 3) second."""
    linear = outer[:, :, :2] @ inner[:, :, :2]
    offset = (outer[:, :, :2] @ inner[:, :, 2:])[..., 0] + outer[:, :, 2]
    return np.concatenate([linear, offset[..., None]], axis=2)


def draw_motion(rng: np.random.Generator, duration: float, aspect: float, sprite_size: float, speed: float) -> Motion:
    """Draw a random motion for a sprite of `sprite_size` heights; `duration` in seconds, `aspect` = width / height.

    `speed` is the usual highest speed in heights per second; one sprite in four may go nearly twice as fast.
    """
    kind = MOTIONS[rng.integers(len(MOTIONS))]
    origin = (float(aspect * rng.uniform(-0.4, 0.4)), float(rng.uniform(-0.4, 0.4)))
    pace = float(speed * (rng.uniform(0.08, 1.0) if rng.random() < 0.75 else rng.uniform(1.0, 1.75)))
    spin = 0.0 if rng.random() < 0.3 else float(rng.normal(0, 0.5 if kind != "still" else 0.04))
    growth = float(rng.uniform(-0.14, 0.14)) if rng.random() < 0.6 else 0.0
    angle, phase = (float(radians) for radians in rng.uniform(0, 2 * np.pi, 2))
    base = Motion(kind, origin, phase=phase, angle=angle, spin=spin, growth=growth)
    if kind == "crossing":
        side = 1 if rng.random() < 0.5 else -1
        # From outside one edge to outside the other in about the shot's length, entering within its first half.
        pace = (aspect + sprite_size) / duration * float(rng.uniform(0.7, 1.5))
        entry = float(rng.uniform(-0.5, 0.0)) * duration
        start = -side * (aspect / 2 + 0.6 * sprite_size + pace * entry)
        return replace(
            base, origin=(start, origin[1]), velocity=(side * pace, 0.0), radii=(0.0, 0.04), angular_speed=2.4
        )
    if kind == "linear":
        return replace(base, velocity=(0.6 * pace * float(np.cos(phase)), 0.6 * pace * float(np.sin(phase))))
    if kind == "elliptic":
        angular_speed = float(rng.uniform(1.2, 3.8))
        radius = min(pace / angular_speed, 0.35 * aspect)
        return replace(base, radii=(radius, radius * float(rng.uniform(0.2, 1.0))), angular_speed=angular_speed)
    return replace(base, radii=(0.012, 0.012), angular_speed=2.6)


def draw_camera(rng: np.random.Generator, still_share: float = 0.25) -> Camera:
    """Draw a random camera: still with probability `still_share`, else panning, zooming and swaying."""
    pan = rng.uniform(-1, 1, 2) * (0.15, 0.075)
    zoom, sway = rng.uniform(-0.06, 0.06), rng.uniform(0, 0.024)
    phases = rng.uniform(0, 2 * np.pi, 2)
    if rng.random() < still_share:
        return Camera()
    return Camera(
        pan=(float(pan[0]), float(pan[1])),
        zoom=float(zoom),
        sway=float(sway),
        sway_speeds=(2.9, 4.1),
        sway_phases=(float(phases[0]), float(phases[1])),
    )
