"""Measures a training step of every tokenizer of the paper's tables: samples/s, tokens/s, memory, waiting for data.

    python benchmarks/training_step.py                                  # ViT-Large, 16 frames, on the CPU
    python benchmarks/training_step.py --towers trajvit vit3d --batch 2 --repeats 2
    python benchmarks/training_step.py --device cuda --precision bf16 --batch 16 --repeats 20 --workers 12
    python benchmarks/training_step.py --batch 8 --chunk-size 1         # gradient caching
    python benchmarks/training_step.py --page docs/training_benchmarks.md   # what was measured, into the page

A step is what training/pretrain.py does: a batch from a `ClipLoader` (MP4 and trajectories files decoded by workers,
benchmarks/training_clips.py), normalised on the device; `ContrastiveStep` with a text tower of BERT's size (at `tiny` a
small one); the gradient's norm clipped; AdamW. Clips are resized, and with `--augment` also augmented, which leaves
fewer than `--trajectories` in the crop. Weights are random, batch norms frozen.

Every tower runs in a process of its own. After one step, in which AdamW makes its state, `--repeats` steps are timed;
of these the median counts. Then one more step tells memory: the highest sum of live allocations of PyTorch's allocator
beyond the model's state (weights, gradients, AdamW's two moments; gradients stay allocated, as in the buckets of
distributed training). The largest resident memory of the process is from before that step.

Every case is a line of JSON in the result file; those that are there are skipped the next time.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tower_report import markdown, write_between
from towers import RESULTS
from training_clips import ClipFiles, write_clips, write_trajectories

from trajvit.evaluation.cost_measuring import NO_MEMORY, is_out_of_memory, peak_bytes
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS

CLIPS = 2
CLIP_NORM = 1.0
# BERT-base but for the smallest size, which is for trying the script.
TEXT: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
}
VOCABULARY = 30_522


@dataclass(frozen=True)
class Case:
    """What is measured: the fields that tell one line of the result file from another."""

    size: str
    tower: str
    frames: int
    trajectories: int
    batch: int
    chunk_size: int | None
    captions: int
    augment: bool
    device: str
    precision: str
    threads: int
    workers: int


class Trainer:
    """A model in training, as training/pretrain.py makes it."""

    def __init__(self, case: Case):
        from accelerate import Accelerator

        from trajvit.training.contrastive_step import ContrastiveStep
        from trajvit.training.model_building import build_model
        from trajvit.training.optimizer import build_optimizer
        from trajvit.training.run_config import LossSettings, ModelSettings, OptimizerSettings

        self.accelerator = Accelerator(cpu=case.device == "cpu", mixed_precision=case.precision)
        settings = ModelSettings(
            tower=case.tower,
            size=case.size,
            text={"vocab_size": VOCABULARY, **TEXT.get(case.size, {})},
            text_checkpoint=None,
            pretrained_backbone=False,
        )
        model, self.processor = build_model(settings, case.frames, seed=0)
        model.to(self.accelerator.device)
        self.config: Any = model.config.vision_config
        optimizer = build_optimizer(model, OptimizerSettings())
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        losses = LossSettings(captions_per_sample=case.captions, chunk_size=case.chunk_size)
        self.contrastive_step = ContrastiveStep(self.accelerator, self.model, losses, case.captions)

    def step(self, inputs: dict[str, torch.Tensor]) -> Any:
        result = self.contrastive_step(inputs)
        self.accelerator.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        return result

    def state_bytes(self) -> int:
        """Weights, buffers, gradients and the optimizer's state."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        tensors += [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        for state in self.optimizer.state.values():
            tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        return sum(tensor.nbytes for tensor in tensors)


def open_loader(case: Case, trainer: Trainer, folder: Path) -> Any:
    """Batches of the clips that the parent process wrote to `folder`."""
    from trajvit.training.augmentation import ClipTransform
    from trajvit.training.clip_loader import ClipLoader
    from trajvit.training.record_stream import RecordStream
    from trajvit.training.run_config import AugmentationSettings

    config = trainer.config
    wanted = case.trajectories if config.needs_trajectories else None
    source = ClipFiles(folder, CLIPS, case.frames, wanted)
    transform = ClipTransform(
        config.image_size,
        config.feature_size if config.needs_trajectories else None,
        AugmentationSettings(enabled=case.augment),
        case.trajectories,
        case.captions,
    )
    return ClipLoader(
        RecordStream(source, seed=0),
        source,
        transform,
        trainer.processor.tokenizer,
        name="clips",
        batch_size=case.batch,
        num_workers=case.workers,
        prefetch=2,
    )


