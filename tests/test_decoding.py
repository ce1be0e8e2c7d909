"""Decoding against videos whose every frame carries its own number, written by the tests with PyAV."""

import io
import socket
import struct
import threading
import time
import tracemalloc
import warnings
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from trajvit.processing.decoding import decode_video
from trajvit.processing.sampling import uniform_sample_indices
from trajvit.processing.video_frames import VideoDecodingError, VideoDecodingWarning

SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"
BITS = 10


def numbered(number: int, height: int = 48, width: int = 80) -> np.ndarray:
    """A frame that shows `number` as ten black or white columns, which survive lossy coding and scaling."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    columns = np.repeat(np.array(bits, dtype=np.uint8) * 255, -(-width // BITS))[:width]
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).copy()


def number_of(frame: np.ndarray) -> int:
    width = frame.shape[1]
    middles = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(int(frame[frame.shape[0] // 2, x].mean() > 127) << bit for bit, x in enumerate(middles))


def numbers_of(frames: np.ndarray) -> list[int]:
    return [number_of(frame) for frame in frames]


def write_video(
    target, frames, codec="libx264", pix_fmt="yuv420p", rate=24, times=None, options=None, file_format=None, muxing=None
):
    """Encode (H, W, 3) frames; `times` in milliseconds gives them an irregular rate."""
    with av.open(target, "w", format=file_format, options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for position, pixels in enumerate(frames):
            frame = pixels if isinstance(pixels, av.VideoFrame) else av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[position], stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target


def write_numbered(path, count, **settings):
    return write_video(str(path), [numbered(i) for i in range(count)], **settings)


def decode_all(path) -> np.ndarray:
    """Every frame, in order, by nothing but PyAV's plain loop."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


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
    QUADRANTS = np.zeros((48, 80, 3), dtype=np.uint8)
    QUADRANTS[:24, :40] = (255, 0, 0)
    QUADRANTS[:24, 40:] = (0, 255, 0)
    QUADRANTS[24:, :40] = (0, 0, 255)

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
        write_video(str(path), [self.QUADRANTS] * 3)
        data = bytearray(path.read_bytes())
        # The matrix lies 40 bytes into a version-0 track header: a, b, u, c, d, v as 16.16 and 2.30 fixed point.
        start = data.index(b"tkhd") + 4 + 40
        a, b, c, d = (value << 16 for value in matrix)
        data[start : start + 24] = struct.pack(">6i", a, b, 0, c, d, 0)
        path.write_bytes(data)
        frame = decode_video(path, short_side=short_side).frames[0]
        expected = upright(self.QUADRANTS)
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


class TestImageFiles:
    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
    def test_an_image_is_a_video_of_one_frame(self, tmp_path, suffix):
        path = tmp_path / f"image.{suffix}"
        Image.fromarray(numbered(693)).save(path)
        video = decode_video(path)
        assert numbers_of(video.frames) == [693]
        assert video.timestamps.tolist() == [0]

    def test_orientation_palette_and_depth(self, tmp_path):
        image = Image.fromarray(TestPictures.QUADRANTS)
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
        assert decode_video(tmp_path / "turned.jpg").frames.shape == (1, 80, 48, 3)
        image.quantize(4).save(tmp_path / "palette.png")
        assert (decode_video(tmp_path / "palette.png").frames[0] == TestPictures.QUADRANTS).all()
        Image.fromarray(np.full((4, 4), 200 * 257, dtype=np.uint16)).save(tmp_path / "deep.png")
        assert (decode_video(tmp_path / "deep.png").frames == 200).all()
        Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "clear.png")
        assert (decode_video(tmp_path / "clear.png").frames == 255).all()

    @pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
    def test_an_animation_is_a_video(self, tmp_path, suffix):
        path = tmp_path / f"animation.{suffix}"
        durations = [100, 50, 200, 100, 100, 300]
        first, *rest = [Image.fromarray(numbered(i + 1)) for i in range(6)]
        first.save(path, save_all=True, append_images=rest, duration=durations, loop=0)
        video = decode_video(path)
        assert numbers_of(video.frames) == [1, 2, 3, 4, 5, 6]
        assert np.allclose(video.timestamps, np.cumsum([0, *durations[:-1]]) / 1000)
        assert numbers_of(decode_video(path, num_frames=3).frames) == [2, 4, 6]

    def test_files_stay_open_that_were_given_open(self, tmp_path):
        for suffix in ("gif", "jpg", "webp"):
            Image.fromarray(numbered(5)).save(tmp_path / f"image.{suffix}")
            with open(tmp_path / f"image.{suffix}", "rb") as file:
                first, again = decode_video(file), decode_video(file)
                assert not file.closed
            assert (first.frames == again.frames).all()

    def test_an_animation_that_breaks_off_gives_the_frames_before(self, tmp_path):
        path = tmp_path / "cut.png"
        first, *rest = [Image.fromarray(numbered(i)) for i in range(10)]
        first.save(path, save_all=True, append_images=rest, duration=100)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.warns(VideoDecodingWarning, match=r"cut\.png is damaged: it breaks off; the \d frames"):
            video = decode_video(path)
        shown = numbers_of(video.frames)
        assert shown == list(range(len(shown)))
        assert 2 < len(shown) < 10

    def test_a_damaged_image_is_named(self, tmp_path):
        path = tmp_path / "cut.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:900])
        with pytest.raises(VideoDecodingError, match=r"cut\.jpg is a damaged JPEG"):
            decode_video(path)


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


