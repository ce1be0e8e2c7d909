"""ToMe against a loop over tokens written from the paper, and what merging must keep."""

import pytest
import torch
from torch import nn

from trajvit.modeling_trajvit.configuration_tome import ToMeConfig
from trajvit.modeling_trajvit.configuration_vit3d import ViT3DConfig
from trajvit.modeling_trajvit.modeling_tome import ToMeAttention, ToMeModel
from trajvit.modeling_trajvit.modeling_vit3d import ViT3DModel
from trajvit.modeling_trajvit.video_transformer import VideoTransformerAttention

SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    # Wider than usual: at this width tokens would hardly move each other otherwise, and mistakes would not show.
    "initializer_range": 0.2,
}


def make_model(attention="sdpa", **options):
    torch.manual_seed(0)
    config = ToMeConfig(**{**SMALL, "tokens_merged_per_layer": 7, **options})
    return ToMeModel._from_config(config, attn_implementation=attention).eval()


def make_videos(batch_size=1, num_frames=4, size=32):
    return torch.randn(batch_size, num_frames, 3, size, size, generator=torch.Generator().manual_seed(2))


def naive_attention(attention, tokens, sizes):
    """A softmax in which a key counts as often as its token has tubelets; also the keys' mean over heads."""
    heads, dim = attention.config.num_attention_heads, attention.head_dim
    query, key, value = (layer(tokens) for layer in (attention.q_proj, attention.k_proj, attention.v_proj))
    context = []
    for head in range(heads):
        part = slice(head * dim, (head + 1) * dim)
        weights = sizes * (query[:, part] @ key[:, part].T / dim**0.5).exp()
        context.append(weights / weights.sum(1, keepdim=True) @ value[:, part])
    mean_key = sum(key[:, head * dim : (head + 1) * dim] for head in range(heads)) / heads
    return attention.o_proj(torch.cat(context, dim=1)), mean_key


def naive_merges(keys, num_merged):
    """Which token each merging token joins, {from: to}, CLS being token 0."""
    keys = nn.functional.normalize(keys, dim=-1)
    edges = []
    for token in range(2, len(keys), 2):
        similarity, partner = max((float(keys[token] @ keys[other]), other) for other in range(1, len(keys), 2))
        edges.append((-similarity, token, partner))
    return {token: partner for _, token, partner in sorted(edges)[:num_merged]}


def naive_tome(model, tokens, schedule):
    """The transformer over CLS and `tokens` (L, D) of one video: final tokens and the tubelets of each, as sets."""
    tokens = torch.cat([model.encoder.cls_token[0], tokens])
    members = [{token} for token in range(len(tokens))]
    for layer, num_merged in zip(model.encoder.layers, schedule, strict=True):
        sizes = torch.tensor([len(group) for group in members], dtype=tokens.dtype)
        context, keys = naive_attention(layer.attention, layer.attention_norm(tokens), sizes)
        tokens = tokens + context
        joins = naive_merges(keys, num_merged)
        members = [set(group) for group in members]
        weighted = [token * len(group) for token, group in zip(tokens, members, strict=True)]
        for token, partner in joins.items():
            weighted[partner] = weighted[partner] + weighted[token]
            members[partner] |= members[token]
        rest = [token for token in range(2, len(members), 2) if token not in joins]
        order = [0, *rest, *range(1, len(members), 2)] if joins else range(len(members))
        tokens = torch.stack([weighted[token] / len(members[token]) for token in order])
        members = [members[token] for token in order]
        tokens = tokens + layer.mlp(layer.mlp_norm(tokens))
    return model.encoder.norm(tokens), members


