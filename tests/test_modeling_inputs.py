"""Wrong inputs are errors that name the argument and its value; nothing is guessed."""

import pytest
import torch

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTContrastiveConfig, TrajViTModel


@pytest.fixture(scope="module")
def model():
    options = {"image_size": 64, "feature_size": 16, "num_hidden_layers": 1}
    return TrajViTModel(TrajViTConfig.from_name("tiny", **options)).eval()


def inputs(num_frames=3):
    maps = torch.zeros(1, num_frames, 16, 16, dtype=torch.long)
    maps[..., 4:] = 1
    return {
        "pixel_values_videos": torch.randn(1, num_frames, 3, 64, 64),
        "trajectory_maps": maps,
        "trajectory_attention_mask": torch.ones(1, 2, dtype=torch.long),
    }


def fails(model, message, **changes):
    with pytest.raises(ValueError, match=message), torch.no_grad():
        model(**{**inputs(), **changes})


def test_channels_before_frames_is_an_error(model):
    fails(model, r"pixel_values_videos has shape \(1, 3, 8, 64, 64\)", pixel_values_videos=torch.randn(1, 3, 8, 64, 64))


def test_three_frames_of_three_channels_are_read_as_frames_first(model):
    values = inputs()
    with torch.no_grad():
        before = model(**values).pooler_output
        values["pixel_values_videos"][:, 2] = 0
        after = model(**values).pooler_output
        values["trajectory_maps"][:, 2] = 0
        without = model(**values).pooler_output
        values["pixel_values_videos"][:, 2] = 1
        unseen = model(**values).pooler_output
    assert not torch.equal(before, after)
    assert torch.equal(without, unseen)


@pytest.mark.parametrize("shape", [(3, 3, 64, 64), (1, 3, 64, 64, 3), (1, 3, 3, 32, 64), (1, 0, 3, 64, 64)])
def test_other_layouts_are_errors(model, shape):
    fails(model, "pixel_values_videos has shape", pixel_values_videos=torch.zeros(shape))


def test_raw_bytes_are_an_error(model):
    raw = torch.zeros(1, 3, 3, 64, 64, dtype=torch.uint8)
    fails(model, r"dtype torch.uint8: expected normalised floating", pixel_values_videos=raw)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_an_error(model, value):
    frames = torch.zeros(1, 3, 3, 64, 64)
    frames[0, 1, 2, 3, 4] = value
    fails(model, f"to {value}: expected finite|from {value} to {value}: expected finite", pixel_values_videos=frames)


def test_floating_maps_are_an_error(model):
    fails(model, "trajectory_maps has dtype torch.float32", trajectory_maps=torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integer_type_is_taken(model, dtype):
    values = inputs()
    with torch.no_grad():
        expected = model(**values).pooler_output
        values["trajectory_maps"] = values["trajectory_maps"].to(dtype)
        assert torch.equal(model(**values).pooler_output, expected)


def test_maps_of_other_frames_are_an_error(model):
    wrong = torch.zeros(1, 4, 16, 16, dtype=torch.long)
    fails(model, r"trajectory_maps has shape \(1, 4, 16, 16\): expected \(1, 3, 16, 16\)", trajectory_maps=wrong)


@pytest.mark.parametrize(("value", "named"), [(3, "from 0 to 3"), (-1, "from -1 to 1")])
def test_ids_out_of_range_are_named(model, value, named):
    maps = inputs()["trajectory_maps"]
    maps[0, 0, 0, 0] = value
    fails(model, f"ids {named}: expected 0 .* to 2", trajectory_maps=maps)


def test_a_mask_of_another_batch_is_an_error(model):
    fails(model, r"trajectory_attention_mask has shape \(2, 2\)", trajectory_attention_mask=torch.ones(2, 2))


def test_frame_masks_that_do_not_fit_are_errors(model):
    fails(model, r"frame_attention_mask has shape \(1, 4\): expected \(1, 3\)", frame_attention_mask=torch.ones(1, 4))
    nothing = torch.zeros(1, 3, dtype=torch.long)
    fails(model, r"frame_attention_mask\[0\] is all 0: expected at least one frame", frame_attention_mask=nothing)


@pytest.mark.parametrize("name", ["pixel_values_videos", "trajectory_maps"])
def test_missing_inputs_are_named(model, name):
    fails(model, f"{name} is missing", **{name: None})


def test_without_a_mask_every_trajectory_counts(model):
    values = inputs()
    with torch.no_grad():
        expected = model(**values)
        del values["trajectory_attention_mask"]
        output = model(**values)
    assert output.token_mask.tolist() == [[True, True]]
    torch.testing.assert_close(output.pooler_output, expected.pooler_output)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size=0 is out of range"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1 is out of range"),
        ({"hidden_size": 100, "num_attention_heads": 16}, "hidden_size=100 must be a multiple"),
        (
            {"resampler_hidden_size": 36, "resampler_num_attention_heads": 1},
            "resampler_hidden_size=36 must be a multiple",
        ),
        ({"resampler_num_attention_heads": 12}, "resampler_num_attention_heads=12"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob=1.0 is out of range"),
        ({"pooling": "max"}, "pooling='max' is not a pooling: expected 'cls' or 'mean'"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_configurations_name_the_field_the_value_and_the_range(options, message):
    with pytest.raises(Exception, match=message):
        TrajViTConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature_init_value": 0.6}, "temperature_init_value=0.6 is out of range"),
        ({"projection_dim": 0}, "projection_dim=0"),
        ({"text_pooling": "last"}, "text_pooling='last'"),
    ],
)
def test_contrastive_configurations_name_the_field_the_value_and_the_range(options, message):
    with pytest.raises(Exception, match=message):
        TrajViTContrastiveConfig(**options)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name='huge' .*'tiny', 'small', 'base', 'large', 'large-wide'"):
        TrajViTConfig.from_name("huge")


def test_the_defaults_are_the_supplements_tables():
    config = TrajViTConfig()
    assert (config.image_size, config.num_frames, config.feature_size) == (224, 16, 56)
    backbone = config.backbone_config
    assert (backbone.layer_type, backbone.depths, backbone.hidden_sizes) == ("basic", [2] * 4, [64, 128, 256, 512])
    assert (config.resampler_hidden_size, config.resampler_num_layers, config.resampler_num_attention_heads) == (
        64,
        1,
        8,
    )
    transformer = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
    assert transformer == (1024, 24, 16, 4096)
    wide = TrajViTConfig.from_name("large-wide")
    assert (wide.resampler_hidden_size, wide.resampler_num_layers, wide.hidden_size) == (512, 4, 1024)
