"""Named shapes, colours and materials look like what they are called, and a path goes where its points are."""

import cv2
import numpy as np
import pytest
from pixel_evidence import Seen, has_shape

from trajvit.processing.scene_materials import MATERIALS, paint_material
from trajvit.processing.scene_motion import PathMotion
from trajvit.processing.scene_shapes import NAMED_SHAPES, cut_shape, shape_coverage
from trajvit.processing.scene_textures import COLOR_NAMES, color_name, fit_background, load_photo
from trajvit.training.synthetic_paths import touching_distance
from trajvit.training.synthetic_world import COLORS


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("material", MATERIALS)
def test_every_material_keeps_the_colour_in_every_shape(material):
    for number, color in enumerate(COLORS):
        for size in (22, 50):
            texture = paint_material(generator(number, size), color, material, size)
            np.testing.assert_allclose(texture.pixels.mean((0, 1)), COLOR_NAMES[color], atol=20)
            for shape in NAMED_SHAPES:
                rgba = cut_shape(shape, texture).rgba
                assert color_name(rgba[rgba[..., 3] > 127][:, :3].mean(0)) == color, (shape, size)


def relief(material: str, seed: int, size: int = 48) -> np.ndarray:
    grey = paint_material(generator(seed), "green", material, size).pixels.mean(2)
    return (grey - grey.mean()) / grey.mean()


def test_materials_are_what_they_are_called():
    for seed in range(8):
        assert np.abs(relief("plain", seed)).max() < 0.25
        stripes = relief("striped", seed)
        along = min((0, 1), key=lambda axis: stripes.std(axis).max())
        assert stripes.std(along).max() < 1e-3
        changes = np.count_nonzero(np.diff(np.sign(stripes.mean(along))))
        assert 5 <= changes <= 8
        board = np.sign(relief("checkered", seed))
        # A board of two colours is the outer product of its first row and its first column.
        np.testing.assert_array_equal(board, board[0, 0] * np.outer(board[:, 0], board[0]))
        assert min(np.count_nonzero(np.diff(line)) for line in (board[0], board[:, 0])) >= 5
        dark = (relief("spotted", seed) < -0.2).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(dark)
        whole = stats[1:][stats[1:, cv2.CC_STAT_AREA] == stats[1:, cv2.CC_STAT_AREA].max()]
        assert count - 1 >= 6
        np.testing.assert_allclose(whole[:, cv2.CC_STAT_WIDTH], whole[:, cv2.CC_STAT_HEIGHT], atol=1)


@pytest.mark.parametrize("material", ["brick", "grass", "gravel"])
def test_photographed_materials_come_from_their_photo(material):
    """Statistics of the cut: a shrunken photo's best match for it is its own photo."""
    grey = relief(material, 3).astype(np.float32)
    scores = {}
    for name in ("brick", "grass", "gravel"):
        photo = cv2.cvtColor(load_photo(f"{name}.png"), cv2.COLOR_RGB2GRAY).astype(np.float32)
        matches = [
            cv2.matchTemplate(
                cv2.resize(photo, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA),
                grey[4:44, 4:44],
                cv2.TM_CCOEFF_NORMED,
            ).max()
            for scale in np.arange(1.9, 5.6, 0.1)
        ]
        scores[name] = max(matches)
    assert max(scores, key=lambda name: scores[name]) == material
    assert scores[material] > 0.7


@pytest.mark.parametrize("shape", NAMED_SHAPES)
def test_shapes_fill_their_square_and_are_told_apart(shape):
    for size in (22, 40):
        mask = np.zeros((1, 112, 112), np.int32)
        mask[0, 30 : 30 + size, 40 : 40 + size] = shape_coverage(shape, size) > 127
        seen = Seen(np.full((1, 112, 112, 3), 90, np.uint8), mask, 1)
        assert [other for other in NAMED_SHAPES if has_shape(seen, other)] == [shape]
        assert seen.extent > 0.83 * size / 112


def test_illegal_names_are_named():
    with pytest.raises(ValueError, match="shape 'blob' is not one of disc"):
        shape_coverage("blob", 20)
    with pytest.raises(ValueError, match="material 'wood' is not one of plain"):
        paint_material(generator(0), "red", "wood", 20)
    with pytest.raises(ValueError, match="color 'mauve' is not one of black"):
        paint_material(generator(0), "mauve", "plain", 20)


def test_a_path_passes_its_points():
    times, positions = np.array([0.0, 1.0, 3.0]), np.array([(0.0, 0.0), (0.25, -0.5), (0.25, 0.1)])
    motion = PathMotion("path", times, positions, np.array([1.0, 2.0, 0.5]))
    maps = motion.transforms(np.array([-1.0, 0.5, 1.0, 2.0, 9.0]), 21, 101, 201)
    middles = maps @ np.array([10.0, 10.0, 1.0])
    expected = np.array([(0, 0), (0.125, -0.25), (0.25, -0.5), (0.25, -0.2), (0.25, 0.1)]) * 101 + (100, 50)
    np.testing.assert_allclose(middles, expected)
    np.testing.assert_allclose(maps[:, 0, 0], [1.0, 1.5, 2.0, 1.25, 0.5])
    np.testing.assert_allclose(maps[:, 1, 1], maps[:, 0, 0])
    assert not maps[:, 0, 1].any()
    assert not maps[:, 1, 0].any()


@pytest.mark.parametrize("along", ["left", "right", "up", "down"])
def test_touching_distance_is_where_moved_masks_first_meet(along):
    """By moving one mask towards the other, pixel by pixel."""
    step = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}[along]
    for shapes in (("disc", "crescent"), ("crescent", "star"), ("heart", "triangle"), ("ring", "cross")):
        sizes = (30, 36)
        canvas = np.zeros((200, 200), bool)
        canvas[82:118, 82:118] = shape_coverage(shapes[1], sizes[1]) > 127
        mover = shape_coverage(shapes[0], sizes[0]) > 127
        for distance in range(60, 0, -1):
            top, left = (85 - distance * offset for offset in step)
            if (canvas[top : top + 30, left : left + 30] & mover).any():
                break
        extents = (sizes[0] / 150, sizes[1] / 150)
        assert touching_distance(shapes, extents, along) * 150 == pytest.approx(distance + 1, abs=0.01)


def test_a_background_covers_and_mirrors():
    plain, mirrored = (fit_background("coffee.png", 60, 100, mirrored) for mirrored in (False, True))
    assert min(plain.shape[0] - 60, plain.shape[1] - 100) == 0
    assert np.abs(plain[:, ::-1].astype(int) - mirrored).mean() < 2
    assert np.abs(plain.astype(int) - mirrored).mean() > 10
