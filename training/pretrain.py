"""Contrastive pretraining of any vision tower, on videos and images together.

    accelerate launch training/pretrain.py --config training/configs/tiny_synthetic.yaml [key=value ...]

Run it again to go on: an interrupted run continues where its last checkpoint stands.
"""

import math
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from trajvit.training.acceleration import (
    LaunchError,
    apply_gradients,
    build_accelerator,
    full_state_dict,
    input_dtype,
    shards_weights,
)
from trajvit.training.batch_streams import held_out_batches, open_sources, training_batches
from trajvit.training.checkpoints import CheckpointFolder
from trajvit.training.clip_loader import UnusableStreamError
from trajvit.training.collation import to_model_inputs
from trajvit.training.config_file import ConfigError, load_config, to_mapping
from trajvit.training.contrastive_step import ContrastiveStep
from trajvit.training.flops import StepFlops
from trajvit.training.interruption import Interruption
from trajvit.training.lora import add_lora
from trajvit.training.mixed_batches import MixedBatches
from trajvit.training.model_building import build_model
from trajvit.training.moving_average import MovingAverage
from trajvit.training.optimizer import build_optimizer, build_schedule
from trajvit.training.publishing import check_hub, plain_model, push, save_model
from trajvit.training.run_config import RunConfig
from trajvit.training.run_folder import open_run_folder
from trajvit.training.run_plan import plan_run
from trajvit.training.run_progress import RunProgress
from trajvit.training.run_state import CheckpointError, RunState
from trajvit.training.training_log import TrainingLog
from trajvit.training.validation import evaluate_retrieval

EXPECTED_ERRORS = (ConfigError, LaunchError, CheckpointError, UnusableStreamError)
"""Faults of the configuration, the launch or the data, which a message tells better than a traceback."""


