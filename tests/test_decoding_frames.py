"""Decoding still images, animations and frames that are in memory already."""

import numpy as np
import pytest
import torch
from numbered_videos import QUADRANTS, numbered, numbers_of
from PIL import Image

from trajvit.processing.decoding import decode_video
from trajvit.processing.video_frames import VideoDecodingError, VideoDecodingWarning


class TestImageFiles:
    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
    def test_an_image_is_a_video_of_one_frame(self, tmp_path, suffix):
        path = tmp_path / f"image.{suffix}"
        Image.fromarray(numbered(693)).save(path)
        video = decode_video(path)
        assert numbers_of(video.frames) == [693]
        assert video.timestamps.tolist() == [0]

    def test_orientation_palette_and_depth(self, tmp_path):
        image = Image.fromarray(QUADRANTS)
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
        assert decode_video(tmp_path / "turned.jpg").frames.shape == (1, 80, 48, 3)
        image.quantize(4).save(tmp_path / "palette.png")
        assert (decode_video(tmp_path / "palette.png").frames[0] == QUADRANTS).all()
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
        assert numbers_of(decode_video([path]).frames) == [1, 2, 3, 4, 5, 6]
        # Among other pictures it is one of them.
        assert numbers_of(decode_video([path, path]).frames) == [1, 1]

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
