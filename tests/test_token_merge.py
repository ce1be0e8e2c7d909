"""TokenMerge: soft pooling and boxes against loops, and TrajViT where every cell belongs to one token alone."""

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel
from trajvit.modeling_trajvit.configuration_token_merge import TokenMergeConfig
from trajvit.modeling_trajvit.learned_merging import LearnedMerging, soft_boxes, soft_pooling
from trajvit.modeling_trajvit.modeling_token_merge import TokenMergeModel
from trajvit.modeling_trajvit.trajectory_pooling import segment_areas, segment_boxes, trajectory_pooling

SMALL = {
    "image_size": 64,
    "feature_size": 16,
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "resampler_hidden_size": 16,
    "resampler_num_attention_heads": 2,
}


def make_model(**options):
    torch.manual_seed(0)
    return TokenMergeModel(TokenMergeConfig.from_name("tiny", **{**SMALL, "num_tokens": 12, **options})).eval()


def make_videos(batch_size=2, num_frames=5):
    return torch.randn(batch_size, num_frames, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def make_assignment(num_frames=2, height=5, width=7, num_tokens=4):
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(num_frames, height, width, num_tokens, dtype=torch.float64, generator=generator)
    features = torch.randn(num_frames, height, width, 3, dtype=torch.float64, generator=generator)
    return features, (2 * scores).softmax(-1)


def rectangles(size=16):
    """Labels of one frame: four filled rectangles that cover it, ids 1 to 4, and the same as one-hot masks."""
    labels = torch.ones(1, size, size, dtype=torch.long)
    labels[:, 5:, :3], labels[:, :5, 9:], labels[:, 5:, 3:] = 2, 3, 4
    return labels, nn.functional.one_hot(labels - 1, 4).double()


def test_soft_pooling_equals_a_loop_over_cells():
    features, assignment = make_assignment()
    pooled = soft_pooling(features, assignment)
    for frame in range(2):
        for token in range(4):
            total, mass = torch.zeros(3, dtype=torch.float64), 0.0
            for row in range(5):
                for column in range(7):
                    share = float(assignment[frame, row, column, token])
                    total, mass = total + share * features[frame, row, column], mass + share
            torch.testing.assert_close(pooled[frame, token], total / mass, rtol=0, atol=1e-12)


def test_soft_boxes_equal_moments_over_points_spread_in_cells():
    """Cells are sampled densely: mean -/+ sqrt(3) deviations of masks that are even inside each cell."""
    _, assignment = make_assignment()
    # Masks of different places and extents, some of which reach over the frame's edge.
    rows, columns = torch.arange(5).view(5, 1, 1), torch.arange(7).view(1, 7, 1)
    heights, widths = torch.tensor([1, 3, 2, 9]), torch.tensor([2, 1, 4, 9])
    assignment = assignment * ((rows - torch.tensor([1, 3, 2, 2])).abs() < heights)
    assignment = assignment * ((columns - torch.tensor([2, 5, 3, 3])).abs() < widths)
    boxes, fine = soft_boxes(assignment), 400
    assert 0.1 < (boxes[..., 2:] - boxes[..., :2]).min() < 0.5
    for frame in range(2):
        for token in range(4):
            mask = assignment[frame, :, :, token]
            for axis, (low, high) in enumerate(((0, 2), (1, 3))):
                shares = mask.sum(axis).repeat_interleave(fine)
                points = (torch.arange(len(shares), dtype=torch.float64) + 0.5) / len(shares)
                mean = (shares * points).sum() / shares.sum()
                deviation = ((shares * (points - mean) ** 2).sum() / shares.sum()) ** 0.5
                expected = torch.stack([mean - 3**0.5 * deviation, mean + 3**0.5 * deviation]).clamp(0, 1)
                torch.testing.assert_close(boxes[frame, token, [low, high]], expected, rtol=0, atol=1e-6)


def test_filled_rectangles_give_what_trajectories_give():
    labels, masks = rectangles()
    features = torch.randn(1, 16, 16, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = trajectory_pooling(features.permute(0, 3, 1, 2), labels, segment_areas(labels, 4))
    torch.testing.assert_close(soft_pooling(features, masks), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(soft_boxes(masks).float(), segment_boxes(labels, 4), rtol=0, atol=1e-6)


def test_a_token_without_a_cell_is_finite_and_so_are_its_gradients():
    features, masks = torch.randn(1, 16, 16, 3), rectangles()[1].float()
    masks = torch.cat([masks, torch.zeros(1, 16, 16, 1)], dim=-1).requires_grad_()
    pooled, boxes = soft_pooling(features, masks), soft_boxes(masks)
    assert (pooled[:, 4] == 0).all()
    assert torch.isfinite(boxes).all()
    (pooled.sum() + boxes.sum()).backward()
    assert torch.isfinite(masks.grad).all()


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    merging = LearnedMerging(3, 4, 1e-6).double()
    features, _ = make_assignment()
    names = [name for name, _ in merging.named_parameters()]

    def merged(*values):
        return torch.func.functional_call(merging, dict(zip(names, values[1:], strict=True)), (values[0],))

    values = [features, *(parameter.detach().clone() for parameter in merging.parameters())]
    assert torch.autograd.gradcheck(merged, [value.requires_grad_() for value in values])


def test_summed_maps_pool_to_what_pooled_stages_project_to():
    """Projection, resize and masked mean are all linear, so that TrajViT may pool first."""
    extractor = make_model().tokenizer.frame_features
    labels = rectangles()[0].expand(2, -1, -1)
    areas = segment_areas(labels, 4)
    frames = make_videos()[0, :2]
    with torch.no_grad():
        maps = extractor.summed(frames, 16)
        assert maps.shape == (2, 16, 16, 16)
        pooled = trajectory_pooling(maps.permute(0, 3, 1, 2), labels, areas)
        expected = extractor.project([trajectory_pooling(stage, labels, areas) for stage in extractor(frames)])
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)


def test_with_hard_masks_the_tokens_are_trajvit_s():
    """The same weights, and each cell's highest score as its trajectory: the same tokens, but for soft boxes."""
    merge = make_model(num_tokens=2)
    trajvit = TrajViTModel(TrajViTConfig.from_name("tiny", **SMALL)).eval()
    lacking = trajvit.load_state_dict(merge.state_dict(), strict=False)
    assert not lacking.missing_keys
    assert all(name.startswith("tokenizer.merging.") for name in lacking.unexpected_keys)
    videos, frame_mask = make_videos(), torch.tensor([[1] * 5, [1, 0, 1, 1, 0]])
    with torch.no_grad():
        for model in (merge, trajvit):
            model.tokenizer.position_mlp.weight.zero_()
        features = merge.tokenizer.frame_features.summed(videos.flatten(0, 1), 16)
        scores = merge.tokenizer.merging.scores
        scores.weight *= 1e4
        # Both tokens are to have cells in every frame.
        scores.bias -= scores(merge.tokenizer.merging.norm(features)).median(0).values.median(0).values.median(0).values
        labels = scores(merge.tokenizer.merging.norm(features)).argmax(-1).unflatten(0, (2, 5)) + 1
        assert all(set(frame.unique().tolist()) == {1, 2} for frame in labels.flatten(0, 1))
        tokens, mask = merge.tokenizer(videos, frame_mask)
        expected, expected_mask = trajvit.tokenizer(videos, labels, None, frame_mask)
    assert torch.equal(mask, expected_mask)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-4)
    assert (tokens[:, 0] - tokens[:, 1]).abs().max() > 1e-2


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_of_frames_change_nothing(chunk):
    videos = make_videos()
    with torch.no_grad():
        expected = make_model(frames_per_chunk=10)(videos).last_hidden_state
        output = make_model(frames_per_chunk=chunk)(videos).last_hidden_state
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)


