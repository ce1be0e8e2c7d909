"""Videos read frame by frame, against the same videos decoded as a whole and against their known frames."""

from pathlib import Path

import av
import numpy as np
import pytest
from numbered_videos import number_of, numbered, numbers_of, write_numbered, write_video
from PIL import Image

from trajvit.processing.decoding import decode_video, iterate_video
from trajvit.processing.sampling import Pace
from trajvit.processing.video_frames import VideoDecodingError, VideoDecodingWarning

SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """61 frames at 24 per second, H.264 with B-frames."""
    return write_numbered(tmp_path_factory.mktemp("clip") / "clip.mp4", 61)


def assert_as_decoded(source):
    whole = decode_video(source, num_frames=None, short_side=32)
    frames = list(iterate_video(source, short_side=32))
    assert [frame.number for frame in frames] == whole.frame_indices.tolist()
    np.testing.assert_allclose([frame.seconds for frame in frames], whole.timestamps, atol=1e-9)
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), whole.frames)


def test_every_frame_in_order(clip):
    frames = list(iterate_video(clip))
    assert [number_of(frame.pixels) for frame in frames] == [frame.number for frame in frames] == list(range(61))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(61) / 24, atol=1e-6)
    assert_as_decoded(clip)
    assert_as_decoded(Path(clip).read_bytes())


def test_irregular_times(tmp_path):
    times = [0, 40, 45, 300, 310, 1000, 1001, 2500]
    path = write_video(str(tmp_path / "irregular.mkv"), [numbered(i) for i in range(8)], times=times)
    assert_as_decoded(path)
    taken = [frame.number for frame in iterate_video(path, frame_interval=0.3)]
    assert taken == [0, 3, 5, 7]


def test_a_stream_without_times(tmp_path):
    """An elementary stream has no timestamps of its own."""
    path = write_numbered(tmp_path / "bare.m4v", 12, codec="mpeg4", file_format="m4v")
    frames = list(iterate_video(path))
    assert numbers_of([frame.pixels for frame in frames]) == list(range(12))
    assert [frame.number for frame in frames] == list(range(12))
    seconds = np.array([frame.seconds for frame in frames])
    assert seconds[0] == 0
    assert (np.diff(seconds) > 0).all()


def test_lost_frames_keep_their_numbers(tmp_path):

    path = write_numbered(
        tmp_path / "damaged.mp4", 30, codec="mjpeg", pix_fmt="yuvj420p", muxing={"movflags": "faststart"}
    )
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(Path(path).read_bytes())
    for number in (0, 11, 12, 29):
        position, size = places[number]
        data[position : position + size] = bytes(size)
    Path(path).write_bytes(data)
    with pytest.warns(VideoDecodingWarning, match="4 of its 30 frames are lost; the 26 frames"):
        frames = list(iterate_video(path))
    numbers = [*range(1, 11), *range(13, 29)]
    assert numbers_of([frame.pixels for frame in frames]) == [frame.number for frame in frames] == numbers
    np.testing.assert_allclose([frame.seconds for frame in frames], np.array(numbers) / 24, atol=1e-6)
    for number in range(30):
        position, size = places[number]
        data[position : position + size] = bytes(size)
    Path(path).write_bytes(data)
    with pytest.raises(VideoDecodingError, match=r"damaged\.mp4 is damaged: none of its 30 frames can be decoded"):
        list(iterate_video(path))


def test_animations_and_stills(tmp_path):
    pictures = [Image.fromarray(numbered(i)) for i in range(5)]
    pictures[0].save(tmp_path / "moving.png", save_all=True, append_images=pictures[1:], duration=200)
    assert_as_decoded(tmp_path / "moving.png")
    assert [frame.number for frame in iterate_video(tmp_path / "moving.png", frame_interval=0.4)] == [0, 2, 4]
    pictures[3].save(tmp_path / "still.png")
    (frame,) = iterate_video(tmp_path / "still.png")
    assert (number_of(frame.pixels), frame.number, frame.seconds) == (3, 0, 0.0)


def test_sources_that_are_no_video(tmp_path):
    with pytest.raises(VideoDecodingError, match="does not exist"):
        iterate_video(tmp_path / "gone.mp4")
    with pytest.raises(VideoDecodingError, match="is no video"):
        iterate_video(3.5)
    (tmp_path / "text.mp4").write_text("text")
    with pytest.raises(VideoDecodingError, match=r"text\.mp4 cannot be opened"):
        next(iterate_video(tmp_path / "text.mp4"))


@pytest.mark.parametrize("interval", [0.04, 0.1, 0.125, 0.3, 1.0])
@pytest.mark.parametrize("rate", [24, 25, 30000 / 1001, 8, 1])
def test_a_pace_is_kept_on_the_average(interval, rate):
    pace = Pace(interval)
    seconds = 5.0 + np.arange(int(20 * rate)) / rate
    # Times in milliseconds, as Matroska rounds them.
    picked = [time for time in np.round(seconds, 3) if pace.picks(time)]
    assert picked[0] == 5.0
    expected = (seconds[-1] - 5.0) / max(interval, 1 / rate)
    assert abs(len(picked) - 1 - expected) <= 1 + 0.02 * expected
    # Never sooner than a frame before its turn.
    turns = 5.0 + np.arange(len(picked)) * interval
    assert (np.array(picked) >= turns - 0.03 * interval).all()


def test_no_pace_picks_all_and_a_wrong_one_is_named():
    assert all(Pace(None).picks(time) for time in (0.0, 0.0, 5.0))
    for interval in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"frame_interval must be more than 0 seconds, or None, got {interval}"):
            Pace(interval)


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the example clips are not here")
def test_an_example_clip():
    assert_as_decoded(SHARED_VIDEOS / "trajvit_example.mp4")
