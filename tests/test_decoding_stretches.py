"""Decoding a stretch of a video, against picking by exact times from a reading of everything."""

import warnings
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numbered_videos import numbered, numbers_of, write_numbered
from PIL import Image

from trajvit.processing import video_file
from trajvit.processing.decoding import decode_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.sampling import uniform_sample_indices
from trajvit.processing.stored_media import decode_stored
from trajvit.processing.stored_values import SampleError
from trajvit.processing.trajectory_inputs import check_fit
from trajvit.processing.video_frames import VideoDecodingError, VideoDecodingWarning
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor

VARIABLE_TIMES = np.cumsum([0, *np.random.default_rng(1).integers(10, 200, 239)]).tolist()
FILES = {
    "constant.mp4": {"options": {"g": "24", "bf": "3"}},
    "film.mp4": {"rate": Fraction(24000, 1001), "options": {"g": "30", "bf": "2"}},
    "variable.mkv": {"times": VARIABLE_TIMES, "options": {"g": "30"}},
    "offset.ts": {"options": {"g": "24"}},
    "elementary.h264": {"file_format": "h264", "rate": 25, "options": {"g": "24"}},
}
STRETCHES = [(2.0, 4.0), (0.0, 1.0), (None, 2.5), (5.5, None), (3.01, 3.99), (8.0, 1000.0), (None, None)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module", params=FILES)
def film(request, folder):
    """240 numbered frames, and the exact seconds at which each is shown."""
    path = write_numbered(folder / request.param, 240, **FILES[request.param])
    if request.param == "elementary.h264":
        return path, [Fraction(number, 25) for number in range(240)]
    with av.open(path) as container:
        start = Fraction(container.start_time, av.time_base)
        times = [frame.pts * frame.time_base - start for frame in container.decode(video=0)]
    # A container tells its start in microseconds, its frames in its own units.
    return path, [time if time else Fraction(0) for time in times]


@pytest.fixture(scope="module")
def long_film(folder):
    """960 frames at 24 per second, forty seconds with a key frame in each half."""
    return write_numbered(folder / "long.mp4", 960, options={"g": "12", "bf": "2"})


def shown_in(times, start, end):
    first, last = Fraction(start or 0), Fraction(10**9 if end is None else end)
    return np.array([number for number, time in enumerate(times) if first <= time < last])


class TestFiles:
    @pytest.mark.parametrize(("start", "end"), STRETCHES)
    @pytest.mark.parametrize("num_frames", [8, None])
    def test_frames_of_the_stretch_are_sampled(self, film, start, end, num_frames):
        path, times = film
        inside = shown_in(times, start, end)
        expected = inside if num_frames is None else inside[uniform_sample_indices(len(inside), num_frames)]
        video = decode_video(path, num_frames, start=start, end=end)
        assert numbers_of(video.frames) == video.frame_indices.tolist() == expected.tolist()
        assert video.timestamps == pytest.approx([float(times[number]) for number in expected], abs=1e-6)
        assert video.fps == pytest.approx(239 / float(times[-1]), rel=1e-6)

    def test_a_border_belongs_to_the_stretch_that_starts_there(self, film):
        path, times = film
        border = float(times[100])
        before = decode_video(path, None, end=border)
        after = decode_video(path, None, start=border)
        assert before.frame_indices.tolist() == list(range(100))
        assert numbers_of(after.frames) == after.frame_indices.tolist() == list(range(100, 240))

    def test_one_frame_can_be_a_stretch(self, film):
        path, times = film
        video = decode_video(path, start=float(times[57]), end=float(times[58]))
        assert numbers_of(video.frames) == video.frame_indices.tolist() == [57]

    def test_decimals_meet_times_in_units_of_the_container(self, folder):
        times = [7 * number for number in range(60)]
        path = write_numbered(folder / "milliseconds.mkv", 60, times=times)
        for number in range(1, 60):
            video = decode_video(path, None, start=number * 0.007, end=(number + 1) * 7 / 1000)
            assert video.frame_indices.tolist() == [number]

    def test_the_dense_stack_stays_inside(self, film):
        path, times = film
        video = decode_video(path, 4, frame_interval=0.1, start=2.0, end=4.0)
        inside = shown_in(times, 2.0, 4.0)
        shown = numbers_of(video.frames)
        assert len(shown) > 4
        assert inside[0] <= shown[0]
        assert shown[-1] <= inside[-1]
        assert [shown[position] for position in video.sample_indices] == video.frame_indices.tolist()

    @pytest.mark.parametrize("start", [0.0, 11.0, 37.9])
    def test_little_is_decoded_beside_the_stretch(self, long_film, monkeypatch, start):
        num_decoded = 0
        decoded = video_file._decoded

        def counting(container, stream):
            nonlocal num_decoded
            for frame in decoded(container, stream):
                num_decoded += 1
                yield frame

        monkeypatch.setattr(video_file, "_decoded", counting)
        video = decode_video(long_film, None, start=start, end=start + 2)
        assert numbers_of(video.frames) == list(range(round(24 * start), round(24 * (start + 2))))
        assert num_decoded <= 48 + video_file.MIN_FRAMES_SKIPPED + 12

    def test_damage_elsewhere_is_not_met(self, folder):
        path = damaged(folder / "elsewhere.mp4", range(100, 104))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            video = decode_video(path, 6, start=1.0, end=3.0)
        assert numbers_of(video.frames) == (24 + uniform_sample_indices(48, 6)).tolist()

    def test_lost_frames_of_the_stretch_are_left_out(self, folder):
        path = damaged(folder / "inside.mp4", range(30, 34))
        with pytest.warns(VideoDecodingWarning, match=r"inside\.mp4 is damaged: 4 of its 120 frames"):
            video = decode_video(path, None, start=1.0, end=2.0)
        assert numbers_of(video.frames) == video.frame_indices.tolist() == [*range(24, 30), *range(34, 48)]
        assert video.timestamps == pytest.approx(video.frame_indices / 24)

    def test_a_stretch_that_is_lost_is_an_error(self, folder):
        path = damaged(folder / "lost.mp4", range(24, 48))
        with (
            pytest.warns(VideoDecodingWarning),
            pytest.raises(VideoDecodingError, match=r"lost\.mp4 lasts .* from 1\.0 s to 2\.0 s"),
        ):
            decode_video(path, start=1.0, end=2.0)


class TestFramesAndImages:
    def test_arrays_have_their_frames_at_the_given_rate(self):
        frames = np.stack([numbered(number) for number in range(50)])
        by_rate = decode_video(frames, None, fps=10, start=1.0, end=2.5)
        assert numbers_of(by_rate.frames) == by_rate.frame_indices.tolist() == list(range(10, 25))
        assert by_rate.timestamps == pytest.approx(np.arange(10, 25) / 10)
        assert by_rate.fps == pytest.approx(10)
        by_default = decode_video(list(frames), 3, start=1.0)
        assert numbers_of(by_default.frames) == by_default.frame_indices.tolist() == [28, 37, 45]

    @pytest.mark.parametrize("fps", [10, 24, 25, 30])
    def test_every_frame_of_an_array_is_in_one_stretch_of_many(self, fps):
        frames = np.stack([numbered(number, 4, 10) for number in range(60)])
        borders = [tenth / 10 for tenth in range(0, 61, 3)]
        found = []
        for start, end in pairwise(borders):
            inside = [number for number in range(60) if start * fps <= number + 1e-9 and number + 1e-9 < end * fps]
            if inside:
                assert decode_video(frames, None, fps=fps, start=start, end=end).frame_indices.tolist() == inside
            found += inside
        assert found == list(range(60))

    @pytest.mark.parametrize("suffix", ["gif", "webp"])
    def test_animations_have_their_own_times(self, tmp_path, suffix):
        path = tmp_path / f"animation.{suffix}"
        images = [Image.fromarray(numbered(number)) for number in range(6)]
        settings = {"lossless": True} if suffix == "webp" else {}
        images[0].save(
            path, save_all=True, append_images=images[1:], duration=[100, 200, 300, 100, 100, 500], **settings
        )
        video = decode_video(path, None, start=0.1, end=0.7)
        assert numbers_of(video.frames) == video.frame_indices.tolist() == [1, 2, 3]
        assert video.timestamps == pytest.approx([0.1, 0.3, 0.6])
        assert decode_video(path, None, start=0.8).frame_indices.tolist() == [5]

    def test_an_image_is_shown_at_the_start(self, tmp_path):
        path = tmp_path / "still.png"
        Image.fromarray(numbered(9)).save(path)
        for source in (path, numbered(9)):
            assert numbers_of(decode_video(source, start=0.0, end=0.01).frames) == [9]
            with pytest.raises(VideoDecodingError, match=r"no frame in the stretch from 0\.5 s to its end"):
                decode_video(source, start=0.5)


class TestErrors:
    @pytest.mark.parametrize(
        ("start", "end", "message"),
        [
            (-0.5, None, r"start must be at least 0 seconds, or None, got -0\.5"),
            (float("nan"), None, "start .* got nan"),
            (2.0, 2.0, r"end must be more than start \(2\.0 seconds\), or None, got 2\.0"),
            (3.0, 1.0, r"end .* got 1\.0"),
            (None, 0.0, r"end must be more than start \(0 seconds\), or None, got 0\.0"),
            (None, float("nan"), "end .* got nan"),
        ],
    )
    def test_impossible_stretches_are_named(self, start, end, message):
        with pytest.raises(ValueError, match=message) as refusal:
            decode_video(numbered(1), start=start, end=end)
        assert not isinstance(refusal.value, VideoDecodingError)

    def test_a_stretch_without_a_frame_is_named_with_the_duration(self, long_film):
        with pytest.raises(VideoDecodingError, match=r"long\.mp4 lasts 40\.00 s and .* from 40\.0 s to 42\.0 s"):
            decode_video(long_film, start=40.0, end=42.0)
        with pytest.raises(VideoDecodingError, match=r"long\.mp4 lasts 40\.00 s and .* from 1\.01 s to 1\.02 s"):
            decode_video(long_film, start=1.01, end=1.02)


class TestUse:
    def test_stored_media_can_be_read_in_stretches(self, long_film):
        expected = decode_video(long_film, 4, start=20.0, end=22.0)
        for media, folder in ((Path(long_film).read_bytes(), None), ("long.mp4", str(Path(long_film).parent))):
            video = decode_stored(media, folder, 4, None, 48, start=20.0, end=22.0)
            assert video.frame_indices.tolist() == expected.frame_indices.tolist()
            assert (video.frames == expected.frames).all()
        with pytest.raises(SampleError, match="no frame in the stretch"):
            decode_stored(Path(long_film).read_bytes(), None, 4, None, 48, start=50.0)

    def test_trajectories_belong_to_the_frames_of_their_stretch(self, long_film):
        generator = TrajectoryGenerator(short_side=48)
        video = decode_video(long_film, 4, generator.frame_interval, 48, start=20.0, end=22.0)
        trajectories = generator(
            video.frames, video.sample_indices, frame_indices=video.frame_indices, timestamps=video.timestamps
        )
        assert trajectories.frame_indices.tolist() == [486, 498, 510, 522]
        assert trajectories.timestamps == pytest.approx(np.array([486, 498, 510, 522]) / 24)
        check_fit(trajectories, video, "the stretch")
        other = decode_video(long_film, 4, short_side=48, start=21.0, end=23.0)
        with pytest.raises(ValueError, match=r"belong to its frames \[486, 498, 510, 522\], but its frames \[510"):
            check_fit(trajectories, other, "the stretch")

        processor = TrajViTVideoProcessor(generator=generator.to_dict())
        inputs = processor(video, trajectories=trajectories, return_tensors="pt")
        assert inputs["pixel_values_videos"].shape[:2] == (1, 4)
        generated = processor(video, return_trajectories=True, return_tensors="pt")
        assert generated["trajectories"] == [trajectories]
        assert (generated["trajectory_maps"] == inputs["trajectory_maps"]).all()


def damaged(path, numbers):
    """120 frames at 24 per second, none of which depends on another; those with the given numbers are zeros."""
    write_numbered(path, 120, codec="mjpeg", pix_fmt="yuvj420p", muxing={"movflags": "faststart"})
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        position, size = places[number]
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    return path