@pytest.mark.parametrize("options", [{}, {"merge_schedule": "decreasing"}, {"tokens_merged_per_layer": [1, 99, 4]}])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_tower_equals_a_loop_over_tokens(options, attention):
    model = make_model(attention, **options).double()
    video = make_videos().double()
    schedule = {"decreasing": [14, 7, 0]}.get(options.get("merge_schedule"), [7, 7, 7])
    schedule = [1, 15, 4] if "tokens_merged_per_layer" in options else schedule
    with torch.no_grad():
        output = model(video)
        first = ViT3DModel(ViT3DConfig(**SMALL)).double().eval()
        first.load_state_dict(model.state_dict())
        tokens = first(video, output_hidden_states=True).hidden_states[0][0, 1:]
        expected, members = naive_tome(model, tokens, schedule)
    assert len(members) == 1 + 32 - sum(schedule)
    # The softmax of eager attention is single precision.
    atol = 1e-9 if attention == "sdpa" else 1e-5
    torch.testing.assert_close(output.last_hidden_state[0], expected, rtol=0, atol=atol)
    sources = output.tubelet_sources[0].flatten().tolist()
    for place, group in enumerate(members[1:], start=1):
        assert {tubelet + 1 for tubelet, source in enumerate(sources) if source == place} == group
    assert members[0] == {0}


def test_without_merging_the_tower_is_vit3d():
    model = make_model(tokens_merged_per_layer=0)
    reference = ViT3DModel(ViT3DConfig(**SMALL)).eval()
    reference.load_state_dict(model.state_dict())
    videos = make_videos(2, num_frames=5)
    mask = torch.tensor([[1] * 5, [1, 0, 1, 0, 0]])
    with torch.no_grad():
        output, expected = model(videos, frame_attention_mask=mask), reference(videos, frame_attention_mask=mask)
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state, rtol=0, atol=1e-5)
    for field in ("token_mask", "tubelet_sources", "frame_to_tubelet"):
        assert torch.equal(getattr(output, field), getattr(expected, field)), field


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_token_of_size_k_draws_as_much_as_k_equal_tokens(attention):
    config = ToMeConfig(**SMALL)
    config._attn_implementation = attention
    torch.manual_seed(0)
    proportional = ToMeAttention(config).double()
    plain = VideoTransformerAttention(config).double()
    plain.load_state_dict(proportional.state_dict())
    tokens, sizes = torch.randn(1, 5, 32, dtype=torch.float64), torch.tensor([1, 4, 2, 1, 7])
    copies = torch.arange(5).repeat_interleave(sizes)
    with torch.no_grad():
        output, _, _ = proportional(tokens, sizes.double().unsqueeze(0))
        duplicated, _ = plain(tokens[:, copies])
    # The softmax of eager attention is single precision.
    torch.testing.assert_close(output[:, copies], duplicated, rtol=0, atol=1e-12 if attention == "sdpa" else 1e-6)


def test_the_paper_s_schedules_by_arithmetic():
    constant, decreasing = ToMeConfig(), ToMeConfig(merge_schedule="decreasing")
    # 16 frames: 1,568 tubelets. After 23 layers 1,568 - 23 * 65 = 73 remain, of which at most 36 can merge.
    assert constant.tokens_merged(1568) == [65] * 23 + [36]
    # 32 frames: twice the tubelets, twice the merges.
    assert constant.tokens_merged(3136) == [130] * 23 + [73]
    merged = decreasing.tokens_merged(1568)
    assert (merged[0], merged[-1], sum(merged)) == (130, 0, 24 * 65)
    assert all(abs(step - 130 * (1 - layer / 23)) <= 1 for layer, step in enumerate(merged))
    assert sum(decreasing.tokens_merged(3136)) == 2 * 24 * 65
    # An image has 196 tubelets, an eighth.
    assert sum(decreasing.tokens_merged(196)) == 24 * 65 // 8
    assert {
        name: ToMeConfig.from_name(name).tokens_merged_per_layer for name in ("tiny", "small", "base", "large")
    } == {
        "tiny": 390,
        "small": 130,
        "base": 130,
        "large": 65,
    }


