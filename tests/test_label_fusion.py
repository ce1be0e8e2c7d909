"""Fused labels against a loop over pixels on logits that torch scales up one by one."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trajvit.processing import label_fusion
from trajvit.processing.label_fusion import LabelFusion

SIZE = (13, 22)


@pytest.fixture
def objects():
    """40 objects in 3 frames: smooth logits, some equal to others, some absent; labels in no order."""
    random = torch.Generator().manual_seed(0)
    logits = F.interpolate(torch.randn(40, 1, 3, 3, generator=random) * 4 - 4, size=(8, 8), mode="bicubic")[:, 0]
    logits[7] = logits[3]
    logits[11] = -1024.0
    logits[20:23] = logits[23]
    frames = torch.randint(0, 3, (40,), generator=random).tolist()
    frames[7] = frames[3]
    frames[20:23] = [frames[23]] * 3
    labels = (torch.randperm(40, generator=random) + 1).tolist()
    return frames, labels, logits


def fuse_naively(num_frames, size, frames, labels, logits):
    """Pixel by pixel, the best of those that are positive there."""
    fused = np.zeros((num_frames, *size), dtype=np.int32)
    scaled = [F.interpolate(x[None, None], size=size, mode="bilinear", align_corners=False)[0, 0] for x in logits]
    for frame in range(num_frames):
        for y in range(size[0]):
            for x in range(size[1]):
                claims = [
                    (-float(scaled[i][y, x]), labels[i])
                    for i in range(len(labels))
                    if frames[i] == frame and float(scaled[i][y, x]) > 0
                ]
                fused[frame, y, x] = min(claims)[1] if claims else 0
    return fused


def fuse(frames, labels, logits, portions=(slice(None),)):
    fusion = LabelFusion(3, SIZE)
    for portion in portions:
        fusion.add(frames[portion], labels[portion], logits[portion])
    return fusion.labels()


def test_every_pixel_goes_to_the_highest_positive_logit(objects):
    fused = fuse(*objects)
    assert fused.dtype == np.int32
    np.testing.assert_array_equal(fused, fuse_naively(3, SIZE, *objects))
    assert len(np.unique(fused)) > 15
    assert (fused == 0).any()


@pytest.mark.parametrize("portion", [1, 7, 39])
def test_neither_portions_nor_order_matter(objects, portion):
    expected = fuse(*objects)
    frames, labels, logits = objects
    portions = [slice(start, start + portion) for start in range(0, 40, portion)]
    np.testing.assert_array_equal(fuse(*objects, portions[::-1]), expected)
    order = np.random.default_rng(portion).permutation(40)
    shuffled = [frames[i] for i in order], [labels[i] for i in order], logits[torch.from_numpy(order)]
    np.testing.assert_array_equal(fuse(*shuffled, portions), expected)


def test_how_many_are_scaled_up_at_once_does_not_matter(objects, monkeypatch):
    expected = fuse(*objects)
    for pixels in (1, 5 * SIZE[0] * SIZE[1]):
        monkeypatch.setitem(label_fusion._PIXELS_AT_ONCE, "cpu", pixels)
        np.testing.assert_array_equal(fuse(*objects), expected)


def test_of_equal_logits_the_smaller_label_wins():
    fusion = LabelFusion(1, (4, 4))
    logits = torch.full((1, 2, 2), 0.25)
    for label in (5, 3, 2**31 - 1, 4):
        fusion.add([0], [label], logits)
    assert (fusion.labels() == 3).all()
    fusion.add([0], [9], torch.full((1, 2, 2), float(np.nextafter(np.float32(0.25), np.float32(1)))))
    assert (fusion.labels() == 9).all()


def test_the_largest_label_and_the_extreme_logits_survive():
    fusion = LabelFusion(1, (2, 2))
    fusion.add([0], [2**31 - 1], torch.full((1, 2, 2), 1e-40))
    assert (fusion.labels() == 2**31 - 1).all()
    fusion.add([0], [1], torch.full((1, 2, 2), torch.finfo(torch.float32).max))
    assert (fusion.labels() == 1).all()


def test_nan_and_what_is_not_positive_are_absent():
    fusion = LabelFusion(2, (2, 2))
    logits = torch.tensor([[[torch.nan, 1.0], [0.0, -1.0]], [[torch.nan] * 2] * 2])
    fusion.add([0, 1], [4, 5], logits)
    np.testing.assert_array_equal(fusion.labels(), [[[0, 4], [0, 0]], [[0, 0], [0, 0]]])


def test_half_precision_is_compared_as_it_is(objects):
    frames, labels, logits = objects
    half = logits.to(torch.bfloat16)
    np.testing.assert_array_equal(fuse(frames, labels, half), fuse(frames, labels, half.float()))


def test_without_objects_nothing_is_labelled():
    fusion = LabelFusion(2, (3, 4))
    fusion.add([], [], torch.zeros(0, 2, 2))
    assert fusion.labels().shape == (2, 3, 4)
    assert not fusion.labels().any()


@pytest.mark.parametrize("label", [0, -1, 2**31])
def test_a_label_out_of_range_is_named(label):
    with pytest.raises(ValueError, match=rf"labels must lie in 1..2147483647, got .*{label}"):
        LabelFusion(1, (2, 2)).add([0], [label], torch.ones(1, 2, 2))
