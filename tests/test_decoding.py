"""Decoding files and streams: which frames come, when they are shown, and what they look like."""

import io
import socket
import struct
import threading
import time
import tracemalloc
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numbered_videos import QUADRANTS, decode_all, numbered, numbers_of, write_numbered, write_video
from PIL import Image

from trajvit.processing.decoding import decode_video
from trajvit.processing.sampling import uniform_sample_indices
from trajvit.processing.video_frames import VideoDecodingError


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """61 frames at 24 per second, H.264 with B-frames."""
    return write_numbered(tmp_path_factory.mktemp("clip") / "clip.mp4", 61)


class TestSampling:
    def test_sampled_frames_are_the_ones_at_their_numbers(self, clip):
        video = decode_video(clip, num_frames=16)
        expected = uniform_sample_indices(61, 16)
        assert video.frames.shape == (16, 48, 80, 3)
        assert video.frames.dtype == np.uint8
        assert numbers_of(video.frames) == expected.tolist() == video.frame_indices.tolist()
        assert video.sample_indices.tolist() == list(range(16))
        assert np.allclose(video.timestamps, expected / 24)
        assert video.fps == pytest.approx(24)
        assert (video.frames == decode_all(clip)[expected]).all()

    def test_dense_stack_holds_the_samples_and_frames_between(self, clip):
        video = decode_video(clip, num_frames=4, frame_interval=1 / 8)
        shown = numbers_of(video.frames)
        assert [shown[i] for i in video.sample_indices] == video.frame_indices.tolist() == [7, 22, 38, 53]
        assert shown[0] == 7
        assert shown[-1] == 53
        assert max(np.diff(shown)) <= 4
        assert (video.sampled == video.frames[video.sample_indices]).all()

    def test_a_short_video_gives_all_its_frames(self, tmp_path):
        path = write_numbered(tmp_path / "short.mp4", 5)
        assert numbers_of(decode_video(path).frames) == [0, 1, 2, 3, 4]

    def test_a_video_of_one_frame(self, tmp_path):
        video = decode_video(write_numbered(tmp_path / "one.mp4", 1), frame_interval=1 / 8)
        assert numbers_of(video.frames) == [0]
        assert video.timestamps.tolist() == [0]
        assert video.fps > 0

    def test_no_number_of_frames_means_all(self, clip):
        assert numbers_of(decode_video(clip, num_frames=None).frames) == list(range(61))

    @pytest.mark.parametrize("setting", [{"num_frames": 0}, {"short_side": 0}, {"frame_interval": -1}, {"fps": 0}])
    def test_settings_are_checked(self, clip, setting):
        with pytest.raises(ValueError, match=next(iter(setting))):
            decode_video(clip, **setting)


class TestSeeking:
    @pytest.mark.parametrize(
        ("suffix", "codec", "options"),
        [
            ("mp4", "libx264", {"g": "24", "bf": "3"}),
            ("mp4", "libx264", {"g": "24", "bf": "3", "x264-params": "open-gop=1"}),
            ("mkv", "libx264", {"g": "24"}),
            ("ts", "libx264", {"g": "24"}),
            ("avi", "mpeg4", {"g": "24"}),
            ("mpg", "mpeg2video", {"g": "24", "bf": "2"}),
            ("webm", "libvpx-vp9", {"g": "24", "cpu-used": "8", "deadline": "realtime"}),
            ("flv", "flv", {"g": "24"}),
        ],
    )
    @pytest.mark.parametrize("num_frames", [3, 16])
    def test_frames_found_by_seeking_equal_those_of_decoding_everything(
        self, tmp_path, suffix, codec, options, num_frames
    ):
        path = write_numbered(tmp_path / f"long.{suffix}", 300, codec=codec, options=options)
        everything = decode_all(path)
        expected = uniform_sample_indices(len(everything), num_frames)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            video = decode_video(path, num_frames=num_frames)
        assert video.frame_indices.tolist() == expected.tolist()
        assert (video.frames == everything[expected]).all()

    def test_far_fewer_frames_are_decoded_than_there_are(self, tmp_path, monkeypatch):
        path = write_numbered(tmp_path / "long.mp4", 600, options={"g": "12"})
        from trajvit.processing import video_file

        num_decoded = 0
        decoded = video_file._decoded

        def counting(container, stream):
            nonlocal num_decoded
            for frame in decoded(container, stream):
                num_decoded += 1
                yield frame

        monkeypatch.setattr(video_file, "_decoded", counting)
        assert numbers_of(decode_video(path, num_frames=4).frames) == [75, 225, 375, 525]
        assert num_decoded <= 4 * 24


