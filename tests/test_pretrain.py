"""Whole runs of the pretraining script, within this process."""

import json
import math

import pytest
import torch
from accelerate.state import AcceleratorState
from hub_endpoint import hub_endpoint
from huggingface_hub import constants
from pretraining_runs import CLIPS, log_lines, losses, train, write_config
from safetensors.torch import load_file
from transformers import AutoModel
from typer.testing import CliRunner

import trajvit
from trajvit.training import pretrain
from trajvit.training.config_file import load_config

WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of videos and images, with evaluation and a moving average, to its end."""
    held_out = {"name": "held_out", **CLIPS, "split": "test", "num_samples": 8}
    return train(
        tmp_path_factory.mktemp("finished"),
        evaluation={"data": held_out, "every": 4},
        ema_decay=0.5,
        loss={"chunk_size": 3},
    )


def test_the_trained_model_loads_and_encodes(finished):
    model = trajvit.TrajViTForContrastive.from_pretrained(finished / "model").eval()
    processor = trajvit.TrajViTProcessor.from_pretrained(finished / "model")
    inputs = processor(text=["a red disc moves left"], videos=[torch.rand(4, 3, 48, 48)])
    assert model(**inputs).logits_per_video.shape == (1, 1)
    assert AutoModel.from_pretrained(finished / "model").config.model_type == "trajvit_contrastive"
    assert "library_name" in (finished / "model" / "README.md").read_text()


def test_the_trained_model_is_the_average_of_the_weights(finished):
    checkpoint = finished / "checkpoints" / (finished / "checkpoints" / "latest").read_text().strip()
    average = load_file(checkpoint / "moving_average.safetensors")
    trained = load_file(finished / "model" / "model.safetensors")
    own = load_file(checkpoint / "model.safetensors")
    name = "video_projection.weight"
    assert torch.equal(trained[name], average[name])
    assert not torch.equal(own[name], average[name])


def test_every_step_is_logged_and_takes_one_of_the_streams(finished):
    steps = [line for line in log_lines(finished) if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert {line["stream"] for line in steps} == {"videos", "images"}
    assert all(math.isfinite(line["loss"]) and line["tokens_per_sample"] > 1 for line in steps)
    # The learning rate rises from 0 over two steps and then falls.
    rates = [line["learning_rate"] for line in steps]
    assert rates[:3] == pytest.approx([0, 5e-4, 1e-3])
    assert sorted(rates[2:], reverse=True) == rates[2:]


def test_held_out_samples_are_retrieved_now_and_then_and_at_the_end(finished):
    found = {line["step"]: line["evaluation"] for line in log_lines(finished) if "evaluation" in line}
    assert list(found) == [4, 6]
    assert all(metrics["num_videos"] == 8 for metrics in found.values())
    assert f"{found[6]['txt2vid_R@5']:.1f}" in (finished / "model" / "README.md").read_text()


def test_only_the_newest_checkpoints_stay(finished):
    assert sorted(path.name for path in finished.glob("checkpoints/checkpoint-*")) == [
        "checkpoint-00000004",
        "checkpoint-00000006",
    ]
    state = json.loads((finished / "checkpoints" / "checkpoint-00000006" / "run_state.json").read_text())
    taken = [line["stream"] for line in log_lines(finished) if "loss" in line]
    assert state["samples"] == {"videos": 4 * taken.count("videos"), "images": 8 * taken.count("images")}


def test_a_finished_run_has_nothing_left_to_do(finished):
    before = (finished / "log.jsonl").read_text()
    config = load_config(finished / "config.yaml")
    assert pretrain.pretrain(config) == finished / "model"
    assert (finished / "log.jsonl").read_text() == before


def test_a_finished_run_is_uploaded(finished, monkeypatch):
    AcceleratorState._reset_state(reset_partial_state=True)
    arguments = ["--config", str(finished / "config.yaml"), "--push_to_hub", "hub={model_id: someone/model}"]
    with hub_endpoint() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        result = CliRunner().invoke(pretrain.app, arguments)
        assert result.exit_code == 0, result.output
        ((message, files),) = server.commits["someone/model"]
    assert message == "Model after 6 steps"
    assert {"model.safetensors", "modeling_trajvit.py", "processor_config.json", "README.md"} <= set(files)
    assert b"txt2vid_R@5" in files["README.md"]


def test_chunks_change_memory_and_not_the_losses(tmp_path):
    changes = {"model": {"text": WITHOUT_DROPOUT}, "optimizer": {"max_steps": 4}}
    whole = losses(train(tmp_path / "whole", **changes))
    in_chunks = losses(train(tmp_path / "chunks", loss={"chunk_size": 3}, **changes))
    by_tokens = losses(train(tmp_path / "tokens", loss={"chunk_tokens": 12}, **changes))
    assert in_chunks == pytest.approx(whole, rel=1e-4)
    assert by_tokens == pytest.approx(whole, rel=1e-4)


def test_steps_whose_loss_is_no_number_are_counted_and_change_nothing(tmp_path):
    folder = train(tmp_path, optimizer={"learning_rate": 1e30, "max_steps": 5, "warmup_steps": 0, "clip_norm": None})
    state = json.loads((folder / "checkpoints" / "checkpoint-00000005" / "run_state.json").read_text())
    assert state["nonfinite_steps"] >= 3
    assert state["step"] == 5
    assert losses(folder)[5] is None
    weights = [load_file(folder / "checkpoints" / f"checkpoint-{step:08d}" / "model.safetensors") for step in (4, 5)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_sixteen_clips_are_learnt_by_heart(tmp_path):
    clips = {"name": "clips", **CLIPS, "batch_size": 16, "options": {"image_size": 48, "captions": ["full"]}}
    folder = train(
        tmp_path,
        data=[clips],
        augmentation={"enabled": False},
        model={"batch_norm": "batch", "text": WITHOUT_DROPOUT, "vision": {"initializer_range": 0.02}},
        optimizer={"learning_rate": 3e-3, "max_steps": 80, "warmup_steps": 5},
        checkpoints={"every": 100},
        evaluation={"data": clips, "every": 100},
    )
    (metrics,) = [line["evaluation"] for line in log_lines(folder) if "evaluation" in line]
    assert metrics["num_videos"] == 16
    assert (metrics["txt2vid_R@1"], metrics["vid2txt_R@1"]) == (100, 100)


def test_adapters_on_a_checkpoint_are_merged_into_a_plain_one(finished, tmp_path):
    folder = train(
        tmp_path, model={"checkpoint": str(finished / "model")}, lora={"rank": 4}, optimizer={"max_steps": 3}
    )
    before, after = (load_file(run / "model" / "model.safetensors") for run in (finished, folder))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"temperature", "video_projection.weight"} <= changed
    assert any("attention" in name for name in changed)
    assert not any("mlp" in name or "norm" in name for name in changed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimizer.learning_rat=1"], "optimizer.learning_rat: there is no such key"),
        (["model.tower=vit4d"], "model.tower='vit4d' does not exist"),
        (["--lora"], "lora adapts a checkpoint: expected model.checkpoint"),
        (["--push_to_hub"], "hub.model_id is missing"),
        (["--push_to_hub", "hub={model_id: nobody}"], "hub.model_id='nobody': expected user/name"),
        (["logging.trackers=[notebook]"], "logging.trackers='notebook' does not exist"),
        (["mixed_precision=fp16"], "mixed_precision='fp16' needs a GPU"),
        (["data.videos.options={image_size: 8}"], "image_size"),
        (["data=[{name: v, source: table, path: nowhere/*.tar}]"], r"nowhere/*.tar"),
        (["data.videos.num_samples=0"], "data.0.num_samples=0"),
    ],
)
def test_faults_of_the_configuration_are_told_in_a_line(tmp_path, arguments, said):
    AcceleratorState._reset_state(reset_partial_state=True)
    result = CliRunner().invoke(pretrain.app, ["--config", str(write_config(tmp_path)), *arguments])
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert "Traceback" not in result.output