def measure(case: Case, folder: Path, repeats: int) -> dict[str, Any]:
    """The numbers of a case; runs in its own process."""
    from trajvit.training.collation import to_model_inputs

    torch.set_num_threads(case.threads)
    trainer = Trainer(case)
    device = trainer.accelerator.device
    loader = open_loader(case, trainer, folder)
    trainer.step(to_model_inputs(next(loader).inputs, device))
    steps, waits = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        batch = next(loader)
        waited = time.perf_counter()
        inputs = to_model_inputs(batch.inputs, device)
        result = trainer.step(inputs)
        steps.append(time.perf_counter() - began)
        waits.append(waited - began)
    loader.close()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "tokens": result.num_tokens / case.batch,
        "step_s": steps,
        "wait_s": waits,
        "state_mb": trainer.state_bytes() / 1e6,
        "beyond_mb": peak_bytes(lambda: trainer.step(inputs), device) / 1e6,
        "resident_mb": resident / 1e6,
    }


def run_case(case: Case, folder: Path, repeats: int) -> dict[str, Any]:
    """Measures a case in a process of its own, whose death for want of memory is a result too."""
    work = json.dumps({"case": asdict(case), "folder": str(folder), "repeats": repeats})
    done = subprocess.run([sys.executable, __file__, "--measure", work], stdout=subprocess.PIPE, text=True)
    if done.returncode == -signal.SIGKILL:
        return {"failed": NO_MEMORY}
    if done.returncode:
        raise RuntimeError(f"Measuring {case} ended with exit code {done.returncode}; its error is above.")
    return json.loads(done.stdout.splitlines()[-1])


def measure_in_this_process(work: str) -> None:
    """Prints the numbers of `run_case`'s case as the last line."""
    options = json.loads(work)
    try:
        found = measure(Case(**options["case"]), Path(options["folder"]), options["repeats"])
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        found = {"failed": NO_MEMORY}
    print(json.dumps(found), flush=True)


def read_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text("".join(json.dumps(record) + "\n" for record in records))
    unfinished.replace(path)


def record_of(case: Case, records: Sequence[dict[str, Any]], repeats: int) -> dict[str, Any] | None:
    """The case's record with at least so many timed steps, or the one that says that it failed."""
    key = asdict(case)
    found = (record for record in records if record.items() >= key.items())
    return next((record for record in found if "failed" in record or len(record["step_s"]) >= repeats), None)


def samples_per_second(record: dict[str, Any]) -> float:
    return record["batch"] / median(record["step_s"])


def table(records: Sequence[dict[str, Any]]) -> str:
    """A row for each record; shares are of ViT3D's samples/s in the same settings."""
    names = ["tower", "parameters", "tokens of a sample", "step, s", "samples/s", "of ViT3D's", "tokens/s", "waiting"]
    names += ["model state, MB", "beyond it, MB", "together, MB", "resident, MB"]
    dense = {settings_of(record): record for record in records if record["tower"] == "vit3d" and "failed" not in record}
    rows = []
    for record in records:
        if "failed" in record:
            rows.append([f"`{record['tower']}`", record["failed"], *["-"] * (len(names) - 2)])
            continue
        speed = samples_per_second(record)
        theirs = dense.get(settings_of(record))
        share = "-" if theirs is None else f"{speed / samples_per_second(theirs):.2f}"
        row = [f"`{record['tower']}`", f"{record['parameters'] / 1e6:.1f} M", f"{record['tokens']:,.0f}"]
        row += [f"{median(record['step_s']):,.3f}", f"{speed:,.3f}", share, f"{speed * record['tokens']:,.0f}"]
        row.append(f"{sum(record['wait_s']) / sum(record['step_s']):.1%}")
        megabytes = (record["state_mb"], record["beyond_mb"], record["state_mb"] + record["beyond_mb"])
        rows.append([*row, *(f"{value:,.0f}" for value in (*megabytes, record["resident_mb"]))])
    return markdown(names, rows)


def settings_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """What a record was measured with, but for the tower."""
    return tuple(record[name] for name in Case.__dataclass_fields__ if name != "tower")


