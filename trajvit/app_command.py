"""`trajvit app`: the web page."""

from typing import Annotated, Optional

import typer

from trajvit.command_conventions import know_models


def app(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[
        Optional[int],  # noqa: UP045 - typer reads it on Python 3.10
        typer.Option(min=1, max=65535, help="Port. Default: the first free one from 7860."),
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Also a public address, through gradio's servers.")] = False,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Model that searches: a folder or a Hub id. Default: the tiny one that is shipped."),
    ] = None,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longest video.")] = 60.0,
    max_megabytes: Annotated[float, typer.Option(min=0.1, help="Largest file.")] = 100.0,
    frames: Annotated[int, typer.Option(min=1, max=64, help="Frames sampled from a video.")] = 16,
    max_trajectories: Annotated[int, typer.Option(min=1, help="Most trajectories of a video.")] = 128,
    concurrency: Annotated[int, typer.Option(min=1, help="Videos worked on at the same time.")] = 1,
    queue: Annotated[int, typer.Option(min=1, help="Most requests that wait.")] = 16,
) -> None:
    """Serve a web page: follow a video's parts, click on them, and look for them by text."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise ImportError("The web page needs gradio: pip install 'trajvit[app]'")
    know_models()
    from trajvit.web_limits import PageLimits
    from trajvit.web_page import Page, PageSettings

    limits = PageLimits(seconds=max_seconds, megabytes=max_megabytes)
    page = Page(PageSettings(limits, concurrency, queue, frames, max_trajectories, model))
    try:
        page.launch(host, port, share)
    finally:
        page.close()
