"""Regions: ROIAlign on space-time maps and trajectories inside boxes, against torchvision and hand-made cases."""

import pytest
import torch
from torchvision.ops import roi_align

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel
from trajvit.modeling_trajvit.region_pooling import (
    align_regions,
    cells_inside,
    check_regions,
    gather_tubelets,
    select_trajectories,
    trajectories_inside,
)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_regions_are_aligned_on_the_map_of_their_own_instant():
    maps = random(2, 3, 6, 8, 5)
    frame_to_tubelet = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 1, -1, -1]])
    boxes = torch.tensor([[[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0]], [[0.5, 0.25, 0.75, 0.5], [0.2, 0.3, 0.4, 0.8]]])
    frame_index = torch.tensor([[4, 1], [2, 0]])
    regions = align_regions(maps, frame_to_tubelet, boxes, frame_index)
    assert regions.features.shape == (2, 2, 49, 5)
    assert regions.mask.all()
    for video in range(2):
        for region in range(2):
            picture = maps[video, frame_to_tubelet[video, frame_index[video, region]]].permute(2, 0, 1)[None]
            corners = boxes[video, region] * torch.tensor([8.0, 6.0, 8.0, 6.0])
            expected = roi_align(picture, [corners[None]], output_size=7, sampling_ratio=2, aligned=True)
            torch.testing.assert_close(regions.features[video, region], expected[0].flatten(1).T)


def test_a_region_of_a_ramp_reads_its_own_coordinates():
    """A map that holds each cell's centre, as shares of the frame, is linear: samples inside give their own place."""
    height, width = 14, 14
    ys, xs = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    maps = torch.stack([xs, ys], dim=-1)[None, None]
    box = torch.tensor([0.2, 0.3, 0.8, 0.6])
    regions = align_regions(maps, torch.zeros(1, 1, dtype=torch.long), box.view(1, 1, 4), torch.tensor([0]))
    steps = (torch.arange(7) + 0.5) / 7
    grid = regions.features.view(7, 7, 2)
    torch.testing.assert_close(grid[0, :, 0], 0.2 + 0.6 * steps)
    torch.testing.assert_close(grid[:, 0, 1], 0.3 + 0.3 * steps)


def test_tokens_go_back_to_every_tubelet_that_they_stand_for():
    tokens = random(2, 4, 3)
    sources = torch.tensor([[[[1, 2]], [[1, 3]]], [[[3, 3]], [[0, 2]]]])
    maps = gather_tubelets(tokens, sources)
    for video in range(2):
        for time in range(2):
            for column in range(2):
                assert torch.equal(maps[video, time, 0, column], tokens[video, sources[video, time, 0, column]])


def test_regions_keep_gradients_and_half_precision():
    maps = random(1, 2, 4, 4, 3).requires_grad_()
    boxes, frames = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]]), torch.tensor([1])
    align_regions(maps, torch.tensor([[0, 1]]), boxes, frames).features.sum().backward()
    assert (maps.grad[0, 0] == 0).all()
    assert maps.grad[0, 1].abs().sum() > 0
    half = align_regions(maps.detach().bfloat16(), torch.tensor([[0, 1]]), boxes, frames).features
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("place", [align_regions, None])
def test_a_video_may_have_no_region(place):
    boxes, frames = torch.zeros(2, 0, 4), torch.zeros(2, dtype=torch.long)
    if place is align_regions:
        regions = align_regions(random(2, 1, 4, 4, 3), torch.zeros(2, 1, dtype=torch.long), boxes, frames)
        assert regions.features.shape == (2, 0, 49, 3)
    else:
        labels = torch.zeros(2, 1, 4, 4, dtype=torch.long)
        regions = select_trajectories(random(2, 3, 5), torch.ones(2, 3, dtype=torch.bool), labels, boxes, frames)
        assert regions.features.shape == (2, 0, 3, 5)


def test_cells_inside_a_box_sum_to_its_area():
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(50, 2, 2, generator=generator).sort(1).values
    boxes = corners.flatten(1)
    shares = cells_inside(boxes, 9, 13)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    torch.testing.assert_close(shares.sum((1, 2)) / (9 * 13), areas)
    assert ((shares >= 0) & (shares <= 1 + 1e-6)).all()


