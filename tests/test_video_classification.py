"""Video classification on any vision tower: logits, losses, frozen towers, parts from checkpoints, the pipeline."""

import json

import numpy as np
import pytest
import torch
from numbered_videos import write_video
from safetensors.torch import load_file, save_file
from torch import nn
from tower_models import TEXT, TOWERS, make_config, make_tower, make_videos
from transformers import AutoModelForVideoClassification, pipeline

from trajvit import TrajViTVideoProcessor
from trajvit.modeling_trajvit import (
    AttentiveProbe,
    TrajViTActionDetectionConfig,
    TrajViTContrastiveConfig,
    TrajViTForActionDetection,
    TrajViTForContrastive,
    TrajViTForVideoClassification,
    TrajViTVideoClassificationConfig,
)


def make_model(tower="vit3d", num_labels=3, **options):
    torch.manual_seed(0)
    options = {"initializer_range": 0.2, "num_labels": num_labels, **options}
    config = TrajViTVideoClassificationConfig(vision_config=make_config(tower), **options)
    return TrajViTForVideoClassification(config).eval()


@pytest.mark.parametrize("tower", TOWERS)
def test_a_probe_on_stored_features_gives_the_models_logits(tower):
    """A probe may be trained on features alone; its weights are the model's."""
    model, inputs = make_model(tower), make_videos()
    probe = AttentiveProbe(32, 3)
    probe.load_state_dict(model.probe.state_dict())
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0]])
    with torch.no_grad():
        logits = model(**inputs, frame_attention_mask=mask).logits
        for video in range(2):
            alone = {name: value[video : video + 1] for name, value in inputs.items()}
            stored = model.vision_model(**alone, frame_attention_mask=mask[video : video + 1])
            tokens = stored.last_hidden_state[stored.token_mask].unsqueeze(0)
            torch.testing.assert_close(probe.eval()(tokens)[0], logits[video], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("num_labels", "problem_type", "labels", "criterion"),
    [
        (3, None, torch.tensor([2, 0]), nn.functional.cross_entropy),
        (3, "single_label_classification", torch.tensor([2, 0]), nn.functional.cross_entropy),
        (
            3,
            None,
            torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
            nn.functional.binary_cross_entropy_with_logits,
        ),
        (3, "regression", torch.randn(2, 3), nn.functional.mse_loss),
        (1, None, torch.tensor([[0.7], [-2.0]]), nn.functional.mse_loss),
    ],
)
def test_the_loss_follows_the_problem(num_labels, problem_type, labels, criterion):
    model = make_model(num_labels=num_labels, problem_type=problem_type)
    output = model(**make_videos(), labels=labels)
    assert output.logits.shape == (2, num_labels)
    torch.testing.assert_close(output.loss, criterion(output.logits, labels))
    assert model(**make_videos()).loss is None


def test_what_the_tower_records_is_returned():
    model = make_model()
    model.set_attn_implementation("eager")
    output = model(**make_videos(), output_hidden_states=True, output_attentions=True)
    assert [states.shape for states in output.hidden_states] == [(2, 33, 32)] * 3
    assert [weights.shape for weights in output.attentions] == [(2, 2, 33, 33)] * 2
    loss, logits = model(**make_videos(), labels=torch.tensor([0, 1]), return_dict=False)
    assert logits.shape == (2, 3)
    assert loss.ndim == 0


