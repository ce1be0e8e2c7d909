"""Measures every tokenizer of the paper's tables as a vision tower: parameters, tokens, FLOPs, time, memory.

    python benchmarks/towers.py                              # ViT-Large, T in {16, 32, 64, 128}, on the CPU
    python benchmarks/towers.py --size small --frames 16 32 --no-training
    python benchmarks/towers.py --device cuda --dtype bfloat16 --batch 8 --repeats 10
    python benchmarks/tower_report.py benchmarks/results/towers_*.json     # the page and its plots

All towers see the same clip in the same run (evaluation/scene_clips.py); RLT, whose cost depends on what it sees, also
noise. TrajViT's videos have exactly `--trajectories`; what generating them costs is not in its numbers. Tokens are
those that a tower gives, CLS included, in the mean of the batch.

FLOPs are what one forward pass executes by `torch.utils.flop_counter`, a multiply-add as two: matrix products,
convolutions and attention, and neither norms nor activations nor sorting. A training step is forward, an InfoNCE loss
of the pooled output against 256 fixed vectors, and backward, without an optimizer. Time is the best of `--repeats`
rounds; a round passes all towers at one T, so that the machine's load meets all alike, and repeats what is shorter
than 0.2 s. Peak memory is counted as in benchmarks/tokenizer.py: live allocations beyond the weights and the input,
gradients included. What an allocator refuses is noted as out of memory; a system that ends the process instead needs
`--no-training` for its longest videos.

Every number is kept in the result file at once, and measured ones are skipped the next time: an interrupted run goes on
where it was, and more `--repeats` add rounds.
"""

import argparse
import gc
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tower_report import findings, table

from trajvit.evaluation.cost_measuring import NO_MEMORY, best_time, count_flops, is_out_of_memory, peak_bytes
from trajvit.evaluation.scene_clips import NOISE, SCENE, clip_frames, trajectory_inputs
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS

NUM_TEXTS = 256
TEMPERATURE = 0.07
RESULTS = Path("benchmarks/results")


@dataclass(frozen=True)
class Case:
    """What is measured, and on what: the fields that tell one record of the result file from another."""

    size: str
    tower: str
    frames: int
    clip: str
    trajectories: int
    batch: int
    device: str
    dtype: str
    threads: int

    @cached_property
    def model(self) -> Any:
        """A new tower; its weights are random, and the same in every round."""
        torch.manual_seed(0)
        with torch.device(self.device):
            tower = VISION_TOWERS[self.tower](VISION_TOWER_CONFIGS[self.tower].from_name(self.size))
        return tower.to(getattr(torch, self.dtype)).eval()

    @cached_property
    def inputs(self) -> dict[str, torch.Tensor]:
        config = self.model.config
        frames = clip_frames(self.clip, self.frames, config.image_size, self.batch)
        inputs = {"pixel_values_videos": frames.to(getattr(torch, self.dtype))}
        if self.tower == "trajvit":
            inputs |= trajectory_inputs(self.frames, [self.trajectories] * self.batch, config.feature_size)
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    @property
    def on(self) -> torch.device:
        return torch.device(self.device)

    @torch.no_grad()
    def forward(self) -> Any:
        return self.model(**self.inputs)

    def training_step(self) -> torch.Tensor:
        """Forward, the loss of the batch's videos against fixed texts, and backward: the loss."""
        self.model.zero_grad(set_to_none=True)
        pooled = self.model.train()(**self.inputs).pooler_output
        texts = torch.randn(NUM_TEXTS, pooled.shape[1], generator=torch.Generator().manual_seed(1)).to(pooled)
        similarities = nn.functional.normalize(pooled, dim=-1) @ nn.functional.normalize(texts, dim=-1).T
        own = torch.arange(self.batch, device=pooled.device)
        loss = nn.functional.cross_entropy(similarities.float() / TEMPERATURE, own)
        loss.backward()
        self.model.eval()
        return loss.detach()

    def free(self) -> None:
        """Lets go of the model and its inputs; they are built anew when they are needed."""
        for name in ("model", "inputs"):
            self.__dict__.pop(name, None)
        gc.collect()