class Pretraining:
    """A run: everything that its steps need, built in the order in which one thing needs another."""

    def __init__(self, config: RunConfig):
        self.config = config
        self.accelerator = accelerator = build_accelerator(config)
        with accelerator.main_process_first():
            self.folder = open_run_folder(config, accelerator.is_main_process)

        generator = {"max_trajectories": config.loader.max_trajectories, **config.loader.trajectory_generator}
        num_frames = max(stream.num_frames for stream in config.data)
        model, self.processor = build_model(config.model, num_frames, config.seed, generator)
        if config.lora is not None:
            model = add_lora(model, config.lora)
        model.to(accelerator.device)
        if config.ema_decay is not None and shards_weights(accelerator):
            raise ConfigError(f"ema_decay={config.ema_decay}: ZeRO-3 shards the weights; expected null, or ZeRO-2")
        self.average = None if config.ema_decay is None else MovingAverage(model, config.ema_decay)

        self.sources = open_sources(config, self.processor)
        self.plan = plan_run(config, {name: source.num_samples for name, source in self.sources.items()})
        optimizer = build_optimizer(model, config.optimizer)
        schedule = build_schedule(optimizer, self.plan.num_steps, self.plan.warmup_steps, config.optimizer)
        self.model, self.optimizer, self.schedule = accelerator.prepare(model, optimizer, schedule)
        self.flops = StepFlops(accelerator, self.model, config.loss.captions_per_sample)
        self.step = ContrastiveStep(accelerator, self.model, config.loss, config.loss.captions_per_sample)

        self.checkpoints = CheckpointFolder(self.folder / "checkpoints", config.checkpoints.keep)
        state = RunState(num_ranks=accelerator.num_processes)
        latest = self.checkpoints.latest()
        if latest is not None:
            state = self.checkpoints.load(accelerator, latest, self.average)
            accelerator.print(f"Going on behind step {state.step}, from {latest}.")
        self.state = state

    def run(self) -> bool:
        """Take all steps that are left; False where a signal ended them early."""
        accelerator, config, plan = self.accelerator, self.config, self.plan
        progress = RunProgress(self.state, list(self.sources), accelerator.process_index)
        log = TrainingLog(
            accelerator,
            config.logging,
            self.folder,
            plan.num_steps,
            start_step=progress.step,
            steps_per_epoch=plan.steps_per_epoch,
            run_settings=to_mapping(config),
        )
        batches = training_batches(
            config, self.sources, self.processor, plan.shares, self.state, accelerator.process_index
        )
        try:
            with Interruption() as interruption:
                while progress.step < plan.num_steps:
                    self.train_step(batches, progress, log)
                    is_last = progress.step == plan.num_steps
                    is_stopped = interruption.requested(accelerator) and not is_last
                    if config.evaluation is not None and (is_last or progress.step % config.evaluation.every == 0):
                        with log.paused():
                            self.evaluate(progress, log)
                    if is_last or is_stopped or progress.step % config.checkpoints.every == 0:
                        with log.paused():
                            self.state = progress.state()
                            self.checkpoints.save(accelerator, self.state, self.average)
                    if is_stopped:
                        accelerator.print(f"Told to stop: saved behind step {progress.step}.")
                        break
        finally:
            batches.close()
        log.close()
        return progress.step == plan.num_steps

    def train_step(self, batches: MixedBatches, progress: RunProgress, log: TrainingLog) -> None:
        """One batch, one step of the optimiser, one line for the log."""
        began = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - began
        inputs = to_model_inputs(batch.inputs, self.accelerator.device, input_dtype(self.accelerator))
        result = self.step(inputs)
        learning_rate = self.schedule.get_last_lr()[0]
        norm = math.nan
        if result.finite:
            norm = apply_gradients(
                self.accelerator, self.model, self.optimizer, self.schedule, self.config.optimizer.clip_norm
            )
        else:
            self.schedule.step()
        is_applied = math.isfinite(norm)
        if self.average is not None and is_applied:
            self.average.update(self.accelerator.unwrap_model(self.model))
        progress.add(batch, result.num_samples, is_applied)
        for record in batch.skipped:
            log.skipped(progress.step, batch.stream, record.key, record.reason)
        log.step(
            progress.step,
            batch.stream,
            result,
            learning_rate=learning_rate,
            gradient_norm=norm,
            waited=waited,
            flops=self.flops.of_step(batch.stream, inputs, result.num_tokens),
            nonfinite_steps=progress.nonfinite_steps,
        )

    def evaluate(self, progress: RunProgress, log: TrainingLog) -> None:
        """Zero-shot retrieval of the held-out samples, by the weights that will be published."""
        assert self.config.evaluation is not None
        stream, accelerator = self.config.evaluation.data, self.accelerator
        loader = held_out_batches(
            self.config, stream, self.processor, accelerator.process_index, accelerator.num_processes
        )
        averaged: AbstractContextManager[None] = nullcontext()
        if self.average is not None:
            averaged = self.average.applied(accelerator.unwrap_model(self.model))
        try:
            with averaged:
                progress.metrics = evaluate_retrieval(accelerator, self.model, loader)
        finally:
            loader.close()
        log.evaluation(progress.step, progress.metrics)

    def save(self) -> Path:
        """Write the trained model, of averaged weights where there are some, and upload it where asked to."""
        accelerator, config, folder = self.accelerator, self.config, self.folder / "model"
        weights = full_state_dict(accelerator, self.model)
        if accelerator.is_main_process:
            if self.average is not None:
                weights = self.average.state_dict()
            model = plain_model(accelerator.unwrap_model(self.model), weights, config)
            save_model(folder, model, self.processor, config, self.state)
            print(f"The trained model is in {folder}.")
            if config.hub is not None:
                print(f"Uploaded: {push(folder, config.hub, self.state.step)}")
        accelerator.wait_for_everyone()
        return folder


def pretrain(config: RunConfig) -> Path | None:
    """Train as `config` says, going on from the newest checkpoint in its folder.

    Returns the folder of the trained model; None where a signal stopped the run, which has saved where it stands.
    """
    run = Pretraining(config)
    folder = run.save() if run.run() else None
    run.accelerator.end_training()
    return folder


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    config: Annotated[Path, typer.Option(help="YAML file, such as training/configs/tiny_synthetic.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Replace its values.")] = None,
    lora: Annotated[bool, typer.Option(help="Train low-rank adapters on model.checkpoint.")] = False,
    push_to_hub: Annotated[
        bool, typer.Option("--push-to-hub", "--push_to_hub", help="Upload to hub.model_id.")
    ] = False,
) -> None:
    """Pretrain a video encoder contrastively; run it again to go on where it stopped."""
    try:
        loaded = load_config(config, [*(overrides or []), *(["lora={}"] if lora else [])])
        if not push_to_hub:
            loaded.hub = None
        elif loaded.hub is None:
            raise ConfigError("hub.model_id is missing: expected user/name, where the model is to be uploaded")
        else:
            check_hub(loaded.hub)
        pretrain(loaded)
    except EXPECTED_ERRORS as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
