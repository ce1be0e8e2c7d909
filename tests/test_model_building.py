"""The models of runs: new ones of every tower, from parts on disk, from whole checkpoints; and their batch norms."""

import pytest
import torch
from tower_models import OWN, SMALL, TEXT, TOWERS, TUBELETS
from transformers import BertConfig, BertModel, BertTokenizerFast, ResNetConfig, ResNetModel

from trajvit.training.config_file import ConfigError
from trajvit.training.model_building import build_model, set_batch_norm
from trajvit.training.run_config import ModelSettings

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "disc"]
SMALL_TEXT = {name: value for name, value in TEXT.items() if name != "vocab_size"}


def make_settings(tower="trajvit", **changes):
    vision = {**SMALL, **OWN.get(tower, TUBELETS)}
    vision.pop("num_frames")
    settings = {
        "tower": tower,
        "size": "tiny",
        "vision": vision,
        "text": SMALL_TEXT,
        "text_checkpoint": None,
        "pretrained_backbone": False,
        "projection_dim": 16,
    }
    return ModelSettings(**{**settings, **changes})


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(7)
    BertModel(BertConfig(**{**SMALL_TEXT, "vocab_size": len(WORDS)})).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tower", TOWERS)
def test_new_models_of_every_tower(tower):
    model, processor = build_model(make_settings(tower), num_frames=6, seed=0)
    assert model.training
    assert model.config.vision_config.model_type == tower
    assert model.config.vision_config.num_frames == processor.video_processor.num_frames == 6
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    assert processor.video_processor.size["height"] == SMALL["image_size"]
    assert processor.video_processor.generate_trajectories == (tower == "trajvit")
    inputs = processor(text=["a red disc"], videos=[torch.rand(6, 3, 32, 32)])
    assert model.eval()(**inputs).video_embeds.shape == (1, 16)


def test_weights_come_from_the_seed():
    first, again, other = (build_model(make_settings(), 4, seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["video_projection.weight"], other["video_projection.weight"])


def test_parts_from_checkpoints(bert, tmp_path):
    backbone = OWN["trajvit"]["backbone_config"]
    options = {name: value for name, value in backbone.items() if name != "model_type"}
    torch.manual_seed(8)
    resnet = ResNetModel(ResNetConfig(**options))
    resnet.save_pretrained(tmp_path)
    vision = {**SMALL, **OWN["trajvit"], "backbone_checkpoint": str(tmp_path)}
    settings = make_settings(vision=vision, text={}, text_checkpoint=str(bert), pretrained_backbone=True)
    model, processor = build_model(settings, 4, seed=0)
    weights = BertModel.from_pretrained(bert).embeddings.word_embeddings.weight
    assert torch.equal(model.text_model.embeddings.word_embeddings.weight, weights)
    started = dict(model.vision_model.tokenizer.frame_features.backbone.named_parameters())
    same = [torch.equal(value, started[name]) for name, value in resnet.named_parameters() if name in started]
    assert len(same) == len(started)
    assert all(same)
    assert processor.tokenizer.tokenize("a red disc") == ["a", "red", "disc"]


def test_a_whole_checkpoint(tmp_path):
    model, processor = build_model(make_settings("rlt"), 4, seed=3)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, its_processor = build_model(ModelSettings(checkpoint=str(tmp_path)), 16, seed=0)
    assert again.training
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert its_processor.video_processor.num_frames == 4
    assert not its_processor.video_processor.generate_trajectories


def test_settings_that_reach_the_model():
    model, _ = build_model(make_settings(attention="eager", gradient_checkpointing=True), 4, seed=0)
    assert model.is_gradient_checkpointing
    assert model.config.vision_config._attn_implementation == "eager"
    assert model.vision_model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tower": "vit4d"}, r"model.tower='vit4d' does not exist: expected one of .*'vit3d'"),
        ({"size": "huge"}, r"model.size='huge' does not exist: expected one of .*'large'"),
        ({"vision": {"hidden": 3}}, r"model.vision.hidden: trajvit has no such field"),
        ({"vision": {"hidden_size": 33}}, r"(?s)model.vision: .*hidden_size=33"),
        ({"text": {"model_type": "nobody"}}, r"(?s)model: .*model_type='nobody'"),
    ],
)
def test_models_that_do_not_exist(changes, said):
    with pytest.raises(ConfigError, match=said):
        build_model(make_settings(**changes), 4, seed=0)


def video(seed, num_frames=2):
    torch.manual_seed(seed)
    maps = torch.randint(0, 4, (1, num_frames, 8, 8))
    return {"pixel_values_videos": 3 * torch.randn(1, num_frames, 3, 32, 32), "trajectory_maps": maps}


def features(model, *videos):
    joined = {name: torch.cat([video[name] for video in videos]) for name in videos[0]}
    return model.get_video_features(**joined).pooler_output


def test_frozen_statistics_make_a_video_s_embedding_its_own():
    model, _ = build_model(make_settings(batch_norm="frozen"), 4, seed=0)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    model.eval()
    model.train()
    together = features(model, video(0), video(1))
    torch.testing.assert_close(together[:1], features(model, video(0)), atol=1e-5, rtol=1e-4)
    assert norms
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    together.sum().backward()
    assert all(norm.weight.grad is not None for norm in norms)


def test_statistics_of_the_batch_change_with_it():
    model, _ = build_model(make_settings(batch_norm="batch"), 4, seed=0)
    alone, together = features(model, video(0)), features(model, video(0), video(1))
    assert (alone - together[:1]).abs().max() > 1e-3


def test_synchronised_statistics():
    model, _ = build_model(make_settings(), 4, seed=0)
    model = set_batch_norm(model, "synchronised")
    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
