"""The web page of TrajViT as a Hugging Face Space. Settings are the Space's variables."""

import os

from trajvit.web_limits import PageLimits
from trajvit.web_page import Page, PageSettings

page = Page(
    PageSettings(
        limits=PageLimits(seconds=float(os.environ.get("MAX_SECONDS", "20")), megabytes=50),
        concurrency=int(os.environ.get("CONCURRENCY", "1")),
        queue=12,
        checkpoint=os.environ.get("CHECKPOINT") or None,
    )
)

if __name__ == "__main__":
    page.launch(host="0.0.0.0", port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