class TestTiming:
    def test_variable_frame_rate_keeps_the_true_times(self, tmp_path):
        times = np.cumsum([0, *np.random.default_rng(0).integers(10, 200, 39)]).tolist()
        path = write_numbered(tmp_path / "variable.mkv", 40, times=times)
        video = decode_video(path, num_frames=8)
        assert numbers_of(video.frames) == uniform_sample_indices(40, 8).tolist()
        assert np.allclose(video.timestamps, np.array(times)[video.frame_indices] / 1000)
        assert video.fps == pytest.approx(39 / (times[-1] / 1000))

    def test_times_start_with_the_file(self, tmp_path):
        path = write_numbered(tmp_path / "stream.ts", 30)
        with av.open(str(path)) as container:
            assert container.start_time > 0
        assert decode_video(path, num_frames=None).timestamps == pytest.approx(np.arange(30) / 24, abs=1e-4)

    def test_a_stream_whose_times_start_again(self, tmp_path):
        parts = []
        for start in (0, 30):
            frames = [numbered(i) for i in range(start, start + 30)]
            parts.append(Path(write_video(str(tmp_path / f"{start}.ts"), frames)).read_bytes())
        # In the other order the second part would come first if frames were sorted by their times.
        for first, second in ((0, 1), (1, 0)):
            video = decode_video(parts[first] + parts[second], num_frames=None)
            order = [*range(30 * first, 30 * first + 30), *range(30 * second, 30 * second + 30)]
            assert numbers_of(video.frames) == order
            assert (np.diff(video.timestamps) > 0).all()

    def test_a_stream_without_times_or_a_count(self, tmp_path):
        path = write_numbered(tmp_path / "elementary.h264", 50, file_format="h264")
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == 0
        video = decode_video(path, num_frames=5)
        assert numbers_of(video.frames) == video.frame_indices.tolist() == [5, 15, 25, 35, 45]
        assert (np.diff(video.timestamps) > 0).all()


