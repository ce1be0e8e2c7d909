"""Checkpoints of a run: written whole or not at all, and loaded only where they fit.

A checkpoint is a folder `checkpoint-00001000` beside others, with what Accelerate saves of the model, the optimiser,
the schedule and the random number generators, and `run_state.json`. It is written under a temporary name, brought to
the disk and renamed; then the file `latest` is replaced by one that names it. So whenever a process dies, `latest`
names a checkpoint that is whole.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file

from .checkpoint_contents import check_contents, describe_contents
from .run_state import CheckpointError, RunState

LATEST = "latest"
_PREFIX = "checkpoint-"
_UNFINISHED = ".unfinished-"
_STATE = "run_state.json"
_AVERAGE = "moving_average.safetensors"


class CheckpointFolder:
    """The checkpoints of a run.

    Args:
        folder: Where they lie; on many nodes a folder that all of them see.
        keep: How many of the newest stay.
    """

    def __init__(self, folder: str | os.PathLike, keep: int):
        self.folder = Path(folder)
        self.keep = keep

    def latest(self) -> Path | None:
        """The newest whole checkpoint, None where there is none."""
        try:
            name = (self.folder / LATEST).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            name = ""
        if name and (self.folder / name / _STATE).is_file():
            return self.folder / name
        # A process that died at its first checkpoint may not have come to write the pointer.
        return max(self._finished(), key=_step_of, default=None)

    def save(self, accelerator: Accelerator, state: RunState, moving_average: Any = None) -> Path:
        """Write a checkpoint; every process calls it. Returns its folder.

        Args:
            state: Where the run stands, the same on all processes.
            moving_average: A `MovingAverage` that goes with it.
        """
        path = self.folder / f"{_PREFIX}{state.step:08d}"
        # One process decides for all: folders on a network may look different from another machine.
        (is_there,) = broadcast_object_list([path == self.latest()])
        if is_there:
            return path
        unfinished = self.folder / f"{_UNFINISHED}{path.name}"
        if accelerator.is_main_process:
            self.remove_unfinished()
            unfinished.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(unfinished))
        if accelerator.is_main_process:
            describe_contents(accelerator, unfinished)
            if moving_average is not None:
                save_file(moving_average.state_dict(), unfinished / _AVERAGE)
            (unfinished / _STATE).write_text(state.to_json(), encoding="utf-8")
        accelerator.wait_for_everyone()
        if accelerator.is_local_main_process:
            _bring_to_disk(unfinished)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            self._finish(unfinished, path)
        accelerator.wait_for_everyone()
        return path

    def load(self, accelerator: Accelerator, path: str | os.PathLike, moving_average: Any = None) -> RunState:
        """Continue from a checkpoint; every process calls it, with all objects prepared as when it was written.

        Raises:
            CheckpointError: It lacks a part, or was written with another number of processes, in another layout
                (DeepSpeed or not) or of another model, of which the differences are named.
        """
        path = Path(path)
        try:
            state = RunState.from_json((path / _STATE).read_text(encoding="utf-8"), str(path / _STATE))
        except FileNotFoundError:
            raise CheckpointError(f"{path} has no {_STATE}: expected a checkpoint of a run") from None
        if state.num_ranks != accelerator.num_processes:
            raise CheckpointError(
                f"{path} was written by {state.num_ranks} processes, of which each has its place in the data: expected "
                f"as many, not {accelerator.num_processes}"
            )
        check_contents(accelerator, path)
        average = self._read_average(path, moving_average)
        accelerator.load_state(str(path))
        if average is not None:
            moving_average.load_state_dict(average)
        return state

    def remove_unfinished(self) -> None:
        """Remove what processes that died have left half-written. The first process calls it, before all else."""
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def _read_average(self, path: Path, moving_average: Any) -> dict[str, torch.Tensor] | None:
        has_one = (path / _AVERAGE).is_file()
        if has_one != (moving_average is not None):
            has, wants = ("a", "none") if has_one else ("no", "one (ema_decay)")
            raise CheckpointError(f"{path} has {has} moving average of the weights: the run has {wants}")
        return load_file(path / _AVERAGE) if has_one else None

    def _finish(self, unfinished: Path, path: Path) -> None:
        if path.exists():
            # Left by a run that went further before it fell back on an earlier one; the pointer does not name it.
            shutil.rmtree(path)
        unfinished.rename(path)
        _sync(self.folder)
        pointer = self.folder / f"{_UNFINISHED}{LATEST}"
        pointer.write_text(path.name + "\n", encoding="utf-8")
        _sync(pointer)
        pointer.replace(self.folder / LATEST)
        _sync(self.folder)
        older = sorted((other for other in self._finished() if _step_of(other) <= _step_of(path)), key=_step_of)
        for other in older[: -self.keep]:
            # Renamed first, so that what is left of it when a process dies is no checkpoint.
            shutil.rmtree(other.rename(self.folder / f"{_UNFINISHED}{other.name}"))

    def _finished(self) -> Iterator[Path]:
        for path in self.folder.glob(f"{_PREFIX}*"):
            if path.name.removeprefix(_PREFIX).isdecimal() and (path / _STATE).is_file():
                yield path


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


def _bring_to_disk(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(Path(parent) / name)
        _sync(Path(parent))
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
