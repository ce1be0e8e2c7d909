"""Runs of the pretraining script that take seconds, within the test's process or as processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from accelerate.state import AcceleratorState
from tower_models import OWN, SMALL, TEXT

from trajvit.training.config_file import build_config, load_config
from trajvit.training.pretrain import pretrain

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "training" / "pretrain.py"
LAUNCHERS = ROOT / "training" / "configs" / "accelerate"

CLIPS = {"source": "synthetic", "num_frames": 4, "batch_size": 4, "num_samples": 16, "options": {"image_size": 48}}
RUN = {
    "mixed_precision": "no",
    "model": {
        "tower": "trajvit",
        "size": "tiny",
        "vision": {**SMALL, **OWN["trajvit"]},
        "text": {name: value for name, value in TEXT.items() if name != "vocab_size"},
        "text_checkpoint": None,
        "pretrained_backbone": False,
        "batch_norm": "frozen",
        "projection_dim": 16,
    },
    "data": [{"name": "videos", **CLIPS}, {"name": "images", **CLIPS, "media": "image", "batch_size": 8}],
    "loader": {"num_workers": 0, "shuffle_block": 4},
    "optimizer": {"learning_rate": 1e-3, "max_steps": 6, "warmup_steps": 2},
    "checkpoints": {"every": 2, "keep": 2},
    "logging": {"every": 1, "trackers": []},
}


def merged(base, changes):
    """Nested mappings, of which `changes` replace what they name."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


def write_config(folder, **changes):
    """The file of a run in `folder`."""
    path = Path(folder) / "run.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(merged({**RUN, "output_dir": str(Path(folder) / "run")}, changes)))
    return path


def train(folder, **changes):
    """Run in this process. Returns the run's folder."""
    AcceleratorState._reset_state(reset_partial_state=True)
    config = build_config(merged({**RUN, "output_dir": str(Path(folder) / "run")}, changes))
    pretrain(config)
    return Path(config.output_dir)


def start_script(config, *arguments, launcher=None, launch_options=()):
    """The script as a user starts it, or by a launcher file of `accelerate launch`."""
    program = [sys.executable]
    if launcher is not None:
        program += ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCHERS / launcher), *launch_options]
    return subprocess.Popen(
        [*program, str(SCRIPT), "--config", str(config), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_script(config, *arguments, expected=0, **options):
    """Its output, once it has ended with the expected status."""
    process = start_script(config, *arguments, **options)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == expected, output
    return output


def log_lines(folder):
    path = Path(folder) / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def losses(folder):
    """Of each step, exactly."""
    found = [(line["step"], line["loss"]) for line in log_lines(folder) if "loss" in line]
    assert len(dict(found)) == len(found), "a step is there twice"
    return dict(found)


def folder_of(config):
    return Path(load_config(config).output_dir)
