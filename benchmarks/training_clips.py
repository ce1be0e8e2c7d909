"""A data set of a few clips in files, read again and again: what benchmarks/training_step.py trains on.

A clip is ten seconds of a scene (evaluation/scene_clips.py) as MP4, a trajectories file with exactly as many moving
cells as asked for, and a caption. A worker decodes both files, as it does for a data set of videos.

Shape letters: T frames, M trajectories.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trajvit.evaluation.scene_clips import LIFE, moving_cells, whole_scene
from trajvit.processing.decoding import decode_video
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.trajectory_format import read_file, write_file
from trajvit.processing.video_writing import write_video
from trajvit.training.samples import Clip, Row

SIZE = 224
CAPTION = (
    "a red square moves slowly from the left to the right while a small blue circle comes from above and passes behind "
    "it, and the camera stands still"
)
_SECONDS, _FPS = 10, 24
_SAMPLES_OF_AN_EPOCH = 10_000


def write_clips(folder: Path, count: int) -> None:
    """Renders and encodes the scenes that a folder lacks."""
    for number in range(count):
        path = _video(folder, number)
        if not path.exists():
            write_video(path, whole_scene(number, _SECONDS * _FPS, SIZE), _FPS)


def write_trajectories(folder: Path, count: int, num_frames: int, num_trajectories: int) -> None:
    """Trajectories of the clips' T sampled frames; ids of a cell of the feature grid fill 4 x 4 pixels."""
    ids = moving_cells(num_frames, num_trajectories, LIFE).numpy().astype(np.int32)
    for number in range(count):
        mirrored = ids[:, :, ::-1] if number % 2 else ids
        trajectories = Trajectories(mirrored.repeat(SIZE // 56, axis=1).repeat(SIZE // 56, axis=2))
        write_file(trajectories, _trajectories(folder, number, num_frames, num_trajectories))


def _video(folder: Path, number: int) -> Path:
    return folder / f"scene{number}.mp4"


def _trajectories(folder: Path, number: int, num_frames: int, num_trajectories: int) -> Path:
    return folder / f"scene{number}.{num_frames}x{num_trajectories}.traj.png"


class ClipFiles:
    """The clips of a folder as a `Source` of one shard.

    Args:
        folder: What `write_clips` and `write_trajectories` wrote.
        count: Clips in it.
        num_frames: T.
        num_trajectories: M; None for a tower that needs none.
    """

    name = "clips"
    num_shards = 1
    num_samples = _SAMPLES_OF_AN_EPOCH

    def __init__(self, folder: Path, count: int, num_frames: int, num_trajectories: int | None):
        self.folder = folder
        self.count = count
        self.num_frames = num_frames
        self.num_trajectories = num_trajectories

    def rows(self, shard: int) -> Iterator[Row]:
        for number in range(_SAMPLES_OF_AN_EPOCH):
            yield {"key": f"{number:05}", "number": number % self.count}

    def read(self, row: Row) -> Clip:
        video = decode_video(str(_video(self.folder, row["number"])), self.num_frames, threads=1)
        trajectories = None
        if self.num_trajectories is not None:
            path = _trajectories(self.folder, row["number"], self.num_frames, self.num_trajectories)
            trajectories = read_file(path)
        return Clip(row["key"], video.sampled, trajectories, (CAPTION,))