class TestArrays:
    FRAMES = np.stack([numbered(i) for i in range(6)])

    @pytest.mark.parametrize(
        "convert",
        [
            lambda frames: frames,
            lambda frames: frames[..., 0],
            lambda frames: frames[..., :1],
            lambda frames: np.concatenate([frames, np.full_like(frames[..., :1], 255)], axis=-1),
            lambda frames: frames.transpose(0, 3, 1, 2),
            lambda frames: frames.astype(np.int64),
            lambda frames: frames.astype(np.float32) / 255,
            lambda frames: (frames / 255).astype(np.float16),
            lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2),
            lambda frames: torch.from_numpy(frames),
            lambda frames: torch.from_numpy(frames[..., 0].copy()),
            lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2).bfloat16() / 255,
            lambda frames: (torch.from_numpy(frames) / 255).requires_grad_(),
        ],
    )
    def test_layouts_and_types_mean_the_same_frames(self, convert):
        video = decode_video(convert(self.FRAMES))
        assert video.frames.shape == self.FRAMES.shape
        assert (video.frames == self.FRAMES).all()

    def test_sampling_of_arrays(self):
        video = decode_video(self.FRAMES, num_frames=2, frame_interval=0.1, fps=10)
        assert numbers_of(video.frames) == [1, 2, 3, 4]
        assert video.frame_indices.tolist() == [1, 4]
        assert video.sample_indices.tolist() == [0, 3]
        assert video.timestamps.tolist() == [0.1, 0.4]

    def test_three_frames_of_width_three_go_by_the_custom_of_the_type(self):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 7, 3), dtype=np.uint8)
        assert (decode_video(pixels).frames == pixels).all()
        assert (decode_video(torch.from_numpy(pixels)).frames == pixels.transpose(0, 2, 3, 1)).all()
        assert (decode_video(torch.from_numpy(pixels), data_format="channels_last").frames == pixels).all()
        first = decode_video(pixels, data_format="channels_first")
        assert (first.frames == pixels.transpose(0, 2, 3, 1)).all()

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((3, 8, 9), np.uint8), "may be an image"),
            (np.zeros((2, 5, 8, 9), np.uint8), "C of 1, 3 or 4"),
            (np.zeros((16, 2, 3, 8, 9), np.uint8), "expected frames"),
            (np.zeros(7, np.uint8), "expected frames"),
            (np.zeros((0, 8, 9, 3), np.uint8), "no pixel"),
            (np.zeros((2, 8, 0, 3), np.uint8), "no pixel"),
            (np.full((2, 8, 9, 3), np.nan, np.float32), "NaN"),
            (np.full((2, 8, 9, 3), 200.0), "floats in 0..1"),
            (np.full((2, 8, 9, 3), -0.5), "before any normalisation"),
            (np.full((2, 8, 9, 3), 1000, np.uint16), "integers in 0..255"),
            (np.zeros((2, 8, 9, 3), bool), "dtype bool"),
            (np.array([["a", "b"], ["c", "d"]]), "dtype"),
        ],
    )
    def test_other_arrays_are_refused(self, array, message):
        with pytest.raises(VideoDecodingError, match=message):
            decode_video(array)

    def test_the_frame_at_fault_is_named(self):
        frames = [numbered(0), numbered(1, 40, 80)]
        with pytest.raises(VideoDecodingError, match="frame 1 of the list of 2 frames is 40 x 80"):
            decode_video(frames)
        with pytest.raises(VideoDecodingError, match="frame 1 of the list of 2 frames is of type int"):
            decode_video([numbered(0), 3])
        with pytest.raises(VideoDecodingError, match="holds no frame"):
            decode_video([])