def test_in_training_batch_norm_sees_all_frames_together():
    videos, statistics = make_videos(), []
    for chunk in (1, 100):
        model = make_model(frames_per_chunk=chunk).train()
        model(videos)
        statistics.append({name: value for name, value in model.named_buffers() if "running" in name})
    for name, value in statistics[0].items():
        torch.testing.assert_close(value, statistics[1][name], msg=name)


def test_tokens_differ_from_the_start():
    """Scores of unit variance: nearly equal tokens would learn nothing that one token could not."""
    model = make_model(num_tokens=64)
    assert model.tokenizer.merging.scores.weight.std().item() == pytest.approx(16**-0.5, rel=0.1)
    with torch.no_grad():
        tokens, _ = model.tokenizer(make_videos())
    spread = (tokens - tokens.mean(1, keepdim=True)).norm(dim=-1).mean() / tokens.norm(dim=-1).mean()
    assert spread > 0.1


def test_every_length_has_the_same_number_of_tokens():
    model = make_model()
    for num_frames in (1, 4, 9):
        with torch.no_grad():
            output = model(make_videos(1, num_frames))
        assert output.last_hidden_state.shape == (1, 13, 32)
        assert output.token_mask.all()


def test_it_has_trajvit_s_parameters_and_the_assignment_s():
    with torch.device("meta"):
        merge, trajvit = TokenMergeModel(TokenMergeConfig()), TrajViTModel(TrajViTConfig())
    # A layer norm of width 64 and a linear layer from 64 to 1,024.
    assert merge.config.num_tokens == 1024
    assert merge.num_parameters() == trajvit.num_parameters() + 2 * 64 + 64 * 1024 + 1024


def test_the_backbone_starts_from_a_checkpoint(tmp_path):
    torch.manual_seed(5)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 2, 1, 1], "layer_type": "basic"}
    source = ResNetForImageClassification(ResNetConfig(**sizes))
    source.save_pretrained(tmp_path)
    config = TokenMergeConfig.from_name("tiny", **SMALL, num_tokens=12, backbone_checkpoint=str(tmp_path))
    model = TokenMergeModel.from_pretrained_parts(config)
    assert type(model) is TokenMergeModel
    assert model.config.num_tokens == 12
    frames = make_videos()[0]
    with torch.no_grad():
        stages = model.eval().tokenizer.frame_features(frames)
        expected = source.resnet.eval()(frames, output_hidden_states=True).hidden_states[1:]
    for stage, reference in zip(stages, expected, strict=True):
        torch.testing.assert_close(stage, reference, rtol=1e-4, atol=1e-5)


def test_it_cannot_localise_and_says_so_before_training():
    model = make_model()
    with torch.no_grad():
        output = model(make_videos())
    with pytest.raises(ValueError, match="TokenMergeModel cannot localise"):
        model.region_features(output, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]] * 2), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="model_type='token_merge' cannot localise"):
        model.config.for_regions()


def test_a_configuration_without_tokens_is_an_error():
    with pytest.raises(Exception, match="num_tokens=0 is out of range"):
        TokenMergeConfig(num_tokens=0)
