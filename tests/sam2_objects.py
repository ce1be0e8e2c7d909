"""Frames, masks and a random SAM 2 for the tests of its tracker."""

import numpy as np
import torch
from random_sam2 import randomise_

from trajvit.processing.sam2_loading import build_sam2

SIZE = 128
# Of logits with a standard deviation of 2.4, once memories that differ in float32's last bits are kept in bfloat16.
ROUNDING = 5e-3


def random_predictor(size: int):
    return randomise_(build_sam2("tiny", image_size=size, target="sam2.sam2_video_predictor.SAM2VideoPredictor")).eval()


def moving_frames(count: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """A picture of random blocks that moves by a few pixels a frame."""
    rng = np.random.default_rng(seed)
    picture = np.kron(rng.integers(0, 256, (24, 24, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    return np.stack([picture[3 * t : 3 * t + size, 5 * t : 5 * t + size] for t in range(count)])


def voronoi_masks(count: int, seed: int = 0, size: int = SIZE) -> torch.Tensor:
    """(count, size, size) masks that tile the frame."""
    points = torch.from_numpy(np.random.default_rng(seed).random((count, 2)) * size)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    nearest = ((y[None] - points[:, 0, None, None]) ** 2 + (x[None] - points[:, 1, None, None]) ** 2).argmin(0)
    return nearest[None] == torch.arange(count)[:, None, None]


def follow(tracker, features, first, length, masks) -> torch.Tensor:
    """Logits (N, T, S/4, S/4) of objects that start on frame `first`."""
    objects, output = tracker.start(features, torch.full((len(masks),), first), masks)
    logits = [output.logits]
    for frame in range(first + 1, first + length):
        objects, output = tracker.step(objects, features, torch.full((len(masks),), frame))
        logits.append(output.logits)
    return torch.stack(logits, dim=1)


def share_of_pixels(differ: torch.Tensor) -> float:
    return differ.float().mean().item()
