"""From rows to clips: which frames, which captions, and trajectories that are stored or generated."""

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import numbered, numbers_of
from PIL import Image
from shard_files import image_bytes, sample, trajectory_bytes, video_bytes, write_tar

from trajvit.processing.captions import read_captions
from trajvit.processing.decoding import decode_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.sampling import uniform_sample_indices
from trajvit.processing.stored_values import FilePart, SampleError
from trajvit.processing.synthetic_scenes import make_scene
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.video_writing import write_video
from trajvit.training import clip_reading
from trajvit.training.clip_reading import Reading
from trajvit.training.dataset_source import DatasetSource

SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"
SAMPLED = tuple(uniform_sample_indices(12, 4).tolist())


def source_of(path, needs_trajectories=True, num_frames=4, media="video", **reading):
    return DatasetSource(
        "videos", str(path), Reading(needs_trajectories, **reading), num_frames=num_frames, media=media
    )


def clips_of(tmp_path, files, **settings):
    source = source_of(write_tar(tmp_path / "0.tar", files), **settings)
    return [source.read(row) for row in source.rows(0)]


def with_trajectories(key, content):
    return [*sample(key), (f"{key}.traj.png", content)]


class TestStoredTrajectories:
    def test_of_the_sampled_frames(self, tmp_path):
        stored = trajectory_bytes(SAMPLED)
        (clip,) = clips_of(tmp_path, with_trajectories("k", stored))
        assert clip.trajectories == Trajectories.from_bytes(stored)
        assert numbers_of(clip.frames) == list(SAMPLED)

    def test_of_a_stored_clip_that_was_sampled_before(self, tmp_path):
        """A stored video of four frames, with four maps that still tell their frames' numbers in another one."""
        stored = trajectory_bytes((3, 9, 15, 21))
        files = [("k.mp4", video_bytes(60, 4)), ("k.txt", b"a"), ("k.traj.png", stored)]
        (clip,) = clips_of(tmp_path, files)
        assert clip.trajectories == Trajectories.from_bytes(stored)
        assert numbers_of(clip.frames) == [60, 61, 62, 63]

    def test_of_more_frames_of_which_the_sampled_ones_are_taken(self, tmp_path):
        stored = trajectory_bytes(tuple(range(12)))
        (clip,) = clips_of(tmp_path, with_trajectories("k", stored))
        assert clip.trajectories.frame_indices.tolist() == list(SAMPLED)
        assert numbers_of(clip.frames) == list(SAMPLED)

    def test_of_an_image(self, tmp_path):
        files = [("k.png", image_bytes(3)), ("k.txt", b"a"), ("k.traj.png", trajectory_bytes((0,)))]
        (clip,) = clips_of(tmp_path, files, media="image")
        assert clip.trajectories.shape == (1, 24, 40)
        assert clip.frames.shape == (1, 48, 80, 3)

    @pytest.mark.parametrize(
        ("stored", "reason"),
        [
            (trajectory_bytes((0, 1, 2)), "have 3 frames, but 4 frames"),
            (trajectory_bytes((0, 2, 4, 6)), "belong to its frames .0, 2, 4, 6., but its frames .1, 4, 7, 10."),
            (trajectory_bytes(SAMPLED, width=24), "expected the same aspect"),
            (trajectory_bytes(SAMPLED)[:-50], "not a valid trajectories file"),
            (image_bytes(1), "a PNG without trajectories"),
            (b"", "trajectories file is empty"),
        ],
    )
    def test_that_do_not_fit_cost_the_sample(self, tmp_path, stored, reason):
        source = source_of(write_tar(tmp_path / "0.tar", with_trajectories("k", stored)))
        with pytest.raises(SampleError, match=reason):
            source.read(next(source.rows(0)))

    def test_are_not_looked_at_for_towers_without(self, tmp_path):
        files = with_trajectories("k", b"no trajectories")
        source = source_of(write_tar(tmp_path / "0.tar", files), needs_trajectories=False)
        (row,) = source.rows(0)
        assert row["trajectories"] is None
        assert source.read(row).trajectories is None

    def test_a_column_that_no_sample_has_is_named(self, tmp_path):
        path = write_tar(tmp_path / "0.tar", sample("k"))
        with pytest.raises(ValueError, match=r"0\.tar has columns\.trajectories='tracks'"):
            DatasetSource("videos", str(path), Reading(True), columns={"trajectories": "tracks"})


class TestGeneratedTrajectories:
    @pytest.fixture
    def videos(self, tmp_path):
        for seed in range(2):
            scene = make_scene(seed=seed, height=64, width=96, num_frames=20)
            write_video(tmp_path / f"{seed}.mp4", scene.frames, 20)
            (tmp_path / f"{seed}.txt").write_text("a scene")
        return tmp_path

    def test_are_those_of_the_generator(self, videos, monkeypatch):
        monkeypatch.setattr(clip_reading, "_costs_told", set())
        source = source_of(videos, generator={"short_side": 48}, max_trajectories=9)
        with pytest.warns(UserWarning, match=r"generated each time it is read: \d+\.\d s of a worker.*docs/data\.md"):
            clip = source.read(next(source.rows(0)))
        generator = TrajectoryGenerator(short_side=48, max_trajectories=9)
        video = decode_video(videos / "0.mp4", 4, generator.frame_interval)
        expected = generator(
            video.frames, video.sample_indices, frame_indices=video.frame_indices, timestamps=video.timestamps
        )
        assert clip.trajectories == expected
        assert 1 < expected.num_trajectories <= 9
        assert np.array_equal(clip.frames, video.sampled)

    def test_one_warning_a_process(self, videos, monkeypatch):
        monkeypatch.setattr(clip_reading, "_costs_told", set())
        source = source_of(videos)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for row in source.rows(0):
                source.read(row)
        assert len([warning for warning in caught if "generated" in str(warning.message)]) == 1

    def test_none_for_towers_without(self, videos):
        source = source_of(videos, needs_trajectories=False)
        assert source.read(next(source.rows(0))).trajectories is None

    def test_settings_that_are_not_legal_are_told_at_once(self, videos):
        with pytest.raises(ValueError, match="short_side must be at least 1, got 0"):
            source_of(videos, generator={"short_side": 0})


