"""Makes docs/images/web_page.webp: the web page with its example, as a browser shows it.

Run from the repository's root: `python docs/make_web_screenshot.py`. It needs `trajvit[app]`, Playwright and Chromium.
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from trajvit.web_page import Page

OUTPUT = Path(__file__).resolve().parent / "images" / "web_page.webp"
WIDTH, HEIGHT = 1280, 1000


def main() -> None:
    page = Page()
    address = page.launch(block=False)
    try:
        with sync_playwright() as driver:
            found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
            browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
            view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            view.goto(address)
            view.click("#example")
            view.wait_for_selector("#overlay video", timeout=300_000)
            view.wait_for_function("document.querySelector('#overlay video').readyState >= 2")
            view.evaluate(
                "document.querySelectorAll('#sampled video, #overlay video').forEach(v => {v.pause(); "
                "v.currentTime = 1})"
            )
            view.wait_for_timeout(1500)
            picture = view.screenshot()
            browser.close()
    finally:
        page.close()
    Image.open(io.BytesIO(picture)).convert("RGB").save(OUTPUT, quality=82, method=6)
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
