"""Decoding what is damaged, empty or no video at all, and the example clips from end to end."""

import io
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
from numbered_videos import numbered, numbers_of, write_numbered

from trajvit.processing.decoding import decode_video
from trajvit.processing.sampling import uniform_sample_indices
from trajvit.processing.video_frames import VideoDecodingError, VideoDecodingWarning

SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """61 frames at 24 per second, H.264 with B-frames."""
    return write_numbered(tmp_path_factory.mktemp("clip") / "clip.mp4", 61)


class TestDamage:
    def intra_only(self, path, count=30):
        """A file in which no frame depends on another, and whose index comes first."""
        return write_numbered(
            path, count, codec="mjpeg", pix_fmt="yuvj420p", file_format="mp4", muxing={"movflags": "faststart"}
        )

    def packet_places(self, path):
        with av.open(str(path)) as container:
            return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]

    def test_a_title_that_is_no_utf8_does_no_harm(self, tmp_path):
        path = tmp_path / "titled.mkv"
        with av.open(str(path), "w") as container:
            container.metadata["title"] = "CAFE AU LAIT"
            stream = container.add_stream("ffv1", rate=24)
            stream.height, stream.width, stream.pix_fmt = 48, 80, "bgr0"
            for number in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
            container.mux(stream.encode())
        data = path.read_bytes()
        assert b"CAFE AU LAIT" in data
        path.write_bytes(data.replace(b"CAFE AU LAIT", b"CAF\xe9 AU LAIT"))
        assert numbers_of(decode_video(path).frames) == [0, 1, 2]

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

    def test_damage_is_not_logged_through_python(self, tmp_path):
        """Threads of FFmpeg's that log through Python could wait for ever."""
        path = Path(self.intra_only(tmp_path / "cut.mp4"))
        position, size = self.packet_places(path)[20]
        path.write_bytes(path.read_bytes()[: position + size // 2])
        before = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with pytest.warns(VideoDecodingWarning):
                decode_video(path)
            assert av.logging.get_level() is None
        finally:
            av.logging.set_level(before)

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
