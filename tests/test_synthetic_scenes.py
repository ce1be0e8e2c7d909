"""The synthetic scenes' truth must agree with what is drawn, and the same seed must draw the same scene."""

import importlib.metadata
import itertools
import socket

import av
import cv2
import numpy as np
import pytest

from trajvit.processing.scene_motion import MOTIONS, Camera, Motion, draw_motion
from trajvit.processing.scene_rendering import smear_kernel
from trajvit.processing.scene_script import Actor, SceneScript, SceneSettings, Sensor, Shot
from trajvit.processing.scene_sprites import SHAPES, Sprite, draw_sprite
from trajvit.processing.scene_textures import PHOTOS, Texture, color_name, load_photo
from trajvit.processing.synthetic_scenes import make_scene, render_scene, write_demo_clip

HEIGHT, WIDTH, FPS = 96, 144, 24.0
CLEAN = SceneSettings(noise=(0, 0), blur=0, flicker=0, jpeg_quality=None, shutter_share=0)


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(seed, num_frames=31, height=HEIGHT, width=WIDTH) for seed in range(6)]


def disc(size=41, color=(200, 40, 40)):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    alpha = np.where(np.hypot(x, y) < 0.45 * size, 255, 0).astype(np.uint8)
    texture = Texture(np.full((size, size, 3), color, np.float32), "brick", color_name(np.array(color)), True)
    return Sprite(np.dstack([texture.pixels.astype(np.uint8), alpha]), "disc", (texture,), (1.0,))


def script_of(motions, camera=None, num_frames=13, parallax=0.0, sensor=None):
    background = np.random.default_rng(0).integers(0, 255, (18, 27, 3)).astype(np.uint8)
    background = cv2.resize(background, (216, 144), interpolation=cv2.INTER_CUBIC)
    actors = tuple(Actor(disc(), motion, parallax) for motion in motions)
    shot = Shot(0, num_frames, background, "brick", camera or Camera(), actors)
    return SceneScript(0, HEIGHT, WIDTH, FPS, (shot,), sensor or Sensor())


def centroid(mask):
    return np.array([axis.mean() for axis in np.nonzero(mask)[::-1]])


def test_photos_are_files_of_the_wheel_and_need_no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a photo was looked for on the network")

    monkeypatch.setattr(socket, "socket", refuse)
    load_photo.cache_clear()
    carried = {str(path) for path in importlib.metadata.files("scikit-image") or ()}
    for name in PHOTOS:
        assert f"skimage/data/{name}" in carried
        assert load_photo(name).ndim == 3


def test_unknown_photo_is_named():
    with pytest.raises(ValueError, match=r"mona_lisa\.png"):
        load_photo("mona_lisa.png")


def test_same_seed_same_scene_and_other_seed_another(scenes):
    again = make_scene(3, num_frames=31, height=HEIGHT, width=WIDTH)
    np.testing.assert_array_equal(again.frames, scenes[3].frames)
    np.testing.assert_array_equal(again.masks, scenes[3].masks)
    np.testing.assert_array_equal(again.tracks.positions, scenes[3].tracks.positions)
    assert np.abs(scenes[3].frames.astype(int) - scenes[4].frames).mean() > 10


def test_shapes_types_and_cuts(scenes):
    for seed, scene in enumerate(scenes):
        assert scene.frames.shape == (31, HEIGHT, WIDTH, 3)
        assert scene.frames.dtype == np.uint8
        assert scene.masks.shape == (31, HEIGHT, WIDTH)
        assert scene.masks.dtype == np.int32
        assert len(scene.cuts) == (seed % 3 == 2)
        assert scene.masks.max() <= len(scene.objects)
        assert np.bincount(scene.shot_of_frame).tolist() == np.diff([0, *scene.cuts, 31]).tolist()
    assert make_scene(0, 20, 64, 64, cut=True).cuts
    assert not make_scene(2, 20, 64, 64, cut=False).cuts


def test_a_cut_changes_the_picture_and_no_object_survives_it(scenes):
    for scene in scenes:
        steps = np.abs(np.diff(scene.frames.astype(np.int16), axis=0)).mean((1, 2, 3))
        for cut in scene.cuts:
            assert steps[cut - 1] > 2 * np.delete(steps, cut - 1).max()
            before, after = np.unique(scene.masks[:cut]), np.unique(scene.masks[cut:])
            assert set(before) & set(after) <= {0}


