"""Every vision tower, and the models on one, compile to one graph at fixed shapes."""

import pytest
import torch
from tower_models import TOWERS, make_config, make_tower, make_videos

from trajvit.modeling_trajvit import (
    TrajViTActionDetectionConfig,
    TrajViTForActionDetection,
    TrajViTForVideoClassification,
    TrajViTVideoClassificationConfig,
)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def compare(model, batches, values):
    """What `values` picks from the outputs agrees for all batches, by one graph."""
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        for inputs in batches:
            expected, output = model(**inputs), compiled(**inputs)
            torch.testing.assert_close(values(output), values(expected), rtol=0, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


# TrajViT's is in test_modeling_compile.py.
@pytest.mark.parametrize("tower", [tower for tower in TOWERS if tower != "trajvit"])
def test_one_graph_for_fixed_shapes_gives_the_same_output(tower):
    """Whatever the contents: other tubelets stand still, other trajectories and frames are there.

    Compiled code may pad to more tokens than there are; those that are there agree.
    """
    masks = torch.tensor([[[1, 1, 1, 1, 1], [1, 1, 0, 1, 1]], [[0, 1, 1, 0, 0], [1, 1, 1, 1, 1]]])
    batches = [{**make_videos(5, seed=seed), "frame_attention_mask": mask} for seed, mask in enumerate(masks)]
    compare(make_tower(tower), batches, lambda output: output.last_hidden_state[output.token_mask])


@pytest.mark.parametrize("tower", ["rlt"])
def test_a_compiled_classifier_gives_the_same_logits(tower):
    torch.manual_seed(0)
    config = TrajViTVideoClassificationConfig(vision_config=make_config(tower), num_labels=3)
    batches = [make_videos(seed=seed) for seed in range(2)]
    compare(TrajViTForVideoClassification(config).eval(), batches, lambda output: output.logits)


@pytest.mark.parametrize("tower", ["vivit_factorised", "token_learner"])
def test_a_compiled_detector_gives_the_same_logits(tower):
    torch.manual_seed(0)
    config = TrajViTActionDetectionConfig(vision_config=make_config(tower), num_labels=3)
    boxes = torch.tensor([[0.0, 0.0, 0.6, 0.7], [0.5, 0.4, 1.0, 1.0]]).expand(2, -1, -1)
    masks = torch.tensor([[[1, 1], [1, 0]], [[0, 0], [1, 1]]])
    batches = [
        {**make_videos(seed=seed), "boxes": boxes, "frame_index": torch.tensor([3, seed]), "box_attention_mask": mask}
        for seed, mask in enumerate(masks)
    ]
    compare(TrajViTForActionDetection(config).eval(), batches, lambda output: output.logits)