class TestFrames:
    def test_are_no_larger_than_asked_for(self, tmp_path):
        files = [("k.mp4", video_bytes()), ("k.txt", b"a")]
        assert clips_of(tmp_path, files, needs_trajectories=False, short_side=24)[0].frames.shape == (4, 24, 40, 3)
        assert clips_of(tmp_path, files, needs_trajectories=False)[0].frames.shape == (4, 48, 80, 3)

    def test_of_a_short_video_are_all(self, tmp_path):
        files = [("k.mp4", video_bytes(5, 3)), ("k.txt", b"a")]
        (clip,) = clips_of(tmp_path, files, needs_trajectories=False)
        assert numbers_of(clip.frames) == [5, 6, 7]

    def test_of_an_animated_image_are_one_in_a_stream_of_images(self, tmp_path):
        animation = io.BytesIO()
        first, *others = [Image.fromarray(numbered(number)) for number in range(8)]
        first.save(animation, "WEBP", save_all=True, append_images=others, lossless=True)
        files = [("k.webp", animation.getvalue()), ("k.txt", b"a")]
        (clip,) = clips_of(tmp_path, files, needs_trajectories=False, media="image")
        assert numbers_of(clip.frames) == [4]

    @pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="no example videos")
    def test_of_a_real_clip(self, tmp_path):
        content = (SHARED_VIDEOS / "trajvit_example.mp4").read_bytes()
        files = [
            ("k.mp4", content),
            ("k.txt", b"a real clip"),
            ("l.mp4", content[: len(content) // 2]),
            ("l.txt", b"b"),
        ]
        source = source_of(write_tar(tmp_path / "0.tar", files), needs_trajectories=False, num_frames=16, short_side=96)
        whole, broken = source.rows(0)
        expected = decode_video(SHARED_VIDEOS / "trajvit_example.mp4", 16, short_side=96)
        assert np.array_equal(source.read(whole).frames, expected.sampled)
        with pytest.raises(SampleError, match="cannot be decoded"):
            source.read(broken)


class TestCaptions:
    @pytest.mark.parametrize(
        ("found", "captions"),
        [
            ({"txt": b" one \n"}, ("one",)),
            ({"txt": "\ufeffé".encode()}, ("é",)),
            ({"text": ["a", "", None, " b "]}, ("a", "b")),
            ({"caption": '["a", "b"]'}, ("a", "b")),
            ({"caption": "['a', \"it's\"]"}, ("a", "it's")),
            ({"caption": "[music] a man sings"}, ("[music] a man sings",)),
            ({"caption": "[1, 2"}, ("[1, 2",)),
            ({"caption": "['a'], ['b']"}, ("['a'], ['b']",)),
            ({"txt": b"one", "json": b'{"caption": "one"}'}, ("one",)),
            ({"txt": b"one", "json": b'{"captions": ["one", "two"]}'}, ("one", "two")),
            ({"txt": b"", "json": b'{"caption": "one", "text": "other"}'}, ("one",)),
            ({"json": {"captions": None, "text": "one"}}, ("one",)),
            ({"json": b'["a", "b"]'}, ("a", "b")),
            ({"json": b'"a"'}, ("a",)),
        ],
    )
    def test_are_found_in_what_data_sets_hold(self, found, captions):
        assert read_captions(found) == captions

    def test_lie_in_nested_fields(self):
        stored = {"json": json.dumps({"texts": {"long": ["a"], "short": "b"}}).encode()}
        assert read_captions(stored, ("texts", "short")) == ("b",)
        assert read_captions({"column": {"texts": {"long": ["a"]}}}, ("texts", "long")) == ("a",)
        with pytest.raises(SampleError, match=r"json has no field 'middle': it has \['long', 'short'\]"):
            read_captions(stored, ("texts", "middle"))

    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            ({}, "nothing that holds one is empty"),
            ({"txt": b" ", "json": b"{}"}, "txt and json is empty"),
            ({"caption": ["a", 3]}, "caption holds int 3"),
            ({"json": b'{"caption": {"a": "b"}}'}, "json holds dict"),
            ({"txt": b"\xff"}, "txt is not UTF-8"),
            ({"txt": b"fine", "json": b"["}, "json is no JSON"),
            ({"txt": b"fine", "json": b"[" * 100_000}, "json is no JSON"),
        ],
    )
    def test_none_is_a_fault_with_its_place(self, found, reason):
        with pytest.raises(SampleError, match=reason):
            read_captions(found)

    def test_a_file_that_was_cut_is_noticed(self, tmp_path):
        (tmp_path / "part").write_bytes(b"0123456789")
        assert read_captions({"txt": FilePart(str(tmp_path / "part"), 2, 3)}) == ("234",)
        with pytest.raises(SampleError, match="breaks off after 2 of 5 bytes"):
            read_captions({"txt": FilePart(str(tmp_path / "part"), 8, 5)})
