"""Two processes, by distributed data parallel training and by DeepSpeed, against one."""

import json
from importlib.util import find_spec
from shutil import which

import pytest
from accelerate.state import AcceleratorState
from pretraining_runs import folder_of, losses, run_script, write_config
from safetensors.torch import load_file

from trajvit.training.checkpoints import CheckpointError
from trajvit.training.config_file import load_config
from trajvit.training.pretrain import pretrain
from trajvit.training.synthetic import SyntheticSource
from trajvit.training.synthetic_shards import write_shards

# Dropout draws other numbers in another process.
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """One shard, which two processes read in turns: a step then has the same samples as with one process."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, SyntheticSource("clips", num_samples=16, num_frames=4, options={"image_size": 48}))
    return folder


def one_and(folder, shards, name, **changes):
    stream = {"name": "videos", "source": "panda70m", "path": str(shards / "*.tar"), "num_frames": 4, "batch_size": 8}
    return write_config(
        folder / name,
        data=[{**stream, "num_samples": 16}],
        loader={"shuffle_block": 0},
        model={"text": WITHOUT_DROPOUT},
        optimizer={"max_steps": 4, "warmup_steps": 1},
        **changes,
    )


@pytest.fixture(scope="module")
def alone(shards, tmp_path_factory):
    config = one_and(tmp_path_factory.mktemp("processes"), shards, "alone")
    run_script(config)
    return folder_of(config)


def num_ranks(folder):
    checkpoints = folder / "checkpoints"
    latest = checkpoints / (checkpoints / "latest").read_text().strip()
    return json.loads((latest / "run_state.json").read_text())["num_ranks"]


@pytest.fixture(scope="module")
def by_two(shards, tmp_path_factory):
    config = one_and(tmp_path_factory.mktemp("processes"), shards, "two")
    run_script(config, launcher="cpu_two_processes.yaml")
    return folder_of(config)


def test_two_processes_are_one(alone, by_two):
    assert (num_ranks(alone), num_ranks(by_two)) == (1, 2)
    assert losses(by_two) == pytest.approx(losses(alone), rel=1e-5)
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (by_two, alone))
    assert max((value - theirs[name]).abs().max().item() for name, value in ours.items()) < 1e-4


@pytest.mark.skipif(find_spec("deepspeed") is None or which("c++") is None, reason="DeepSpeed cannot be built here")
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_the_same_steps(alone, shards, tmp_path, stage):
    config = one_and(tmp_path, shards, "sharded")
    run_script(config, launcher=f"deepspeed_zero{stage}.yaml", launch_options=["--num_processes", "2"])
    folder = folder_of(config)
    assert num_ranks(folder) == 2
    assert losses(folder) == pytest.approx(losses(alone), rel=1e-5)
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (folder, alone))
    assert max((value - theirs[name]).abs().max().item() for name, value in ours.items()) < 1e-4


def test_another_number_of_processes_does_not_go_on(by_two):
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(CheckpointError, match="was written by 2 processes"):
        pretrain(load_config(by_two / "config.yaml"))
