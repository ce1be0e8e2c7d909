"""A trajectory alone: what the model makes of a video in which nothing else is followed."""

import pytest
import torch
from evaluated_models import make_contrastive
from tower_models import make_videos


def test_each_trajectory_is_as_in_a_video_without_the_others():
    model, inputs = make_contrastive("trajvit"), make_videos()
    with torch.no_grad():
        features, mask = model.get_trajectory_features(**inputs)
    assert mask.tolist() == [[True] * 5, [True] * 4 + [False]]
    assert features.shape == (2, 5, 16)
    assert not features[1, 4].any()
    for number in range(1, 6):
        maps = (inputs["trajectory_maps"] == number).long()
        with torch.no_grad():
            alone = model.get_video_features(
                inputs["pixel_values_videos"], maps, torch.ones(2, 1, dtype=torch.long)
            ).pooler_output
        for video in range(2):
            if mask[video, number - 1]:
                assert torch.allclose(features[video, number - 1], alone[video], atol=1e-5)
    assert (features[0, 0] - features[0, 1]).abs().max() > 1e-3


def test_padding_is_no_trajectory():
    model, inputs = make_contrastive("trajvit"), make_videos()
    padded = {**inputs, "trajectory_attention_mask": torch.ones(2, 7, dtype=torch.long)}
    padded["trajectory_attention_mask"][0, 1] = 0
    with torch.no_grad():
        features, mask = model.get_trajectory_features(**padded)
        expected, _ = model.get_trajectory_features(**inputs)
    assert mask.sum(1).tolist() == [4, 4]
    assert torch.allclose(features[0, [0, 2, 3, 4]], expected[0, [0, 2, 3, 4]], atol=1e-5)


def test_other_towers_have_none():
    with pytest.raises(ValueError, match="model_type='rlt' has no token for each trajectory"):
        make_contrastive("rlt").get_trajectory_features(**make_videos())
