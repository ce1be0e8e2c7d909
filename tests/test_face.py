"""`import trajvit` is all it takes: the public names are there and transformers' Auto classes open what was saved."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from numbered_videos import write_video
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor, BertConfig, BertTokenizer

import trajvit
from trajvit import (
    Trajectories,
    TrajectoryGenerator,
    TrajViTConfig,
    TrajViTContrastiveConfig,
    TrajViTForContrastive,
    TrajViTModel,
    TrajViTProcessor,
    TrajViTVideoProcessor,
)

TOWERS = ("TrajViT", "ViT3D", "ViViT", "TokenLearner", "RLT", "ToMe", "TokenMerge", "ImageViT")
NAMES = {f"{tower}{kind}" for tower in TOWERS for kind in ("Config", "Model")} | {
    "AttentiveProbe",
    "TrajViTActionDetectionConfig",
    "TrajViTContrastiveConfig",
    "TrajViTForActionDetection",
    "TrajViTForContrastive",
    "TrajViTForVideoClassification",
    "TrajViTProcessor",
    "TrajViTVideoClassificationConfig",
    "TrajViTVideoProcessor",
    "TrajectoryGenerator",
    "Trajectories",
    "generate_trajectories",
}


@pytest.fixture(scope="module")
def clip():
    """(6, 64, 80, 3): a bright square that moves right over a gradient."""
    frames = np.zeros((6, 64, 80, 3), dtype=np.uint8)
    frames[..., 0] = np.linspace(20, 120, 80, dtype=np.uint8)
    for time in range(6):
        frames[time, 20:44, 6 * time : 6 * time + 24] = (230, 220, 40)
    return frames


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "yellow", "square", "moves", "right", "left"]
    path.write_text("\n".join(words), encoding="utf-8")
    return BertTokenizer(str(path))


def test_the_public_names():
    assert set(trajvit.__all__) == NAMES
    assert all(hasattr(trajvit, name) for name in NAMES)
    assert trajvit.VideoSearch is importlib.import_module("trajvit.video_search").VideoSearch
    assert not hasattr(trajvit, "Trajectory")


def test_from_a_video_and_texts_to_similarities_and_back_from_disk(clip, tokenizer, tmp_path):
    torch.manual_seed(0)
    text_config = BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    config = TrajViTContrastiveConfig(
        vision_config=TrajViTConfig.from_name("tiny").to_dict(), text_config=text_config.to_dict()
    )
    model = TrajViTForContrastive(config).eval()
    processor = TrajViTProcessor(tokenizer, TrajViTVideoProcessor(num_frames=6, generator={"max_trajectories": 12}))
    texts = ["a yellow square moves right", "a square"]
    inputs = processor(videos=[clip], text=texts, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits_per_video
    assert expected.shape == (1, 2)

    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(again, TrajViTProcessor)
    assert isinstance(AutoVideoProcessor.from_pretrained(tmp_path), TrajViTVideoProcessor)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), TrajViTContrastiveConfig)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, TrajViTForContrastive)
    with torch.no_grad():
        found = loaded(**again(videos=[clip], text=texts, return_tensors="pt")).logits_per_video
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_stored_trajectories_give_the_inputs_that_generated_ones_do(clip, tmp_path):
    video_processor = TrajViTVideoProcessor(num_frames=6)
    TrajectoryGenerator()(clip).save(tmp_path / "clip.traj.png")
    stored = Trajectories.load(tmp_path / "clip.traj.png")
    generated = video_processor(clip, return_tensors="pt")
    given = video_processor(clip, trajectories=[stored], return_tensors="pt")
    assert set(generated) == set(given)
    for name in generated:
        torch.testing.assert_close(generated[name], given[name], rtol=0, atol=0)
    with torch.no_grad():
        output = TrajViTModel(TrajViTConfig.from_name("tiny")).eval()(**given)
    assert output.last_hidden_state.shape[1] == 1 + stored.num_trajectories


def test_registering_costs_nothing_twice():
    importlib.reload(importlib.reload(trajvit).public_names)
    assert AutoModel.from_config(TrajViTConfig.from_name("tiny")).config.model_type == "trajvit"


def test_a_worker_imports_pytorch_with_the_first_name_that_it_uses(clip, tmp_path):
    write_video(str(tmp_path / "clip.mp4"), clip)
    code = """
import sys
import trajvit, trajvit.processing.generation_worker
from trajvit.processing.decoding import decode_video
from trajvit.processing.generator import TrajectoryGenerator
video = decode_video(sys.argv[1])
assert TrajectoryGenerator()(video.frames, video.sample_indices).to_bytes()
assert not {"torch", "transformers"} & set(sys.modules)
assert not hasattr(trajvit, "nothing")
from trajvit import TrajViTConfig
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_config(TrajViTConfig.from_name("tiny"))
assert type(model) is trajvit.TrajViTModel
print(*trajvit.__all__)
"""
    command = [sys.executable, "-X", "trajvit_lazy", "-c", code, tmp_path / "clip.mp4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == NAMES
