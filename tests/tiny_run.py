"""A few steps of a tiny contrastive model, with everything that a run keeps; also a program for several processes.

    accelerate launch tests/tiny_run.py FOLDER LAST_STEP [precision]

It goes on from the last checkpoint in FOLDER, saves after every second step, and writes each process's losses.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

sys.path.insert(0, str(Path(__file__).parent))
from tower_models import TEXT, make_config

from trajvit.modeling_trajvit import TrajViTContrastiveConfig, TrajViTForContrastive
from trajvit.training.acceleration import apply_gradients, build_accelerator, input_dtype
from trajvit.training.checkpoints import CheckpointFolder
from trajvit.training.config_file import build_config
from trajvit.training.contrastive_step import ContrastiveStep
from trajvit.training.moving_average import MovingAverage
from trajvit.training.optimizer import build_optimizer, build_schedule
from trajvit.training.record_stream import Position
from trajvit.training.run_state import RunState, gather_positions

STEPS = 8


def make_run_config(folder, **changes):
    stream = {"name": "videos", "source": "synthetic", "batch_size": 4, "num_samples": 8}
    settings = {"output_dir": str(folder), "data": [stream], "mixed_precision": "no", "logging": {"trackers": []}}
    return build_config({**settings, "optimizer": {"learning_rate": 1e-2, "max_steps": STEPS}, **changes})


def make_model(tower="vit3d", seed=0, **options):
    torch.manual_seed(seed)
    vision = make_config(tower, hidden_dropout_prob=0.1, **options)
    return TrajViTForContrastive(TrajViTContrastiveConfig(vision_config=vision, text_config=TEXT, projection_dim=16))


def make_inputs(step, rank=0, dtype=torch.float32, num_samples=3):
    generator = torch.Generator().manual_seed(100 * step + rank)
    return {
        "pixel_values_videos": torch.randn(num_samples, 4, 3, 32, 32, generator=generator).to(dtype),
        "input_ids": torch.randint(1, 99, (num_samples, 5), generator=generator),
        "attention_mask": torch.ones(num_samples, 5, dtype=torch.long),
    }


@dataclass
class TinyRun:
    """Prepared objects of a run; `take_steps` trains."""

    config: Any
    accelerator: Any
    model: Any
    optimizer: Any
    schedule: Any
    average: Any
    state: RunState

    @classmethod
    def start(cls, folder, average=False, model=None, **changes):
        config = make_run_config(folder, **changes)
        accelerator = build_accelerator(config)
        set_seed(5)
        model = make_model() if model is None else model
        optimizer = build_optimizer(model, config.optimizer)
        schedule = build_schedule(optimizer, STEPS, 2, config.optimizer)
        model, optimizer, schedule = accelerator.prepare(model.train(), optimizer, schedule)
        averaged = MovingAverage(accelerator.unwrap_model(model), 0.9) if average else None
        state = RunState(num_ranks=accelerator.num_processes)
        return cls(config, accelerator, model, optimizer, schedule, averaged, state)

    def take_step(self):
        """The loss of one step."""
        accelerator = self.accelerator
        step = ContrastiveStep(accelerator, self.model, self.config.loss, 1)
        result = step(make_inputs(self.state.step, accelerator.process_index, input_dtype(accelerator)))
        apply_gradients(accelerator, self.model, self.optimizer, self.schedule, self.config.optimizer.clip_norm)
        if self.average is not None:
            self.average.update(accelerator.unwrap_model(self.model))
        self.state.step += 1
        position = Position(index=3 * self.state.step + accelerator.process_index)
        self.state.streams = gather_positions({"videos": position})
        return result.loss

    def take_steps(self, count):
        return [self.take_step() for _ in range(count)]


def main(folder, last_step, precision="no"):
    run = TinyRun.start(folder, mixed_precision=precision)
    checkpoints = CheckpointFolder(Path(folder) / "checkpoints", keep=2)
    if (path := checkpoints.latest()) is not None:
        run.state = checkpoints.load(run.accelerator, path)
    losses = {}
    while run.state.step < last_step:
        losses[run.state.step] = run.take_step()
        if run.state.step % 2 == 0:
            checkpoints.save(run.accelerator, run.state)
    rank = run.accelerator.process_index
    Path(folder, f"losses-{last_step}-{rank}.json").write_text(
        json.dumps({"processes": run.accelerator.num_processes, "losses": losses, "streams": run.state.streams})
    )
    run.accelerator.end_training()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
