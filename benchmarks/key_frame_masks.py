"""Measures SAM 2's automatic masks of one key frame against the package's generator, with random weights.

    python benchmarks/key_frame_masks.py                  # tiny and small at 512, 32 x 32 points, one thread
    python benchmarks/key_frame_masks.py --device cuda
    python benchmarks/key_frame_masks.py --checkpoint sam2.1_hiera_small.pt --model small

The key frame is scikit-image's astronaut, 512 x 512. Both sides get the same thresholds: with random weights those that
keep half of the candidates by predicted IoU, and half of these by stability; with real ones the defaults. Random
weights are moved so that masks do not fill the frame. Time is processor time on the CPU, so that other programs do not
count, and wall time on a GPU; the best of `--repeats`. FLOPs are `torch.utils.flop_counter`'s. "Encoder" is the image
encoder, which the generator runs too and the segmenter shares with tracking.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from random_sam2 import randomise_
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.modeling.sam2_base import SAM2Base
from sam2_flops import FlopsByPart
from skimage import data

from trajvit.processing.panoptic_map import panoptic_map
from trajvit.processing.sam2_features import FrameFeatures, encode_frames
from trajvit.processing.sam2_loading import build_sam2, load_sam2
from trajvit.processing.sam2_point_decoder import PointDecoder
from trajvit.processing.sam2_segmenter import AutomaticMaskSegmenter, FrameMasks

MAP_SIZE = (256, 455)


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        clock = time.process_time if device.type == "cpu" else _synchronised_clock
        start = clock()
        run()
        best = min(best, clock() - start)
    return best


def _synchronised_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def tflops(run: Callable[[], object]) -> float:
    with FlopsByPart() as counter:
        run()
    return counter.total / 1e12


def one_frame(model: SAM2Base, features: FrameFeatures, **options: object) -> FrameMasks:
    return next(iter(AutomaticMaskSegmenter(model, **options).find_masks(features)))


@torch.no_grad()
def with_smaller_masks(model: SAM2Base) -> SAM2Base:
    """Lower all mask logits of a random model, whose masks would otherwise all have the box of the frame."""
    for head in model.sam_mask_decoder.output_hypernetworks_mlps:
        head.layers[-1].bias.sub_(2.5)
    return model


def halving_thresholds(model: SAM2Base, features: FrameFeatures, points_per_side: int) -> dict[str, float]:
    """The median of the predicted IoUs, and the median stability of those above."""
    options = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    found = one_frame(model, features, points_per_side=points_per_side, **options)
    iou = float(found.predicted_ious.median())
    stability = float(found.stability_scores[found.predicted_ious > iou].median())
    return {"pred_iou_thresh": iou, "stability_score_thresh": stability}


def names_of(masks: FrameMasks) -> set[tuple[float, float, float]]:
    """What tells candidates apart: their point and their predicted IoU."""
    points, ious = masks.points.tolist(), masks.predicted_ious.tolist()
    return {(x, y, iou) for (x, y), iou in zip(points, ious, strict=True)}


def in_common(first: FrameMasks, second: FrameMasks) -> float:
    """Masks that both have, as a share of those that either has."""
    either = names_of(first) | names_of(second)
    return len(names_of(first) & names_of(second)) / len(either) if either else 1.0


def measure(model: SAM2Base, image: np.ndarray, options: dict[str, float | int], repeats: int) -> None:
    device, size = model.device, image.shape[:2]
    features = encode_frames(model, image[None])
    segmenter = AutomaticMaskSegmenter(model, **options)
    at_image_size = AutomaticMaskSegmenter(model, **options, filter_size=size)
    generator = SAM2AutomaticMaskGenerator(model, **options)
    generator.predictor._bb_feat_sizes = [(model.image_size // stride,) * 2 for stride in (4, 8, 16)]
    for _ in range(2):  # its transforms are compiled at first
        generator.predictor.set_image(image)
    rows: dict[str, Callable[[], object]] = {
        "generator, encoder included": lambda: generator.generate(image),
        "encoder": lambda: encode_frames(model, image[None]),
        "segmenter": lambda: list(segmenter.find_masks(features)),
        "segmenter, filtering at image size": lambda: list(at_image_size.find_masks(features)),
    }
    measured = {name: (seconds(run, device, repeats), tflops(run)) for name, run in rows.items()}
    for name, (time_, flops) in measured.items():
        print(f"  {name:<36} {time_:8.2f} s {flops:8.3f} TFLOP")
    whole, encoder, ours = (measured[name] for name in ("generator, encoder included", "encoder", "segmenter"))
    shares = [ours[unit] / (whole[unit] - encoder[unit]) for unit in (0, 1)]
    print(f"  segmenter / (generator - encoder): {shares[0]:.2f} of the time, {shares[1]:.2f} of the FLOPs")


def compare_filters(model: SAM2Base, image: np.ndarray, options: dict[str, float | int]) -> None:
    """How many of the same candidates survive filtering at S/4 and at the size of the image."""
    features = encode_frames(model, image[None])
    unsuppressed = {**options, "box_nms_thresh": 1.0}
    low, full = (one_frame(model, features, **options, filter_size=size) for size in (None, image.shape[:2]))
    low_before, full_before = (
        one_frame(model, features, **unsuppressed, filter_size=size) for size in (None, image.shape[:2])
    )
    print(
        f"  filtering at S/4 and at image size: {len(low.logits)} and {len(full.logits)} masks, "
        f"{in_common(low, full):.1%} in common; before box suppression {len(low_before.logits)} and "
        f"{len(full_before.logits)}, {in_common(low_before, full_before):.1%}"
    )


@torch.inference_mode()
def compare_precisions(model: SAM2Base, image: np.ndarray, num_points: int = 64) -> None:
    """How far bfloat16 moves candidates at random points."""
    features = encode_frames(model, image[None])
    points = torch.rand(num_points, 2, generator=torch.Generator().manual_seed(0)).to(model.device) * model.image_size
    ious, masks = [], []
    for enabled in (False, True):
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=enabled):
            decoder = PointDecoder(model, features)
            decoded = decoder.decode(points)
            everything = torch.ones_like(decoded.predicted_ious, dtype=torch.bool)
            masks.append(torch.cat([logits for _, logits in decoder.masks(decoded, everything)]) > 0)
            ious.append(decoded.predicted_ious)
    print(
        f"  bfloat16: {(masks[0] != masks[1]).float().mean():.2%} of the candidates' pixels differ, "
        f"predicted IoUs by {(ious[0] - ious[1]).abs().mean():.4f}"
    )


def time_map(model: SAM2Base, image: np.ndarray, options: dict[str, float | int], num_masks: int = 150) -> None:
    found = one_frame(model, encode_frames(model, image[None]), **{**options, "box_nms_thresh": 1.0})
    logits = torch.nn.functional.interpolate(found.logits[:num_masks, None], MAP_SIZE, mode="bilinear")
    masks = (logits[:, 0] > 0).cpu().numpy()
    time_ = seconds(lambda: panoptic_map(masks, MAP_SIZE), torch.device("cpu"), repeats=5)
    print(f"  panoptic map of {len(masks)} masks at {MAP_SIZE[0]} x {MAP_SIZE[1]}: {1000 * time_:.0f} ms")


def main(
    model: Annotated[list[str], typer.Option(help="Sizes of SAM 2.1.")] = ["tiny", "small"],  # noqa: B006
    checkpoint: Annotated[Path | None, typer.Option(help="Real weights, for one size.")] = None,
    image_size: int = 512,
    points_per_side: int = 32,
    points_per_batch: int = 64,
    device: str = "cpu",
    threads: int = 1,
    repeats: int = 1,
) -> None:
    """Print time, FLOPs and disagreements for each model size."""
    torch.set_num_threads(threads)
    image = data.astronaut()
    for name in model:
        if checkpoint is None:
            network = with_smaller_masks(randomise_(build_sam2(name, image_size))).to(device)
        else:
            network = load_sam2(name, checkpoint, image_size, device)
        options: dict[str, float | int] = {"points_per_side": points_per_side, "points_per_batch": points_per_batch}
        if checkpoint is None:
            options |= halving_thresholds(network, encode_frames(network, image[None]), points_per_side)
        weights = "random weights" if checkpoint is None else checkpoint.name
        print(f"{name} at {image_size}, {points_per_side} x {points_per_side} points, {weights}, on {network.device}")
        measure(network, image, options, repeats)
        compare_filters(network, image, options)
        compare_precisions(network, image)
        time_map(network, image, options)


if __name__ == "__main__":
    typer.run(main)
