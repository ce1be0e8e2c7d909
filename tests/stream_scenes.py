"""Pictures and small backends for the tests of streams."""

import numpy as np

from trajvit.processing.key_frames import KeyFrameDetector

NO_CUTS = KeyFrameDetector(min_votes=3, hsv_threshold=255.0, rgb_threshold=255.0)


class Colors:
    """One trajectory per colour in each clip, black is nothing. Keeps count of the clips it sees."""

    name = "colors"
    frame_interval = None

    def __init__(self):
        self.clips: list[tuple[int, bool]] = []

    def track(self, clips, max_trajectories, progress=None):
        self.clips += [(len(clip.frames), clip.has_boundary) for clip in clips]
        return [self.label(clip) for clip in clips]

    def label(self, clip):
        codes = clip.frames[clip.sampled].astype(np.int64) @ [65536, 256, 1]
        _, labels = np.unique(codes, return_inverse=True)
        return np.where(codes > 0, labels.reshape(codes.shape) + 1, 0)


class Patches(Colors):
    """Labels that depend on the clip's own pixels, so that what goes on from clip to clip is for the join to find."""

    name = "patches"

    def label(self, clip):
        blocks = clip.frames[..., 0].astype(np.int64) // 52
        rows = np.arange(blocks.shape[1])[:, None] * 3 // blocks.shape[1]
        return blocks * 3 + rows + int(clip.frames[0].sum()) % 7


def wandering(rng, num_frames, size=(24, 36), cut_share=0.15):
    """Noise blobs that drift, with cuts here and there, often on consecutive frames."""
    frames = np.empty((num_frames, *size, 3), dtype=np.uint8)
    picture = None
    for t in range(num_frames):
        if picture is None or rng.random() < cut_share:
            coarse = rng.integers(0, 256, (4, 6, 3)) * rng.uniform(0.2, 1)
            picture = coarse.repeat(size[0] // 4, axis=0).repeat(size[1] // 6, axis=1)
        picture = np.roll(picture, 1, axis=1)
        frames[t] = np.clip(picture + rng.integers(-9, 10), 0, 255)
    return frames


def squares(num_frames, lives, size=(40, 60)):
    """White noise-free squares on black: square k, of its own colour, is there in the frames of `lives[k]`."""
    frames = np.zeros((num_frames, *size, 3), dtype=np.uint8)
    for k, life in enumerate(lives):
        for t in life:
            frames[t, 4 : 14 - k, 12 * k + 1 : 12 * k + 10] = (40 + 20 * k, 90, 10)
    return frames


def volume_of(pieces, num_frames, size):
    """(T, H, W) ids of all pieces; no pixel may be taken twice."""
    ids = np.zeros((num_frames, *size), dtype=np.int64)
    for piece in pieces:
        for position, frame in enumerate(piece.frame_indices):
            mask = piece.mask(position)
            assert not ids[frame][mask].any()
            ids[frame][mask] = piece.id
    return ids
