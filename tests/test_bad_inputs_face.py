"""Bad and odd inputs through the web page, the pipelines, a tiny model, and by URL."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from bad_images import VALUES
from bad_inputs import in_time
from bad_media import MEDIA, make_media
from bad_trajectories import TRAJECTORIES_FILES
from bad_videos import clip
from numbered_videos import numbers_of
from transformers import pipeline

import trajvit  # noqa: F401 - registers the pipelines
from trajvit.processing import video_file
from trajvit.processing.decoding import decode_video
from trajvit.processing.video_frames import VideoDecodingError, VideoDecodingWarning
from trajvit.search_demo import CHECKPOINT
from trajvit.web_limits import PageLimits, VisitorError
from trajvit.web_session import VisitorVideo, analyse

pytestmark = pytest.mark.filterwarnings("ignore::trajvit.processing.video_frames.VideoDecodingWarning")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("media"))


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
        path = sources[bad.name]
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


@pytest.fixture(scope="module", params=["features", "labels", "objects"])
def run(request):
    """One of the pipelines, from a video to all numbers that come of it."""
    if request.param == "features":
        features = pipeline("video-feature-extraction", model=str(CHECKPOINT))
        return lambda video, **settings: features(video, return_tensors=True, **settings).flatten()
    if request.param == "labels":
        labels = pipeline("zero-shot-video-classification", model=str(CHECKPOINT))
        words = {"candidate_labels": ["a square", "a disc"]}
        return lambda video, **settings: torch.tensor([found["score"] for found in labels(video, **words, **settings)])
    objects = pipeline("text-to-trajectory-search", model=str(CHECKPOINT))

    def search(video, **settings):
        found = objects(video, text="a square", top_k=None, **settings)
        boxes = [place["box"].values() for each in found for place in each["boxes"]]
        assert all(0 <= side <= 1 for box in boxes for side in box)
        return torch.tensor([each["score"] for each in found])

    return search


class TestModel:
    @pytest.mark.parametrize(
        "shape",
        [(1, 1, 1), (3, 1, 1), (2, 2, 2), (2, 3, 3), (3, 1, 50), (3, 50, 1), (2, 20, 20_000), (2, 20_000, 20)],
        ids=str,
    )
    def test_any_size_goes_from_frames_to_numbers(self, run, shape):
        frames = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
        with in_time(60):
            found = run(frames, generator={"short_side": 16})
        assert len(found)
        assert torch.isfinite(found).all()

    def test_odd_files_go_from_file_to_numbers(self, run, sources):
        for name in (
            "1 x 1 pixels",
            "20,000 x 20 pixels",
            "another size from the seventh frame on",
            "10 bits, BT.2020, PQ",
        ):
            found = run(str(sources[name]), generator={"short_side": 16})
            assert len(found), name
            assert torch.isfinite(found).all(), name

    def test_bad_values_are_named(self, run, tmp_path):
        for bad in VALUES:
            if (
                bad.error is not None
                and bad.kind not in ("list", "other object")
                and bad.name != "an array of five axes"
            ):
                with pytest.raises(ValueError, match=bad.error):
                    run(bad.make(tmp_path))

    def test_each_bad_file_is_named(self, run, sources):
        for bad in MEDIA:
            if bad.error is not None:
                with in_time(30), pytest.raises(ValueError, match=bad.error) as caught:
                    run(str(sources[bad.name]))
                assert str(sources[bad.name]) in str(caught.value)


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
