"""Streams from files, and with SAM 2."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import write_video
from stream_scenes import Colors, Patches, volume_of, wandering

from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.synthetic_scenes import make_scene
from trajvit.processing.trajectory_stream import stream_video
from trajvit.processing.video_frames import VideoDecodingError

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """23 frames at 10 a second, 48 x 72, with a cut; lossless enough."""
    frames = wandering(np.random.default_rng(8), 23).repeat(2, axis=1).repeat(2, axis=2)
    path = tmp_path_factory.mktemp("video") / "wandering.mkv"
    return Path(write_video(str(path), list(frames), codec="ffv1", pix_fmt="bgr0", rate=10)), frames


class TestVideoFiles:
    def test_a_file_is_streamed_with_its_times(self, video):
        path, frames = video
        generator = TrajectoryGenerator(Patches(), max_trajectories=10**6)
        pieces = list(stream_video(path, generator, clip_frames=5))
        expected = list(generator.stream(frames, clip_frames=5))
        np.testing.assert_array_equal(volume_of(pieces, 23, (48, 72)), volume_of(expected, 23, (48, 72)))
        for piece in pieces:
            np.testing.assert_allclose(piece.timestamps, piece.frame_indices / 10, atol=1e-3)

    def test_frames_apart(self, video):
        path, frames = video
        generator = TrajectoryGenerator(Patches(), max_trajectories=10**6)
        pieces = list(stream_video(path.read_bytes(), generator, frame_interval=0.3))
        ids = volume_of(pieces, 23, (48, 72))
        assert sorted({int(t) for piece in pieces for t in piece.frame_indices}) == list(range(0, 23, 3))
        np.testing.assert_array_equal(ids[::3], volume_of(generator.stream(frames[::3]), len(frames[::3]), (48, 72)))

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed on Linux alone")
    def test_closing_early_closes_the_file(self, video):
        path, _ = video

        def is_open():
            return any(os.path.realpath(f"/proc/self/fd/{fd}") == str(path) for fd in os.listdir("/proc/self/fd"))

        stream = stream_video(path, TrajectoryGenerator(Patches()), clip_frames=3)
        next(stream)
        assert is_open()
        stream.close()
        assert not is_open()

    def test_a_source_that_is_none(self, tmp_path):
        with pytest.raises(VideoDecodingError, match=r"gone\.mp4 does not exist"):
            stream_video(tmp_path / "gone.mp4", TrajectoryGenerator(Colors()))
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(VideoDecodingError, match=r"text\.mp4 cannot be opened"):
            list(stream_video(tmp_path / "text.mp4", TrajectoryGenerator(Colors())))

    def test_the_documented_example_works(self, video, monkeypatch):
        path, _ = video
        page = (DOCS / "streaming.md").read_text()
        blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
        assert len(blocks) == 2
        (path.parent / "video.mkv").write_bytes(path.read_bytes())
        monkeypatch.chdir(path.parent)
        namespace: dict = {}
        for block in blocks:
            exec(block.replace("video.mp4", "video.mkv"), namespace)
        assert namespace["mask"].shape == (48, 72)
        assert namespace["num_ended"] > 0


@pytest.fixture(scope="module")
def sam2_generator(tmp_path_factory):
    pytest.importorskip("sam2")
    from random_sam2 import save_random_checkpoint

    checkpoint = save_random_checkpoint(tmp_path_factory.mktemp("sam2") / "tiny.pt")
    # Random weights tell no good mask from a bad one, so every mask of a coarse grid is taken.
    segmenter = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    options = {"model": "tiny", "image_size": 128, "device": "cpu", "segmenter_options": segmenter}
    return TrajectoryGenerator("sam2", short_side=64, checkpoint=str(checkpoint), max_segments=3, **options)


class TestSam2:
    def test_clips_streamed_one_by_one_are_those_of_a_call(self, sam2_generator):
        shots = [make_scene(seed, num_frames=4, height=128, width=192).frames for seed in (1, 4)]
        frames = np.concatenate(shots)
        expected = sam2_generator(frames)
        assert expected.key_frames == (0, 4)
        assert expected.num_trajectories > 2
        found = volume_of(sam2_generator.stream(iter(frames)), 8, (64, 96))
        assert (found != expected.ids).mean() <= 1e-4

    def test_clips_that_end_early(self, sam2_generator):
        frames = make_scene(1, num_frames=5, height=128, width=192).frames
        pieces = list(sam2_generator.stream(iter(frames), clip_frames=2))
        ids = volume_of(pieces, 5, (64, 96))
        assert (ids > 0).any(axis=(1, 2)).all()
        assert sorted(piece.id for piece in pieces) == list(range(1, len(pieces) + 1))
