"""TokenLearner and TokenFuser against loops over places, and the tower against torchvision's layers."""

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torchvision.ops import roi_align
from torchvision_blocks import embed_tubelets, randomise, run_blocks

from trajvit.modeling_trajvit.configuration_token_learner import TokenLearnerConfig
from trajvit.modeling_trajvit.modeling_token_learner import TokenLearnerModel
from trajvit.modeling_trajvit.token_learner import TokenFuser, TokenLearner

SMALL = {
    "image_size": 32,
    "num_frames": 8,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "num_learned_tokens": 3,
    "token_learner_hidden_size": 16,
}
EXACT = {"rtol": 0, "atol": 1e-5}
# Tokens before any norm hold values of about 10.
CLOSE = {"rtol": 1e-5, "atol": 2e-5}


def make_config(**options):
    return TokenLearnerConfig.from_name("tiny", **{**SMALL, **options})


def make_model(**options):
    return randomise(TokenLearnerModel(make_config(**options)))


def random(*shape, seed=2, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer_norm(norm, vector):
    """Layer norm of one vector, a list of numbers."""
    mean = sum(vector) / len(vector)
    variance = sum((value - mean) ** 2 for value in vector) / len(vector)
    scaled = [(value - mean) / math.sqrt(variance + norm.eps) for value in vector]
    return [a * b + c for a, b, c in zip(scaled, norm.weight.tolist(), norm.bias.tolist(), strict=True)]


def linear(layer, vector):
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [sum(a * b for a, b in zip(row, vector, strict=True)) + bias for row, bias in rows]


def gelu(value):
    return value * (1 + math.erf(value / math.sqrt(2))) / 2


def naive_learner(learner, places):
    """The tokens that one position in time (P, D) is pooled to, place by place: (S, D)."""
    scores = []
    for place in places.tolist():
        hidden = [gelu(value) for value in linear(learner.fc1, layer_norm(learner.norm, place))]
        scores.append(linear(learner.fc2, hidden))
    tokens = []
    for token in range(len(scores[0])):
        total = sum(math.exp(score[token]) for score in scores)
        tokens.append(sum(math.exp(score[token]) / total * place for score, place in zip(scores, places, strict=True)))
    return torch.stack(tokens)


def naive_fuser(fuser, tokens, places):
    """Tokens (S, D) of one position in time put back to its places (P, D), place by place: (P, D)."""
    mixing = fuser.mixing.tolist()
    mixed = [sum(weight * token for weight, token in zip(row, tokens, strict=True)) for row in mixing]
    fused = []
    for place in places.tolist():
        normed = layer_norm(fuser.norm, place)
        gates = [1 / (1 + math.exp(-value)) for value in linear(fuser.weights, normed)]
        put_back = sum(gate * token for gate, token in zip(gates, mixed, strict=True))
        fused.append(put_back + torch.tensor(normed, dtype=tokens.dtype))
    return torch.stack(fused)


@torch.no_grad()
def test_the_learner_pools_as_a_loop_over_places():
    learner = randomise(TokenLearner(make_config()).double(), std=0.5)
    places = random(2, 3, 6, 32, dtype=torch.float64)
    learned = learner(places)
    assert learned.shape == (2, 3, 3, 32)
    for video in range(2):
        for time in range(3):
            expected = naive_learner(learner, places[video, time])
            # The softmax itself runs in float32.
            torch.testing.assert_close(learned[video, time], expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_fuser_puts_back_as_a_loop_over_places():
    fuser = randomise(TokenFuser(make_config()).double(), std=0.5)
    tokens, places = random(2, 3, 3, 32, dtype=torch.float64), random(2, 3, 6, 32, seed=3, dtype=torch.float64)
    fused = fuser(tokens, places)
    assert fused.shape == places.shape
    for video in range(2):
        for time in range(3):
            expected = naive_fuser(fuser, tokens[video, time], places[video, time])
            torch.testing.assert_close(fused[video, time], expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_maps_on_single_places_take_these_tokens_and_the_fuser_puts_them_back():
    """Eight places hold the unit vectors times 5; three maps each choose a place, in another order at the fuser."""
    config = make_config(hidden_size=8, token_learner_hidden_size=8)
    learner, fuser = randomise(TokenLearner(config)), randomise(TokenFuser(config))
    places, chosen = 5 * torch.eye(8).view(1, 1, 8, 8), [6, 0, 3]
    learner.load_state_dict(
        {
            "norm.weight": torch.ones(8),
            "norm.bias": torch.zeros(8),
            "fc1.weight": torch.eye(8),
            "fc1.bias": torch.zeros(8),
            "fc2.weight": 1000 * torch.eye(8)[chosen],
            "fc2.bias": torch.zeros(3),
        }
    )
    learned = learner(places)
    assert torch.equal(learned, places[:, :, chosen])

    fuser.load_state_dict(
        {
            "mixing": torch.eye(3),
            "norm.weight": torch.ones(8),
            "norm.bias": torch.zeros(8),
            "weights.weight": 1000 * torch.eye(8)[chosen],
            "weights.bias": torch.full((3,), -500.0),
        }
    )
    put_back = fuser(learned, places) - torch.nn.functional.layer_norm(places, (8,), eps=config.layer_norm_eps)
    expected = torch.zeros(8, 8)
    expected[chosen] = places[0, 0, chosen]
    torch.testing.assert_close(put_back[0, 0], expected, **EXACT)


def naive_tower(model, video):
    """One video of the training size: layers over all tubelets, TokenLearner in each position in time, layers."""
    encoder, before = model.encoder, model.config.token_learner_layer
    patches = embed_tubelets(model.embedding, video, 2, 16) + model.positions.embedding
    tokens = torch.cat([encoder.cls_token[0], patches.flatten(0, 2)])
    tokens = run_blocks(encoder.layers[:before], tokens)
    maps = tokens[1:].view_as(patches)
    learned = [naive_learner(model.token_learner, places.flatten(0, 1)) for places in maps]
    tokens = run_blocks(encoder.layers[before:], torch.cat([tokens[:1], *learned]))
    return encoder.norm(tokens), maps


@torch.no_grad()
@pytest.mark.parametrize("before", [0, 1, 2])
def test_the_tower_is_a_space_time_vit_with_a_learner_inside(before):
    model, frames = make_model(token_learner_layer=before), random(2, 8, 3, 32, 32)
    output = model(frames)
    averaged = make_model(token_learner_layer=before, pooling="mean")(frames).pooler_output
    for video in range(2):
        tokens, maps = naive_tower(model, frames[video])
        torch.testing.assert_close(output.last_hidden_state[video], tokens, **CLOSE)
        torch.testing.assert_close(output.tubelet_features[video], maps, **CLOSE)
        torch.testing.assert_close(output.pooler_output[video], tokens[0], **CLOSE)
        torch.testing.assert_close(averaged[video], tokens[1:].mean(0), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(("num_frames", "time"), [(1, 1), (2, 1), (5, 3), (8, 4), (19, 10)])
def test_every_position_in_time_has_its_learned_tokens(num_frames, time):
    output = make_model()(random(1, num_frames, 3, 32, 48))
    assert output.last_hidden_state.shape == (1, 1 + 3 * time, 32)
    assert output.tubelet_features.shape == (1, time, 2, 3, 32)
    assert output.frame_to_tubelet.tolist() == [[frame // 2 for frame in range(num_frames)]]


@torch.no_grad()
def test_padding_has_neither_learned_tokens_nor_features():
    model, frames = make_model(), random(2, 6, 3, 32, 32)
    mask = torch.tensor([[0, 1, 0, 1, 1, 0], [1] * 6])
    alone = model(frames[:1, mask[0].bool()])
    # Recorded states keep the padding of a batch, which is left out otherwise.
    for recorded in (False, True):
        output = model(frames, frame_attention_mask=mask, output_hidden_states=recorded)
        assert output.token_mask.tolist() == [[True] * 7 + [False] * 3, [True] * 10]
        torch.testing.assert_close(output.last_hidden_state[:1, :7], alone.last_hidden_state, **EXACT)
        torch.testing.assert_close(output.tubelet_features[:1, :2], alone.tubelet_features, **CLOSE)
        assert (output.tubelet_features[0, 2] == 0).all()
        assert output.frame_to_tubelet.tolist() == [[-1, 0, -1, 0, 1, -1], [0, 0, 1, 1, 2, 2]]


@torch.no_grad()
def test_layers_after_the_learner_run_on_few_tokens():
    output = make_model()(random(1, 8, 3, 32, 32), output_hidden_states=True)
    shapes = [states.shape[1] for states in output.hidden_states]
    assert shapes == [17, 17, 13, 13]
    assert TokenLearnerConfig().num_layers_before == 12


@torch.no_grad()
def test_a_region_is_pooled_from_the_fused_map():
    model, frames = make_model(token_fuser=True), random(2, 6, 3, 32, 48)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0]])
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.2, 0.3, 0.9, 0.4]], [[0.1, 0.1, 0.6, 0.8], [0.0, 0.0, 1.0, 1.0]]])
    frame_index, time = torch.tensor([[5, 0], [4, 2]]), [[2, 0], [1, 0]]
    regions = model.region_features(model(frames, frame_attention_mask=mask), boxes, frame_index)
    assert regions.features.shape == (2, 2, 49, model.config.region_hidden_size)
    for video in range(2):
        alone = model(frames[video : video + 1, mask[video].bool()])
        for region in range(2):
            instant = time[video][region]
            learned = alone.last_hidden_state[0, 1 + 3 * instant : 4 + 3 * instant]
            fused = naive_fuser(model.token_fuser, learned, alone.tubelet_features[0, instant].flatten(0, 1))
            picture = fused.view(2, 3, 32).permute(2, 0, 1)[None]
            corners = boxes[video, region] * torch.tensor([3.0, 2.0, 3.0, 2.0])
            aligned = roi_align(picture, [corners[None]], output_size=7, sampling_ratio=2, aligned=True)[0]
            torch.testing.assert_close(regions.features[video, region], aligned.flatten(1).T, **EXACT)


