"""The trajectory tokenizer against Table 2 read literally, and what a token depends on at initialisation."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel
from trajvit.modeling_trajvit.modeling_trajvit import pair_rows
from trajvit.modeling_trajvit.position_encoding import frame_times
from trajvit.modeling_trajvit.trajectory_pooling import segment_areas, segment_boxes


def make_tokenizer(seed=0, **options):
    torch.manual_seed(seed)
    return TrajViTModel(TrajViTConfig.from_name("tiny", num_hidden_layers=1, **options)).eval().tokenizer


def moving_square(num_frames, start, step, side=14, size=56):
    """(T, 56, 56) ids of one square whose left upper corner (x, y) moves by `step` over the video."""
    labels = torch.zeros(num_frames, size, size, dtype=torch.long)
    for frame in range(num_frames):
        share = frame / max(num_frames - 1, 1)
        x, y = (int(s + d * share) for s, d in zip(start, step, strict=True))
        labels[frame, y : y + side, x : x + side] = 1
    return labels


def pairs_of_one_video(tokenizer, present):
    times = frame_times(torch.ones(1, len(present), dtype=torch.bool))[0]
    return tokenizer.describe_pairs(present, torch.zeros(len(present), dtype=torch.long), times, batch_size=1)


def position_token(tokenizer, labels):
    present = segment_areas(labels, 1) > 0
    boxes = segment_boxes(labels, 1)[pair_rows(present)]
    pairs = pairs_of_one_video(tokenizer, present)
    with torch.no_grad():
        return tokenizer.position_mlp(tokenizer.position_resampler(tokenizer.box_encoder(boxes), pairs))[0]


def change(before, after):
    return ((after - before).norm() / before.norm()).item()


@pytest.mark.parametrize("name", ["tiny", "large-wide"])
def test_moving_an_object_any_way_changes_its_position_token_alike(name):
    resampler = TrajViTConfig.from_name(name)
    tokenizer = make_tokenizer(
        resampler_hidden_size=resampler.resampler_hidden_size, resampler_num_layers=resampler.resampler_num_layers
    )
    still = position_token(tokenizer, moving_square(16, (21, 21), (0, 0)))
    moves = {"left": (14, 21), "right": (28, 21), "up": (21, 14), "down": (21, 28)}
    changes = {
        move: change(still, position_token(tokenizer, moving_square(16, at, (0, 0)))) for move, at in moves.items()
    }
    assert min(changes.values()) > 0.3, changes
    assert max(changes.values()) < 2 * min(changes.values()), changes


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("num_frames", [2, 16, 64])
@pytest.mark.parametrize("step", [(30, 0), (0, 30)])
def test_reversing_a_motion_changes_its_position_token(seed, num_frames, step):
    tokenizer = make_tokenizer(seed)
    labels = moving_square(num_frames, (5, 5), step)
    assert change(position_token(tokenizer, labels), position_token(tokenizer, labels.flip(0))) > 0.1


def test_reversing_time_changes_the_whole_token():
    tokenizer = make_tokenizer()
    labels = moving_square(8, (5, 21), (30, 0))
    frames = torch.randn(8, 3, 224, 224)
    with torch.no_grad():
        forwards = tokenizer(frames[None], labels[None])[0][0, 0]
        backwards = tokenizer(frames.flip(0)[None], labels.flip(0)[None])[0][0, 0]
    assert change(forwards, backwards) > 0.1


def test_a_token_depends_on_what_is_under_the_mask():
    tokenizer = make_tokenizer()
    labels = moving_square(4, (21, 21), (0, 0))
    dark, bright = torch.zeros(4, 3, 224, 224), torch.zeros(4, 3, 224, 224)
    bright[..., 84:140, 84:140] = 2.0
    with torch.no_grad():
        tokens = [tokenizer(frames[None], labels[None])[0][0, 0] for frames in (dark, bright)]
    assert change(*tokens) > 0.1


def literal_tokens(tokenizer, frames, labels, num_trajectories):
    """Table 2 from top to bottom, for one video, with one-hot masks; resamplers one trajectory at a time."""
    grid = labels.shape[-1]
    stages = tokenizer.frame_features.backbone(frames).feature_maps
    features = sum(
        nn.functional.interpolate(
            layer(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), size=grid, mode="bilinear", align_corners=False
        )
        for layer, stage in zip(tokenizer.frame_features.projections, stages, strict=True)
    )
    masks = nn.functional.one_hot(labels, num_trajectories + 1)[..., 1:].permute(0, 3, 1, 2).to(features.dtype)
    pooled = torch.einsum("tmhw,tdhw->tmd", masks, features) / masks.sum((2, 3)).clamp(min=1).unsqueeze(-1)
    boxes = torch.zeros(*pooled.shape[:2], 4)
    for frame, trajectory in masks.any(3).any(2).nonzero().tolist():
        rows, columns = masks[frame, trajectory].nonzero(as_tuple=True)
        corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        boxes[frame, trajectory] = torch.stack(corners) / grid
    tokens = []
    for trajectory in range(num_trajectories):
        there = masks[:, trajectory].any(2).any(1)
        pairs = pairs_of_one_video(tokenizer, there[:, None])
        codes = tokenizer.box_encoder(boxes[there, trajectory]).to(features.dtype)
        token = tokenizer.appearance_mlp(tokenizer.appearance_resampler(pooled[there, trajectory], pairs))
        tokens.append((token + tokenizer.position_mlp(tokenizer.position_resampler(codes, pairs)))[0])
    return torch.stack(tokens)


def random_video(num_frames=11, num_trajectories=7, size=64, grid=16, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(num_frames, 3, size, size, generator=generator, dtype=torch.float64).to(dtype)
    blocks = torch.randint(0, num_trajectories + 1, (num_frames, grid // 4, grid // 4), generator=generator)
    return frames, blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)


SMALL = {"image_size": 64, "feature_size": 16}


def test_tokens_equal_the_table_read_literally():
    tokenizer = make_tokenizer(**SMALL).double()
    frames, labels = random_video(dtype=torch.float64)
    with torch.no_grad():
        tokens, mask = tokenizer(frames[None], labels[None], torch.ones(1, 7))
        expected = literal_tokens(tokenizer, frames, labels, 7)
    assert mask.all()
    torch.testing.assert_close(tokens[0], expected, rtol=0, atol=1e-9)


def test_frames_pass_the_backbone_in_chunks_outside_training():
    frames, labels = random_video()
    tokenizer = make_tokenizer(frames_per_chunk=3, **SMALL)
    sizes = []
    tokenizer.frame_features.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        chunked, _ = tokenizer(frames[None], labels[None])
        assert sizes == [3, 3, 3, 2]
        tokenizer.config.frames_per_chunk = 100
        whole, _ = tokenizer(frames[None], labels[None])
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-5)


def test_how_many_frames_pass_together_depends_on_the_device_unless_it_is_set():
    """More on a GPU, which waits for its next operation where few frames pass."""
    devices = [torch.device(kind) for kind in ("cpu", "cuda")]
    assert [make_tokenizer(**SMALL).frames_per_chunk(device) for device in devices] == [8, 64]
    assert [make_tokenizer(frames_per_chunk=3, **SMALL).frames_per_chunk(device) for device in devices] == [3, 3]
    with pytest.raises(StrictDataclassError, match="frames_per_chunk=0 is out of range"):
        make_tokenizer(frames_per_chunk=0, **SMALL)


def test_batch_norm_sees_all_frames_of_a_batch_in_training():
    frames, labels = random_video()
    tokenizer = make_tokenizer(frames_per_chunk=3, **SMALL).train()
    sizes = []
    tokenizer.frame_features.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    tokenizer(frames[None], labels[None])
    assert sizes == [11]


def test_a_frame_without_pixels_of_a_trajectory_contributes_nothing():
    tokenizer = make_tokenizer(**SMALL)
    frames, labels = random_video()
    labels[labels == 2] = 1
    labels[4:][labels[4:] == 1] = 0
    changed = frames.clone()
    changed[4:] = torch.randn_like(changed[4:])
    with torch.no_grad():
        before, _ = tokenizer(frames[None], labels[None])
        after, _ = tokenizer(changed[None], labels[None])
    torch.testing.assert_close(before[0, 0], after[0, 0], rtol=0, atol=1e-6)
    assert change(before[0, 2], after[0, 2]) > 1e-3


def test_a_trajectory_that_lost_all_pixels_is_no_token_whatever_the_mask_says():
    tokenizer = make_tokenizer(**SMALL)
    frames, labels = random_video()
    labels[labels == 3] = 0
    with torch.no_grad():
        tokens, mask = tokenizer(frames[None], labels[None], torch.ones(1, 9))
    assert mask[0].tolist() == [True, True, False, True, True, True, True, False, False]
    assert (tokens[0, ~mask[0]] == 0).all()


def test_a_masked_trajectory_is_no_token_and_leaves_the_others_alone():
    tokenizer = make_tokenizer(**SMALL)
    frames, labels = random_video()
    mask = torch.ones(1, 7, dtype=torch.long)
    with torch.no_grad():
        everything, _ = tokenizer(frames[None], labels[None], mask)
        mask[0, 2] = 0
        tokens, token_mask = tokenizer(frames[None], labels[None], mask)
    assert token_mask[0].tolist() == [True, True, False, True, True, True, True]
    assert (tokens[0, 2] == 0).all()
    torch.testing.assert_close(tokens[token_mask], everything[token_mask], rtol=0, atol=1e-6)


def test_pixels_of_no_trajectory_make_no_token():
    tokenizer = make_tokenizer(**SMALL)
    frames, labels = random_video()
    with torch.no_grad():
        tokens, mask = tokenizer(frames[None], torch.zeros_like(labels)[None], torch.ones(1, 4))
    assert not mask.any()
    assert (tokens == 0).all()


def test_every_weight_gets_a_gradient():
    tokenizer = make_tokenizer(**SMALL).train()
    frames, labels = random_video()
    tokens, _ = tokenizer(frames[None], labels[None])
    (tokens * torch.randn_like(tokens)).sum().backward()
    for name, parameter in tokenizer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
