"""Saving and loading: round trips, Auto classes, code that travels with weights, parts that start from elsewhere."""

import json
import os
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    ResNetConfig,
    ResNetForImageClassification,
)
from transformers.dynamic_module_utils import get_relative_import_files, get_relative_imports
from without_trajvit import run_without_trajvit

from trajvit.modeling_trajvit import (
    TrajViTConfig,
    TrajViTContrastiveConfig,
    TrajViTForContrastive,
    TrajViTModel,
    register_auto_classes,
)

SMALL = {"image_size": 64, "feature_size": 16, "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 128}
BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_auto_classes()


def make_inputs():
    generator = torch.Generator().manual_seed(1)
    video = {
        "pixel_values_videos": torch.randn(2, 3, 3, 64, 64, generator=generator),
        "trajectory_maps": torch.randint(0, 5, (2, 3, 16, 16), generator=generator),
        "trajectory_attention_mask": torch.ones(2, 4, dtype=torch.long),
    }
    return video, {**video, "input_ids": torch.randint(1, 99, (2, 6), generator=generator)}


def make_contrastive():
    torch.manual_seed(0)
    vision = TrajViTConfig.from_name("tiny", **SMALL)
    return TrajViTForContrastive(
        TrajViTContrastiveConfig(vision_config=vision, text_config={"model_type": "bert", **BERT})
    ).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A contrastive checkpoint, its vision tower's own, and what both models answer."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = make_contrastive()
    video, pair = make_inputs()
    # Statistics that differ from their initial values, or a loader that dropped buffers would pass.
    model.train()
    model(**pair)
    model.eval()
    model.save_pretrained(folder / "contrastive")
    model.vision_model.save_pretrained(folder / "vision")
    with torch.no_grad():
        answers = model(**pair).logits_per_video, model.vision_model(**video).last_hidden_state
    torch.save({"video": video, "pair": pair, "answers": answers}, folder / "expected.pt")
    return folder, answers


def test_configurations_survive_a_round_trip(tmp_path):
    config = TrajViTConfig.from_name("large-wide", pooling="mean", backbone_checkpoint="microsoft/resnet-18")
    config.save_pretrained(tmp_path)
    again = TrajViTConfig.from_pretrained(tmp_path)
    assert {**again.to_dict(), "_name_or_path": ""} == {**config.to_dict(), "_name_or_path": ""}


def test_checkpoints_are_safetensors_alone(saved):
    folder, _ = saved
    names = {path.name for path in (folder / "contrastive").iterdir()}
    assert "model.safetensors" in names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    with safe_open(folder / "contrastive" / "model.safetensors", "pt") as weights:
        assert weights.get_tensor("temperature").shape == (1,)


def test_a_contrastive_round_trip_keeps_every_output(saved):
    folder, (logits, _) = saved
    for loader in (TrajViTForContrastive, AutoModel):
        model = loader.from_pretrained(folder / "contrastive").eval()
        assert type(model) is TrajViTForContrastive
        with torch.no_grad():
            assert torch.equal(model(**make_inputs()[1]).logits_per_video, logits)


def test_a_vision_round_trip_keeps_every_output(saved):
    folder, (_, hidden) = saved
    for loader in (TrajViTModel, AutoModel):
        model = loader.from_pretrained(folder / "vision").eval()
        assert type(model) is TrajViTModel
        with torch.no_grad():
            assert torch.equal(model(**make_inputs()[0]).last_hidden_state, hidden)


def test_a_contrastive_checkpoint_opens_as_its_vision_tower(saved):
    folder, (_, hidden) = saved
    model, info = TrajViTModel.from_pretrained(folder / "contrastive", output_loading_info=True)
    assert not info["missing_keys"]
    with torch.no_grad():
        assert torch.equal(model.eval()(**make_inputs()[0]).last_hidden_state, hidden)


def test_auto_config_knows_both(saved):
    folder, _ = saved
    assert type(AutoConfig.from_pretrained(folder / "vision")) is TrajViTConfig
    config = AutoConfig.from_pretrained(folder / "contrastive")
    assert type(config) is TrajViTContrastiveConfig
    assert type(config.vision_config) is TrajViTConfig
    assert type(config.text_config) is BertConfig


def test_loading_in_half_precision_keeps_the_choice_of_attention(saved):
    folder, (_, hidden) = saved
    model = TrajViTModel.from_pretrained(folder / "vision", dtype=torch.bfloat16, attn_implementation="eager").eval()
    assert model.config._attn_implementation == "eager"
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        output = model(**make_inputs()[0]).last_hidden_state
    assert torch.nn.functional.cosine_similarity(output.float(), hidden, dim=-1).min() > 0.99


def test_every_weight_and_buffer_is_initialised():
    """Parameters made by `torch.empty` hold whatever was in memory unless initialisation names them."""
    model = make_contrastive()
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all(), name
        assert tensor.float().abs().max() < 10, name
    again = make_contrastive()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


LOAD_ELSEWHERE = """
from transformers import AutoConfig, AutoModel

folder = sys.argv[1]
data = torch.load(f"{folder}/expected.pt")
for name, inputs, answer, field in (
    ("contrastive", data["pair"], data["answers"][0], "logits_per_video"),
    ("vision", data["video"], data["answers"][1], "last_hidden_state"),
):
    assert AutoConfig.from_pretrained(f"{folder}/{name}", trust_remote_code=True).auto_map["AutoModel"]
    model = AutoModel.from_pretrained(f"{folder}/{name}", trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules.")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs)[field], answer, rtol=0, atol=1e-5)
    model.save_pretrained(f"{folder}/{name}-again")
    AutoModel.from_pretrained(f"{folder}/{name}-again", trust_remote_code=True)
print("loaded elsewhere")
"""


def test_checkpoints_carry_their_code_to_where_trajvit_is_not_installed(saved, tmp_path):
    folder, _ = saved
    result = run_without_trajvit(LOAD_ELSEWHERE, folder, folder=tmp_path)
    assert result.stdout.strip().endswith("loaded elsewhere"), result.stderr[-3000:]


@pytest.mark.parametrize("entry", [TrajViTConfig, TrajViTModel, TrajViTContrastiveConfig, TrajViTForContrastive])
def test_a_checkpoints_main_file_names_every_module_it_needs(entry):
    """Loaders of several transformers releases do not look further than this file."""
    main_file = sys.modules[entry.__module__].__file__
    named = {f"{name}.py" for name in get_relative_imports(main_file)}
    needed = {os.path.basename(path) for path in get_relative_import_files(main_file)}
    assert named == needed


def test_checkpoints_name_their_classes(saved):
    folder, _ = saved
    auto_map = json.loads((folder / "contrastive" / "config.json").read_text())["auto_map"]
    assert auto_map == {
        "AutoConfig": "configuration_trajvit_contrastive.TrajViTContrastiveConfig",
        "AutoModel": "modeling_trajvit_contrastive.TrajViTForContrastive",
    }


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A ResNet classifier and a BERT language model with random weights, saved as on the Hub."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(5)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 2, 1, 1], "layer_type": "basic"}
    ResNetForImageClassification(ResNetConfig(**sizes)).save_pretrained(folder / "resnet")
    BertForMaskedLM(BertConfig(**{**BERT, "hidden_size": 48})).save_pretrained(folder / "bert")
    return folder


def test_the_backbone_starts_from_a_checkpoint(parts):
    config = TrajViTConfig.from_name("tiny", **SMALL, backbone_checkpoint=str(parts / "resnet"))
    model = TrajViTModel.from_pretrained_parts(config)
    source = ResNetForImageClassification.from_pretrained(parts / "resnet").resnet.eval()
    assert model.config.backbone_config.hidden_sizes == [8, 12, 16, 24]
    assert config.backbone_config.hidden_sizes == [16, 32, 64, 128]
    frames = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        stages = model.eval().tokenizer.frame_features(frames)
        expected = source(frames, output_hidden_states=True).hidden_states[1:]
    for stage, reference in zip(stages, expected, strict=True):
        torch.testing.assert_close(stage, reference, rtol=1e-4, atol=1e-5)


def test_the_text_tower_starts_from_a_checkpoint(parts):
    vision = TrajViTConfig.from_name("tiny", **SMALL, backbone_checkpoint=str(parts / "resnet"))
    config = TrajViTContrastiveConfig(vision_config=vision, text_checkpoint=str(parts / "bert"))
    model = TrajViTForContrastive.from_pretrained_parts(config).eval()
    assert model.config.text_config.hidden_size == 48
    assert model.config.vision_config.backbone_config.hidden_sizes == [8, 12, 16, 24]
    source = BertForMaskedLM.from_pretrained(parts / "bert").bert.eval()
    _, pair = make_inputs()
    with torch.no_grad():
        output = model(**pair)
        expected = source(pair["input_ids"]).last_hidden_state
    torch.testing.assert_close(output.text_model_output.last_hidden_state, expected)


def test_parts_survive_a_round_trip_without_their_checkpoints(parts, tmp_path):
    vision = TrajViTConfig.from_name("tiny", **SMALL, backbone_checkpoint=str(parts / "resnet"))
    config = TrajViTContrastiveConfig(vision_config=vision, text_checkpoint=str(parts / "bert"))
    model = TrajViTForContrastive.from_pretrained_parts(config).eval()
    model.config.text_checkpoint = model.config.vision_config.backbone_checkpoint = "no/such-model"
    model.save_pretrained(tmp_path)
    again = TrajViTForContrastive.from_pretrained(tmp_path).eval()
    _, pair = make_inputs()
    with torch.no_grad():
        assert torch.equal(again(**pair).logits_per_video, model(**pair).logits_per_video)


def test_the_default_text_tower_is_bert_base():
    config = TrajViTContrastiveConfig()
    assert config.text_checkpoint == "google-bert/bert-base-uncased"
    text = config.text_config
    assert (text.model_type, text.hidden_size, text.num_hidden_layers, text.vocab_size) == ("bert", 768, 12, 30522)


def test_a_checkpoint_that_lacks_weights_is_an_error(parts, tmp_path):
    state = ResNetForImageClassification.from_pretrained(parts / "resnet").state_dict()
    del state["resnet.encoder.stages.3.layers.0.layer.0.convolution.weight"]
    (tmp_path / "config.json").write_text((parts / "resnet" / "config.json").read_text())
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = TrajViTConfig.from_name("tiny", **SMALL, backbone_checkpoint=str(tmp_path))
    with pytest.raises(ValueError, match=r"lacks .*stages.3.layers.0.layer.0.convolution.weight"):
        TrajViTModel.from_pretrained_parts(config)


def test_naming_no_checkpoint_is_an_error():
    with pytest.raises(ValueError, match="backbone_checkpoint=None"):
        TrajViTModel.from_pretrained_parts(TrajViTConfig.from_name("tiny"))
    with pytest.raises(ValueError, match="text_checkpoint=None"):
        TrajViTForContrastive.from_pretrained_parts(TrajViTContrastiveConfig(text_checkpoint=None))
