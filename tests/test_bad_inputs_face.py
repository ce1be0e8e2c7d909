"""Bad and odd inputs through the command line, the web page, the pipelines, a tiny model, and by URL."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_images import IMAGES, VALUES
from bad_inputs import in_time
from bad_trajectories import CHECKPOINTS, TRAJECTORIES_FILES
from bad_videos import VIDEOS, clip
from cli_runs import result, trajvit
from numbered_videos import numbers_of
from transformers import pipeline

import trajvit as package
from trajvit.processing import video_file
from trajvit.processing.decoding import decode_video
from trajvit.processing.video_frames import VideoDecodingError, VideoDecodingWarning
from trajvit.search_demo import CHECKPOINT
from trajvit.web_limits import PageLimits, VisitorError
from trajvit.web_session import VisitorVideo, analyse

pytestmark = pytest.mark.filterwarnings("ignore::trajvit.processing.video_frames.VideoDecodingWarning")

# What no command line or folder can hold, and a place that is no file.
MEDIA = [
    bad
    for bad in VIDEOS + IMAGES
    if bad.name not in ("a name with a zero byte", "a name of 5,000 letters", "a folder", "20 x 20,000 pixels")
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The path of each file, by the input's name, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("media")
    made = {}
    for number, bad in enumerate(MEDIA):
        (folder / str(number)).mkdir()
        made[bad.name] = bad.make(folder / str(number))
    return made


class TestCommandLine:
    def test_tokenize_reports_what_is_bad_and_loses_nothing_else(self, sources, tmp_path):
        outputs = {name: tmp_path / str(number) for number, name in enumerate(sources)}
        given = []
        for name, path in sources.items():
            # Names that differ, so that all fit one folder.
            link = outputs[name].with_suffix(Path(path).suffix[:20])
            link.symlink_to(path)
            given.append(link)
        with in_time(120):
            told = result(
                "tokenize",
                *given,
                "--frames",
                2,
                "--short-side",
                24,
                "--stored-short-side",
                8,
                "-o",
                tmp_path / "out",
                code=1,
            )
        good = {bad.name for bad in MEDIA if bad.error is None}
        written = {Path(each["input"]).stem for each in told["outputs"]}
        assert written == {outputs[name].name for name in good}
        assert {Path(each["input"]).stem for each in told["failures"]} == {
            outputs[n].name for n in sources if n not in good
        }
        assert all("\n" not in each["error"] for each in told["failures"])
        assert len(list((tmp_path / "out").iterdir())) == len(good)

    def test_info_of_each(self, sources):
        for bad in MEDIA:
            with in_time(20):
                done = trajvit("info", sources[bad.name], "--json")
            assert "Traceback" not in done.stderr
            if bad.error is None:
                assert done.exit_code == 0, (bad.name, done.stderr)

    def test_info_of_trajectories_files(self, tmp_path):
        for bad in TRAJECTORIES_FILES:
            done = trajvit("info", bad.make(tmp_path))
            assert done.exit_code == 1, bad.name
            assert done.stdout == ""
            assert done.stderr.startswith("error: ")

    def test_embed_with_broken_checkpoints(self, tmp_path):
        video = clip(tmp_path, 4)
        broken = [bad for bad in CHECKPOINTS if bad.name != "an unknown type of model"]
        for number, bad in enumerate(broken):
            folder = tmp_path / str(number)
            folder.mkdir()
            with in_time(30):
                done = trajvit("embed", video, "--model", bad.make(folder), "--json")
            assert done.exit_code == 1, bad.name
            assert done.stdout == ""
            assert done.stderr.startswith("error: ")
            assert not (folder / "checkpoint" / "intruder").exists()


def shown_on_the_page(bad):
    return (
        bad.kind not in ("image", "damaged image", "bomb")
        and bad.name not in ("a JPEG named .mp4", "20,000 x 20 pixels", "20 x 20,000 pixels", "a gap of a day")
        and bad.name
        not in (
            "an animated PNG",
            "an animated WebP",
            "packets without times",
            "another size from the seventh frame on",
        )
    )


def test_the_web_page_takes_each_or_says_why_not(sources, tmp_path):
    limits, takes = PageLimits(), {bad.name for bad in MEDIA if bad.error is None and shown_on_the_page(bad)}
    drawn: set[str] = set()
    for bad in MEDIA:
        path = Path(sources[bad.name])
        if not path.is_file():
            continue
        with in_time(30):
            if bad.name in takes:
                # Drawing takes its time; one of each kind is drawn.
                if bad.kind in drawn:
                    continue
                drawn.add(bad.kind)
                assert isinstance(analyse(path, tmp_path, limits, num_frames=2), VisitorVideo)
                continue
            # Still images, lists of files and what is too wide to show are among what only the page refuses.
            with pytest.raises(VisitorError) as caught:
                analyse(path, tmp_path, limits, num_frames=2)
        assert "\n" not in str(caught.value)
        assert str(path.parent) not in str(caught.value)


def test_the_web_page_refuses_bad_trajectories(tmp_path):
    video = clip(tmp_path, 4)
    for bad in TRAJECTORIES_FILES:
        with pytest.raises(VisitorError, match="no trajectories file, or it is damaged"):
            analyse(video, tmp_path, PageLimits(), stored=bad.make(tmp_path))


@pytest.fixture(scope="module")
def pipe():
    assert package.__version__
    return pipeline("video-feature-extraction", model=str(CHECKPOINT))


class TestModel:
    @pytest.mark.parametrize(
        "shape",
        [(1, 1, 1), (3, 1, 1), (2, 2, 2), (2, 3, 3), (3, 1, 50), (3, 50, 1), (2, 20, 20_000), (2, 20_000, 20)],
        ids=str,
    )
    def test_any_size_goes_from_frames_to_a_vector(self, pipe, shape):
        frames = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
        generator = {"short_side": 16}
        with in_time(60):
            vector = pipe(frames, return_tensors=True, generator=generator)
        assert torch.isfinite(vector).all()
        assert vector.norm() == pytest.approx(1, abs=1e-4)

    def test_odd_files_go_from_file_to_a_vector(self, pipe, sources):
        for name in (
            "1 x 1 pixels",
            "20,000 x 20 pixels",
            "another size from the seventh frame on",
            "10 bits, BT.2020, PQ",
        ):
            vector = pipe(str(sources[name]), return_tensors=True, generator={"short_side": 16})
            assert torch.isfinite(vector).all(), name

    def test_bad_values_are_named(self, pipe, tmp_path):
        for bad in VALUES:
            if (
                bad.error is not None
                and bad.kind not in ("list", "other object")
                and bad.name != "an array of five axes"
            ):
                with pytest.raises(ValueError, match=bad.error):
                    pipe(bad.make(tmp_path))

    def test_a_bad_file_is_named(self, pipe, sources):
        for bad in VIDEOS[:8]:
            if bad.error is not None:
                with pytest.raises(ValueError, match=bad.error):
                    pipe(str(sources[bad.name]))


class Server(BaseHTTPRequestHandler):
    """A server that gives what its path says."""

    pages: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self):
        name = self.path.strip("/").split(".")[0]
        if name == "around":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        if name == "local":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
            return
        if name not in ("html", "cut", "zeros", "endless", "playlist"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if name == "html" else "video/mp4")
        if name == "cut":
            self.send_header("Content-Length", str(10 * len(self.pages["cut"])))
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(2**16) if name == "zeros" else self.pages[name])
                if name in ("html", "cut", "playlist"):
                    return
        except (BrokenPipeError, ConnectionResetError):
            return

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    whole = clip(folder, 12).read_bytes()
    stream = clip(folder, 12, "clip.ts", muxing=None).read_bytes()
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{folder}/clip.ts\n#EXT-X-ENDLIST\n".encode()
    Server.pages = {
        "html": b"<html></html>" * 99,
        "cut": whole[: len(whole) * 93 // 100],
        "endless": stream,
        "playlist": playlist,
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestAddresses:
    @pytest.mark.parametrize(
        "name", ["missing.mp4", "html.mp4", "zeros.mp4", "around.mp4", "local.mp4", "playlist.m3u8"]
    )
    def test_what_is_no_video_is_refused(self, address, name, monkeypatch):
        # A body of zeros has no end, and so takes all the time that a server is given.
        monkeypatch.setattr(video_file, "URL_TIMEOUT_SECONDS", 1.0)
        with in_time(30), pytest.raises(VideoDecodingError, match=f"{address}/{name} (cannot|has|holds)") as caught:
            decode_video(f"{address}/{name}")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.mp4", "nope://a/b.mp4", "http://", "://", "http://[::bad/"])
    def test_addresses_that_lead_nowhere(self, url):
        with in_time(30), pytest.raises(VideoDecodingError, match="cannot be opened"):
            decode_video(url)

    def test_a_body_that_breaks_off(self, address):
        with in_time(30), pytest.warns(VideoDecodingWarning, match="of its 12 frames are lost"):
            video = decode_video(f"{address}/cut.mp4", num_frames=None)
        assert numbers_of(video.frames) == video.frame_indices.tolist()
        assert len(video.frames) < 12

    def test_a_body_without_end(self, address, monkeypatch):
        monkeypatch.setattr(video_file, "MAX_FRAMES", 2000)
        with in_time(60), pytest.raises(VideoDecodingError, match=r"endless\.ts has more than 2000 frames, or no end"):
            decode_video(f"{address}/endless.ts")