def test_material_points_keep_their_colour():
    """A point's colour in a frame without noise is that of its first visible frame, wherever rotation and zoom carry
    it."""
    checked = 0
    for seed in range(4):
        scene = make_scene(seed, num_frames=25, height=192, width=288, settings=CLEAN)
        smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in scene.frames]).astype(float)
        for position, visible in zip(scene.tracks.positions, scene.tracks.visible, strict=True):
            frames = np.flatnonzero(visible)
            if len(frames) < 2:
                continue
            x, y = np.rint(position[frames]).astype(int).T
            colors = smooth[frames, y, x]
            checked += 1
            # Half a pixel of rounding on a detailed texture moves the colour; a wrong track moves it by far more, in
            # most points.
            if np.abs(colors - colors[0]).max(1).mean() < 20:
                checked += 1j
    assert checked.real > 2000
    assert checked.imag / checked.real > 0.93


def test_points_are_visible_exactly_where_their_object_shows(scenes):
    hidden = seen = 0
    for scene in scenes[:3]:
        for label, position, visible in zip(
            scene.tracks.object_ids, scene.tracks.positions, scene.tracks.visible, strict=True
        ):
            for frame in range(0, 31, 5):
                if np.isnan(position[frame]).any():
                    assert not visible[frame]
                    continue
                x, y = np.rint(position[frame]).astype(int)
                inside = 2 <= x < WIDTH - 2 and 2 <= y < HEIGHT - 2
                assert visible[frame] == (inside and scene.masks[frame, y, x] == label)
                hidden += inside and not visible[frame]
                seen += visible[frame]
    assert hidden > 100
    assert seen > 1000


def test_masks_agree_with_a_pixel_by_pixel_painter():
    """Each pixel asks every sprite, nearest first, whether its own place in the sprite is covered."""
    script = script_of(
        [Motion("linear", (-0.1, 0.0), velocity=(0.3, 0.1), spin=1.0, growth=0.3), Motion("still", (0.1, 0.05))]
    )
    scene = render_scene(script)
    shot = script.shots[0]
    for frame in (0, 6, 12):
        inverses = {
            label: cv2.invertAffineTransform(script.actor_transforms(shot, shot.actors[label - 1])[frame])
            for label in (2, 1)
        }
        expected = np.zeros((HEIGHT, WIDTH), int)
        for y, x in itertools.product(range(HEIGHT), range(WIDTH)):
            for label, inverse in inverses.items():
                u, v = inverse @ (x, y, 1)
                if np.hypot(u - 20, v - 20) < 0.45 * 41:
                    expected[y, x] = label
                    break
        differing = expected != scene.masks[frame]
        # Only pixels on an outline, whose half coverage rounds either way, may differ.
        assert differing.sum() < 0.02 * HEIGHT * WIDTH
        edge = cv2.dilate(expected.astype(np.uint8), np.ones((3, 3))) != cv2.erode(
            expected.astype(np.uint8), np.ones((3, 3))
        )
        assert not (differing & ~edge).any()


def test_motion_is_in_heights_and_seconds():
    scene = render_scene(script_of([Motion("linear", (0.0, 0.0), velocity=(0.5, -0.25))]))
    centers = np.stack([centroid(mask) for mask in scene.masks])
    np.testing.assert_allclose(np.diff(centers, axis=0).mean(0), np.array([0.5, -0.25]) * HEIGHT / FPS, atol=0.02)
    np.testing.assert_allclose(scene.objects[0].centers, centers, atol=0.3)
    assert scene.objects[0].speed == pytest.approx(np.hypot(0.5, 0.25))
    assert scene.objects[0].color == "red"


def test_growth_scales_area():
    scene = render_scene(script_of([Motion("still", (0.0, 0.0), growth=0.8)]))
    areas = scene.objects[0].visible_area
    assert areas[-1] / areas[0] == pytest.approx(np.exp(2 * 0.8 * 12 / FPS), rel=0.05)
    np.testing.assert_array_equal(areas, (scene.masks == 1).sum((1, 2)))


def test_camera_pan_moves_the_background_and_what_stands_in_it():
    still = Motion("still", (0.0, 0.0))
    scene = render_scene(script_of([still], Camera(pan=(0.5, 0.25)), parallax=1.0))
    window = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_64F)
    (dx, dy), _ = cv2.phaseCorrelate(*(scene.frames[k].mean(2).astype(np.float64) for k in (5, 6)), window)
    np.testing.assert_allclose((dx, dy), np.array([0.5, 0.25]) * HEIGHT / FPS, atol=0.25)
    moved = centroid(scene.masks[12]) - centroid(scene.masks[0])
    np.testing.assert_allclose(moved, 12 * np.array([0.5, 0.25]) * HEIGHT / FPS, atol=0.3)
    along = render_scene(script_of([still], Camera(pan=(0.5, 0.25)), parallax=0.0))
    np.testing.assert_allclose(centroid(along.masks[12]), centroid(along.masks[0]), atol=0.3)