def test_a_tower_trained_without_a_fuser_takes_a_new_one_for_regions(tmp_path):
    model, frames = make_model(), random(1, 4, 3, 32, 32)
    boxes, frame_index = torch.tensor([[[0.1, 0.2, 0.6, 0.9]]]), torch.tensor([1])
    with pytest.raises(ValueError, match=r"token_fuser=False: .* expected a model of config.for_regions\(\)"):
        model.region_features(model(frames), boxes, frame_index)
    model.save_pretrained(tmp_path)
    config = model.config.for_regions()
    assert (model.config.token_fuser, config.token_fuser) == (False, True)
    again, info = TokenLearnerModel.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert {name.split(".")[0] for name in info["missing_keys"]} == {"token_fuser"}
    assert torch.equal(again.token_fuser.mixing, torch.eye(3))
    outputs = again.eval()(frames)
    assert torch.equal(outputs.last_hidden_state, model(frames).last_hidden_state)
    again.region_features(outputs, boxes, frame_index).features.square().sum().backward()
    without = [name for name, parameter in again.token_fuser.named_parameters() if not parameter.grad.any()]
    assert without == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_learner_layer": 24}, "token_learner_layer=24 is out of range: expected 0 to 23"),
        ({"token_learner_layer": -1}, "token_learner_layer=-1 is out of range: expected 0 to 23"),
        ({"num_learned_tokens": 0}, "num_learned_tokens=0 is out of range"),
        ({"token_learner_hidden_size": 0}, "token_learner_hidden_size=0 is out of range"),
    ],
)
def test_illegal_fields_are_named_with_their_range(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        TokenLearnerConfig(**options)
