"""Low-rank adapters: what is trained, that merging keeps the outputs, and what names nothing."""

import pytest
import torch
from safetensors import safe_open
from tiny_run import TinyRun, make_inputs, make_model, make_run_config
from torch import nn
from tower_models import TOWERS

from trajvit.modeling_trajvit import TrajViTForContrastive
from trajvit.training.acceleration import full_state_dict
from trajvit.training.checkpoints import CheckpointFolder
from trajvit.training.config_file import ConfigError
from trajvit.training.lora import add_lora, attention_projections, merge_lora
from trajvit.training.publishing import plain_model
from trajvit.training.run_config import LoraSettings

HEADS = 16 * 32 + 16, 16 * 32 + 16, 1


def trained_names(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_adapters_and_named_modules_alone_are_trained():
    adapted = add_lora(make_model(), LoraSettings(rank=4))
    # Two vision layers and one of text, four projections of 32 x 32 each: 4 * 32 numbers in both factors.
    adapters = 3 * 4 * 2 * 4 * 32
    trained = [parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad]
    assert sum(trained) == adapters + sum(HEADS)
    others = {name for name in trained_names(adapted) if "lora_" not in name}
    assert {name.removeprefix("base_model.model.") for name in others} == {
        "video_projection.weight",
        "video_projection.bias",
        "text_projection.weight",
        "text_projection.bias",
        "temperature",
    }


@pytest.mark.parametrize("tower", TOWERS)
def test_attention_of_both_towers_is_found_in_every_tower(tower):
    model = make_model(tower)
    names = attention_projections(model)
    layers = [name for name in names if name.startswith("vision_model.encoder") or ".layers." in name]
    assert len([name for name in names if name.startswith("text_model.")]) == 4
    assert len(layers) >= 8
    assert {name.rsplit(".", 1)[-1] for name in layers} >= {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert not [name for name in names if "mlp" in name or "intermediate" in name or "projection" in name]
    assert all(isinstance(model.get_submodule(name), nn.Linear) for name in names)


def train_a_little(folder, **changes):
    run = TinyRun.start(folder, model=add_lora(make_model(), LoraSettings(rank=4, **changes)))
    run.take_steps(3)
    return run


def outputs_of(model):
    with torch.no_grad():
        return model.eval()(**make_inputs(0)).logits_per_video


def test_a_run_changes_what_is_trained_and_nothing_else(tmp_path):
    before = add_lora(make_model(), LoraSettings(rank=4)).state_dict()
    run = train_a_little(tmp_path)
    after = run.model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    # The first factor of an adapter and the second, which starts from zeros.
    assert {name for name in changed if "lora_B" in name} == {name for name in after if "lora_B" in name}
    assert changed <= trained_names(run.model)
    assert {name for name in trained_names(run.model) if "lora_" not in name} <= changed


def test_merging_keeps_the_outputs_and_gives_a_plain_model(tmp_path):
    run = train_a_little(tmp_path)
    expected = outputs_of(run.model)
    assert not torch.allclose(expected, outputs_of(make_model()), atol=1e-2)
    merged = merge_lora(run.model)
    assert type(merged) is TrajViTForContrastive
    assert merged.state_dict().keys() == make_model().state_dict().keys()
    assert all(parameter.requires_grad for parameter in merged.parameters())
    torch.testing.assert_close(outputs_of(merged), expected, rtol=0, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    with safe_open(tmp_path / "merged" / "model.safetensors", "pt") as weights:
        assert not [name for name in weights.keys() if "lora" in name or "base_" in name]  # noqa: SIM118
    again = TrajViTForContrastive.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(outputs_of(again), expected, rtol=0, atol=1e-5)


def test_a_plain_model_is_made_beside_the_trained_one(tmp_path):
    run = train_a_little(tmp_path)
    config = make_run_config(tmp_path, lora={"rank": 4}, model={"checkpoint": "some/model"})
    expected = outputs_of(run.model)
    states = torch.get_rng_state()
    plain = plain_model(run.model, full_state_dict(run.accelerator, run.model), config)
    assert torch.equal(torch.get_rng_state(), states)
    assert type(plain) is TrajViTForContrastive
    torch.testing.assert_close(outputs_of(plain), expected, rtol=0, atol=1e-5)
    assert torch.equal(outputs_of(run.model), expected)
    assert [name for name in run.model.state_dict() if "lora_" in name]


def test_adapters_resume(tmp_path):
    run = train_a_little(tmp_path, dropout=0.2)
    checkpoints = CheckpointFolder(tmp_path, 1)
    path = checkpoints.save(run.accelerator, run.state)
    losses = run.take_steps(2)
    again = TinyRun.start(tmp_path, model=add_lora(make_model(seed=3), LoraSettings(rank=4, dropout=0.2)))
    again.state = checkpoints.load(again.accelerator, path)
    assert again.take_steps(2) == losses


def test_targets_and_modules_can_be_chosen():
    by_list = add_lora(make_model(), LoraSettings(target_modules=["fc1"], train=["temperature"]))
    by_pattern = add_lora(make_model(), LoraSettings(target_modules=r".*vision.*\.fc1", train=["temperature"]))
    names = trained_names(by_list)
    assert names == trained_names(by_pattern)
    assert len(names) == 2 * 2 + 1
    assert all("fc1.lora_" in name or name.endswith("temperature") for name in names)
    whole = add_lora(make_model(), LoraSettings(train=["vision_model.encoder.norm"]))
    assert len([name for name in trained_names(whole) if "lora_" not in name]) == 2


def test_names_of_nothing_are_errors():
    with pytest.raises(ConfigError, match=r"lora\.target_modules=\['nothing'\]"):
        add_lora(make_model(), LoraSettings(target_modules=["nothing"]))
    with pytest.raises(ConfigError, match=r"lora\.train='projection' is not in the model.*'video_projection'"):
        add_lora(make_model(), LoraSettings(train=["projection"]))
