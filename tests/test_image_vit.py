"""Image ViT: one frame against torchvision's ViT, a video against a loop over its frames."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torchvision.models.vision_transformer import VisionTransformer, vit_l_16
from torchvision.ops import roi_align
from torchvision_blocks import randomise, reference_block

from trajvit.modeling_trajvit.configuration_image_vit import ImageViTConfig
from trajvit.modeling_trajvit.modeling_image_vit import ImageViTModel
from trajvit.modeling_trajvit.region_pooling import gather_tubelets

SMALL = {"image_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
EXACT = {"rtol": 0, "atol": 1e-5}


def make_model(**options):
    return randomise(ImageViTModel(ImageViTConfig.from_name("tiny", **{**SMALL, **options})))


def make_frames(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def torchvision_vit(model):
    """torchvision's whole ViT with the weights of `model`, up to its head."""
    config, spatial = model.config, model.spatial
    vit = VisionTransformer(
        config.image_size,
        config.patch_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.hidden_size,
        config.intermediate_size,
    ).eval()
    vit.heads = torch.nn.Identity()
    weight = spatial.embedding.projection.weight
    state = {
        "class_token": spatial.encoder.cls_token,
        "conv_proj.weight": weight.view(len(weight), config.num_channels, config.patch_size, config.patch_size),
        "conv_proj.bias": spatial.embedding.projection.bias,
        # Ours has none for CLS, whose learned vector can hold it.
        "encoder.pos_embedding": torch.nn.functional.pad(spatial.positions.embedding.flatten(0, 2), (0, 0, 1, 0))[None],
        "encoder.ln.weight": spatial.encoder.norm.weight,
        "encoder.ln.bias": spatial.encoder.norm.bias,
    }
    for index, layer in enumerate(spatial.encoder.layers):
        block = reference_block(layer).state_dict()
        state |= {f"encoder.layers.encoder_layer_{index}.{name}": tensor for name, tensor in block.items()}
    vit.load_state_dict(state)
    return vit


@torch.no_grad()
def test_one_frame_is_torchvisions_vit():
    model = make_model()
    vit, images = torchvision_vit(model), make_frames(2, 3, 48, 48)
    output = model(images.unsqueeze(1))
    torch.testing.assert_close(output.pooler_output, vit(images), **EXACT)
    patches = vit.conv_proj(images).flatten(2).transpose(1, 2)
    tokens = vit.encoder(torch.cat([vit.class_token.expand(2, -1, -1), patches], dim=1))
    torch.testing.assert_close(output.last_hidden_state, tokens, **EXACT)
    averaged = make_model(pooling="mean")(images.unsqueeze(1))
    torch.testing.assert_close(averaged.pooler_output, tokens[:, 1:].mean(1), **EXACT)
    torch.testing.assert_close(averaged.last_hidden_state, tokens, **EXACT)


def test_the_default_has_the_parameters_of_vit_large():
    with torch.device("meta"):
        ours = sum(parameter.numel() for parameter in ImageViTModel(ImageViTConfig()).parameters())
        vit = vit_l_16()
    body = sum(parameter.numel() for name, parameter in vit.named_parameters() if not name.startswith("heads"))
    cls_position = vit.hidden_dim
    assert ours == body - cls_position


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_video_is_the_average_of_its_frames(pooling):
    model = make_model(pooling=pooling)
    frames = make_frames(2, 5, 3, 32, 48)
    mask = torch.tensor([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1]])
    output = model(frames, frame_attention_mask=mask)
    assert output.last_hidden_state.shape == (2, 1 + 5 * 2 * 3, 32)
    for video in range(2):
        own = [model(frames[video : video + 1, [frame]]) for frame in mask[video].nonzero().flatten().tolist()]
        pooled = sum(single.pooler_output[0] for single in own) / len(own)
        cls_token = sum(single.last_hidden_state[0, 0] for single in own) / len(own)
        patches = torch.cat([single.last_hidden_state[0, 1:] for single in own])
        torch.testing.assert_close(output.pooler_output[video], pooled, **EXACT)
        torch.testing.assert_close(output.last_hidden_state[video, 0], cls_token, **EXACT)
        torch.testing.assert_close(output.last_hidden_state[video, 1 : 1 + len(patches)], patches, **EXACT)
        assert output.token_mask[video].tolist() == [position <= len(patches) for position in range(31)]


@torch.no_grad()
def test_the_order_of_frames_does_not_matter():
    model, frames = make_model(), make_frames(1, 4, 3, 48, 48)
    forwards, backwards = model(frames), model(frames.flip(1))
    torch.testing.assert_close(forwards.pooler_output, backwards.pooler_output, **EXACT)
    patches = [output.last_hidden_state[0, 1:].unflatten(0, (4, 9)) for output in (forwards, backwards)]
    torch.testing.assert_close(patches[0], patches[1].flip(0), **EXACT)


@torch.no_grad()
def test_padding_frames_are_not_computed_unless_their_states_are_recorded():
    model, frames = make_model(), make_frames(2, 4, 3, 48, 48)
    computed = []
    model.spatial.encoder.layers[0].register_forward_hook(lambda _, args, __: computed.append(len(args[0])))
    mask = torch.tensor([[0, 1, 0, 0], [1, 1, 1, 0]])
    output = model(frames, frame_attention_mask=mask)
    shown = model(frames, frame_attention_mask=mask, output_hidden_states=True)
    assert computed == [4, 8]
    assert [len(states) for states in shown.hidden_states] == [8] * 3
    torch.testing.assert_close(shown.last_hidden_state, output.last_hidden_state, **EXACT)
    torch.testing.assert_close(shown.pooler_output, output.pooler_output, **EXACT)


@torch.no_grad()
def test_every_patch_finds_its_token():
    model, frames = make_model(), make_frames(2, 4, 3, 48, 48)
    mask = torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1]])
    output = model(frames, frame_attention_mask=mask)
    assert output.frame_to_tubelet.tolist() == [[-1, 0, -1, 1], [0, 1, 2, 3]]
    assert (output.tubelet_sources[0, 2:] == 0).all()
    maps = gather_tubelets(output.last_hidden_state, output.tubelet_sources)
    for video, frame in mask.nonzero().tolist():
        alone = model(frames[video : video + 1, [frame]]).last_hidden_state[0, 1:].view(3, 3, 32)
        torch.testing.assert_close(maps[video, output.frame_to_tubelet[video, frame]], alone, **EXACT)


@torch.no_grad()
def test_a_region_is_pooled_from_its_own_frame():
    model, frames = make_model(), make_frames(1, 3, 3, 48, 48)
    box = torch.tensor([[[0.1, 0.2, 0.6, 0.9]]])
    regions = model.region_features(model(frames), box, torch.tensor([2]))
    picture = model(frames[:, 2:]).last_hidden_state[0, 1:].T.view(1, 32, 3, 3)
    expected = roi_align(picture, [box[0] * 3], output_size=7, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(regions.features[0, 0], expected[0].flatten(1).T, **EXACT)


def test_nothing_is_learned_about_time():
    assert make_model(num_frames=64).state_dict().keys() == make_model().state_dict().keys()
    assert make_model(num_frames=64).spatial.positions.embedding.shape == (1, 3, 3, 32)


def test_tubelets_of_several_frames_are_an_error():
    with pytest.raises(StrictDataclassError, match="tubelet_size=2 is out of range: expected 1"):
        ImageViTConfig(tubelet_size=2)