def test_a_frozen_tower_stays_as_it_is_while_the_probe_learns():
    """TrajViT's batch norms would move their statistics in training mode."""
    model = make_model("trajvit")
    model.vision_model.requires_grad_(False)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.vision_model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(20):
        loss = model(**make_videos(), labels=torch.tensor([2, 0])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.train()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    for name, tensor in model.vision_model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert model.probe.training
    assert not model.vision_model.training
    model.vision_model.requires_grad_(True)
    assert model.train().vision_model.training


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A tower's own checkpoint, and one of each model on it, all with weights of their own."""
    folder = tmp_path_factory.mktemp("parts")
    vision = make_config("vit3d")
    models = {
        "tower": make_tower("vit3d"),
        "contrastive": TrajViTForContrastive(TrajViTContrastiveConfig(vision_config=vision, text_config=TEXT)),
        "classifier": TrajViTForVideoClassification(TrajViTVideoClassificationConfig(vision_config=vision)),
        "detector": TrajViTForActionDetection(TrajViTActionDetectionConfig(vision_config=vision, num_labels=7)),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return folder, {name: getattr(model, "vision_model", model).state_dict() for name, model in models.items()}


@pytest.mark.parametrize("name", ["tower", "contrastive", "classifier", "detector"])
def test_the_tower_starts_from_a_checkpoint(checkpoints, name):
    folder, weights = checkpoints
    config = TrajViTVideoClassificationConfig(vision_checkpoint=str(folder / name), id2label={0: "a", 1: "b", 2: "c"})
    model = TrajViTForVideoClassification.from_pretrained_parts(config)
    assert config.vision_config.model_type == "trajvit"
    assert model.config.vision_config.model_type == "vit3d"
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert model.probe.classifier.weight.shape == (3, 32)
    for key, tensor in model.vision_model.state_dict().items():
        assert torch.equal(tensor, weights[name][key]), key


def test_a_half_precision_checkpoint_starts_a_model_in_full_precision(checkpoints, tmp_path):
    make_tower("rlt").to(torch.bfloat16).save_pretrained(tmp_path)
    config = TrajViTVideoClassificationConfig(vision_checkpoint=str(tmp_path))
    model = TrajViTForVideoClassification.from_pretrained_parts(config)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_checkpoint_that_lacks_weights_is_an_error(checkpoints, tmp_path):
    folder, _ = checkpoints
    (tmp_path / "config.json").write_text((folder / "contrastive" / "config.json").read_text())
    state = load_file(folder / "contrastive" / "model.safetensors")
    del state["vision_model.encoder.layers.1.mlp.fc1.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = TrajViTVideoClassificationConfig(vision_checkpoint=str(tmp_path))
    with pytest.raises(ValueError, match=r"vision_checkpoint=.* lacks \['encoder.layers.1.mlp.fc1.weight'\]"):
        TrajViTForVideoClassification.from_pretrained_parts(config)


def test_naming_no_checkpoint_is_an_error():
    with pytest.raises(ValueError, match="vision_checkpoint=None: expected a Hub id or a folder"):
        TrajViTForVideoClassification.from_pretrained_parts(TrajViTVideoClassificationConfig())


def test_a_tower_of_transformers_is_probed_too():
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "crop_size": 32, "patch_size": 8}
    predictor = {"pred_hidden_size": 32, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}
    vision = {"model_type": "vjepa2", **sizes, **predictor}
    model = TrajViTForVideoClassification(TrajViTVideoClassificationConfig(vision_config=vision, num_labels=3)).eval()
    frames = make_videos()["pixel_values_videos"]
    with torch.no_grad():
        logits = model(pixel_values_videos=frames, skip_predictor=True).logits
        tokens = model.vision_model(pixel_values_videos=frames, skip_predictor=True).last_hidden_state
        torch.testing.assert_close(logits, model.probe(tokens))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe_num_attention_heads": 5}, "probe_num_attention_heads=5 must divide 32"),
        ({"probe_num_attention_heads": 0}, "probe_num_attention_heads=0 must divide 32"),
        ({"probe_mlp_ratio": 0}, "probe_mlp_ratio=0 is out of range"),
        ({"probe_dropout": 1.0}, r"probe_dropout=1.0 is out of range"),
    ],
)
def test_configurations_name_the_field_the_value_and_the_range(options, message):
    with pytest.raises(Exception, match=message):
        TrajViTVideoClassificationConfig(vision_config=make_config("vit3d"), **options)


def test_the_fields_of_the_probe_reach_it():
    model = make_model(probe_num_attention_heads=4, probe_mlp_ratio=2.0, probe_dropout=0.3, initializer_range=0.5)
    assert (model.probe.num_heads, model.probe.fc1.out_features, model.probe.dropout.p) == (4, 64, 0.3)
    assert model.probe.fc1.weight.std().item() == pytest.approx(0.5, rel=0.1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Twelve frames of a red square that moves over grey."""
    frames = []
    for step in range(12):
        frame = np.full((48, 64, 3), 90, dtype=np.uint8)
        frame[14:34, 4 + 3 * step : 24 + 3 * step] = (220, 30, 30)
        frames.append(frame)
    return str(write_video(tmp_path_factory.mktemp("clips") / "square.mp4", frames))


@pytest.mark.parametrize("tower", ["vit3d", "trajvit"])
def test_the_pipeline_of_the_task_takes_a_saved_model(tower, clip, tmp_path):
    model = make_model(tower, id2label={0: "run", 1: "jump", 2: "eat"})
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["vision_config"]["num_frames"] == 4
    processor = TrajViTVideoProcessor(size={"height": 32, "width": 32}, feature_size=8)
    classify = pipeline("video-classification", model=str(tmp_path), video_processor=processor)
    assert type(classify.model) is type(AutoModelForVideoClassification.from_pretrained(tmp_path))
    answers = classify(clip)
    with torch.no_grad():
        shares = model(**processor(clip, num_frames=4)).logits.softmax(-1)[0]
    expected = dict(zip(["run", "jump", "eat"], shares.tolist(), strict=True))
    assert {answer["label"]: pytest.approx(answer["score"], abs=1e-5) for answer in answers} == expected
    assert [answer["score"] for answer in answers] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-5)
    assert len(classify([clip, clip], top_k=1)) == 2
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        shares = model(**processor(frames)).logits.softmax(-1)[0]
    assert classify(frames)[0]["score"] == pytest.approx(shares.max().item(), abs=1e-5)