def test_later_actors_are_nearer():
    scene = render_scene(script_of([Motion("still", (0.0, 0.0)), Motion("still", (0.1, 0.0))]))
    assert scene.objects[0].depth_order < scene.objects[1].depth_order
    assert scene.objects[0].visible_area[0] < scene.objects[1].visible_area[0]


def test_a_fast_object_smears_in_a_long_exposure_but_its_mask_does_not():
    motion = Motion("linear", (0.0, 0.0), velocity=(2.0, 0.0))
    sharp, smeared = (render_scene(script_of([motion], sensor=Sensor(shutter=shutter))) for shutter in (0.0, 0.5))
    np.testing.assert_array_equal(sharp.masks, smeared.masks)
    row = [scene.frames[6, HEIGHT // 2].astype(int) for scene in (sharp, smeared)]
    assert np.abs(np.diff(row[1], axis=0)).max() < 0.7 * np.abs(np.diff(row[0], axis=0)).max()


@pytest.mark.parametrize("path", [(3.0, 0.0), (0.0, -2.5), (4.0, 3.0), (-7.3, 5.1)])
def test_smear_kernel_averages_along_the_path(path):
    kernel = smear_kernel(np.array(path))
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * offsets).sum() == pytest.approx(0, abs=1e-4)
    assert (kernel * offsets[:, None]).sum() == pytest.approx(0, abs=1e-4)
    # A uniform distribution along a segment of length L has variance L^2 / 12, here plus the bilinear spread of at
    # most 1/4.
    spread = (kernel * offsets**2).sum() + (kernel * offsets[:, None] ** 2).sum()
    assert np.hypot(*path) ** 2 / 12 <= spread <= np.hypot(*path) ** 2 / 12 * 1.2 + 0.5


def test_every_motion_and_shape_is_drawn():
    rng = np.random.default_rng(0)
    motions = [draw_motion(rng, 2.5, 1.5, 0.4, 0.375) for _ in range(60)]
    assert {motion.kind for motion in motions} == set(MOTIONS)
    assert {draw_sprite(rng, 24).shape for _ in range(80)} == set(SHAPES)
    for motion in motions:
        if motion.kind == "crossing":
            x = motion.centers(np.array([-1.25, 0.0, 1.25]))[:, 0]
            assert abs(x[0]) > 0.75 + 0.2
            assert np.sign(x[0]) != np.sign(motion.velocity[0])


def test_parts_share_the_sprite():
    rng = np.random.default_rng(1)
    sprites = [draw_sprite(rng, 40) for _ in range(30)]
    assert {len(sprite.parts) for sprite in sprites} == {1, 2, 3}
    for sprite in sprites:
        assert sum(sprite.part_shares) == pytest.approx(1)
        assert list(sprite.part_shares) == sorted(sprite.part_shares, reverse=True)


@pytest.mark.parametrize(("rgb", "name"), [((255, 0, 0), "red"), ((10, 10, 10), "black"), ((40, 160, 50), "green")])
def test_color_names(rgb, name):
    assert color_name(np.array(rgb)) == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0, "num_frames": 0}, "num_frames is 0"),
        ({"seed": 0, "num_frames": 1, "cut": True}, "at least two frames"),
        ({"seed": 0, "height": 8}, "8 x 384"),
        ({"seed": 0, "fps": 0.0}, "fps is 0"),
    ],
)
def test_illegal_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_scene(**arguments)


@pytest.mark.parametrize("settings", [{"num_sprites": (5, 2)}, {"sprite_size": (0.0, 0.5)}, {"max_parts": 0}])
def test_illegal_settings_are_named(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SceneSettings(**settings)


def test_a_single_frame_and_no_sprite_are_legal():
    scene = make_scene(2, num_frames=1, height=48, width=64, settings=SceneSettings(num_sprites=(0, 0)))
    assert scene.frames.shape == (1, 48, 64, 3)
    assert not scene.masks.any()
    assert scene.objects == ()


def test_demo_clip_is_the_same_every_time_and_has_cuts(tmp_path):
    paths = [write_demo_clip(tmp_path / name, seconds=2.0, height=121, width=215) for name in ("a.mp4", "b.mp4")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with av.open(str(paths[0])) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 24
        assert stream.codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(stream)]
    assert len(frames) == 48
    assert frames[0].shape == (122, 216, 3)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert sorted(np.argsort(steps)[-2:] + 1) == [19, 36]
