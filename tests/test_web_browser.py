"""The web page in a real browser: a visitor's way through it, bad uploads, two visitors, and what they leave."""

import os
import shutil

import numpy as np
import pytest

gradio = pytest.importorskip("gradio", reason="the web page needs gradio")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by Playwright")

from waiting import wait_for  # noqa: E402

from trajvit.processing.drawing import write_video  # noqa: E402
from trajvit.processing.trajectories import Trajectories  # noqa: E402
from trajvit.web_limits import PageLimits  # noqa: E402
from trajvit.web_page import Page, PageSettings  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames = np.full((16, 96, 128, 3), (30, 60, 160), dtype=np.uint8)
    for moment in range(16):
        frames[moment, 36:68, 8 + 3 * moment : 40 + 3 * moment] = (240, 230, 60)
    return write_video(tmp_path_factory.mktemp("clip") / "<b>clip.mp4", frames, fps=8)


@pytest.fixture(scope="module")
def served():
    before = os.environ.get("GRADIO_TEMP_DIR")
    page = Page(PageSettings(PageLimits(seconds=5, megabytes=1), num_frames=8, max_trajectories=16))
    page.address = page.launch(block=False)
    yield page
    page.close()
    assert not page.folder.exists()
    if before is None:
        os.environ.pop("GRADIO_TEMP_DIR", None)
    else:
        os.environ["GRADIO_TEMP_DIR"] = before


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as driver:
        if found is None and not os.path.exists(driver.chromium.executable_path):
            pytest.skip("no Chromium was found")
        running = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


def open_page(browser, served, asked=None):
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE)
    if asked is not None:
        page.on("request", lambda request: asked.append(request.url))
    page.goto(served.address)
    page.wait_for_selector("#start")
    return page


def upload(page, path):
    page.set_input_files("#source input[type=file]", str(path))
    page.wait_for_selector("#source video")


def test_a_visitor_finds_the_way(browser, served, clip, tmp_path):
    asked = []
    page = open_page(browser, served, asked)
    page.click("#start")
    page.get_by_text("Upload a video first").wait_for()
    upload(page, clip)
    page.click("#start")
    page.wait_for_selector("#overlay video")
    page.wait_for_function("document.querySelector('#overlay video').readyState >= 2")
    # Sampled frames are shown one after another, at the clip's own pace: 8 of them over 1.75 seconds.
    assert page.evaluate("document.querySelector('#overlay video').duration") == pytest.approx(2.0, abs=0.1)
    with page.expect_download() as downloaded:
        page.click("#download")
    downloaded.value.save_as(tmp_path / "clip.traj.png")
    count = Trajectories.load(tmp_path / "clip.traj.png").num_trajectories
    assert page.inner_text(".tv-facts b") == str(count)

    page.get_by_role("tab", name="Objects").click()
    box = page.wait_for_selector("#frame img").bounding_box()
    # The square in the first frame sampled, which is the clip's second.
    shown = page.evaluate("(() => {const i = document.querySelector('#frame img'); return [i.naturalWidth]})()")
    assert shown == [128]
    scale = min(box["width"] / 128, box["height"] / 96)
    left, top = box["x"] + (box["width"] - 128 * scale) / 2, box["y"] + (box["height"] - 96 * scale) / 2
    page.mouse.click(left + 27 * scale, top + 52 * scale)
    page.wait_for_selector("#strip figure")
    visit = next(iter(served.visits._visits.values()))
    assert int(page.input_value("#number input")) == visit.video.object_at(0, 27, 52)
    page.wait_for_selector("#followed video")

    page.get_by_role("tab", name="Search").click()
    page.fill("#phrase textarea, #phrase input", "a yellow <i>square</i>")
    page.click("#look")
    page.wait_for_selector(".tv-card")
    scores = [float(text) for text in page.locator(".tv-card .score").all_inner_texts()]
    assert 1 <= len(scores) <= count
    assert scores == sorted(scores, reverse=True)
    assert "a yellow <i>square</i>" in page.inner_text("#hits")

    page.get_by_role("tab", name="Cost").click()
    assert "784" in page.inner_text("#cost-table")
    away = [url for url in asked if not url.startswith((served.address.rstrip("/"), "data:", "blob:"))]
    assert away == [], "the page must work without any other server"

    other = open_page(browser, served)
    assert other.locator("#overlay video").count() == 0
    other.context.close()
    page.context.close()
    # The server is told that a page is closed, and then deletes one file after another.
    wait_for("the visitor's files to go", lambda: files_of(served) == ["example.mp4"])
    assert not len(served.visits)


def files_of(served):
    # Walking passes over a folder that the server deletes meanwhile, where Path.rglob would raise.
    return [name for _, _, names in os.walk(served.folder) for name in names]


def test_bad_uploads_are_told_and_the_page_goes_on(browser, served, clip, tmp_path):
    (tmp_path / "text.mp4").write_text("not a video " * 20)
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:300])
    page = open_page(browser, served)
    for name, message in (("text", "not a video"), ("broken", "damaged")):
        page.set_input_files("#source input[type=file]", str(tmp_path / f"{name}.mp4"))
        page.get_by_text(message).first.wait_for()
        page.wait_for_selector("#source input[type=file]", state="attached")
    assert page.get_by_text("Traceback").count() == 0
    upload(page, clip)
    page.click("#start")
    page.wait_for_selector("#overlay video")
    page.set_viewport_size({"width": 390, "height": 844})
    # Nothing reaches over the edge of a phone.
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


def test_no_endpoint_is_open_to_programs(browser, served, clip):
    page = open_page(browser, served)
    info = page.request.get(served.address.rstrip("/") + "/gradio_api/info").json()
    assert info["named_endpoints"] == {}
    secret = page.request.get(served.address.rstrip("/") + f"/gradio_api/file={clip}")
    assert secret.status in (403, 404)
    page.context.close()
