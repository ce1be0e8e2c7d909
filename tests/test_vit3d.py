"""ViT3D against a convolution, torch's interpolation and transformers' ViT; where its tokens come from; its cost."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTConfig, ViTModel

from trajvit.modeling_trajvit.configuration_vit3d import ViT3DConfig
from trajvit.modeling_trajvit.modeling_vit3d import ViT3DModel

SMALL = {"image_size": 32, "num_frames": 8, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
# The names under which ViT's weights lie on the Hub, for each of ours.
HUB_NAMES = {
    "attention_norm": "layernorm_before",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp_norm": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def make_model(**options):
    torch.manual_seed(0)
    model = ViT3DModel(ViT3DConfig.from_name("tiny", **{**SMALL, **options})).eval()
    # Far from their initial values, where a norm or a bias left out would not show.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def embed_independently(model, frames):
    """CLS and tubelet tokens (1, 1 + L, D) of one video (1, T, 3, H, W), by a convolution over time and space."""
    config = model.config
    missing = -frames.shape[1] % config.tubelet_size
    frames = torch.cat([frames] + [frames[:, -1:]] * missing, dim=1)
    kernel = (config.tubelet_size, config.patch_size, config.patch_size)
    weight = model.embedding.projection.weight.unflatten(1, (config.tubelet_size, 3, *kernel[1:])).transpose(1, 2)
    maps = nn.functional.conv3d(frames.transpose(1, 2), weight, model.embedding.projection.bias, stride=kernel)
    table = model.positions.embedding.permute(3, 0, 1, 2).unsqueeze(0)
    maps = maps + nn.functional.interpolate(table, maps.shape[2:], mode="trilinear", align_corners=False)
    return torch.cat([model.encoder.cls_token, maps.flatten(2).transpose(1, 2)], dim=1)


def hub_weights(encoder):
    weights = {f"layernorm.{name}": value for name, value in encoder.norm.state_dict().items()}
    for index, layer in enumerate(encoder.layers):
        for ours, theirs in HUB_NAMES.items():
            for name, value in layer.get_submodule(ours).state_dict().items():
                weights[f"encoder.layer.{index}.{theirs}.{name}"] = value
    return weights


@pytest.mark.parametrize(("num_frames", "height", "width"), [(8, 32, 32), (1, 32, 32), (5, 48, 16), (18, 16, 32)])
def test_the_whole_model_is_a_vit_over_tubelets(num_frames, height, width):
    model = make_model()
    config = model.config
    same = {name: getattr(config, name) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    reference_config = ViTConfig(**same, intermediate_size=64, layer_norm_eps=config.layer_norm_eps, image_size=32)
    frames = noise(1, num_frames, 3, height, width)
    with torch.no_grad():
        tokens = embed_independently(model, frames)
        reference, info = ViTModel.from_pretrained(
            None,
            config=reference_config,
            state_dict=hub_weights(model.encoder),
            output_loading_info=True,
            add_pooling_layer=False,
        )
        assert not info["unexpected_keys"]
        assert all(name.startswith("embeddings.") for name in info["missing_keys"])
        reference.embeddings.register_forward_hook(lambda *_: tokens)
        expected = reference.eval()(noise(1, 3, 32, 32)).last_hidden_state
        output = model(frames)
    assert output.last_hidden_state.shape == (1, 1 + -(-num_frames // 2) * (height // 16) * (width // 16), 32)
    torch.testing.assert_close(output.last_hidden_state, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.pooler_output, expected[:, 0], rtol=0, atol=1e-5)


def test_every_tubelet_has_a_token_of_its_own():
    frame_mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0, 0]])
    with torch.no_grad():
        output = make_model()(noise(2, 7, 3, 32, 48), frame_attention_mask=frame_mask)
    assert output.tubelet_sources.shape == (2, 4, 2, 3)
    assert output.tubelet_sources[0].flatten().tolist() == list(range(1, 25))
    assert output.tubelet_sources[1].flatten().tolist() == [*range(1, 13), *[0] * 12]
    assert output.token_mask.sum(1).tolist() == [25, 13]
    assert (output.last_hidden_state[1, 13:] == 0).all()
    assert output.frame_to_tubelet.tolist() == [[0, 0, 1, 1, 2, 2, 3], [-1, 0, -1, 0, 1, -1, -1]]


def test_trajectories_are_taken_and_not_used():
    model, frames = make_model(), noise(1, 4, 3, 32, 32)
    maps, mask = torch.ones(1, 4, 8, 8, dtype=torch.long), torch.ones(1, 1)
    with torch.no_grad():
        assert torch.equal(model(frames, maps, mask).pooler_output, model(frames).pooler_output)


def test_a_region_is_pooled_from_the_tubelets_at_its_place_and_time():
    """Tokens that hold their own time, row and column: the mean of a region's 49 tokens is where its middle lies."""
    model = make_model()
    with torch.no_grad():
        output = model(noise(1, 6, 3, 64, 96))
    places = torch.cartesian_prod(torch.arange(3.0), torch.arange(4.0), torch.arange(6.0))
    output.last_hidden_state = torch.cat([torch.full((1, 3), -100.0), places]).unsqueeze(0)
    boxes = torch.tensor([[[0.25, 0.25, 0.5, 0.75], [0.5, 0.5, 0.75, 0.75]]])
    regions = model.region_features(output, boxes, torch.tensor([[1, 4]]))
    assert regions.features.shape == (1, 2, 49, 3)
    # In units of tubelets whose middles are whole numbers: share * size - 1/2.
    expected = torch.tensor([[0, 0.5 * 4 - 0.5, 0.375 * 6 - 0.5], [2, 0.625 * 4 - 0.5, 0.625 * 6 - 0.5]])
    torch.testing.assert_close(regions.features[0].mean(1), expected, rtol=0, atol=1e-4)


def test_the_default_is_vit_large_over_1568_tubelets():
    time, height, width = ViT3DConfig().position_grid
    assert time * height * width == 1568
    with torch.device("meta"):
        model = ViT3DModel(ViT3DConfig())
    layers = sum(parameter.numel() for parameter in model.encoder.layers.parameters())
    assert layers == 24 * (4 * (1024**2 + 1024) + 2 * 4096 * 1024 + 4096 + 1024 + 4 * 1024)
    assert model.embedding.projection.weight.numel() == 1024 * 2 * 3 * 16 * 16


@pytest.mark.parametrize(("num_frames", "gigaflops"), [(16, 1195), (32, 2872), (64, 7677)])
def test_operations_of_the_default(num_frames, gigaflops):
    """Multiplications and additions of the embedding and the transformer, counted without memory."""
    length = num_frames // 2 * 14 * 14
    with torch.device("meta"):
        model = ViT3DModel._from_config(ViT3DConfig(), attn_implementation="eager")
        pixels, hidden_states = torch.empty(1, length, 1536), torch.empty(1, 1 + length, 1024)
    with FlopCounterMode(display=False) as counter:
        model.embedding(pixels)
        for layer in model.encoder.layers:
            hidden_states = layer(hidden_states)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, abs=0.5)


def test_impossible_values_are_named():
    with pytest.raises(Exception, match="image_size=100 must be a multiple of patch_size=16"):
        ViT3DConfig(image_size=100)
    with pytest.raises(Exception, match="tubelet_size=0 is out of range"):
        ViT3DConfig(tubelet_size=0)
