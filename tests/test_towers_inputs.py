"""Wrong inputs and configurations of every vision tower are errors that name the argument and its value."""

import pytest
import torch
from tower_models import LOCALISING, TOWERS, make_config, make_tower, make_videos

from trajvit.modeling_trajvit import (
    TrajViTActionDetectionConfig,
    TrajViTContrastiveConfig,
    TrajViTVideoClassificationConfig,
)
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS, named_tower
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS

GRIDLESS = ("trajvit", "token_merge")


def fails(tower, message, **changes):
    with pytest.raises(ValueError, match=message), torch.no_grad():
        make_tower(tower)(**{**make_videos(), **changes})


@pytest.mark.parametrize("tower", TOWERS)
def test_missing_videos_are_named(tower):
    fails(tower, "pixel_values_videos is missing", pixel_values_videos=None)


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize(
    "shape",
    [(4, 3, 32, 32), (2, 3, 4, 32, 32), (2, 4, 3, 32, 36), (2, 4, 3, 20, 32), (2, 0, 3, 32, 32), (2, 4, 1, 32, 32)],
    ids=["no batch", "channels first", "odd width", "odd height", "no frame", "grey"],
)
def test_other_shapes_are_named(tower, shape):
    described = r"pixel_values_videos has shape \(" + ", ".join(map(str, shape)) + r"\): expected \(batch, frames, 3"
    fails(tower, described, pixel_values_videos=torch.zeros(shape))


@pytest.mark.parametrize("tower", TOWERS)
def test_raw_bytes_are_an_error(tower):
    raw = torch.zeros(2, 4, 3, 32, 32, dtype=torch.uint8)
    fails(tower, "dtype torch.uint8: expected normalised floating", pixel_values_videos=raw)


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_that_are_not_finite_are_an_error(tower, value):
    frames = make_videos()["pixel_values_videos"]
    frames[1, 2, 0, 5, 5] = value
    fails(tower, f"ranges from {value} to .*: expected finite", pixel_values_videos=frames)


@pytest.mark.parametrize("tower", TOWERS)
def test_frame_masks_that_do_not_fit_are_errors(tower):
    fails(tower, r"frame_attention_mask has shape \(2, 3\): expected \(2, 4\)", frame_attention_mask=torch.ones(2, 3))
    nothing = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    fails(tower, r"frame_attention_mask\[1\] is all 0: expected at least one frame", frame_attention_mask=nothing)


@pytest.mark.parametrize("tower", [tower for tower in TOWERS if tower not in GRIDLESS])
def test_frames_of_other_sizes_are_taken_and_trajectories_are_not_needed(tower):
    model = make_tower(tower)
    with torch.no_grad():
        output = model(pixel_values_videos=torch.randn(1, 3, 3, 16, 40))
        ignored = model(**{**make_videos(), "trajectory_maps": torch.full((1, 1), -5)})
        plain = model(pixel_values_videos=make_videos()["pixel_values_videos"])
    assert torch.isfinite(output.last_hidden_state).all()
    assert torch.equal(ignored.last_hidden_state, plain.last_hidden_state)


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size=0 is out of range"),
        ({"num_frames": 0}, "num_frames=0 is out of range"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1 is out of range"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "hidden_size=30 must be a multiple of num_attention_heads=4"),
        ({"attention_probs_dropout_prob": 1.0}, "attention_probs_dropout_prob=1.0 is out of range"),
        ({"pooling": "max"}, "pooling='max' is not a pooling"),
    ],
)
def test_configurations_name_the_field_the_value_and_the_range(tower, options, message):
    with pytest.raises(Exception, match=message):
        make_config(tower, **options)


@pytest.mark.parametrize("tower", [tower for tower in TOWERS if tower not in GRIDLESS])
def test_tubelets_must_fit_the_frame(tower):
    with pytest.raises(Exception, match="image_size=32 must be a multiple of patch_size=12"):
        make_config(tower, patch_size=12)
    with pytest.raises(Exception, match="tubelet_size=0 is out of range"):
        make_config(tower, tubelet_size=0)


@pytest.mark.parametrize("tower", TOWERS)
def test_an_unknown_name_lists_the_known_ones(tower):
    with pytest.raises(ValueError, match=r"name='huge' .*'tiny', 'small', 'base', 'large'"):
        VISION_TOWER_CONFIGS[tower].from_name("huge")


def test_both_registries_hold_the_towers_of_the_papers_tables():
    names = {"trajvit", "vit3d", "vivit_factorised", "token_learner", "rlt", "tome", "token_merge", "image_vit"}
    assert set(VISION_TOWER_CONFIGS) == set(VISION_TOWERS) == names
    for name in names:
        assert VISION_TOWER_CONFIGS[name].model_type == name
        assert VISION_TOWERS[name].config_class is VISION_TOWER_CONFIGS[name]


@pytest.mark.parametrize(
    "config_class", [TrajViTContrastiveConfig, TrajViTVideoClassificationConfig, TrajViTActionDetectionConfig]
)
@pytest.mark.parametrize("tower", LOCALISING)
def test_models_on_towers_are_named_by_tower_and_size(config_class, tower):
    vision = config_class.from_name("small", tower=tower).vision_config
    expected = VISION_TOWER_CONFIGS[tower].from_name("small")
    if config_class is TrajViTActionDetectionConfig:
        expected = expected.for_regions()
    assert vision.to_dict() == expected.to_dict()
    described = config_class(vision_config={"model_type": tower, "num_frames": 7}).vision_config
    assert (type(described), described.num_frames) == (VISION_TOWER_CONFIGS[tower], 7)


def test_unknown_towers_are_named():
    with pytest.raises(ValueError, match=r"tower='vit4d' is not a vision tower: expected one of \['trajvit', 'vit3d'"):
        named_tower("vit4d", "tiny")
    for config_class in (TrajViTContrastiveConfig, TrajViTVideoClassificationConfig, TrajViTActionDetectionConfig):
        with pytest.raises(ValueError, match=r"vision_config has model_type='vit4d': expected \['trajvit'"):
            config_class(vision_config={"model_type": "vit4d"})


def test_a_model_on_no_tower_in_particular_is_on_trajvit():
    assert TrajViTVideoClassificationConfig().vision_config.model_type == "trajvit"
    assert TrajViTVideoClassificationConfig(vision_config=make_config("rlt")).num_frames == 4
