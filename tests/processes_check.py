"""Everything that several processes of a run do together; started by a launcher, it writes what each process found.

accelerate launch tests/processes_check.py FOLDER [precision]
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
from tiny_run import TinyRun, make_inputs

from trajvit.training.acceleration import full_state_dict, input_dtype, shards_weights
from trajvit.training.checkpoints import CheckpointFolder
from trajvit.training.clip_loader import Batch
from trajvit.training.flops import StepFlops
from trajvit.training.interruption import Interruption
from trajvit.training.record_stream import Position
from trajvit.training.training_log import TrainingLog
from trajvit.training.validation import evaluate_retrieval

SIZES = [[3, 3, 2], [3]]
"""Held-out samples in each batch of either process."""


def held_out(rank):
    for number, size in enumerate(SIZES[rank]):
        inputs = make_inputs(number, rank, num_samples=size)
        generator = torch.Generator().manual_seed(10 * rank + number)
        pixels = torch.randint(0, 256, (size, 4, 3, 32, 32), dtype=torch.uint8, generator=generator)
        yield Batch("held out", {**inputs, "pixel_values_videos": pixels}, ("",) * size, (), Position())


def main(folder, precision="no"):
    folder = Path(folder)
    run = TinyRun.start(folder, mixed_precision=precision, logging={"trackers": [], "every": 2})
    accelerator, rank = run.accelerator, run.accelerator.process_index
    checkpoints = CheckpointFolder(folder / "checkpoints", keep=1)
    log = TrainingLog(accelerator, run.config.logging, folder, 4)
    losses = run.take_steps(2)
    checkpoints.save(accelerator, run.state)
    path = checkpoints.save(accelerator, run.state)
    losses += run.take_steps(2)
    weights = full_state_dict(accelerator, run.model)
    metrics = evaluate_retrieval(accelerator, run.model, held_out(rank))
    inputs = make_inputs(0, rank, input_dtype(accelerator))
    flops = StepFlops(accelerator, run.model, 1).of_step("videos", inputs, 2 * 3 * 33)
    run.state = checkpoints.load(accelerator, path)
    after = run.take_steps(2)
    log.skipped(1, "videos", f"sample of {rank}", "is broken")
    with Interruption() as interruption:
        before = interruption.requested(accelerator)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        requested = interruption.requested(accelerator)
    trained = {name: list(tensor.shape) for name, tensor in weights.items()}
    if rank == 0:
        save_file(weights, folder / "weights.safetensors")
    found = {
        "processes": accelerator.num_processes,
        "kind": str(accelerator.distributed_type),
        "shards": shards_weights(accelerator),
        "learning_rates": run.schedule.get_last_lr(),
        "steps": run.schedule.state_dict()["last_epoch"],
        "losses": losses,
        "after": after,
        "streams": run.state.streams,
        "weights": trained,
        "metrics": metrics,
        "flops": flops,
        "requested": [before, requested],
    }
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    log.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