class TestDamage:
    def intra_only(self, path, count=30):
        """A file in which no frame depends on another, and whose index comes first."""
        return write_numbered(
            path, count, codec="mjpeg", pix_fmt="yuvj420p", file_format="mp4", muxing={"movflags": "faststart"}
        )

    def packet_places(self, path):
        with av.open(str(path)) as container:
            return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]

    def test_damaged_packets_in_the_middle(self, tmp_path):
        path = self.intra_only(tmp_path / "damaged.mp4")
        data = bytearray(Path(path).read_bytes())
        for number in (10, 11, 12, 13):
            position, size = self.packet_places(path)[number]
            data[position : position + size] = bytes(size)
        Path(path).write_bytes(data)
        with pytest.warns(VideoDecodingWarning, match=r"damaged\.mp4 is damaged: 4 of its 30 frames are lost; the 26"):
            video = decode_video(path, num_frames=None)
        assert numbers_of(video.frames) == video.frame_indices.tolist() == [*range(10), *range(14, 30)]
        assert np.allclose(video.timestamps, video.frame_indices / 24)
        with pytest.warns(VideoDecodingWarning):
            video = decode_video(path, num_frames=13)
        good = np.array([*range(10), *range(14, 30)])
        assert numbers_of(video.frames) == video.frame_indices.tolist() == good[uniform_sample_indices(26, 13)].tolist()

    def test_damage_in_a_stream_of_dependent_frames(self, tmp_path):
        path = Path(write_numbered(tmp_path / "damaged.mp4", 100, options={"g": "25", "bf": "0"}))
        data = bytearray(path.read_bytes())
        for position, size in self.packet_places(path)[40:45]:
            data[position : position + size] = bytes(size)
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VideoDecodingWarning)
            video = decode_video(path, num_frames=None)
        shown = dict(zip(video.frame_indices.tolist(), numbers_of(video.frames), strict=True))
        assert all(shown[number] == number for number in [*range(40), *range(50, 100)])

    def test_a_truncated_file_gives_the_frames_before_the_end(self, tmp_path):
        path = Path(self.intra_only(tmp_path / "cut.mp4"))
        position, size = self.packet_places(path)[20]
        path.write_bytes(path.read_bytes()[: position + size // 2])
        with pytest.warns(VideoDecodingWarning, match=r"cut\.mp4 is damaged: \d+ of its 30 frames"):
            video = decode_video(path, num_frames=5)
        assert numbers_of(video.frames) == video.frame_indices.tolist()
        assert video.frame_indices[-1] <= 20

    @pytest.mark.parametrize("file_format", ["mp4", "matroska", "mpegts", "avi"])
    def test_any_damage_ends_in_frames_or_in_the_one_error(self, tmp_path, file_format):
        codec = "mpeg4" if file_format == "avi" else "libx264"
        path = Path(write_numbered(tmp_path / "clip", 40, file_format=file_format, codec=codec, options={"g": "10"}))
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(40):
            data = bytearray(whole)
            start, length = rng.integers(len(data)), rng.integers(1, 300)
            data[start : start + length] = rng.bytes(length) if rng.random() < 0.5 else b""
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VideoDecodingWarning)
                try:
                    video = decode_video(bytes(data), num_frames=8)
                except VideoDecodingError:
                    continue
            assert len(video.frames) == len(video.frame_indices) <= 8
            assert (np.diff(video.frame_indices) > 0).all()
            assert (np.diff(video.timestamps) >= 0).all()

    def test_a_file_without_its_index_is_refused(self, clip, tmp_path):
        path = tmp_path / "headless.mp4"
        path.write_bytes(Path(clip).read_bytes()[:-2000])
        with pytest.raises(VideoDecodingError, match=r"headless\.mp4"):
            decode_video(path)

    def test_a_file_of_which_nothing_can_be_decoded(self, tmp_path):
        path = self.intra_only(tmp_path / "dead.mp4", count=5)
        data = bytearray(Path(path).read_bytes())
        for position, size in self.packet_places(path):
            data[position : position + size] = bytes(size)
        Path(path).write_bytes(data)
        with pytest.raises(VideoDecodingError, match=r"dead\.mp4 is damaged: none of its 5 frames"):
            decode_video(path)

    def test_what_is_no_video_is_named(self, tmp_path):
        text, empty, noise = tmp_path / "notes.txt", tmp_path / "empty.mp4", tmp_path / "noise.mp4"
        text.write_text("The quick brown fox\n" * 50)
        empty.touch()
        noise.write_bytes(np.random.default_rng(0).bytes(5000))
        sound = tmp_path / "sound.wav"
        with av.open(str(sound), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
        for path in (text, empty, noise, sound, tmp_path, tmp_path / "missing.mp4"):
            with pytest.raises(VideoDecodingError, match=path.name):
                decode_video(path)
        with pytest.raises(VideoDecodingError, match="has no video stream"):
            decode_video(sound)
        with pytest.raises(VideoDecodingError, match="does not exist"):
            decode_video(str(tmp_path / "missing.mp4"))

    def test_a_cover_picture_is_no_video(self, tmp_path):
        path = tmp_path / "song.m4a"
        with av.open(str(path), "w", format="mp4") as container:
            sound = container.add_stream("aac", rate=8000, layout="mono")
            cover = container.add_stream("mjpeg", rate=1)
            cover.height, cover.width, cover.pix_fmt = 48, 80, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            for position in range(10):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 8000, 1024 * position
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
            container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(3), format="rgb24")))
            container.mux(cover.encode())
        with pytest.raises(VideoDecodingError, match=r"song\.m4a has no video stream \(only audio\)"):
            decode_video(path)

    @pytest.mark.parametrize("source", [None, 3, {}, "", b"", io.StringIO("text")])
    def test_other_objects_are_refused(self, source):
        with pytest.raises(VideoDecodingError):
            decode_video(source)


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the example videos are not beside this checkout")
def test_example_videos_are_sampled_from_end_to_end():
    paths = sorted(SHARED_VIDEOS.glob("*.mp4"))
    assert paths
    for path in paths[::3]:
        video = decode_video(path, short_side=64)
        assert video.frames.shape[0] == 16
        assert min(video.frames.shape[1:3]) == 64
        assert video.frames.std() > 10
