"""How many samples of the synthetic world one core makes in a second: rendered, captioned, with their trajectories.

    python benchmarks/synthetic_world.py [--size 112 --size 224] [--samples 100]

Time is of the processor, with one thread; `transform` is what a worker of a training run does afterwards to make a
sample of the clip, crops and colour changes included.
"""

import time
from typing import Annotated

import cv2
import torch
import typer

from trajvit.training.augmentation import ClipTransform
from trajvit.training.run_config import AugmentationSettings
from trajvit.training.synthetic import SyntheticSource

# As in training/configs/tiny_synthetic.yaml: captions name sides and colours.
AUGMENTATION = AugmentationSettings(crop_scale=(0.8, 1.0), flip=0, hue=0, grayscale=0)


def rates(media: str, side: int, frames: int, samples: int) -> tuple[float, float]:
    """Samples in a second of the processor: clips made, and made and transformed. One more goes before, to warm up."""
    source = SyntheticSource("world", "train", media, samples + 1, frames, {"image_size": side})
    first, *rows = (row for shard in range(source.num_shards) for row in source.rows(shard))
    transform = ClipTransform(side, side // 4, AUGMENTATION, 128, 1)
    transform(source.read(first), 0)
    began = time.process_time()
    clips = [source.read(row) for row in rows]
    made = time.process_time()
    for seed, clip in enumerate(clips):
        transform(clip, seed)
    return samples / (made - began), samples / (time.process_time() - began)


def main(
    size: Annotated[list[int], typer.Option(help="Pixels of a side.")] = [112, 224],  # noqa: B006
    frames: Annotated[int, typer.Option(help="Frames of a video.")] = 16,
    samples: Annotated[int, typer.Option(help="Samples that are timed.")] = 100,
) -> None:
    """Print a table of samples a second."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print("| media | pixels | made, a second | with its transform |\n|---|---:|---:|---:|")
    for media in ("video", "image"):
        for side in size:
            made, transformed = rates(media, side, frames, samples)
            print(f"| {media} | {side} | {made:.0f} | {transformed:.0f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
