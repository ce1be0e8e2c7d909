"""Measures the trajectory tokenizer against the literal form of the same computation: time, peak memory, equality.

    python benchmarks/tokenizer.py                  # large-wide and large, T in {16, 64}, M in {64, 128, 256}
    python benchmarks/tokenizer.py --quick          # large-wide and large at T = 16, M = 128
    python benchmarks/tokenizer.py --device cuda    # also end to end in bf16, with the share of the matrix units

Rows: `boxes` and `mask pooling` start from what both forms are given (the label volume or its one-hot masks; a
(T, 56, 56, D) feature map); `pooling` is rows 1 and 2 of the supplement's Table 2 without the ResNet, from its stage
maps to one vector per (trajectory, frame) pair; `pooling, backward` adds the gradient; `resamplers` is row 4;
`tokenizer` is rows 1 to 5. The label volume is made of moving Voronoi cells that live for a part of the video.

Time is the best of several alternating runs. Peak memory is the highest sum of live allocations of PyTorch's allocator
during one run, beyond what lived before it, as `torch.profiler` records each allocation and release (on CUDA,
`torch.cuda.max_memory_allocated`); scratch memory that a library takes from elsewhere is not in it. Measured cases are
kept in the result file and skipped next time, so an interrupted run goes on where it was.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from literal_tokenizer import boxes_of_masks, enlarge_and_sum, literal_tokens, masked_mean, one_hot_masks, resample

from trajvit.evaluation.cost_measuring import peak_bytes, seconds
from trajvit.evaluation.scene_clips import moving_cells
from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel
from trajvit.modeling_trajvit.modeling_trajvit import TrajectoryTokenizer, pair_rows
from trajvit.modeling_trajvit.position_encoding import frame_times
from trajvit.modeling_trajvit.trajectory_pooling import segment_areas, segment_boxes, trajectory_pooling

Form = Callable[[], torch.Tensor]

# Dense bf16 peak of a device in TFLOP/s, from its maker's data sheet.
MATRIX_UNIT_CEILING = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40": 181.0}


@dataclass
class Case:
    """One video's worth of inputs, and both forms of every row of the table."""

    tokenizer: TrajectoryTokenizer
    labels: torch.Tensor  # (T, 56, 56)
    num_trajectories: int

    def __post_init__(self) -> None:
        self.areas = segment_areas(self.labels, self.num_trajectories)
        self.present = self.areas > 0
        self.rows = pair_rows(self.present)
        self.width = self.tokenizer.config.resampler_hidden_size

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(self.labels.device)

    @cached_property
    def frames(self) -> torch.Tensor:
        size = self.tokenizer.config.image_size
        return self.random(len(self.labels), 3, size, size)

    def share_outside_backbone(self, repeats: int) -> float:
        """Median share of the tokenizer's time that is not the ResNet's own, both taken within one run."""
        ours, _ = self.whole()
        device, backbone = self.labels.device, self.tokenizer.frame_features
        forward = backbone.forward
        shares = []
        for _ in range(repeats):
            inside = []

            def timed(frames: torch.Tensor, inside: list[float] = inside) -> tuple[torch.Tensor, ...]:
                stages: list[tuple[torch.Tensor, ...]] = []
                inside.append(seconds(lambda: stages.append(forward(frames)), device))
                return stages[0]

            backbone.forward = timed
            total = seconds(ours, device)
            backbone.forward = forward
            shares.append(1 - sum(inside) / total)
        return sorted(shares)[len(shares) // 2]

    def boxes(self) -> tuple[Form, Form]:
        masks = one_hot_masks(self.labels, self.num_trajectories)
        return lambda: segment_boxes(self.labels, self.num_trajectories), lambda: boxes_of_masks(masks)

    def mask_pooling(self) -> tuple[Form, Form]:
        features = self.random(*self.labels.shape, self.width).permute(0, 3, 1, 2)

        def ours() -> torch.Tensor:
            return trajectory_pooling(features, self.labels, segment_areas(self.labels, self.num_trajectories))

        return ours, lambda: masked_mean(features, one_hot_masks(self.labels, self.num_trajectories))

    def pooling_of(self, stages: list[torch.Tensor], chunk: int) -> tuple[Form, Form]:
        projections = self.tokenizer.frame_features.projections

        def ours() -> torch.Tensor:
            areas = segment_areas(self.labels, self.num_trajectories)
            pooled = []
            for start in range(0, len(self.labels), chunk):
                part = slice(start, start + chunk)
                maps = [stage[part] for stage in stages]
                pooled.append(self.tokenizer.pool_stages(maps, self.labels[part], areas[part], self.present[part]))
            return torch.cat(pooled)

        def literal() -> torch.Tensor:
            features = enlarge_and_sum(stages, projections, self.labels.shape[-1])
            return masked_mean(features, one_hot_masks(self.labels, self.num_trajectories))[self.rows]

        return ours, literal

    def stages(self) -> list[torch.Tensor]:
        return [stage.clone() for stage in self.tokenizer.frame_features(self.frames)]

    def pooling(self) -> tuple[Form, Form]:
        return self.pooling_of(self.stages(), self.tokenizer.frames_per_chunk(self.frames.device))

    def pooling_backward(self) -> tuple[Form, Form]:
        """As in training: all frames at once, gradients for the stage maps and the projections."""
        stages = [stage.requires_grad_() for stage in self.stages()]
        inputs = stages + list(self.tokenizer.frame_features.projections.parameters())
        weights = self.random(len(self.rows[0]), self.width)

        def with_gradients(form: Form) -> Form:
            def run() -> torch.Tensor:
                with torch.enable_grad():
                    gradients = torch.autograd.grad((form() * weights).sum(), inputs)
                return gradients[0]

            return run

        ours, literal = self.pooling_of(stages, len(self.labels))
        return with_gradients(ours), with_gradients(literal)

    def resamplers(self) -> tuple[Form, Form]:
        dense = self.random(self.num_trajectories, len(self.labels), self.width)
        packed = dense.transpose(0, 1)[self.rows]
        is_frame = torch.ones(1, len(self.labels), dtype=torch.bool, device=self.labels.device)
        videos = torch.zeros_like(self.labels[:, 0, 0])
        pairs = self.tokenizer.describe_pairs(self.present, videos, frame_times(is_frame)[0], batch_size=1)
        there = self.present.any(0).unsqueeze(1)
        both = (self.tokenizer.appearance_resampler, self.tokenizer.position_resampler)
        return (
            lambda: torch.cat([resampler(packed, pairs) * there for resampler in both]),
            lambda: torch.cat([resample(resampler, dense, self.present.T) * there for resampler in both]),
        )

    def whole(self) -> tuple[Form, Form]:
        mask = torch.ones(1, self.num_trajectories, dtype=torch.long, device=self.labels.device)
        return (
            lambda: self.tokenizer(self.frames[None], self.labels[None], mask)[0][0],
            lambda: literal_tokens(self.tokenizer, self.frames, self.labels, self.num_trajectories),
        )


ROWS: dict[str, Callable[[Case], tuple[Form, Form]]] = {
    "boxes": Case.boxes,
    "mask pooling": Case.mask_pooling,
    "pooling": Case.pooling,
    "pooling, backward": Case.pooling_backward,
    "resamplers": Case.resamplers,
    "tokenizer": Case.whole,
}


def compare(ours: Form, literal: Form, device: torch.device, repeats: int) -> dict[str, float]:
    """Best times of alternating runs, peak memory of each, and how far the results are apart."""
    expected, result = literal(), ours()
    difference = float((result - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    del expected, result
    times = [(seconds(ours, device), seconds(literal, device)) for _ in range(repeats)]
    return {
        "ours_ms": 1e3 * min(ours_time for ours_time, _ in times),
        "literal_ms": 1e3 * min(literal_time for _, literal_time in times),
        "ours_mb": peak_bytes(ours, device) / 1e6,
        "literal_mb": peak_bytes(literal, device) / 1e6,
        "difference": difference,
    }


def table(results: list[dict[str, Any]]) -> str:
    names = ("configuration", "T", "M", "row", "ours, ms", "literal, ms", "faster", "ours, MB", "literal, MB")
    names = (*names, "memory", "difference", "outside the ResNet")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for r in results:
        outside = f"{r['outside']:.0%}" if "outside" in r else ""
        cells = (
            *(r["configuration"], r["frames"], r["trajectories"], r["row"]),
            *(f"{r['ours_ms']:.1f}", f"{r['literal_ms']:.1f}", f"{r['literal_ms'] / r['ours_ms']:.1f}x"),
            *(f"{r['ours_mb']:.1f}", f"{r['literal_mb']:.1f}", f"1/{r['literal_mb'] / r['ours_mb']:.1f}"),
            *(f"{r['difference']:.0e}", outside),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def end_to_end(name: str, num_frames: int, num_trajectories: int, batch_size: int, device: torch.device) -> str:
    """Forward pass of the whole model in bf16 on a GPU, and its share of the matrix units' peak."""
    from torch.utils.flop_counter import FlopCounterMode

    model = TrajViTModel(TrajViTConfig.from_name(name, frames_per_chunk=128)).eval().to(device, torch.bfloat16)
    labels = moving_cells(num_frames, num_trajectories, 0.6).to(device).expand(batch_size, -1, -1, -1)
    frames = torch.randn(batch_size, num_frames, 3, 224, 224, device=device, dtype=torch.bfloat16)
    mask = torch.ones(batch_size, num_trajectories, dtype=torch.long, device=device)

    def run() -> torch.Tensor:
        return model(frames, labels, mask).pooler_output

    with FlopCounterMode(display=False) as counter:
        run()
    best = min(seconds(run, device) for _ in range(10))
    rate = counter.get_total_flops() / best / 1e12
    board = torch.cuda.get_device_name(device)
    ceiling = next((value for part, value in MATRIX_UNIT_CEILING.items() if part in board), None)
    share = f"{rate / ceiling:.1%} of {ceiling:.0f}" if ceiling else "ceiling of this board unknown"
    return (
        f"{name}, T={num_frames}, M={num_trajectories}, batch {batch_size}, bf16 on {board}: "
        f"{batch_size / best:.1f} videos/s, {rate:.1f} TFLOP/s ({share}), "
        f"{peak_bytes(run, device) / 1e9:.2f} GB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only T = 16, M = 128")
    parser.add_argument("--configurations", nargs="+", default=["large-wide", "large"])
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--trajectories", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--life", type=float, default=0.6, help="mean share of the video that a trajectory lives for")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=16, help="videos of the end-to-end run on a GPU")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/tokenizer.json"))
    options = parser.parse_args()
    if options.quick:
        options.frames, options.trajectories = [16], [128]
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    known: list[dict[str, Any]] = json.loads(options.output.read_text()) if options.output.exists() else []
    results = []
    with torch.no_grad():
        for name in options.configurations:
            # The transformer is no part of the comparison.
            config = TrajViTConfig.from_name(name, num_hidden_layers=1)
            tokenizer = TrajViTModel(config).eval().to(device).tokenizer
            for frames in options.frames:
                for trajectories in options.trajectories:
                    settings = {"life": options.life, "threads": options.threads, "device": options.device}
                    key = {"configuration": name, "frames": frames, "trajectories": trajectories, **settings}
                    labels = moving_cells(frames, trajectories, options.life).to(device)
                    case = Case(tokenizer, labels, trajectories)
                    for row, forms in ROWS.items():
                        result = next((r for r in known if r.items() >= {**key, "row": row}.items()), None)
                        if result is None:
                            print(f"measuring {name}, T={frames}, M={trajectories}: {row}", flush=True)
                            result = {**key, "row": row, **compare(*forms(case), device, options.repeats)}
                            if row == "tokenizer":
                                result["outside"] = case.share_outside_backbone(options.repeats)
                            known.append(result)
                            options.output.write_text(json.dumps(known, indent=1))
                        results.append(result)
        page = table(results)
        options.output.with_suffix(".md").write_text(page + "\n")
        print(page)
        if device.type != "cuda":
            print("\nEnd to end in bf16: skipped, it needs a CUDA device (--device cuda).")
            return
        for frames in options.frames:
            print(end_to_end("large", frames, 128, options.batch_size, device))


if __name__ == "__main__":
    main()
