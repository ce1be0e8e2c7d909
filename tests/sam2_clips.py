"""Clips, simple segmenters and a plain loop, for the tests of tracking whole videos with a small random SAM 2."""

import numpy as np
import torch
from torch.nn import functional as F

from trajvit.processing.backends import no_progress
from trajvit.processing.clips import split_into_clips
from trajvit.processing.sam2_clip_tracking import TrackingSettings, track_clips

IMAGE_SIZE = 64
LABEL_SIZE = (24, 36)


class Bright:
    """Segments the bright halves of a frame, whose mean is above 100: left 1 and right 2, or the one there is 1."""

    def __init__(self):
        self.num_frames = 0

    def __call__(self, frames, features, size):
        self.num_frames += len(frames)
        maps = []
        for frame in frames:
            segments = np.zeros(size, np.int32)
            for columns in (slice(0, 18), slice(18, None)):
                if frame[:, slice(*(2 * c if c else None for c in (columns.start, columns.stop)))].mean() > 100:
                    segments[:, columns] = segments.max() + 1
            maps.append(segments)
        return maps


class Grid:
    """Cuts every frame into cells; those of one frame do not depend on its content."""

    def __init__(self, rows=2, columns=2):
        self.rows, self.columns = rows, columns

    def __call__(self, frames, features, size):
        row = np.arange(size[0])[:, None] * self.rows // size[0] * self.columns
        return [np.int32(row + np.arange(size[1]) * self.columns // size[1] + 1) for _ in frames]


def pictures(num_frames, seed=0):
    """Textures that move, (T, 48, 72, 3)."""
    random = np.random.default_rng(seed)
    noise = torch.from_numpy(random.random((1, 3, 12, 40), dtype=np.float32))
    texture = F.interpolate(noise, size=(48, 160), mode="bicubic")[0].clamp(0, 1).permute(1, 2, 0).numpy()
    return np.stack([np.uint8(255 * np.roll(texture, -2 * t, axis=1)[:, :72]) for t in range(num_frames)])


def clips_of(frames, key_frames=(0,)):
    return split_into_clips(frames, np.arange(len(frames)), list(key_frames), LABEL_SIZE)


def track(tracker, clips, segmenter=None, at_once=8, report=no_progress, **settings):
    defaults = {"max_segments": 16, "new_objects_interval": None, "drop_after": None, "segments_from_features": False}
    return track_clips(
        tracker, segmenter or Grid(), clips, TrackingSettings(**{**defaults, **settings}), lambda steps: at_once, report
    )


def follow_alone(tracker, features, mask):
    """The logits (T - 1, h, w) of one object through the T frames of a clip."""
    objects, _ = tracker.start(features, torch.tensor([0]), mask[None])
    logits = []
    for t in range(1, len(features)):
        objects, output = tracker.step(objects, features, torch.tensor([t]))
        logits.append(F.interpolate(output.logits[None], size=LABEL_SIZE, mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(logits) if logits else torch.zeros(0, *LABEL_SIZE)


def track_naively(tracker, clips, segmenter):
    """Clip by clip, object by object; then the best of the positive logits."""
    volumes = []
    for clip in clips:
        (segments,) = segmenter(clip.frames[:1], None, LABEL_SIZE)
        labels = range(1, segments.max() + 1)
        scaled = F.interpolate(
            torch.from_numpy(segments)[None, None].float(), size=(IMAGE_SIZE,) * 2, mode="nearest-exact"
        )
        features = tracker.encode(clip.frames, batch_size=1)
        claims = torch.stack([follow_alone(tracker, features, scaled[0, 0] == label) for label in labels])
        best, winner = claims.max(dim=0)
        volumes.append(np.concatenate([segments[None], np.where(best > 0, winner + 1, 0)]))
    return volumes


def assert_same(volumes, expected):
    """Equal up to the pixels whose logits differ by rounding alone."""
    assert len(volumes) == len(expected)
    for volume, other in zip(volumes, expected, strict=True):
        assert volume.shape == other.shape
        assert np.mean(volume != other) <= 5e-4


class Steps:
    """Counts the objects of every step, by the head that says whether they are there; starts are counted too."""

    def __init__(self, tracker, before=None):
        self.batches = []
        self._before = before
        self._handle = tracker.model.sam_mask_decoder.pred_obj_score_head.register_forward_pre_hook(self._count)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._handle.remove()

    def _count(self, module, inputs):
        if self._before is not None:
            self._before(len(inputs[0]))
        self.batches.append(len(inputs[0]))