def describe(case: Case) -> dict[str, Any]:
    """Parameters, tokens and FLOPs. The forward pass that is counted is the warm-up of those that are timed."""
    outputs, counter = count_flops(case.model, case.forward)
    grid = VISION_TOWER_CONFIGS["vit3d"].from_name(case.size, num_frames=case.frames).position_grid
    return {
        "parameters": sum(parameter.numel() for parameter in case.model.parameters()),
        "tokens": outputs.token_mask.sum().item() / case.batch,
        "tubelets": grid[0] * grid[1] * grid[2],
        "gflop": counter.get_total_flops() / case.batch / 1e9,
    }


class Results:
    """Records of cases in a JSON file that is complete at any time."""

    def __init__(self, path: Path):
        self.path = path
        self.records: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def of(self, case: Case) -> dict[str, Any]:
        """The case's record; a new one is empty but for the case."""
        key = asdict(case)
        record = next((record for record in self.records if record.items() >= key.items()), None)
        if record is None:
            record = key
            self.records.append(record)
        return record

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.records, indent=1) + "\n")
        unfinished.replace(self.path)


def measure_round(case: Case, results: Results, number: int, training: bool) -> None:
    """Adds what the record of `case` lacks of its first `number` rounds."""
    record = results.of(case)
    runs = {"forward": case.forward} | ({"training": case.training_step} if training else {})
    for name, run in runs.items():
        measured = record.setdefault(f"{name}_s", [])
        while len(measured) < number and f"{name}_failed" not in record:
            try:
                if "gflop" not in record:
                    record.update(describe(case))
                case.model.zero_grad(set_to_none=True)
                if f"{name}_mb" not in record:
                    record[f"{name}_mb"] = peak_bytes(run, case.on) / 1e6
                else:
                    measured.append(best_time(run, case.on))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                record[f"{name}_failed"] = NO_MEMORY
            results.save()
    case.free()


def is_complete(case: Case, results: Results, number: int, training: bool) -> bool:
    record = results.of(case)
    names = ("forward", "training") if training else ("forward",)
    return all(len(record.get(f"{name}_s", [])) >= number or f"{name}_failed" in record for name in names)


def cases_of(options: argparse.Namespace, frames: int) -> list[Case]:
    """The cases of one number of frames: every tower on the clip, and RLT on noise."""
    clip = SCENE if options.video is None else str(options.video)
    settings = {name: getattr(options, name) for name in ("trajectories", "batch", "device", "dtype", "threads")}
    cases = [Case(options.size, tower, frames, clip, **settings) for tower in options.towers]
    if "rlt" in options.towers:
        cases.append(Case(options.size, "rlt", frames, NOISE, **settings))
    return cases


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large", choices=["tiny", "small", "base", "large"])
    parser.add_argument("--towers", nargs="+", default=list(VISION_TOWERS), choices=list(VISION_TOWERS))
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--trajectories", type=int, default=128, help="of TrajViT's videos")
    parser.add_argument("--video", type=Path, help="show the towers this video instead of the scene")
    parser.add_argument("--batch", type=int, default=1, help="videos that pass together; FLOPs are those of one")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-training", action="store_true", help="forward passes alone")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the best time counts")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/towers_<size>_<device>.json")
    options = parser.parse_args(arguments)
    options.output = options.output or RESULTS / f"towers_{options.size}_{options.device}.json"
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    results, training = Results(options.output), not options.no_training
    shown = []
    for frames in options.frames:
        cases = cases_of(options, frames)
        for number in range(1, options.repeats + 1):
            for case in cases:
                if not is_complete(case, results, number, training):
                    print(f"T={frames}, round {number}: {case.tower} on {case.clip}", flush=True)
                    measure_round(case, results, number, training)
        shown += [results.of(case) for case in cases]
    print(table(shown))
    print("\n".join(findings(shown)))


if __name__ == "__main__":
    main()
