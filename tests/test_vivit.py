"""ViViT's factorised encoder against a loop over positions in time, and what factorising promises."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torchvision.ops import roi_align
from torchvision_blocks import embed_tubelets, randomise, run_blocks

from trajvit.modeling_trajvit.configuration_vivit import ViViTConfig
from trajvit.modeling_trajvit.modeling_vivit import ViViTModel

SMALL = {"image_size": 32, "num_frames": 8, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64}
EXACT = {"rtol": 0, "atol": 1e-5}


def make_model(**options):
    return randomise(ViViTModel(ViViTConfig.from_name("tiny", **{**SMALL, **options})))


def make_frames(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_vivit(model, video):
    """Model 2 of the paper for one video of the training size: every position in time by itself, and then time."""
    spatial, temporal, pooling = model.spatial, model.temporal_encoder, model.config.pooling
    space = spatial.encoder
    patches = embed_tubelets(spatial.embedding, video, 2, 16)
    frames, maps = [], []
    for index in range(len(patches)):
        places = (patches[index] + spatial.positions.embedding[0]).flatten(0, 1)
        tokens = space.norm(run_blocks(space.layers, torch.cat([space.cls_token[0], places])))
        maps.append(tokens[1:].view_as(patches[index]))
        frame = tokens[0] if pooling == "cls" else tokens[1:].mean(0)
        frames.append(frame + model.temporal_positions.embedding[index, 0, 0])
    tokens = temporal.norm(run_blocks(temporal.layers, torch.cat([temporal.cls_token[0], torch.stack(frames)])))
    return tokens, tokens[0] if pooling == "cls" else tokens[1:].mean(0), torch.stack(maps)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_it_is_a_loop_over_positions_in_time(pooling):
    model, frames = make_model(pooling=pooling), make_frames(2, 8, 3, 32, 32)
    output = model(frames)
    for video in range(2):
        tokens, pooled, maps = naive_vivit(model, frames[video])
        torch.testing.assert_close(output.last_hidden_state[video], tokens, **EXACT)
        torch.testing.assert_close(output.pooler_output[video], pooled, **EXACT)
        torch.testing.assert_close(output.spatial_features[video], maps, **EXACT)


@torch.no_grad()
def test_space_is_seen_in_each_position_in_time_alone():
    model, frames = make_model(), make_frames(1, 8, 3, 32, 32)
    changed = frames.clone()
    changed[:, 4:6] += 1
    before, after = model(frames), model(changed)
    same = (before.spatial_features == after.spatial_features).flatten(2).all(-1)
    assert same.tolist() == [[True, True, False, True]]
    moved = (before.last_hidden_state - after.last_hidden_state).abs().amax(-1)
    assert (moved > 1e-4).all()


@torch.no_grad()
def test_time_is_known_by_its_learned_positions_alone():
    model, frames = make_model(), make_frames(1, 8, 3, 32, 32)
    backwards = frames.unflatten(1, (4, 2)).flip(1).flatten(1, 2)
    assert (model(frames).pooler_output - model(backwards).pooler_output).abs().max() > 1e-3
    model.temporal_positions.embedding.zero_()
    torch.testing.assert_close(model(frames).pooler_output, model(backwards).pooler_output, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize(("num_frames", "time"), [(1, 1), (2, 1), (5, 3), (8, 4), (19, 10)])
def test_two_frames_make_one_token(num_frames, time):
    output = make_model()(make_frames(1, num_frames, 3, 32, 48))
    assert output.last_hidden_state.shape == (1, 1 + time, 32)
    assert output.spatial_features.shape == (1, time, 2, 3, 32)
    assert output.frame_to_tubelet.tolist() == [[frame // 2 for frame in range(num_frames)]]


@torch.no_grad()
def test_an_odd_video_repeats_its_last_frame():
    model, frames = make_model(), make_frames(1, 3, 3, 32, 32)
    repeated = torch.cat([frames, frames[:, -1:]], dim=1)
    torch.testing.assert_close(model(frames).last_hidden_state, model(repeated).last_hidden_state, **EXACT)


@torch.no_grad()
def test_a_region_is_its_place_beside_its_time():
    model, frames = make_model(), make_frames(2, 6, 3, 32, 48)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0]])
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.2, 0.3, 0.9, 0.4]], [[0.1, 0.1, 0.6, 0.8], [0.0, 0.0, 1.0, 1.0]]])
    frame_index = torch.tensor([[5, 0], [4, 2]])
    time = [[2, 0], [1, 0]]
    output = model(frames, frame_attention_mask=mask)
    regions = model.region_features(output, boxes, frame_index)
    assert regions.features.shape == (2, 2, 49, model.config.region_hidden_size)
    assert regions.mask.all()
    for video in range(2):
        alone = model(frames[video : video + 1, mask[video].bool()])
        for region in range(2):
            picture = alone.spatial_features[:, time[video][region]].permute(0, 3, 1, 2)
            corners = boxes[video, region] * torch.tensor([3.0, 2.0, 3.0, 2.0])
            place = roi_align(picture, [corners[None]], output_size=7, sampling_ratio=2, aligned=True)[0].flatten(1).T
            features = regions.features[video, region]
            torch.testing.assert_close(features[:, :32], place, **EXACT)
            moment = alone.last_hidden_state[0, 1 + time[video][region]]
            torch.testing.assert_close(features[:, 32:], moment.expand(49, 32), **EXACT)
    with pytest.raises(ValueError, match="a padding frame of that video"):
        model.region_features(output, boxes, torch.tensor([[5, 0], [4, 3]]))


@torch.no_grad()
def test_padding_is_not_computed_in_space():
    model, frames = make_model(), make_frames(2, 8, 3, 32, 32)
    computed = []
    model.spatial.encoder.layers[0].register_forward_hook(lambda _, args, __: computed.append(len(args[0])))
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0], [1] * 8])
    model(frames, frame_attention_mask=mask)
    assert computed == [2 + 4]


def test_a_depth_is_shared_half_and_half_unless_told_otherwise():
    for options, spatial, temporal in (
        ({}, 12, 12),
        ({"num_hidden_layers": 5}, 3, 2),
        ({"num_hidden_layers": 28, "num_temporal_layers": 4}, 24, 4),
    ):
        with torch.device("meta"):
            model = ViViTModel(ViViTConfig(**options))
        assert (len(model.spatial.encoder.layers), len(model.temporal_encoder.layers)) == (spatial, temporal)


@torch.no_grad()
def test_recorded_states_are_those_of_space_and_then_of_time():
    model = make_model()
    output = model(make_frames(2, 8, 3, 32, 32), output_hidden_states=True)
    assert [tuple(states.shape) for states in output.hidden_states] == [(8, 5, 32)] * 3 + [(2, 5, 32)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_temporal_layers": 0}, "num_temporal_layers=0 is out of range: expected 1 to 23"),
        ({"num_temporal_layers": 24}, "num_temporal_layers=24 is out of range: expected 1 to 23"),
        ({"num_hidden_layers": 1}, "num_hidden_layers=1 is out of range: expected at least 2"),
        ({"patch_size": 15}, "image_size=224 must be a multiple of patch_size=15"),
    ],
)
def test_illegal_depths_name_the_field_and_the_range(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        ViViTConfig(**options)