class TestPictures:
    @pytest.mark.parametrize(
        ("matrix", "upright"),
        [
            ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
            ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
            ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
            ((-1, 0, 0, 1), np.fliplr),
            ((1, 0, 0, -1), np.flipud),
        ],
        ids=["quarter clockwise", "half", "quarter anticlockwise", "mirrored", "upside down"],
    )
    @pytest.mark.parametrize("short_side", [None, 24])
    def test_rotation_metadata_is_applied(self, tmp_path, matrix, upright, short_side):
        path = tmp_path / "rotated.mp4"
        write_video(str(path), [QUADRANTS] * 3)
        data = bytearray(path.read_bytes())
        # The matrix lies 40 bytes into a version-0 track header: a, b, u, c, d, v as 16.16 and 2.30 fixed point.
        start = data.index(b"tkhd") + 4 + 40
        a, b, c, d = (value << 16 for value in matrix)
        data[start : start + 24] = struct.pack(">6i", a, b, 0, c, d, 0)
        path.write_bytes(data)
        frame = decode_video(path, short_side=short_side).frames[0]
        expected = upright(QUADRANTS)
        if short_side:
            expected = expected[::2, ::2]
        assert frame.shape == expected.shape
        away_from_edges = np.abs(frame.astype(int) - expected) < 40
        assert away_from_edges.mean() > 0.9

    def test_odd_sizes(self, tmp_path):
        frames = [numbered(i, 47, 81) for i in range(3)]
        video = decode_video(write_video(str(tmp_path / "odd.mp4"), frames, pix_fmt="yuv444p"))
        assert video.frames.shape == (3, 47, 81, 3)
        assert np.abs(video.frames.astype(int) - np.stack(frames)).mean() < 3

    def test_grey_keeps_its_levels(self, tmp_path):
        ramp = np.broadcast_to(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], (16, 128, 3))
        path = write_video(str(tmp_path / "grey.mkv"), [ramp], codec="ffv1", pix_fmt="gray")
        assert np.abs(decode_video(path).frames[0].astype(int) - ramp).max() <= 1

    def test_ten_bits_become_eight(self, tmp_path):
        ramp = np.broadcast_to(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], (16, 128, 3))
        path = write_video(str(tmp_path / "deep.mkv"), [ramp], codec="ffv1", pix_fmt="yuv444p10le")
        assert np.abs(decode_video(path).frames[0].astype(int) - ramp).max() <= 2

    def test_transparency_is_laid_over_white(self, tmp_path):
        rgba = np.zeros((16, 32, 4), dtype=np.uint8)
        rgba[:, :8] = (200, 0, 0, 255)
        rgba[:, 8:16] = (200, 0, 0, 128)
        frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="argb")
        path = tmp_path / "alpha.mov"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("qtrle", rate=10)
            stream.height, stream.width, stream.pix_fmt = 16, 32, "argb"
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        pixels = decode_video(path).frames[0].astype(int)
        assert np.abs(pixels[8, 4] - (200, 0, 0)).max() <= 1
        assert np.abs(pixels[8, 12] - (227, 127, 127)).max() <= 2
        assert (pixels[8, 24] == 255).all()

    def test_the_colour_matrix_of_the_stream_is_used(self, tmp_path):
        path = tmp_path / "bt709.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"qp": "1"})
            stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
            stream.codec_context.colorspace = 1
            pixels = np.full((32, 32, 3), (20, 200, 60), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        assert np.abs(decode_video(path).frames[0].astype(int) - (20, 200, 60)).max() <= 4

    def test_the_first_frame_decides_the_size_when_it_changes(self, tmp_path):
        parts = []
        for start, size in ((0, (48, 80)), (10, (96, 160))):
            frames = [numbered(i, *size) for i in range(start, start + 10)]
            parts.append(Path(write_video(str(tmp_path / f"{start}.h264"), frames, file_format="h264")).read_bytes())
        video = decode_video(b"".join(parts), num_frames=None)
        assert video.frames.shape == (20, 48, 80, 3)
        assert numbers_of(video.frames) == list(range(20))

    def test_short_side_scales_down_by_area_and_never_up(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
        large = np.kron(noise, np.ones((16, 16, 1), dtype=np.uint8))
        path = write_video(str(tmp_path / "large.mkv"), [large], codec="ffv1", pix_fmt="yuv444p")
        small = decode_video(path, short_side=12).frames[0]
        assert small.shape == (12, 20, 3)
        assert np.abs(small.astype(int) - noise).mean() < 2
        assert decode_video(path, short_side=1000).frames.shape[1:3] == large.shape[:2]
        by_array = decode_video(large[None], short_side=12).frames[0]
        assert np.abs(by_array.astype(int) - noise).max() <= 1

    def test_memory_holds_the_wanted_frames_alone(self, tmp_path):
        frames = [numbered(i, 360, 640) for i in range(60)]
        path = write_video(str(tmp_path / "wide.mp4"), frames, options={"preset": "ultrafast"})
        decode_video(path, num_frames=1)
        tracemalloc.start()
        video = decode_video(path, num_frames=8, short_side=90)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < video.frames.nbytes + 3 * frames[0].nbytes


class TestSources:
    def test_bytes_and_file_objects(self, clip, tmp_path):
        expected = decode_video(clip)
        data = Path(clip).read_bytes()
        with open(clip, "rb") as file:
            file.seek(1000)
            sources = [data, bytearray(data), memoryview(data), io.BytesIO(data), file, Path(clip), OneWay(data)]
            for source in sources:
                assert (decode_video(source).frames == expected.frames).all()
            assert not file.closed

    def test_a_url(self, clip):
        handler = partial(QuietHandler, directory=str(Path(clip).parent))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                address = f"http://127.0.0.1:{server.server_port}"
                video = decode_video(f"{address}/clip.mp4")
                with pytest.raises(VideoDecodingError, match=r"missing\.mp4 cannot be opened"):
                    decode_video(f"{address}/missing.mp4")
            finally:
                server.shutdown()
                thread.join()
        assert (video.frames == decode_video(clip).frames).all()

    def test_lists_of_images(self, tmp_path):
        arrays = [numbered(i) for i in range(5)]
        Image.fromarray(arrays[4]).save(tmp_path / "4.png")
        mixed = [arrays[0], Image.fromarray(arrays[1]), torch.from_numpy(arrays[2]).permute(2, 0, 1)]
        mixed += [torch.from_numpy(arrays[3]), tmp_path / "4.png"]
        assert numbers_of(decode_video(mixed).frames) == [0, 1, 2, 3, 4]
        assert decode_video(mixed, fps=10).timestamps.tolist() == [0, 0.1, 0.2, 0.3, 0.4]

    def test_one_image(self):
        image = numbered(77)
        for source in (image, Image.fromarray(image), torch.from_numpy(image).permute(2, 0, 1), image[..., 0]):
            assert numbers_of(decode_video(source).frames) == [77]

    def test_a_silent_server_is_given_up(self, monkeypatch):
        monkeypatch.setattr("trajvit.processing.video_file.URL_TIMEOUT_SECONDS", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}/clip.mp4"
            started = time.monotonic()
            with pytest.raises(VideoDecodingError, match="cannot be opened"):
                decode_video(address)
        assert time.monotonic() - started < 10


class OneWay(io.RawIOBase):
    """A file object that cannot seek, like a pipe."""

    def __init__(self, data: bytes):
        self._file = io.BytesIO(data)

    def readable(self):
        return True

    def read(self, size=-1):
        return self._file.read(size)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass
