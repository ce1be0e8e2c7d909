"""Checkpoints of every vision tower and of the models on one: round trips, Auto classes, code that travels along."""

import itertools
import json
import os
import sys

import pytest
import torch
from tower_models import LOCALISING, TEXT, TOWERS, make_config, make_tower, make_videos
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor
from transformers.dynamic_module_utils import get_relative_import_files, get_relative_imports
from without_trajvit import run_without_trajvit

from trajvit import TrajViTVideoProcessor
from trajvit.modeling_trajvit import (
    TrajViTActionDetectionConfig,
    TrajViTContrastiveConfig,
    TrajViTForActionDetection,
    TrajViTForContrastive,
    TrajViTForVideoClassification,
    TrajViTVideoClassificationConfig,
    configuration_classes,
)
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS

MODELS_ON_TOWERS = [TrajViTForContrastive, TrajViTForVideoClassification, TrajViTForActionDetection]


def make_contrastive(tower):
    torch.manual_seed(1)
    config = TrajViTContrastiveConfig(vision_config=make_config(tower), text_config=TEXT)
    return TrajViTForContrastive(config).eval()


def make_classifier(tower):
    torch.manual_seed(2)
    config = TrajViTVideoClassificationConfig(
        vision_config=make_config(tower), id2label={0: "run", 1: "jump", 2: "eat"}
    )
    return TrajViTForVideoClassification(config).eval()


def make_detector(tower):
    torch.manual_seed(3)
    config = TrajViTActionDetectionConfig(vision_config=make_config(tower), num_labels=4)
    return TrajViTForActionDetection(config).eval()


@pytest.mark.parametrize("tower", TOWERS)
def test_a_round_trip_keeps_every_output(tower, tmp_path):
    model = make_tower(tower)
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is VISION_TOWER_CONFIGS[tower]
    for loader in (VISION_TOWERS[tower], AutoModel):
        again = loader.from_pretrained(tmp_path).eval()
        assert type(again) is VISION_TOWERS[tower]
        with torch.no_grad():
            assert torch.equal(again(**make_videos()).last_hidden_state, model(**make_videos()).last_hidden_state)
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    config_name, model_name = type(model.config).__name__, type(model).__name__
    assert auto_map["AutoConfig"].startswith("configuration_")
    assert auto_map["AutoConfig"].endswith(f".{config_name}")
    assert auto_map["AutoModel"].startswith("modeling_")
    assert auto_map["AutoModel"].endswith(f".{model_name}")


@pytest.mark.parametrize(
    ("make", "tower"),
    [
        *itertools.product([make_contrastive, make_classifier], TOWERS),
        *itertools.product([make_detector], LOCALISING),
    ],
)
def test_a_model_on_a_tower_opens_whole_and_as_its_tower_alone(make, tower, tmp_path):
    """The tower alone lacks nothing, and nothing that it leaves behind is worth a warning."""
    model = make(tower)
    model.save_pretrained(tmp_path)
    whole = AutoModel.from_pretrained(tmp_path)
    assert type(whole) is type(model)
    assert type(whole.config.vision_config) is VISION_TOWER_CONFIGS[tower]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    alone, info = VISION_TOWERS[tower].from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        expected = model.vision_model(**make_videos()).last_hidden_state
        assert torch.equal(alone.eval()(**make_videos()).last_hidden_state, expected)


@pytest.mark.parametrize("opened_by", ["AutoModel", "AutoModelForVideoClassification"])
def test_a_classifier_opens_by_the_auto_class_of_its_task(opened_by, tmp_path, monkeypatch):
    """Each Auto class that opens code from a checkpoint puts its own name here, and may be the one last used."""
    monkeypatch.setattr(TrajViTForVideoClassification, "_auto_class", opened_by)
    model = make_classifier("rlt")
    model.save_pretrained(tmp_path)
    again = AutoModelForVideoClassification.from_pretrained(tmp_path).eval()
    assert type(again) is TrajViTForVideoClassification
    assert again.config.id2label == {0: "run", 1: "jump", 2: "eat"}
    with torch.no_grad():
        assert torch.equal(again(**make_videos()).logits, model(**make_videos()).logits)
    name = "modeling_trajvit_video_classification.TrajViTForVideoClassification"
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert auto_map == {
        "AutoConfig": "configuration_trajvit_video_classification.TrajViTVideoClassificationConfig",
        "AutoModel": name,
        "AutoModelForVideoClassification": name,
    }


@pytest.mark.parametrize("config_class", configuration_classes(), ids=lambda config_class: config_class.model_type)
def test_the_configuration_alone_tells_the_video_processor(config_class, tmp_path):
    TrajViTVideoProcessor(num_frames=5).save_pretrained(tmp_path)
    (path,) = tmp_path.glob("*.json")
    settings = json.loads(path.read_text())
    del settings["video_processor_type"]
    path.write_text(json.dumps(settings))
    config_class().save_pretrained(tmp_path)
    processor = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(processor) is TrajViTVideoProcessor
    assert processor.num_frames == 5


@pytest.mark.parametrize(
    "entry", [*VISION_TOWERS.values(), *VISION_TOWER_CONFIGS.values(), *MODELS_ON_TOWERS, *configuration_classes()[-3:]]
)
def test_a_checkpoints_main_file_names_every_module_it_needs(entry):
    """Loaders of several transformers releases do not look further than this file."""
    main_file = sys.modules[entry.__module__].__file__
    named = {f"{name}.py" for name in get_relative_imports(main_file)}
    needed = {os.path.basename(path) for path in get_relative_import_files(main_file)}
    assert named == needed


LOAD_ELSEWHERE = """
import transformers

folder = sys.argv[1]
for name, auto_class, inputs, field, answer in torch.load(f"{folder}/expected.pt"):
    loader = getattr(transformers, auto_class)
    model = loader.from_pretrained(f"{folder}/{name}", trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs)[field], answer, rtol=0, atol=1e-5)
    model.save_pretrained(f"{folder}/{name}-again")
    loader.from_pretrained(f"{folder}/{name}-again", trust_remote_code=True)
print("loaded elsewhere")
"""


def test_checkpoints_carry_their_code_to_where_trajvit_is_not_installed(tmp_path):
    videos = make_videos()
    boxes = {"boxes": torch.tensor([[[0.0, 0.0, 0.5, 0.5]]] * 2), "frame_index": torch.tensor([0, 1])}
    expected = []
    for name, model, auto_class, inputs, field in (
        ("tower", make_tower("tome"), "AutoModel", videos, "last_hidden_state"),
        ("classifier", make_classifier("token_learner"), "AutoModelForVideoClassification", videos, "logits"),
        ("classifier", make_classifier("token_learner"), "AutoModel", videos, "logits"),
        ("detector", make_detector("vivit_factorised"), "AutoModel", {**videos, **boxes}, "logits"),
        (
            "contrastive",
            make_contrastive("token_merge"),
            "AutoModel",
            {**videos, "input_ids": torch.arange(1, 9).view(2, 4)},
            "logits_per_video",
        ),
    ):
        model.save_pretrained(tmp_path / name)
        with torch.no_grad():
            expected.append((name, auto_class, inputs, field, model(**inputs)[field]))
    torch.save(expected, tmp_path / "expected.pt")
    result = run_without_trajvit(LOAD_ELSEWHERE, tmp_path, folder=tmp_path)
    assert result.stdout.strip().endswith("loaded elsewhere"), result.stderr[-3000:]
