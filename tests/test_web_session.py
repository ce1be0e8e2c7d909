"""What the web page does for a visitor, without a browser: limits, refused paths, escaping, objects, and leaving."""

import os
import wave

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from trajvit.processing.drawing import write_video
from trajvit.processing.trajectories import Trajectories
from trajvit.web_html import cost_table, found_objects, object_strip
from trajvit.web_limits import PageLimits, VisitorError
from trajvit.web_session import FoundObject, ObjectSearch, VisitorVideo, analyse
from trajvit.web_visits import Visits

LIMITS = PageLimits(seconds=5, megabytes=1)


def moving_square(num_frames=16, size=(96, 128)):
    """A yellow square that crosses a blue ground, three pixels a frame."""
    frames = np.full((num_frames, *size, 3), (30, 60, 160), dtype=np.uint8)
    for time in range(num_frames):
        frames[time, 36:68, 8 + 3 * time : 40 + 3 * time] = (240, 230, 60)
    return frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("uploads") / "clip.mp4", moving_square(), fps=8)


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    stages = []
    found = analyse(
        clip,
        tmp_path_factory.mktemp("visit"),
        LIMITS,
        num_frames=8,
        max_trajectories=16,
        report=lambda share, stage: stages.append(share),
    )
    assert stages == sorted(stages)
    assert 0 < stages[0] < stages[-1] < 1
    return found


