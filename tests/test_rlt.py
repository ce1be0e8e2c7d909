"""RLT: against ViT3D, against its tokens built run by run, what it computes, and a real clip."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from trajvit.modeling_trajvit.configuration_rlt import RLTConfig
from trajvit.modeling_trajvit.configuration_vit3d import ViT3DConfig
from trajvit.modeling_trajvit.modeling_rlt import LengthEmbedding, RLTModel
from trajvit.modeling_trajvit.modeling_vit3d import ViT3DModel
from trajvit.processing.decoding import decode_video

SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"
SMALL = {"image_size": 32, "num_frames": 8, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}


def make_model(attention="sdpa", **options):
    torch.manual_seed(0)
    config = RLTConfig.from_name("tiny", **{**SMALL, **options})
    model = RLTModel._from_config(config, attn_implementation=attention).eval()
    # As large as the embedded pixels, or a wrong position or length would hardly show.
    for parameter in (model.positions.embedding, model.lengths.embedding, model.encoder.cls_token):
        nn.init.normal_(parameter)
    return model


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def still_where(changes, patch_size=16, seed=1):
    """Frames (B, T, 3, H, W) of noise where a tubelet of 2 frames is new, `changes` (B, t, h, w), and else repeated."""
    batch_size, time, height, width = changes.shape
    fresh = noise(batch_size, time, 3, height * patch_size, width * patch_size, seed=seed)
    grid = changes.repeat_interleave(patch_size, 2).repeat_interleave(patch_size, 3).unsqueeze(2)
    frames = [fresh[:, 0]]
    for step in range(1, time):
        frames.append(torch.where(grid[:, step], fresh[:, step], frames[-1]))
    return torch.stack(frames, dim=1).repeat_interleave(2, dim=1)


def random_changes(*shape, share=0.4):
    changes = torch.rand(*shape, generator=torch.Generator().manual_seed(5)) < share
    changes[:, 0] = True
    return changes


@pytest.mark.parametrize("num_frames", [1, 5, 8])
def test_without_a_threshold_it_is_vit3d_with_the_length_of_one_tubelet(num_frames):
    model = make_model(threshold=0)
    dense = ViT3DModel(ViT3DConfig.from_name("tiny", **SMALL)).eval()
    weights = model.state_dict()
    lengths = weights.pop("lengths.embedding")
    dense.load_state_dict(weights)
    frames = noise(2, num_frames, 3, 32, 32)
    share = 1 / -(-num_frames // 2)
    one = [np.interp(share, np.arange(1, 5) / 4, lengths[:, column].numpy()) for column in range(32)]
    dense.embedding.projection.bias.data += torch.tensor(one, dtype=torch.float32)
    with torch.no_grad():
        output, expected = model(frames), dense(frames)
    assert torch.equal(output.token_mask, expected.token_mask)
    assert torch.equal(output.tubelet_sources, expected.tubelet_sources)
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.pooler_output, expected.pooler_output, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_frames", [1, 2, 9, 30])
def test_a_static_video_keeps_one_row_of_tubelets(num_frames):
    model = make_model()
    frames = noise(2, 1, 3, 32, 48).expand(-1, num_frames, -1, -1, -1)
    with torch.no_grad():
        output = model(frames)
    assert output.last_hidden_state.shape == (2, 1 + 2 * 3, 32)
    assert output.token_mask.all()
    time = -(-num_frames // 2)
    assert output.tubelet_sources.flatten(2).tolist() == [[[1, 2, 3, 4, 5, 6]] * time] * 2


def tokens_run_by_run(model, frames, changes):
    """Tokens of one video (1, T, 3, H, W), and for every tubelet the number of its token, from the list of its runs."""
    time, height, width = changes.shape[1:]
    weight = model.embedding.projection.weight.unflatten(1, (2, 3, 16, 16)).transpose(1, 2)
    maps = nn.functional.conv3d(frames.transpose(1, 2), weight, model.embedding.projection.bias, stride=(2, 16, 16))
    table = model.positions.embedding.permute(3, 0, 1, 2).unsqueeze(0)
    maps = maps + nn.functional.interpolate(table, (time, height, width), mode="trilinear", align_corners=False)
    learned = model.lengths.embedding.numpy()
    shares = np.arange(1, len(learned) + 1) / len(learned)
    tokens, numbers = [], torch.zeros(time, height, width, dtype=torch.long)
    for step, row, column in changes[0].nonzero().tolist():
        length = 1
        while step + length < time and not changes[0, step + length, row, column]:
            length += 1
        lasting = [np.interp(length / time, shares, learned[:, i]) for i in range(learned.shape[1])]
        tokens.append(maps[0, :, step, row, column] + torch.tensor(lasting, dtype=torch.float32))
        numbers[step : step + length, row, column] = len(tokens)
    return torch.stack(tokens).unsqueeze(0), numbers


@pytest.mark.parametrize("shape", [(4, 2, 2), (3, 2, 4), (9, 3, 1), (1, 2, 2)])
def test_a_token_is_the_first_tubelet_of_its_run_with_its_position_and_length(shape):
    model = make_model()
    changes = random_changes(1, *shape)
    frames = still_where(changes)
    with torch.no_grad():
        tokens, numbers = tokens_run_by_run(model, frames, changes)
        expected, pooled, _ = model.encoder(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))
        output = model(frames)
    assert output.last_hidden_state.shape == expected.shape
    torch.testing.assert_close(output.last_hidden_state, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.pooler_output, pooled, rtol=0, atol=1e-5)
    assert torch.equal(output.tubelet_sources[0], numbers)


@pytest.mark.parametrize(("count", "learned"), [(4, 4), (1, 4), (7, 4), (3, 8), (5, 1)])
def test_lengths_are_shares_of_the_video(count, learned):
    torch.manual_seed(0)
    embedding = LengthEmbedding(learned, 6)
    embedding.init_own_weights(1.0)
    lengths = torch.arange(1, count + 1)
    with torch.no_grad():
        output = embedding(lengths, torch.full((count,), count)).numpy()
    rows = embedding.embedding.detach().numpy()
    for column in range(6):
        shares = np.arange(1, learned + 1) / learned
        expected = np.interp(np.arange(1, count + 1) / count, shares, rows[:, column])
        np.testing.assert_allclose(output[:, column], expected, atol=1e-5)
    np.testing.assert_allclose(output[-1], rows[-1], atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_and_padded_are_the_same(attention):
    """Videos of very different numbers of runs; asked for hidden states, the encoder pads and masks."""
    model = make_model(attention)
    changes = random_changes(3, 4, 2, 2)
    changes[0, 1:], changes[1] = False, True
    frames = still_where(changes)
    lengths = []
    model.encoder.layers[0].attention.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[:2]))
    with torch.no_grad():
        packed, padded = model(frames), model(frames, output_hidden_states=True)
    counts = [1 + int(video.sum()) for video in changes]
    assert counts[0] < counts[2] < counts[1]
    assert lengths == [(1, sum(counts)), (3, max(counts))]
    assert packed.token_mask.sum(1).tolist() == counts
    torch.testing.assert_close(packed.last_hidden_state, padded.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(packed.pooler_output, padded.pooler_output, rtol=0, atol=1e-5)


def operations(model, frames):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(frames)
    return counter.get_total_flops()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_what_is_left_out_costs_nothing(share):
    """The operations are those of the kept tubelets, counted by hand, whatever the other videos of the batch keep."""
    model = make_model("eager")
    changes = random_changes(3, 16, 2, 2, share=share)
    changes[1] = True
    counted = operations(model, still_where(changes))
    width, wide, expected = 32, 64, 0
    for kept in changes.flatten(1).sum(1).tolist():
        length = 1 + kept
        layer = 2 * length * (4 * width**2 + 2 * width * wide) + 4 * length**2 * width
        expected += 2 * kept * 2 * 3 * 16 * 16 * width + 2 * layer
    assert counted == pytest.approx(expected, rel=0.01)
    assert counted < 0.9 * operations(make_model("eager", threshold=0), still_where(changes))


def test_the_threshold_is_in_units_of_the_input():
    """One place brightens by 0.2 on half of its pixels, a mean of 0.1 but for rounding."""
    frames = torch.zeros(1, 4, 3, 32, 32)
    frames[:, 2:, :, :8, :16] += 0.2
    kept = []
    for threshold in (0.099, 0.101):
        with torch.no_grad():
            kept.append(int(make_model(threshold=threshold)(frames).token_mask.sum()) - 1)
    assert kept == [5, 4]


def test_half_precision_of_the_weights_changes_no_run():
    """A change just over the threshold, which bfloat16 cannot tell from one under it."""
    frames = torch.full((1, 4, 3, 32, 32), 5.0)
    frames[:, 2:] += 0.1001
    with torch.no_grad():
        half = make_model().to(torch.bfloat16)(frames)
    assert half.last_hidden_state.dtype == torch.bfloat16
    assert half.last_hidden_state.shape[1] == 1 + 8


def test_compiled_it_masks_what_it_leaves_out():
    model = make_model()
    changes = random_changes(2, 4, 2, 2)
    frames = still_where(changes)
    torch._dynamo.reset()
    with torch.no_grad():
        output = model(frames)
        fixed = torch.compile(model, backend="eager", fullgraph=True)(frames)
    assert fixed.last_hidden_state.shape == (2, 17, 32)
    assert torch.equal(fixed.token_mask[:, 1:], changes.flatten(1))
    torch.testing.assert_close(fixed.pooler_output, output.pooler_output, rtol=0, atol=1e-5)
    # Every tubelet finds the same features, wherever they stand among the tokens.
    for video in range(2):
        found = output.last_hidden_state[video][output.tubelet_sources[video]]
        torch.testing.assert_close(
            fixed.last_hidden_state[video][fixed.tubelet_sources[video]], found, rtol=0, atol=1e-5
        )


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the shared clips are not here")
def test_a_real_clip_has_runs_where_it_hardly_moves():
    """Every tubelet's token is that of the first tubelet since the last change at its place."""
    clip = decode_video(SHARED_VIDEOS / "bedroom.mp4", num_frames=16, short_side=64)
    pixels = torch.from_numpy(clip.frames[:, :64, :64].copy()).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    frames = ((pixels - mean) / std).unsqueeze(0)
    model = make_model(threshold=0.3)
    with torch.no_grad():
        output = model(frames)
    sources = output.tubelet_sources[0]
    kept = int(output.token_mask.sum()) - 1
    assert 16 < kept < sources.numel()
    for row in range(4):
        for column in range(4):
            place = frames[0, :, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            for step in range(1, 8):
                change = (place[2 * step + 1] - place[2 * step - 2]).abs().mean()
                assert (sources[step, row, column] != sources[step - 1, row, column]) == (change >= 0.3)
    assert sources.unique().tolist() == list(range(1, kept + 1))


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), float("inf")])
def test_an_impossible_threshold_is_named(threshold):
    with pytest.raises(Exception, match=rf"threshold={threshold} is out of range"):
        RLTConfig(threshold=threshold)