@pytest.mark.parametrize(
    ("options", "num_frames", "lengths"),
    [
        ({}, 16, [128, 118, 108, 98]),
        ({}, 32, [256, 236, 216, 196]),
        ({"merge_schedule": "decreasing"}, 16, [128, 108, 98, 98]),
        ({"merge_schedule": "decreasing"}, 32, [256, 216, 196, 196]),
        ({"tokens_merged_per_layer": [100, 0, 5]}, 16, [128, 64, 64, 59]),
    ],
)
def test_tokens_after_every_layer(options, num_frames, lengths):
    model = make_model(num_frames=16, **{"tokens_merged_per_layer": 10, **options})
    with torch.no_grad():
        output = model(make_videos(num_frames=num_frames), output_hidden_states=True)
    assert [hidden.shape[1] - 1 for hidden in output.hidden_states] == lengths
    assert output.token_mask.all()


def test_every_tubelet_has_a_token_and_every_token_a_tubelet():
    model = make_model()
    videos = make_videos(2, num_frames=7)
    mask = torch.tensor([[1] * 7, [1, 1, 0, 0, 1, 0, 0]])
    with torch.no_grad():
        output = model(videos, frame_attention_mask=mask)
    for video, instants in enumerate((4, 2)):
        sources = output.tubelet_sources[video]
        assert set(sources[:instants].flatten().tolist()) == set(range(1, int(output.token_mask[video].sum())))
        assert not sources[instants:].any()


def test_an_image_has_the_same_tokens_beside_a_long_video():
    """In the batch some layers merge tokens of the video and none of the image's 16."""
    model = make_model(num_frames=16, tokens_merged_per_layer=3)
    videos = make_videos(2, num_frames=12)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, 1:] = 0
    assert model.config.tokens_merged(16) == [0, 0, 1]
    with torch.no_grad():
        alone, batch = model(videos[:1, :1]), model(videos, frame_attention_mask=mask)
    torch.testing.assert_close(batch.last_hidden_state[0, :16], alone.last_hidden_state[0], rtol=0, atol=1e-5)
    assert torch.equal(batch.tubelet_sources[0, :1], alone.tubelet_sources[0])


def test_a_still_image_s_equal_patches_merge_before_others():
    """Half of the patches are equal but for their positions, which are made equal: only those pairs merge."""
    # For a video of four frames; an image has half of its tubelets.
    model = make_model(tokens_merged_per_layer=[4, 0, 0])
    nn.init.zeros_(model.positions.embedding)
    image = make_videos(num_frames=1)
    image[..., :8] = 0.5
    image[..., 8:16] = 0.5
    with torch.no_grad():
        sources = model(image).tubelet_sources[0, 0]
    joined = torch.bincount(sources.flatten())
    # The first of the equal tokens takes the first two that draw an edge.
    assert joined.tolist().count(3) == 1
    assert (sources[:, :2] == joined.argmax()).sum() == 3


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_attention_without_a_bias_is_refused(attention):
    with pytest.raises((ValueError, ImportError), match="does not support"):
        make_model(attention)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens_merged_per_layer": -1}, r"tokens_merged_per_layer=-1 is out of range"),
        ({"tokens_merged_per_layer": [4, -2, 0]}, r"tokens_merged_per_layer=\[4, -2, 0\] is out of range"),
        ({"tokens_merged_per_layer": [4, 2]}, r"has 2 numbers: expected one for each of num_hidden_layers=3"),
        ({"merge_schedule": "rising"}, r"merge_schedule='rising' is not a schedule"),
        ({"tokens_merged_per_layer": [1, 2, 3], "merge_schedule": "decreasing"}, r"needs one number"),
        ({"patch_size": 7}, r"must be a multiple of patch_size=7"),
    ],
)
def test_configurations_out_of_range_are_errors(options, message):
    with pytest.raises(Exception, match=message):
        ToMeConfig(**{**SMALL, **options})
