"""Clips for measuring what a model costs: a rendered scene, noise or a video, and trajectories of a given number.

A scene is ten seconds of a still camera with sprites that move through the picture, with the noise, flicker and JPEG
artefacts of `SceneSettings`; its T frames are sampled uniformly. Towers whose cost depends on what is seen (RLT) so
meet what a fixed camera gives them, and with noise the most that they can cost.

Shape letters: B batch, T frames, M trajectories.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from trajvit.processing.sampling import uniform_sample_indices
from trajvit.processing.scene_rendering import render_frames
from trajvit.processing.scene_script import SceneSettings, draw_script
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor

SCENE, NOISE = "scene", "noise"

SCENE_FPS = 24.0
"""Frames per second of a scene."""

LIFE = 0.6
"""Share of a video that `moving_cells` live for in the mean, where nothing else is asked for."""

FIRST_SEED = 7
"""Of the first scene of a batch; the others have the seeds that follow."""

_SCENE_FRAMES = 240


@lru_cache(maxsize=2)
def clip_frames(clip: str, num_frames: int, size: int, batch_size: int = 1) -> torch.Tensor:
    """Normalised frames (B, T, 3, size, size) float32 of `clip`: `"scene"`, `"noise"`, or the path of a video.

    The scenes of a batch differ; a video is repeated. Raises `ValueError` for a video with fewer than T frames.
    """
    if clip == NOISE:
        return torch.randn(batch_size, num_frames, 3, size, size, generator=torch.Generator().manual_seed(0))
    side = {"height": size, "width": size}
    processor = TrajViTVideoProcessor(generate_trajectories=False, num_frames=num_frames, size=side)
    if clip == SCENE:
        videos = [scene(FIRST_SEED + number, num_frames, size) for number in range(batch_size)]
        return processor(videos)["pixel_values_videos"]
    frames = processor(clip)["pixel_values_videos"]
    if frames.shape[1] < num_frames:
        raise ValueError(f"{Path(clip).name} has {frames.shape[1]} frames: expected at least {num_frames}.")
    return frames.repeat(batch_size, 1, 1, 1, 1)


def scene(seed: int, num_frames: int, size: int) -> np.ndarray:
    """(T, size, size, 3) uint8 frames of a still camera, T of them over ten seconds."""
    video = scene_video(seed, num_frames, size)
    return video[uniform_sample_indices(len(video), num_frames)]


def scene_video(seed: int, num_frames: int, size: int) -> np.ndarray:
    """(N, size, size, 3) uint8: the video that `scene` samples, N >= T frames at `SCENE_FPS`."""
    return whole_scene(seed, max(_SCENE_FRAMES, num_frames), size)


@lru_cache(maxsize=8)
def whole_scene(seed: int, length: int, size: int) -> np.ndarray:
    """All frames of a scene, which those of every T are taken from."""
    script = draw_script(seed, length, size, size, SCENE_FPS, [0], SceneSettings(still_camera_share=1.0))
    return np.stack([frame for frame, _ in render_frames(script)])


def moving_cells(num_frames: int, num_trajectories: int, life: float, size: int = 56) -> torch.Tensor:
    """(T, size, size) ids of moving Voronoi cells, each alive for a share of the frames around `life`."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(num_trajectories, 2, generator=generator)
    velocity = 0.3 * (torch.rand(num_trajectories, 2, generator=generator) - 0.5)
    span = (life + 0.4 * min(life, 1 - life) * (torch.rand(num_trajectories, generator=generator) - 0.5)).clamp(max=1)
    birth = torch.rand(num_trajectories, generator=generator) * (1 - span)
    axis = (torch.arange(size) + 0.5) / size
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
    labels = []
    for frame in range(num_frames):
        now = (frame + 0.5) / num_frames
        alive = (birth <= now) & (now <= birth + span)
        distance = torch.cdist(pixels, start + velocity * now).masked_fill(~alive, torch.inf)
        labels.append(distance.argmin(1).add(1).masked_fill(~alive.any(), 0).view(size, size))
    return torch.stack(labels)


def trajectory_inputs(num_frames: int, counts: list[int], feature_size: int) -> dict[str, torch.Tensor]:
    """Maps (B, T, feature_size, feature_size) and mask (B, max of `counts`) of videos with so many trajectories."""
    mask = torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1)
    maps = torch.stack([moving_cells(num_frames, count, LIFE, feature_size) for count in counts])
    return {"trajectory_maps": maps, "trajectory_attention_mask": mask.long()}
