"""The augmentation of clips, against torchvision frame by frame and against loops over the centres of cells."""

import math
import pickle
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from trajvit.processing.stored_values import SampleError
from trajvit.processing.trajectories import Trajectories
from trajvit.training.augmentation import ClipTransform, Draw, augmented, cells_of_crop, draw_augmentation
from trajvit.training.hue_rotation import rotate_hue
from trajvit.training.run_config import AugmentationSettings
from trajvit.training.samples import Clip

COLORS = (("saturation", 0.85), ("hue", -0.08), ("brightness", 1.3), ("contrast", 0.7))


def photo(num_frames=3, height=40, width=56, seed=0):
    """Frames with smooth and with sharp places."""
    noise = np.random.default_rng(seed).random((num_frames, height // 8, width // 8, 3)).repeat(8, 1).repeat(8, 2)
    slope = np.linspace(0, 0.6, width)[:, None]
    return ((0.4 * noise + slope) * 255).astype(np.uint8)


def clip_of(frames, ids=None, captions=("a", "b", "c")):
    return Clip("clip", frames, None if ids is None else Trajectories(ids), tuple(captions))


def by_torchvision(frames, draw, size):
    """Each frame alone, by torchvision's own functions in float32 and a two-dimensional blur."""
    changes = {"brightness": F.adjust_brightness, "contrast": F.adjust_contrast}
    changes |= {"saturation": F.adjust_saturation, "hue": F.adjust_hue}
    results = []
    for frame in frames:
        picture = torch.from_numpy(frame).permute(2, 0, 1).contiguous()
        picture = F.resized_crop(picture, *draw.crop, [size, size], antialias=True)
        if draw.flip:
            picture = picture.flip(-1)
        picture = picture.float() / 255
        for name, factor in draw.colors:
            picture = changes[name](picture, factor)
        if draw.blur_sigma is not None:
            side = 2 * math.ceil(5 * draw.blur_sigma) + 1
            picture = F.gaussian_blur(picture, [side, side], [draw.blur_sigma] * 2)
        if draw.grayscale:
            picture = F.rgb_to_grayscale(picture, 3)
        results.append((picture * 255).round())
    return torch.stack(results)


class TestPictures:
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("crop", [(0, 0, 40, 56), (3, 5, 21, 30), (17, 20, 8, 10)])
    def test_crops_and_flips_are_torchvisions(self, crop, flip):
        frames, draw = photo(), Draw(crop, flip)
        assert torch.equal(augmented(frames, draw, 32).float(), by_torchvision(frames, draw, 32))

    @pytest.mark.parametrize("colors", [(change,) for change in COLORS] + [COLORS, COLORS[::-1]])
    def test_colors_are_torchvisions(self, colors):
        frames, draw = photo(5), Draw((2, 3, 30, 41), colors=colors)
        difference = (augmented(frames, draw, 32).float() - by_torchvision(frames, draw, 32)).abs()
        # One level where float32's rounding falls on the other side of a half.
        assert difference.max() <= 1
        assert difference.mean() < 0.001

    @pytest.mark.parametrize("sigma", [0.1, 0.6, 1.3, 2.0])
    def test_blur_is_torchvisions(self, sigma):
        frames, draw = photo(9), Draw((0, 0, 40, 56), blur_sigma=sigma)
        difference = (augmented(frames, draw, 32).float() - by_torchvision(frames, draw, 32)).abs()
        # Ours reaches 3 standard deviations, beyond which 0.3 % of the weight lies on each axis.
        assert difference.max() <= 1.5
        assert difference.mean() < 0.1

    def test_blur_fits_pictures_smaller_than_its_reach(self):
        assert augmented(photo(1), Draw((0, 0, 40, 56), blur_sigma=2.0), 4).shape == (1, 3, 4, 4)

    def test_grayscale_is_torchvisions_and_last(self):
        frames, draw = photo(), Draw((0, 0, 40, 56), colors=COLORS, blur_sigma=1.0, grayscale=True)
        result = augmented(frames, draw, 32)
        assert torch.equal(result[:, 0], result[:, 1])
        assert torch.equal(result[:, 0], result[:, 2])
        assert (result.float() - by_torchvision(frames, draw, 32)).abs().max() <= 2.5

    def test_all_frames_change_alike(self):
        still = np.broadcast_to(photo(1), (19, 40, 56, 3))
        transform = ClipTransform(24, None, AugmentationSettings(), 128, 1)
        for seed in range(40):
            pixels = transform(clip_of(still), seed).pixels
            assert pixels.shape == (19, 3, 24, 24)
            assert pixels.dtype == torch.uint8
            assert pixels.is_contiguous()
            assert torch.equal(pixels, pixels[:1].expand_as(pixels))

    @pytest.mark.parametrize("turn", [-0.5, -0.31, 0.0, 0.02, 0.5])
    def test_hue_turns_as_torchvisions_for_every_kind_of_color(self, turn):
        levels = torch.tensor([0, 1, 2, 77, 128, 200, 254, 255]) / 255
        colors = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 16, 32).contiguous()
        assert (rotate_hue(colors, turn) - F.adjust_hue(colors, turn)).abs().max() < 1e-5


def cells_by_loop(ids, crop, size, grid, flip):
    """For each cell: where its centre lies in the picture, and which pixel of the map has that point."""
    top, left, height, width = crop
    cells = np.zeros((len(ids), grid, grid), dtype=ids.dtype)
    for i in range(grid):
        for j in range(grid):
            shown = grid - 1 - j if flip else j
            y = (top + Fraction(2 * i + 1, 2 * grid) * height) / size[0] * ids.shape[1]
            x = (left + Fraction(2 * shown + 1, 2 * grid) * width) / size[1] * ids.shape[2]
            cells[:, i, j] = ids[:, math.floor(y), math.floor(x)]
    return cells


class TestMaps:
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("resolution", [(40, 56), (20, 28), (13, 18), (80, 112)])
    @pytest.mark.parametrize("crop", [(0, 0, 40, 56), (3, 5, 21, 30), (37, 50, 3, 6)])
    def test_cells_take_the_ids_under_their_centers(self, resolution, crop, flip):
        ids = np.random.default_rng(1).integers(0, 1000, (2, *resolution))
        cells = cells_of_crop(ids, Draw(crop, flip), (40, 56), 7)
        assert np.array_equal(cells.numpy(), cells_by_loop(ids, crop, (40, 56), 7, flip))

    def test_without_augmentation_maps_are_those_of_resize(self):
        ids = np.random.default_rng(2).integers(0, 30, (3, 5, 7)).repeat(8, 1).repeat(8, 2)
        trajectories = Trajectories.from_labels(ids)
        off = AugmentationSettings(enabled=False)
        sample = ClipTransform(32, 9, off, 128, 1)(Clip("clip", photo(), trajectories, ("a",)), 3)
        assert np.array_equal(sample.trajectory_map.numpy(), trajectories.resize(9, 9).ids)
        assert sample.trajectory_map.dtype == torch.int16
        assert sample.num_trajectories == trajectories.resize(9, 9).num_trajectories

    def test_maps_follow_the_frames(self):
        """Frames painted in one colour an id: in the sample, a cell's id is the one whose colour its pixels have."""
        random_numbers = np.random.default_rng(3)
        ids = random_numbers.integers(0, 9, (4, 5, 6)).repeat(16, 1).repeat(16, 2)
        levels = np.array([0, 110, 220])
        colors = np.array([(r, g, 255) for r in levels for g in levels], dtype=np.uint8)
        settings = AugmentationSettings(color_jitter=0, blur=0, grayscale=0)
        transform = ClipTransform(64, 16, settings, 128, 1)
        num_checked = 0
        for seed in range(30):
            trajectories = Trajectories.from_labels(ids)
            colors_of = np.zeros((trajectories.num_trajectories + 1, 3), dtype=np.uint8)
            colors_of[trajectories.ids.ravel()] = colors[ids.ravel()]
            sample = transform(Clip("clip", colors[ids], trajectories, ("a",)), seed)
            patches = sample.pixels.reshape(4, 3, 16, 4, 16, 4).permute(0, 2, 4, 3, 5, 1).reshape(4, 16, 16, 16, 3)
            is_plain = (patches == patches[..., :1, :]).all(-1).all(-1)
            shown = [set() for _ in range(sample.num_trajectories + 1)]
            for id_, color in zip(sample.trajectory_map[is_plain].tolist(), patches[is_plain][:, 0], strict=True):
                shown[id_].add(tuple(color.tolist()))
            assert all(len(found) <= 1 for found in shown)
            found = [color for colors_found in shown for color in colors_found]
            assert len(set(found)) == len(found)
            num_checked += len(found)
        assert num_checked > 100

    def test_trajectories_out_of_the_crop_are_dropped_and_ids_close_up_in_order(self):
        ids = np.zeros((2, 8, 8), dtype=int)
        ids[0, :, :2], ids[0, :, 2:4], ids[1, :, 6:], ids[1, :, 4:6] = 1, 2, 3, 4
        settings = AugmentationSettings(
            color_jitter=0, blur=0, flip=0, crop_scale=(0.75, 0.75), crop_ratio=(0.75, 0.75)
        )
        transform = ClipTransform(8, 8, settings, 128, 1)
        found = set()
        for seed in range(30):
            sample = transform(clip_of(np.zeros((2, 8, 8, 3), np.uint8), ids), seed)
            crop = draw_crop_of(transform, seed, 8, 8)
            left, right = crop[1], crop[1] + crop[3]
            present = [id_ for id_, start in ((1, 0), (2, 2), (3, 6), (4, 4)) if start < right and start + 2 > left]
            found.add(len(present))
            assert sample.num_trajectories == len(present)
            assert sorted(set(sample.trajectory_map.unique().tolist()) - {0}) == list(range(1, len(present) + 1))
            assert set(sample.trajectory_map[0].unique().tolist()) <= {0, *range(1, sum(i < 3 for i in present) + 1)}
        assert found == {3, 4}

    def test_the_largest_stay_and_keep_their_order(self):
        ids = np.zeros((2, 4, 8), dtype=int)
        ids[0, 0, :3], ids[0, 1, :5], ids[0, 2, :2], ids[0, 3, :1] = 1, 2, 3, 4
        ids[1, 3, :6], ids[1, 0, :3] = 4, 5
        transform = ClipTransform(8, 8, AugmentationSettings(enabled=False), 3, 1)
        sample = transform(clip_of(np.zeros((2, 4, 8, 3), np.uint8), ids), 0)
        # Of 3, 5, 2, 7 and 3 cells (twice as many after the resize): 4, 2 and, as the lower id of two with 3, 1.
        expected = np.array([0, 1, 2, 0, 3, 0])[ids].repeat(2, 1)
        assert np.array_equal(sample.trajectory_map.numpy(), expected)
        assert sample.num_trajectories == 3

    def test_a_clip_without_any_trajectory_left_is_legal(self):
        sample = ClipTransform(8, 4, AugmentationSettings(), 5, 1)(clip_of(photo(2), np.zeros((2, 40, 56), int)), 0)
        assert sample.num_trajectories == 0
        assert not sample.trajectory_map.any()

    def test_missing_or_foreign_trajectories_are_sample_errors(self):
        transform = ClipTransform(8, 4, AugmentationSettings(), 5, 1)
        with pytest.raises(SampleError, match="no trajectories"):
            transform(clip_of(photo(2)), 0)
        with pytest.raises(SampleError, match="have 3 frames, it has 2"):
            transform(clip_of(photo(2), np.zeros((3, 40, 56), int)), 0)
        assert ClipTransform(8, None, AugmentationSettings(), 5, 1)(clip_of(photo(2)), 0).trajectory_map is None


def draw_crop_of(transform, seed, height, width):
    """The crop of a seed, as the transform draws it for a clip of one caption or more."""
    random_numbers = random.Random(seed)
    random_numbers.sample("abc", 1)
    return draw_augmentation(transform.augmentation, height, width, random_numbers).crop


class TestDraws:
    def test_equal_seeds_give_equal_samples_and_no_global_generator_is_used(self):
        transform = ClipTransform(24, 6, AugmentationSettings(), 128, 2)
        clip = clip_of(photo(), np.random.default_rng(0).integers(0, 2, (3, 40, 56)).cumsum(2).clip(max=5))
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
        first = [transform(clip, seed) for seed in range(8)]
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
        assert torch.equal(before[0], after[0])
        assert before[1] == after[1]
        assert np.array_equal(before[2], after[2])
        torch.manual_seed(5)
        again = [pickle.loads(pickle.dumps(transform))(clip, seed) for seed in range(8)]
        for one, other in zip(first, again, strict=True):
            assert torch.equal(one.pixels, other.pixels)
            assert torch.equal(one.trajectory_map, other.trajectory_map)
            assert one.captions == other.captions
        assert len({sample.pixels.numpy().tobytes() for sample in first}) == 8

    def test_probabilities(self):
        settings = AugmentationSettings(flip=0.3, color_jitter=0.8, blur=0.5, grayscale=0.2)
        draws = [draw_augmentation(settings, 100, 100, random.Random(seed)) for seed in range(3000)]
        counts = {
            0.3: sum(draw.flip for draw in draws),
            0.8: sum(bool(draw.colors) for draw in draws),
            0.5: sum(draw.blur_sigma is not None for draw in draws),
            0.2: sum(draw.grayscale for draw in draws),
        }
        for probability, count in counts.items():
            deviation = math.sqrt(len(draws) * probability * (1 - probability))
            assert abs(count - len(draws) * probability) < 4 * deviation
        assert {tuple(name for name, _ in draw.colors) for draw in draws if draw.colors} == set(orders())

    @pytest.mark.parametrize("size", [(100, 100), (90, 160), (160, 90)])
    def test_ranges(self, size):
        settings = AugmentationSettings(color_jitter=1, blur=1, brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
        draws = [draw_augmentation(settings, *size, random.Random(seed)) for seed in range(3000)]
        crops = np.array([draw.crop for draw in draws])
        assert (crops >= [0, 0, 1, 1]).all()
        assert (crops[:, :2] + crops[:, 2:] <= size).all()
        areas = crops[:, 2] * crops[:, 3] / (size[0] * size[1])
        ratios = crops[:, 3] / crops[:, 2]
        assert 0.19 < areas.min() < 0.23
        assert areas.max() <= 1
        assert 0.72 < ratios.min() < 0.78
        assert 1.29 < ratios.max() < 1.37
        if size[0] == size[1]:
            # The logarithm is uniform: as many crops are high as are wide.
            assert abs((ratios > 1).mean() + (ratios == 1).mean() / 2 - 0.5) < 0.03
        for axis in (0, 1):
            reach = (crops[:, axis] / np.maximum(1, np.array(size)[axis] - crops[:, 2 + axis])).round(2)
            assert reach.min() == 0
            assert reach.max() == 1
            assert abs(reach.mean() - 0.5) < 0.05
        factors = {name: np.array([dict(draw.colors)[name] for draw in draws]) for name, _ in COLORS}
        for name, center, strength in (
            ("brightness", 1, 0.4),
            ("contrast", 1, 0.3),
            ("saturation", 1, 0.2),
            ("hue", 0, 0.1),
        ):
            share = (factors[name] - center) / strength
            assert -1 <= share.min() < -0.99
            assert 0.99 < share.max() <= 1
            assert abs(share.mean()) < 0.06
        sigmas = np.array([draw.blur_sigma for draw in draws])
        assert 0.1 <= sigmas.min() < 0.12
        assert 1.98 < sigmas.max() <= 2.0

    def test_where_no_crop_fits_the_centre_is_kept(self):
        settings = AugmentationSettings(crop_scale=(1, 1), crop_ratio=(0.75, 1.25))
        assert draw_augmentation(settings, 10, 1000, random.Random(0)).crop == (0, 494, 10, 12)
        assert draw_augmentation(settings, 1000, 10, random.Random(0)).crop == (493, 0, 13, 10)

    def test_strengths_of_zero_change_nothing(self):
        still = AugmentationSettings(color_jitter=1, brightness=0, contrast=0, saturation=0, hue=0)
        assert draw_augmentation(still, 9, 9, random.Random(0)).colors == ()

    def test_captions(self):
        counts = Counter()
        for seed in range(2000):
            captions = ClipTransform(8, None, AugmentationSettings(), 1, 2)(clip_of(photo(1, 8, 8)), seed).captions
            assert len(set(captions)) == 2
            counts.update([captions])
        assert set(counts) == {(x, y) for x in "abc" for y in "abc" if x != y}
        assert max(counts.values()) < 1.25 * 2000 / 6
        few = [ClipTransform(8, None, AugmentationSettings(), 1, 5)(clip_of(photo(1, 8, 8)), s) for s in range(20)]
        assert all(len(sample.captions) == 5 and set(sample.captions) == set("abc") for sample in few)

    @pytest.mark.parametrize("wrong", [{"image_size": 0}, {"max_trajectories": 40000}, {"num_captions": 0}])
    def test_settings_out_of_range_are_named(self, wrong):
        settings = {"image_size": 8, "feature_size": None, "max_trajectories": 8, "num_captions": 1} | wrong
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
            ClipTransform(augmentation=AugmentationSettings(), **settings)


def orders():
    names = [name for name, _ in COLORS]
    return [(a, b, c, d) for a in names for b in names for c in names for d in names if len({a, b, c, d}) == 4]
