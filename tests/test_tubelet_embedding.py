"""Tubelets and their positions, against torch's convolution and interpolation and loops over frames."""

import numpy as np
import pytest
import torch
from torch import nn

from trajvit.modeling_trajvit.configuration_vision_tower import TubeletTowerConfig
from trajvit.modeling_trajvit.tubelet_embedding import (
    SpaceTimePositions,
    TubeletEmbedding,
    cut_tubelets,
    interpolate_time,
    sample_rows,
)

SIZES = {"hidden_size": 8, "num_attention_heads": 2}


def all_frames(frames):
    return torch.ones(frames.shape[:2], dtype=torch.bool)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("tubelet_size", "patch_size", "channels", "time", "height", "width"),
    [(2, 16, 3, 8, 32, 48), (2, 4, 3, 2, 4, 4), (1, 8, 1, 3, 16, 8), (3, 4, 2, 6, 8, 12)],
)
def test_the_embedding_is_a_convolution(tubelet_size, patch_size, channels, time, height, width):
    config = TubeletTowerConfig(
        tubelet_size=tubelet_size, patch_size=patch_size, num_channels=channels, image_size=16, **SIZES
    )
    torch.manual_seed(0)
    embedding = TubeletEmbedding(config)
    kernel = (tubelet_size, patch_size, patch_size)
    convolution = nn.Conv3d(channels, 8, kernel, stride=kernel)
    weight = embedding.projection.weight.detach().view(8, tubelet_size, channels, patch_size, patch_size)
    convolution.weight.data = weight.transpose(1, 2)
    convolution.bias.data = embedding.projection.bias.detach()
    frames = noise(2, time, channels, height, width)
    with torch.no_grad():
        tokens = embedding(cut_tubelets(frames, all_frames(frames), tubelet_size, patch_size).pixels)
        expected = convolution(frames.transpose(1, 2)).permute(0, 2, 3, 4, 1)
    assert tokens.shape == (2, time // tubelet_size, height // patch_size, width // patch_size, 8)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("num_frames", "tubelet_size"), [(1, 1), (1, 2), (5, 2), (7, 3), (8, 3), (2, 4)])
def test_a_last_tubelet_repeats_the_last_frame(num_frames, tubelet_size):
    frames = noise(2, num_frames, 3, 8, 8)
    missing = -num_frames % tubelet_size
    filled = torch.cat([frames] + [frames[:, -1:]] * missing, dim=1)
    short = cut_tubelets(frames, all_frames(frames), tubelet_size, 4)
    full = cut_tubelets(filled, all_frames(filled), tubelet_size, 4)
    assert torch.equal(short.pixels, full.pixels)
    assert short.mask.all()
    assert torch.equal(short.frame_to_tubelet, full.frame_to_tubelet[:, :num_frames])


@pytest.mark.parametrize("tubelet_size", [1, 2, 3])
def test_padding_frames_are_left_out_wherever_they_stand(tubelet_size):
    """Every frame is painted with its number, so that a tubelet tells which frames it holds."""
    masks = torch.tensor(
        [[1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 1]], dtype=torch.bool
    )
    frames = torch.arange(28.0).view(4, 7, 1, 1, 1).expand(-1, -1, 3, 4, 8)
    tubelets = cut_tubelets(frames, masks, tubelet_size, 4)
    assert tubelets.pixels.shape == (4, -(-7 // tubelet_size), 1, 2, tubelet_size * 3 * 16)
    painted = tubelets.pixels.unflatten(-1, (tubelet_size, -1))
    assert (painted == painted[..., :1]).all()
    for video, mask in enumerate(masks.tolist()):
        own = [frame for frame in range(7) if mask[frame]]
        groups = [own[start : start + tubelet_size] for start in range(0, len(own), tubelet_size)]
        assert tubelets.mask[video].tolist() == [step < len(groups) for step in range(tubelets.mask.shape[1])]
        for step, group in enumerate(groups):
            expected = group + [own[-1]] * (tubelet_size - len(group))
            for column in range(2):
                assert (painted[video, step, 0, column, :, 0] - 7 * video).tolist() == expected
        for frame in range(7):
            holder = [step for step, group in enumerate(groups) if frame in group]
            assert tubelets.frame_to_tubelet[video, frame].item() == (holder[0] if holder else -1)


def test_a_video_has_the_same_tubelets_alone_and_in_a_batch():
    frames = noise(2, 9, 3, 8, 8)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, [0, 3, 4, 8]] = False
    batch = cut_tubelets(frames, mask, 2, 4)
    alone = cut_tubelets(frames[:1, mask[0]], torch.ones(1, 5, dtype=torch.bool), 2, 4)
    assert torch.equal(batch.pixels[:1, :3], alone.pixels)
    assert batch.mask[0].tolist() == [True] * 3 + [False] * 2


def make_positions(grid, width=5):
    positions = SpaceTimePositions(grid, width)
    torch.manual_seed(1)
    positions.init_own_weights(1.0)
    return positions


def trilinear(positions, size):
    """Learned positions at another size by torch: (*size, D)."""
    table = positions.embedding.detach().permute(3, 0, 1, 2).unsqueeze(0)
    resized = nn.functional.interpolate(table, size, mode="trilinear", align_corners=False)
    return resized[0].permute(1, 2, 3, 0)


@pytest.mark.parametrize("size", [(8, 4, 4), (1, 4, 4), (3, 4, 4), (32, 4, 4), (8, 2, 6), (5, 7, 3), (16, 8, 8)])
def test_positions_are_interpolated_linearly(size):
    positions = make_positions((8, 4, 4))
    with torch.no_grad():
        output = positions(torch.tensor([size[0]]), *size)
    torch.testing.assert_close(output[0], trilinear(positions, size), rtol=0, atol=1e-5)


def test_positions_at_the_learned_size_are_the_learned_ones():
    positions = make_positions((8, 4, 4))
    assert torch.equal(positions(torch.tensor([8, 8]), 8, 4, 4)[1], positions.embedding)


def test_every_video_of_a_batch_spreads_over_its_own_tubelets():
    positions = make_positions((8, 4, 4))
    counts = [1, 9, 4, 8]
    with torch.no_grad():
        output = positions(torch.tensor(counts), 9, 4, 3)
    assert output.shape == (4, 9, 4, 3, 5)
    for video, count in enumerate(counts):
        expected = trilinear(positions, (count, 4, 3))
        torch.testing.assert_close(output[video, :count], expected, rtol=0, atol=1e-5)


def test_positions_in_space_alone_are_the_same_at_all_times():
    positions = make_positions((1, 4, 4))
    with torch.no_grad():
        output = positions(torch.tensor([6]), 6, 4, 4)
    assert torch.equal(output[0], positions.embedding.expand(6, -1, -1, -1))


@pytest.mark.parametrize("count", [1, 2, 5, 8, 21])
def test_time_is_spread_as_by_numpy(count):
    table = noise(8, 3, seed=2)
    output = interpolate_time(table, torch.tensor([count]), count)[0]
    # Both the learned rows and the video's own are the middles of equal segments of the video.
    learned, own = (np.arange(8) + 0.5) / 8, (np.arange(count) + 0.5) / count
    for column in range(3):
        expected = np.interp(own, learned, table[:, column].numpy())
        np.testing.assert_allclose(output[:, column].numpy(), expected, atol=1e-5)


def test_rows_are_sampled_as_by_numpy():
    table = noise(4, 2, 3, seed=3)
    source = torch.tensor([[-3.0, 0.0, 0.25], [2.5, 3.0, 17.0]])
    output = sample_rows(table, source)
    assert output.shape == (2, 3, 2, 3)
    flat, columns = output.flatten(0, 1).flatten(1), table.flatten(1)
    for column in range(6):
        expected = np.interp(source.flatten().numpy(), np.arange(4), columns[:, column].numpy())
        np.testing.assert_allclose(flat[:, column].numpy(), expected, atol=1e-6)


def test_positions_keep_half_precision():
    positions = make_positions((4, 4, 4))
    exact = positions(torch.tensor([3]), 3, 8, 8)
    half = positions.to(torch.bfloat16)(torch.tensor([3]), 3, 8, 8)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.05)


def test_a_loss_reaches_the_learned_positions():
    positions = make_positions((4, 2, 2))
    positions(torch.tensor([2, 4]), 4, 2, 2).square().sum().backward()
    assert (positions.embedding.grad != 0).all()
