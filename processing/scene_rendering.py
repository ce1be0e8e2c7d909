"""Draws scripted scenes: layers in painter order with exact instance masks, then the sensor."""

from collections.abc import Iterator

import cv2
import numpy as np

from .scene_script import SceneScript, Sensor

# How far the noise pattern is shifted at random from frame to frame, in pixels: drawing it anew each frame would cost
# more than the rest.
_NOISE_SHIFT = 64
_OUTSIDE = 2


def render_frames(script: SceneScript) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each frame (H, W, 3) uint8 RGB with its instance mask (H, W) int32.

    0 is the background; sprites count from 1 through all shots, in painter order within a shot. A pixel belongs to
    the nearest sprite that covers more than half of it in the middle of the exposure.
    """
    capture = _Capture(script)
    first_id = 1
    for shot in script.shots:
        background = script.background_transforms(shot)
        background_blur = _velocities(background, script, shot.background.shape[1::-1])
        layers = [(actor.sprite, script.actor_transforms(shot, actor)) for actor in shot.actors]
        blurs = [_velocities(transforms, script, (sprite.size, sprite.size)) for sprite, transforms in layers]
        for index in range(shot.stop - shot.start):
            frame = cv2.warpAffine(
                shot.background, background[index], (script.width, script.height), borderMode=cv2.BORDER_REFLECT_101
            )
            kernel = smear_kernel(background_blur[index])
            if kernel is not None:
                frame = cv2.filter2D(frame, -1, kernel)
            mask = np.zeros((script.height, script.width), np.int32)
            for number, (sprite, transforms) in enumerate(layers):
                _paint(
                    frame, mask, sprite.rgba, transforms[index], smear_kernel(blurs[number][index]), first_id + number
                )
            yield capture(frame, shot.start + index), mask
        first_id += len(layers)


def _velocities(transforms: np.ndarray, script: SceneScript, size: tuple[int, int]) -> np.ndarray:
    """Return how far (N, 2) a layer's centre moves during the exposure of each frame, in pixels."""
    if len(transforms) < 2:
        return np.zeros((len(transforms), 2))
    center = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2, 1.0])
    return script.sensor.shutter * np.gradient(transforms @ center, axis=0)


def smear_kernel(path: np.ndarray) -> np.ndarray | None:
    """Return the averaging kernel along a `path` (2,) of x y pixels, or None when it is shorter than a pixel."""
    length = float(np.hypot(*path))
    if length < 1:
        return None
    radius = int(np.ceil(length / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    # Oversampled points of the path, spread bilinearly, so that the kernel changes smoothly with the motion.
    for step in np.linspace(-0.5, 0.5, 8 * radius + 1):
        x, y = radius + step * path
        left, top = int(x), int(y)
        for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, weight in ((left, 1 - (x - left)), (left + 1, x - left)):
                if row <= 2 * radius and column <= 2 * radius:
                    kernel[row, column] += row_weight * weight
    return kernel / kernel.sum()


def _paint(
    frame: np.ndarray, mask: np.ndarray, rgba: np.ndarray, transform: np.ndarray, kernel: np.ndarray | None, label: int
) -> None:
    """Paint a sprite over `frame` and `mask` in place; only the pixels around it are touched."""
    size = rgba.shape[0]
    corners = np.array([[-1, -1, 1], [size, -1, 1], [-1, size, 1], [size, size, 1]], np.float64) @ transform.T
    margin = _OUTSIDE + (0 if kernel is None else kernel.shape[0] // 2)
    left, top = np.maximum(np.floor(corners.min(0)).astype(int) - margin, 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + margin + 1, (frame.shape[1], frame.shape[0]))
    if left >= right or top >= bottom:
        return
    local = transform - [[0, 0, left], [0, 0, top]]
    box = (int(right - left), int(bottom - top))
    # Colour is continued beyond the sprite's square and alpha is not, so edges show no dark fringe.
    color = cv2.warpAffine(rgba[..., :3], local, box, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(rgba[..., 3], local, box)
    mask[top:bottom, left:right][alpha > 127] = label
    weight: np.ndarray = alpha.astype(np.float32) / 255
    if kernel is not None:
        color, weight = cv2.filter2D(color, -1, kernel), cv2.filter2D(weight, -1, kernel)
    frame[top:bottom, left:right] = cv2.blendLinear(
        color, np.ascontiguousarray(frame[top:bottom, left:right]), weight, 1 - weight
    )


class _Capture:
    """The sensor at work: gain, blur, noise and JPEG of one frame at a time, each frame with its own random stream."""

    def __init__(self, script: SceneScript) -> None:
        self.seed, self.fps = script.seed, script.fps
        self.sensor: Sensor = script.sensor
        rng = np.random.default_rng([script.seed, 1])
        shape = (script.height + _NOISE_SHIFT, script.width + _NOISE_SHIFT, 3)
        noise = rng.standard_normal(shape, np.float32) * np.float32(script.sensor.noise)
        self.noise = np.rint(noise).astype(np.int16)

    def __call__(self, frame: np.ndarray, index: int) -> np.ndarray:
        sensor = self.sensor
        gain = 1 + sensor.flicker * np.sin(sensor.flicker_speed * index / self.fps)
        frame = cv2.convertScaleAbs(frame, alpha=float(gain))
        if sensor.blur > 0:
            frame = cv2.GaussianBlur(frame, (0, 0), sensor.blur)
        if sensor.noise > 0:
            rng = np.random.default_rng([self.seed, 2, index])
            top, left = rng.integers(0, _NOISE_SHIFT, 2)
            pattern = self.noise[top : top + frame.shape[0], left : left + frame.shape[1]]
            frame = cv2.add(frame, np.ascontiguousarray(pattern), dtype=cv2.CV_8U)
        if sensor.jpeg_quality is not None:
            frame = _compress(frame, sensor.jpeg_quality)
        return frame


def _compress(frame: np.ndarray, quality: int) -> np.ndarray:
    """Return an RGB frame after JPEG compression."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError(f"OpenCV could not decode its own JPEG of quality {quality}")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
