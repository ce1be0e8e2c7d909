"""Pictures of flat colours, and small backends whose answer on them is known."""

import numpy as np


class Colors:
    """One trajectory per colour: tracks pictures of flat colours perfectly. Black is nothing."""

    name = "colors"
    frame_interval = 0.25

    def __init__(self, first_label: int = 1):
        self.first_label = first_label
        self.clips: list = []

    def track(self, clips, max_trajectories, progress=None):
        self.clips = list(clips)
        volumes = []
        for k, clip in enumerate(clips):
            codes = clip.frames[clip.sampled].astype(np.int64) @ [65536, 256, 1]
            _, labels = np.unique(codes, return_inverse=True)
            volumes.append(np.where(codes > 0, labels.reshape(codes.shape) + self.first_label, 0).astype(np.int32))
            if progress is not None:
                progress("track", k + 1, len(clips))
        return volumes


class Blocks:
    """A fixed grid of `rows` x `columns` blocks."""

    name = "blocks"
    frame_interval = None

    def __init__(self, rows=2, columns=2):
        self.rows, self.columns = rows, columns

    def track(self, clips, max_trajectories, progress=None):
        height, width = clips[0].frames.shape[1:3]
        block = np.arange(height)[:, None] * self.rows // height * self.columns
        grid = block + np.arange(width) * self.columns // width + 1
        return [np.repeat(grid[None], len(clip.sampled), axis=0) for clip in clips]


def moving_square(num_frames, size=(40, 60), background=(200, 30, 30), square=(20, 220, 60)):
    """A 10 x 10 square moves right by 3 pixels a frame."""
    frames = np.empty((num_frames, *size, 3), dtype=np.uint8)
    frames[:] = background
    for t in range(num_frames):
        frames[t, 10:20, 3 * t : 3 * t + 10] = square
    return frames


def with_a_cut():
    """Six frames of one scene, then four of another one that is much darker."""
    return np.concatenate([moving_square(6), moving_square(4, background=(10, 10, 60), square=(90, 10, 10))])
