"""Mask pooling and boxes against the literal form: one-hot masks over maps enlarged to the label grid."""

import pytest
import torch
from torch import nn

from trajvit.modeling_trajvit.trajectory_pooling import (
    resize_adjoint,
    segment_areas,
    segment_boxes,
    trajectory_pooling,
)


def label_volume(num_frames=3, num_trajectories=9, size=56, seed=0):
    """Blocky ids where 0, single pixels and absent trajectories all occur."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, num_trajectories, (num_frames, size // 8, size // 8), generator=generator)
    labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2).contiguous()
    labels[0, 0, 0] = num_trajectories  # one pixel in a corner, absent elsewhere
    return labels


def literal_pooling(features, labels, num_trajectories):
    height, width = labels.shape[1:]
    enlarged = nn.functional.interpolate(features, size=(height, width), mode="bilinear", align_corners=False)
    pooled = features.new_zeros(len(labels), num_trajectories, features.shape[1])
    for frame in range(len(labels)):
        for trajectory in range(num_trajectories):
            mask = labels[frame] == trajectory + 1
            if mask.any():
                pooled[frame, trajectory] = enlarged[frame, :, mask].mean(1)
    return pooled


@pytest.mark.parametrize("grid", [(56, 56), (28, 28), (14, 14), (7, 7), (7, 14), (1, 1), (112, 112), (5, 9)])
def test_pooling_equals_masks_over_enlarged_maps(grid):
    labels = label_volume()
    features = torch.randn(3, 5, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pooled = trajectory_pooling(features, labels, segment_areas(labels, 9))
    torch.testing.assert_close(pooled, literal_pooling(features, labels, 9), rtol=0, atol=1e-9)


def test_projecting_after_pooling_equals_projecting_the_enlarged_sum():
    labels = label_volume(seed=3)
    generator = torch.Generator().manual_seed(2)
    widths, grids = (4, 6, 8, 10), (56, 28, 14, 7)
    stages = [
        torch.randn(3, c, g, g, dtype=torch.float64, generator=generator) for c, g in zip(widths, grids, strict=True)
    ]
    layers = [nn.Linear(c, 7, dtype=torch.float64) for c in widths]
    areas = segment_areas(labels, 9)

    enlarged = sum(
        nn.functional.interpolate(
            layer(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), size=56, mode="bilinear", align_corners=False
        )
        for layer, stage in zip(layers, stages, strict=True)
    )
    expected = literal_pooling(enlarged, labels, 9)
    pooled = sum(layer(trajectory_pooling(stage, labels, areas)) for layer, stage in zip(layers, stages, strict=True))
    present = areas > 0
    torch.testing.assert_close(pooled[present], expected[present], rtol=0, atol=1e-9)


def test_rows_of_the_adjoint_sum_to_the_areas():
    labels = label_volume()
    shares = resize_adjoint(labels, 9, 14, 14)
    torch.testing.assert_close(shares.sum(-1), segment_areas(labels, 9), rtol=1e-6, atol=1e-4)


def test_a_trajectory_without_pixels_pools_to_zeros():
    labels = label_volume()
    areas = segment_areas(labels, 9)
    assert areas[1, 8] == 0
    for size in (56, 14):
        assert (trajectory_pooling(torch.randn(3, 4, size, size), labels, areas)[1, 8] == 0).all()


@pytest.mark.parametrize("size", [8, 4, 3])
def test_pooling_gradient_by_finite_differences(size):
    labels = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    areas = segment_areas(labels, 3)
    features = torch.randn(2, 2, size, size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: trajectory_pooling(x, labels, areas), features)


def test_half_precision_features_are_summed_in_float32():
    labels = torch.ones(1, 56, 56, dtype=torch.long)
    features = torch.full((1, 1, 56, 56), 1.0, dtype=torch.bfloat16)
    # 3136 ones added in bfloat16 stop growing at 256.
    assert trajectory_pooling(features, labels, segment_areas(labels, 1)).item() == 1.0


def test_boxes_are_column_first_with_exclusive_maxima():
    labels = torch.zeros(1, 56, 56, dtype=torch.long)
    labels[0, 10:20, 30:56] = 1
    labels[0, 0, 0] = 2
    boxes = segment_boxes(labels, 3)[0]
    torch.testing.assert_close(boxes[0], torch.tensor([30, 10, 56, 20]) / 56)
    torch.testing.assert_close(boxes[1], torch.tensor([0, 0, 1, 1]) / 56)


@pytest.mark.parametrize(("height", "width"), [(3, 700), (255, 256)])
def test_boxes_of_grids_wider_than_a_byte(height, width):
    labels = torch.zeros(2, height, width, dtype=torch.long)
    labels[1, 1:3, width - 5 : width - 1] = 4
    boxes = segment_boxes(labels, 5)
    expected = torch.tensor([(width - 5) / width, 1 / height, (width - 1) / width, 3 / height])
    torch.testing.assert_close(boxes[1, 3], expected)
    assert boxes.count_nonzero() == 4


def test_the_box_of_an_absent_trajectory_is_empty_and_of_a_full_frame_is_the_frame():
    labels = torch.ones(1, 56, 56, dtype=torch.long)
    boxes = segment_boxes(labels, 2)[0]
    assert boxes[0].tolist() == [0, 0, 1, 1]
    assert boxes[1].tolist() == [0, 0, 0, 0]


def test_boxes_and_areas_equal_those_of_masks():
    labels = label_volume(seed=5)
    boxes, areas = segment_boxes(labels, 9), segment_areas(labels, 9)
    for frame in range(3):
        for trajectory in range(9):
            rows, columns = torch.where(labels[frame] == trajectory + 1)
            assert areas[frame, trajectory] == len(rows)
            if len(rows):
                corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                torch.testing.assert_close(boxes[frame, trajectory], torch.stack(corners) / 56)


def test_ids_beyond_eight_bits_stay_apart():
    labels = torch.arange(16 * 56, 16 * 56 + 56 * 56).view(1, 56, 56) % 900 + 1
    assert (segment_areas(labels, 900)[0] > 0).sum() == len(labels.unique())
    torch.testing.assert_close(segment_areas(labels, 900)[0, 699], (labels == 700).sum().float())
