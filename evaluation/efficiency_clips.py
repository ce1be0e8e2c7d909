"""What towers are shown while their cost is measured: a batch of clips of T frames, with trajectories.

Shape letters: B batch, T frames, M trajectories.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trajvit.processing.decoding import decode_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.trajectory_inputs import pad_batch
from trajvit.processing.video_frames import VideoFrames

from .measured_towers import MeasuredTower
from .scene_clips import FIRST_SEED, NOISE, SCENE, SCENE_FPS, clip_frames, scene_video, trajectory_inputs

Say = Callable[[str], None]


def batch_name(clips: tuple[str, ...]) -> str:
    """What a batch is called in results: `scene`, `noise`, a video's name without ending, or how many videos."""
    return Path(clips[0]).stem if len(clips) == 1 else f"{len(clips)}_videos"


class ClipBatch:
    """B clips of T frames each: scenes that differ, noise, or videos, of which the first ones come again.

    Args:
        clips: `("scene",)`, `("noise",)`, or paths of videos.
        num_frames: T.
        batch_size: B.
        say: Told what takes long.
    """

    def __init__(self, clips: tuple[str, ...], num_frames: int, batch_size: int, say: Say):
        self.clips = clips
        self.num_frames = num_frames
        self.batch_size = batch_size
        self._say = say
        self._frames: dict[int, torch.Tensor] = {}
        self._generated: dict[str, tuple[list[Trajectories], float]] = {}

    def frames(self, size: int) -> torch.Tensor:
        """(B, T, 3, size, size) float32, normalised. Raises `ValueError` for a video with fewer than T frames."""
        if size not in self._frames:
            if self.clips[0] in (SCENE, NOISE):
                self._frames[size] = clip_frames(self.clips[0], self.num_frames, size, self.batch_size)
            else:
                videos = [clip_frames(clip, self.num_frames, size) for clip in self.clips]
                self._frames[size] = torch.cat([videos[row % len(videos)] for row in range(self.batch_size)])
        return self._frames[size]

    def inputs(self, tower: MeasuredTower, trajectories: int | None) -> dict[str, torch.Tensor]:
        """What the tower takes. Trajectories, where it needs them, are moving cells, so many in each clip, or for None
        those that its generator finds in the clips.

        Raises `ValueError` where so many do not fit into the frames.
        """
        config: Any = tower.config
        frames = self.frames(config.image_size)
        if not config.needs_trajectories:
            return {"pixel_values_videos": frames}
        grid = config.feature_size
        if trajectories is None:
            found, _ = self.generated(tower)
            # A video that comes again in the batch has the same trajectories.
            maps = [found[row % len(found)].resize(grid, grid) for row in range(self.batch_size)]
            return pad_batch(list(frames), maps)
        cells = trajectory_inputs(self.num_frames, [trajectories], grid)
        visible = len(cells["trajectory_maps"].unique()) - int((cells["trajectory_maps"] == 0).any())
        if visible < trajectories:
            raise ValueError(
                f"trajectories={trajectories}: only {visible} of them have a pixel in {self.num_frames} frames of "
                f"{grid} x {grid}; expected fewer trajectories or more frames."
            )
        return {"pixel_values_videos": frames} | {
            name: tensor.expand(self.batch_size, *tensor.shape[1:]) for name, tensor in cells.items()
        }

    def generated(self, tower: MeasuredTower) -> tuple[list[Trajectories], float]:
        """The trajectories of the clips, each once, and the mean seconds that a clip's generation took.

        In them is all that the generator does from decoded frames on, in this process, and not its first call.
        """
        size = tower.config.image_size
        key = f"{size} {json.dumps(tower.generator, sort_keys=True)}"
        if key not in self._generated:
            generator = TrajectoryGenerator.from_dict(tower.generator)
            generator.load()
            found: list[Trajectories] = []
            times = []
            for number in range(self.batch_size if self.clips == (SCENE,) else len(self.clips)):
                self._say(f"T={self.num_frames}: trajectories of clip {number + 1} for {tower.name}")
                video = self._decoded(number, size, generator)
                if not found:
                    # What is imported and built at the first call belongs to no clip.
                    generator(video.frames[:2])
                start = time.perf_counter()
                found.append(_generate(generator, video))
                times.append(time.perf_counter() - start)
            self._generated[key] = found, float(np.mean(times))
        return self._generated[key]

    def _decoded(self, number: int, size: int, generator: TrajectoryGenerator) -> VideoFrames:
        """The T frames that the towers see, at the generator's resolution, with those between them that it asks for."""
        is_scene = self.clips == (SCENE,)
        return decode_video(
            scene_video(FIRST_SEED + number, self.num_frames, size) if is_scene else self.clips[number],
            num_frames=self.num_frames,
            frame_interval=generator.frame_interval,
            short_side=generator.frame_short_side,
            fps=SCENE_FPS if is_scene else None,
        )


def _generate(generator: TrajectoryGenerator, video: VideoFrames) -> Trajectories:
    return generator(video.frames, video.sample_indices, frame_indices=video.frame_indices, timestamps=video.timestamps)