def finding(records: Sequence[dict[str, Any]]) -> str:
    """TrajViT beside ViT3D in a sentence; empty where one of them was not measured."""
    ours, dense = (next((r for r in records if r["tower"] == name), {}) for name in ("trajvit", "vit3d"))
    if "step_s" not in ours or "step_s" not in dense:
        return ""
    together = [record["state_mb"] + record["beyond_mb"] for record in (ours, dense)]
    return (
        f"- T = {ours['frames']}: TrajViT trains {samples_per_second(ours) / samples_per_second(dense):.1f} times as "
        f"many samples a second as ViT3D. Beyond the model's state ViT3D needs "
        f"{dense['beyond_mb'] / ours['beyond_mb']:.1f} times the memory of TrajViT, with it "
        f"{together[1] / together[0]:.1f} times."
    )


def section(records: Sequence[dict[str, Any]]) -> str:
    """The settings that records share, what is said about TrajViT, and the table."""
    first = records[0]
    chunks = "" if first["chunk_size"] is None else f", in chunks of {first['chunk_size']}"
    threads = f", {counted(first['threads'], 'thread')}" if first["device"] == "cpu" else ""
    repeats = {len(record["step_s"]) for record in records if "step_s" in record} or {0}
    fewest = "" if len(repeats) == 1 else f"{min(repeats)} to "
    heading = (
        f"### `{first['size']}`, {first['frames']} frames, batch {first['batch']}{chunks}, {first['device']}, "
        f"mixed precision {first['precision']}\n\nTrajViT with {first['trajectories']} trajectories"
        f"{' before augmentation' if first['augment'] else ''}, {counted(first['captions'], 'caption')} a sample"
        f"{threads}, {counted(first['workers'], 'loading process', 'es')}; median of {fewest}"
        f"{counted(max(repeats), 'step')}."
    )
    return "\n\n".join(part for part in (heading, finding(records), table(records)) if part)


def counted(number: int, thing: str, plural: str = "s") -> str:
    return f"{number} {thing}{'' if number == 1 else plural}"


def write_page(page: Path, records: Sequence[dict[str, Any]]) -> None:
    """A section for each of the settings that the records have, in the order in which they were measured first."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(settings_of(record), []).append(record)
    order = list(VISION_TOWERS)
    parts = [section(sorted(group, key=lambda record: order.index(record["tower"]))) for group in groups.values()]
    write_between(page, "training", "\n\n".join(parts))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large", choices=["tiny", "small", "base", "large"])
    parser.add_argument("--towers", nargs="+", default=list(VISION_TOWERS), choices=list(VISION_TOWERS))
    parser.add_argument("--frames", type=int, nargs="+", default=[16])
    parser.add_argument("--trajectories", type=int, default=128, help="of TrajViT's clips")
    parser.add_argument("--batch", type=int, default=2, help="samples of a step")
    parser.add_argument("--chunk-size", type=int, help="samples that pass the model at once; default: all")
    parser.add_argument("--captions", type=int, default=1, help="of a sample")
    parser.add_argument("--augment", action="store_true", help="augment clips as in training")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="no", choices=["no", "bf16", "fp16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=1, help="processes that decode clips")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/training_<size>_<device>.jsonl")
    parser.add_argument("--page", type=Path, help="measure nothing: write the result file into this page")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.output = options.output or RESULTS / f"training_{options.size}_{options.device}.jsonl"
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if options.measure is not None:
        measure_in_this_process(options.measure)
        return
    if options.page is not None:
        write_page(options.page, read_records(options.output))
        return
    fields = ("size", "trajectories", "batch", "chunk_size", "captions", "augment", "device", "precision")
    fields += ("threads", "workers")
    first = Case(tower="", frames=0, **{name: getattr(options, name) for name in fields})
    folder = options.output.parent / "training_clips"
    for frames in options.frames:
        shown = []
        for tower in options.towers:
            case = replace(first, tower=tower, frames=frames)
            records = read_records(options.output)
            record = record_of(case, records, options.repeats)
            if record is None:
                print(f"T={frames}: {tower}", flush=True)
                write_clips(folder, CLIPS)
                if VISION_TOWER_CONFIGS[tower].needs_trajectories:
                    write_trajectories(folder, CLIPS, frames, options.trajectories)
                record = asdict(case) | run_case(case, folder, options.repeats)
                others = [other for other in records if not other.items() >= asdict(case).items()]
                write_records(options.output, [*others, record])
            shown.append(record)
        print(section(shown))


if __name__ == "__main__":
    main()
