"""Every bad or odd video, image and array gives the frames it should, or one clear error, on one line, in time."""

import re
import resource
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from bad_images import IMAGES, VALUES
from bad_inputs import HangingError, in_time
from bad_videos import VIDEOS, clip, noise
from numbered_videos import numbers_of, write_video

from trajvit.processing import video_file
from trajvit.processing.decoding import decode_video, iterate_video
from trajvit.processing.video_frames import VideoDecodingError, VideoDecodingWarning

FILES = VIDEOS + IMAGES


def named(inputs):
    return pytest.mark.parametrize("bad", inputs, ids=[each.name for each in inputs])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each input is made once."""
    folder, sources = tmp_path_factory.mktemp("bad"), {}

    def make(bad):
        if bad not in sources:
            own = folder / str(len(sources))
            own.mkdir()
            sources[bad] = bad.make(own)
        return sources[bad]

    return make


def outcome(read):
    """What reading gives, or the error, and the warnings about damage."""
    with warnings.catch_warnings(record=True) as caught, in_time(20):
        warnings.simplefilter("always")
        try:
            result = read()
        except VideoDecodingError as error:
            result = error
    return result, [str(each.message) for each in caught if each.category is VideoDecodingWarning]


def check(bad, result, warned):
    if bad.error is not None:
        assert isinstance(result, VideoDecodingError)
        message = str(result)
        assert re.search(bad.error, message), message
        assert "\n" not in message
        assert message.encode()
        return
    if isinstance(result, VideoDecodingError):
        raise result
    if bad.shape is not None:
        assert result.shape == bad.shape
    if bad.numbers is not None:
        expected, found = list(bad.numbers), numbers_of(result)
        assert found == expected[: len(found)]
        assert len(found) >= max(1, len(expected) - bad.loose)
    assert bool(warned) == bool(bad.warns)
    assert all(re.search(bad.warns, each) or bad.loose for each in warned)


@named(FILES + VALUES)
def test_all_frames(bad, made):
    source = made(bad)
    video, warned = outcome(lambda: decode_video(source, num_frames=None))
    check(bad, getattr(video, "frames", video), warned)
    if bad.error is None:
        assert video.frames.dtype == np.uint8
        assert len(video.frame_indices) == len(video.timestamps) == len(video.frames)
        assert (np.diff(video.frame_indices) > 0).all()
        assert (np.diff(video.timestamps) >= 0).all()
        assert np.isfinite(video.timestamps).all()
        assert 0 < video.fps < np.inf


@named(FILES)
def test_frame_by_frame(bad, made):
    source = made(bad)
    frames, warned = outcome(lambda: np.stack([frame.pixels for frame in iterate_video(source)]))
    check(bad, frames, warned)


@named([bad for bad in FILES if bad.error is None])
def test_two_samples_at_a_small_size(bad, made):
    source = made(bad)
    video, _ = outcome(lambda: decode_video(source, num_frames=2, frame_interval=1 / 24, short_side=8, max_between=3))
    height, width = video.frames.shape[1:3]
    assert 1 <= min(height, width) <= 8
    assert 1 <= len(video.sampled) <= 2


@named([bad for bad in VIDEOS if bad.error is None])
def test_bytes_give_what_the_file_gives(bad, made):
    source = made(bad)
    by_path, _ = outcome(lambda: decode_video(source, num_frames=None))
    by_bytes, _ = outcome(lambda: decode_video(Path(source).read_bytes(), num_frames=None))
    assert (by_path.frames == by_bytes.frames).all()


def test_a_file_without_permission(tmp_path):
    path = clip(tmp_path, 2)
    path.chmod(0)
    try:
        open(path, "rb").close()
    except PermissionError:
        with pytest.raises(VideoDecodingError, match=r"clip\.mp4 cannot be opened \(.*[Pp]ermission denied"):
            decode_video(path)
    else:
        pytest.skip("this user may read everything")


@contextmanager
def little_memory(extra):
    """At most `extra` bytes of address space more than now."""
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@named([bad for bad in IMAGES if bad.kind == "bomb"])
def test_bombs_take_no_memory(bad, made):
    source = made(bad)
    with little_memory(2**28):
        result, _ = outcome(lambda: decode_video(source))
    assert "pixels" in str(result)


@pytest.mark.parametrize("read", [decode_video, lambda path: list(iterate_video(path))])
def test_frames_beyond_the_limit_are_refused(tmp_path, monkeypatch, read):
    path = write_video(str(tmp_path / "large.mkv"), noise(2, 64, 64), codec="ffv1", pix_fmt="bgr0")
    monkeypatch.setattr(video_file, "MAX_FRAME_PIXELS", 64 * 64 - 1)
    with pytest.raises(VideoDecodingError, match=r"large\.mkv has frames of 64 x 64 pixels; expected at most 4095"):
        read(path)


def test_a_size_that_grows_within_the_stream_is_limited_too(tmp_path, monkeypatch):
    parts = [
        write_video(str(tmp_path / f"{side}.h264"), noise(4, side, side), file_format="h264") for side in (48, 160)
    ]
    data = b"".join(Path(part).read_bytes() for part in parts)
    monkeypatch.setattr(video_file, "MAX_FRAME_PIXELS", 100 * 100)
    video, warned = outcome(lambda: decode_video(data, num_frames=None))
    assert video.frames.shape == (4, 48, 48, 3)
    assert "4 of its 8 frames are lost" in warned[0]


def test_a_video_of_too_many_frames_is_refused(tmp_path, monkeypatch):
    path = clip(tmp_path, 12)
    monkeypatch.setattr(video_file, "MAX_FRAMES", 11)
    with pytest.raises(VideoDecodingError, match=r"clip\.mp4 has more than 11 frames, or no end"):
        decode_video(path)
    assert len(list(iterate_video(path))) == 12


def test_the_guard_against_hanging_works():
    with pytest.raises(HangingError), in_time(0.05):
        threading.Event().wait(5)