def test_an_analysed_video_has_its_files(video):
    assert video.frames.shape == (8, 96, 128, 3)
    for name in ("sampled.mp4", "trajectories.mp4"):
        with av.open(str(video.folder / name)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 8
    assert Trajectories.load(video.folder / "video.traj.png") == video.trajectories
    assert (video.folder / "timeline.png").stat().st_size > 1000


def test_a_click_follows_the_object_through_the_frames(video):
    # Of 16 frames the odd ones are sampled: in the first the square begins at 8 + 3 = 11 pixels.
    number = video.object_at(0, 27, 52)
    assert number is not None
    assert number != video.object_at(0, 100, 10)
    assert number == video.object_at(7, 27 + 3 * 14, 52)
    shown = video.highlighted(0, number)
    assert np.abs(shown[52, 27].astype(int) - video.frames[0, 52, 27]).max() == 0
    assert shown[10, 100].max() < 60
    with av.open(str(video.object_video(number))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8
    crops = video.crops(number)
    assert [seconds for seconds, _ in crops] == pytest.approx(video.trajectories.timestamps)
    assert np.abs(crops[0][1][60, 60].astype(int) - (240, 230, 60)).max() < 25
    assert object_strip(video, number).count("<figure>") == 8


def test_what_is_no_object_is_refused(video):
    for number in (0, 1000, -1, 1.5, float("nan"), None):
        with pytest.raises(VisitorError, match="no object"):
            video.checked(number)
    for frame, x, y in ((0, -1, 0), (0, 0, 96), (8, 0, 0)):
        with pytest.raises(VisitorError, match="outside"):
            video.object_at(frame, x, y)


def test_a_trajectories_file_takes_the_place_of_finding_them(clip, video, tmp_path):
    stored = video.folder / "video.traj.png"
    again = analyse(clip, tmp_path, LIMITS, stored=stored)
    assert again.trajectories == video.trajectories
    other = write_video(tmp_path / "other.mp4", moving_square(16, (96, 96)), fps=8)
    with pytest.raises(VisitorError, match="another video"):
        analyse(other, tmp_path, LIMITS, stored=stored)
    with pytest.raises(VisitorError, match="no trajectories file"):
        analyse(clip, tmp_path, LIMITS, stored=clip)


def test_search_ranks_the_objects_that_the_model_sees():
    rng = np.random.default_rng(0)
    ids = np.zeros((16, 96, 128), dtype=np.int32)
    ids[:, :, :] = 1
    ids[:, 20:60, 20:70] = 3
    ids[:, 70, 100] = 4  # one pixel, which the model's grid has no place for
    ids[0, :10, :10] = 2  # in a frame that the model does not see
    frames = rng.integers(0, 255, (16, 96, 128, 3), dtype=np.uint8)
    video = VisitorVideo(None, frames, frames, Trajectories(ids), 8.0)
    searcher = ObjectSearch.load()
    assert searcher.is_shipped
    inputs, numbers = searcher.inputs(video)
    assert inputs["pixel_values_videos"].shape[1] == 8
    assert numbers.tolist() == [1, 3]
    found = searcher.rank(video, "a red star moves left")
    assert {each.number for each in found} == {1, 3}
    assert 1 >= found[0].score >= found[1].score >= -1


def test_what_a_visitor_typed_is_escaped(video):
    page = found_objects(video, "<img src=x onerror=alert(1)>", [FoundObject(1, 0.5)])
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert page.count("data:image/jpeg;base64,") == 2


def test_costs_count_a_token_for_each_trajectory(video):
    ours, theirs = video.costs()
    assert ours.tokens == video.trajectories.num_trajectories + 1
    assert theirs.tokens == 4 * 14 * 14
    assert f"{theirs.tokens:,}" in cost_table(ours, theirs)


def bad_uploads(folder, clip):
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video " * 20)
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    (folder / "truncated.mp4").write_bytes(clip.read_bytes()[:300])
    (folder / "large.mp4").write_bytes(clip.read_bytes() + bytes(1_000_001))
    write_video(folder / "long.mp4", moving_square(24, (32, 32)), fps=4)
    with wave.open(str(folder / "sound.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    with av.open(str(folder / "silent.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)


def test_uploads_outside_the_limits_are_refused_in_words(clip, tmp_path):
    bad_uploads(tmp_path, clip)
    for name, message in {
        "empty": "0 bytes",
        "text": "not a video",
        "playlist": "not a video",
        "truncated": "damaged",
        "large": "at most 1 MB",
        "long": "lasts 6.0 s; at most 5 s",
        "sound": "not a video",
        "silent": "sound but no picture",
    }.items():
        with pytest.raises(VisitorError, match=message) as refused:
            LIMITS.check_file(tmp_path / f"{name}.mp4")
        assert str(tmp_path) not in str(refused.value)
    write = av.open(str(tmp_path / "camera.avi"), "w")
    stream = write.add_stream("mpeg4", rate=8)
    stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
    for frame in moving_square():
        write.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    write.mux(stream.encode())
    write.close()
    LIMITS.check_file(tmp_path / "camera.avi")
    with pytest.raises(VisitorError, match=r"lasts 2.0 s; at most 1 s"):
        PageLimits(seconds=1).check_file(tmp_path / "camera.avi")
    for limits, message in ((PageLimits(pixels=1000), "128 x 96"), (PageLimits(source_frames=8), "more than 8 frames")):
        with pytest.raises(VisitorError, match=message):
            limits.check_file(clip)
    for phrase in ("", "  ", None, "a" * 201):
        with pytest.raises(VisitorError):
            LIMITS.check_phrase(phrase)
    assert LIMITS.check_phrase(" a  red\nstar ") == "a red star"
    with pytest.raises(ValueError, match="megabytes is 0"):
        PageLimits(megabytes=0)


def test_only_uploads_are_opened(tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    visits = Visits(uploads)
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    (uploads / "link.mp4").symlink_to(secret)
    own = visits.of("another").folder / "video.mp4"
    own.write_bytes(b"another visitor's")
    for path in (secret, uploads / "link.mp4", uploads / ".." / "secret.mp4", "/etc/passwd", own, uploads):
        with pytest.raises(VisitorError) as refused:
            visits.admit("visitor", str(path))
        assert str(tmp_path) not in str(refused.value)
    for nothing in (None, ""):
        with pytest.raises(VisitorError, match="Upload a video first"):
            visits.admit("visitor", nothing)
    assert secret.read_bytes() == b"secret"


def test_visitors_are_apart_and_leave_nothing(video, tmp_path):
    uploads = tmp_path / "uploads"
    (uploads / "hash").mkdir(parents=True)
    both = uploads / "hash" / "clip.mp4"
    both.write_bytes(b"the same file of two visitors")
    visits = Visits(uploads, most=2)
    for name in ("one", "two"):
        assert visits.admit(name, str(both)) == both
    first, second = visits.of("one"), visits.of("two")
    assert first.folder != second.folder
    assert os.stat(first.folder).st_mode & 0o077 == 0
    kept = VisitorVideo(first.folder / "video", video.frames, video.overlay, video.trajectories, 8.0)
    kept.folder.mkdir()
    visits.keep(first, kept)
    assert visits.video_of("one") is kept
    with pytest.raises(VisitorError, match="no longer here"):
        visits.video_of("two")
    visits.end("one")
    assert not first.folder.exists()
    assert both.exists()
    # An analysis that ends after its visitor has left.
    late = VisitorVideo(tmp_path / "late", video.frames, video.overlay, video.trajectories, 8.0)
    late.folder.mkdir()
    with pytest.raises(VisitorError, match="no longer here"):
        visits.keep(first, late)
    assert not late.folder.exists()
    visits.of("three")
    visits.of("four")  # one more than there is room for: the visitor who was idle for longest makes way
    assert not both.exists()
    assert len(visits) == 2
    visits.end_all()
    assert not uploads.exists()


def test_the_command_says_what_is_missing(monkeypatch):
    import importlib.util

    import typer

    from trajvit.app_command import app as command

    app = typer.Typer()
    app.command()(command)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, [])
    assert isinstance(done.exception, ImportError)
    assert "pip install 'trajvit[app]'" in str(done.exception)