def naive_choice(labels, box, is_token):
    """Section 4 pixel by pixel: each cell cut into 20 x 20 points, a trajectory inside with at least 80 % of them."""
    height, width = labels.shape
    fine = 20
    total, inside = {}, {}
    for row in range(height * fine):
        for column in range(width * fine):
            y, x = (row + 0.5) / (height * fine), (column + 0.5) / (width * fine)
            owner = int(labels[row // fine, column // fine])
            total[owner] = total.get(owner, 0) + 1
            if box[0] <= x <= box[2] and box[1] <= y <= box[3]:
                inside[owner] = inside.get(owner, 0) + 1
    counts = {owner: count for owner, count in inside.items() if owner and is_token[owner]}
    chosen = {owner for owner, count in counts.items() if count >= 0.8 * total[owner]}
    if chosen:
        return chosen
    return {owner for owner, count in counts.items() if count == max(counts.values())} if counts else {0}


def test_trajectories_inside_are_those_of_a_count_by_points():
    generator = torch.Generator().manual_seed(4)
    seen = set()
    for _ in range(30):
        labels = torch.randint(0, 5, (3, 4), generator=generator)
        is_token = torch.cat([torch.tensor([True]), torch.rand(5, generator=generator) < 0.8])
        corners = torch.randint(0, 21, (2, 2), generator=generator).sort(0).values / 20
        box = corners.flatten()
        chosen = trajectories_inside(labels[None], is_token[None], box[None])[0]
        expected = naive_choice(labels, box.tolist(), is_token)
        found = set(chosen.nonzero().flatten().tolist())
        if found != expected:
            # Two that own equally much of the box: one of them stands for it.
            assert len(found) == 1
            assert found < expected
        seen.add((len(expected) > 1, expected == {0}))
    assert len(seen) == 3


def test_exactly_four_fifths_of_a_mask_are_inside():
    labels = torch.zeros(1, 10, 10, dtype=torch.long)
    labels[0, :, :5] = 1
    labels[0, :, 5:] = 2
    is_token = torch.ones(1, 3, dtype=torch.bool)
    # 80 % of the first mask; of the second, a tenth.
    at = trajectories_inside(labels, is_token, torch.tensor([[0.1, 0.0, 0.55, 1.0]]))
    assert at.tolist() == [[False, True, False]]
    # 78 %: none qualifies, and the first owns most of the box.
    below = trajectories_inside(labels, is_token, torch.tensor([[0.11, 0.0, 0.7, 1.0]]))
    assert below.tolist() == [[False, True, False]]
    most = trajectories_inside(labels, is_token, torch.tensor([[0.3, 0.0, 0.8, 1.0]]))
    assert most.tolist() == [[False, False, True]]
    nothing = trajectories_inside(torch.zeros_like(labels), is_token, torch.tensor([[0.3, 0.0, 0.8, 1.0]]))
    assert nothing.tolist() == [[True, False, False]]


SMALL = {"image_size": 64, "feature_size": 16, "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 128}


@pytest.fixture(scope="module")
def trajvit():
    torch.manual_seed(0)
    model = TrajViTModel(TrajViTConfig.from_name("tiny", **SMALL)).eval()
    labels = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    labels[:, 0, :8, :8], labels[:, 0, 8:, 8:], labels[:, 1, :8, :8] = 1, 2, 3
    frame_mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    with torch.no_grad():
        outputs = model(random(2, 3, 3, 64, 64), labels, torch.ones(2, 3).long(), frame_mask)
    return model, outputs


def test_a_region_of_trajvit_is_its_trajectories_at_that_frame(trajvit):
    model, outputs = trajvit
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]]] * 2)
    regions = model.region_features(outputs, boxes, torch.tensor([[0, 0], [1, 0]]))
    assert regions.features.shape == (2, 2, 4, 64)
    assert regions.mask.tolist() == [
        [[False, True, False, False], [False, True, True, False]],
        [[False, False, False, True], [False, True, True, False]],
    ]
    assert torch.equal(regions.features[1, 0], outputs.last_hidden_state[1])


def test_a_box_in_a_padding_frame_is_an_error(trajvit):
    model, outputs = trajvit
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]] * 2)
    empty = model.region_features(outputs, boxes, torch.tensor([2, 1])).mask
    assert empty[0, 0].tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="box 0 of video 1 is 2: a padding frame"):
        model.region_features(outputs, boxes, torch.tensor([2, 2]))
    with pytest.raises(ValueError, match="a padding frame"):
        align_regions(random(2, 1, 4, 4, 3), torch.tensor([[0, 0, 0], [0, 0, -1]]), boxes, torch.tensor([2, 2]))


@pytest.mark.parametrize(
    ("boxes", "frame_index", "message"),
    [
        (torch.zeros(2, 4), torch.zeros(2).long(), r"boxes have shape \(2, 4\)"),
        (torch.zeros(3, 1, 4), torch.zeros(3).long(), r"expected floating \(2, number of regions, 4\)"),
        (torch.zeros(2, 1, 4).long(), torch.zeros(2).long(), "dtype torch.int64"),
        (torch.tensor([[[0.0, 0, 1, 1]], [[0.0, 0, 32, 32]]]), torch.zeros(2).long(), r"boxes\[1, 0\] is .*32.0"),
        (torch.tensor([[[0.0, 0, 1, 1]], [[0.5, 0, 0.4, 1]]]), torch.zeros(2).long(), r"boxes\[1, 0\] is .*0.4"),
        (torch.full((2, 1, 4), torch.nan), torch.zeros(2).long(), r"boxes\[0, 0\] is .*nan"),
        (torch.zeros(2, 1, 4), torch.zeros(3).long(), r"frame_index has shape \(3,\)"),
        (torch.zeros(2, 1, 4), torch.zeros(2), "dtype torch.float32"),
        (torch.zeros(2, 1, 4), torch.tensor([0, 5]), "frame_index ranges from 0 to 5: expected 0 to 4"),
        (torch.zeros(2, 1, 4), torch.tensor([-1, 0]), "frame_index ranges from -1 to 0"),
    ],
)
def test_wrong_regions_are_named(boxes, frame_index, message):
    with pytest.raises(ValueError, match=message):
        check_regions(boxes, frame_index, batch_size=2, num_frames=5)
