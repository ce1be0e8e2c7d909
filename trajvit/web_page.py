"""The web page: its layout, and what happens when a visitor does something. docs/web_page.md describes it."""

import atexit
import html
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read when gradio is imported: the page tells nobody that it exists.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from trajvit.search_demo import write_example
from trajvit.web_html import HEADER, STYLE, cost_table, empty, facts, found_objects, object_strip
from trajvit.web_limits import PageLimits, VisitorError
from trajvit.web_session import ObjectSearch, analyse
from trajvit.web_visits import Visits

# Uploads that were never analysed, and whose visitor's leaving went unnoticed: looked for and deleted, in seconds.
_SWEEP_EVERY, _SWEEP_AFTER = 600, 3600
_SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
_TINY_MODEL = (
    "The model that ships with the package is tiny and has seen <b>only synthetic shapes</b> that move over "
    "photographs, such as those of the example: look there for <i>a purple heart</i> or <i>an orange square</i>. In "
    "real videos its answers mean little; start the page with <code>--model</code> for a model that knows more."
)


@dataclass(frozen=True)
class PageSettings:
    """How the page is served.

    Attributes:
        limits: What one visitor may ask for.
        concurrency: Visitors whose videos are worked on at the same time.
        queue: Most requests that wait.
        num_frames: Frames sampled from a video.
        max_trajectories: Most trajectories of a video.
        checkpoint: Of the model that searches, a folder or a Hub id; None for the shipped one.
    """

    limits: PageLimits = field(default_factory=PageLimits)
    concurrency: int = 1
    queue: int = 16
    num_frames: int = 16
    max_trajectories: int = 128
    checkpoint: str | None = None


class Page:
    """The page with its visitors. `blocks` is what gradio serves, `visits` who is there.

    Args:
        settings: How it is served.

    Raises:
        OSError, ValueError: The checkpoint cannot be loaded.
    """

    def __init__(self, settings: PageSettings | None = None):
        self.settings = settings or PageSettings()
        self.searcher = ObjectSearch.load(self.settings.checkpoint)
        # A folder of its own, so that gradio's uploads of this page lie nowhere else, and go with it.
        self.folder = Path(tempfile.mkdtemp(prefix="trajvit-page-")).resolve()
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        os.environ["GRADIO_TEMP_DIR"] = str(self.folder)
        self.visits = Visits(self.folder)
        self.example = write_example(self.folder / "example" / "example.mp4")
        self.blocks = self._lay_out()

    def launch(self, host: str = "127.0.0.1", port: int | None = None, share: bool = False, block: bool = True) -> str:
        """Serve the page; return its address at once unless `block`."""
        _, address, _ = self.blocks.queue(
            max_size=self.settings.queue, default_concurrency_limit=self.settings.concurrency, api_open=False
        ).launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=not block,
            max_file_size=int(self.settings.limits.megabytes * 1e6),
            theme=_theme(),
            css=STYLE,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
            pwa=False,
            show_error=False,
            state_session_capacity=256,
            quiet=not block,
        )
        return address

    def close(self) -> None:
        """Stop serving and delete all that visitors sent."""
        self.blocks.close(verbose=False)
        self.visits.end_all()

    def _lay_out(self) -> gr.Blocks:
        limits = self.settings.limits
        with gr.Blocks(
            title="TrajViT", analytics_enabled=False, delete_cache=(_SWEEP_EVERY, _SWEEP_AFTER), fill_width=True
        ) as blocks:
            gr.HTML(HEADER)
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=320):
                    source = gr.Video(
                        label="Your video", sources=["upload", "webcam"], height=300, elem_id="source", buttons=[]
                    )
                with gr.Column(scale=2, min_width=280):
                    start = gr.Button("Follow its parts", variant="primary", size="lg", elem_id="start")
                    example = gr.Button("Try the synthetic example", elem_id="example")
                    with gr.Accordion("I have its trajectories already", open=False):
                        stored = gr.File(
                            label="NAME.traj.png", file_types=[".png"], type="filepath", height=110, elem_id="stored"
                        )
                    gr.HTML(
                        f'<p class="tv-note">{html.escape(limits.sentence)} What you send is seen by nobody else and '
                        "deleted when you close the page.</p>"
                    )
            status = gr.HTML(
                empty("Upload a video, record one, or try the example: its parts, followed through time, appear here."),
                elem_id="status",
            )
            with gr.Column(visible=False, elem_id="results") as results, gr.Tabs():
                with gr.Tab("Watch", id="watch"):
                    with gr.Row():
                        sampled = gr.Video(label="Original, as sampled", **_shown("sampled"))
                        overlay = gr.Video(label="Trajectories, a colour each", **_shown("overlay"))
                    lives = gr.Image(label="When each trajectory lives", **_shown_image("timeline"))
                    download = gr.DownloadButton("Download the trajectories", elem_id="download")
                with gr.Tab("Objects", id="objects"):
                    gr.HTML('<p class="tv-note">Click on an object in the frame, or type its number.</p>')
                    with gr.Row():
                        with gr.Column(scale=3, min_width=320):
                            frame = gr.Image(label="Frame", **_shown_image("frame"))
                            position = gr.Slider(0, 1, 0, step=1, label="Frame number", elem_id="position")
                        with gr.Column(scale=3, min_width=320):
                            followed = gr.Video(label="The object alone", **_shown("followed"))
                            number = gr.Number(label="Object", precision=0, minimum=1, elem_id="number")
                    strip = gr.HTML(empty("Nothing is chosen yet."), elem_id="strip")
                with gr.Tab("Search", id="search"):
                    if self.searcher.is_shipped:
                        gr.HTML(f'<p class="tv-note">{_TINY_MODEL}</p>')
                    with gr.Row(equal_height=True):
                        phrase = gr.Textbox(
                            label="What to look for",
                            placeholder="a purple heart",
                            max_length=limits.phrase_letters,
                            scale=5,
                            elem_id="phrase",
                        )
                        look = gr.Button("Search", variant="primary", scale=1, min_width=120, elem_id="look")
                    hits = gr.HTML(empty("The objects that fit best appear here."), elem_id="hits")
                with gr.Tab("Cost", id="cost"):
                    cost = gr.HTML(elem_id="cost-table")

            quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
            # Whatever needs a core takes one of the same few places.
            heavy = {**quiet, "concurrency_id": "heavy", "concurrency_limit": self.settings.concurrency}
            shown = [
                status, results, sampled, overlay, lives, download, frame, position, number, followed, strip, hits, cost
            ]  # fmt: skip
            start.click(
                self._analyse, [source, stored], shown, show_progress_on=status, **{**heavy, "show_progress": "full"}
            )
            example.click(self._example, None, [source, stored], **quiet).success(
                self._analyse, [source, stored], shown, show_progress_on=status, **{**heavy, "show_progress": "full"}
            )
            source.upload(self._look_at, source, source, **{**quiet, "show_progress": "hidden"})
            position.release(self._show_frame, [position, number], frame, **quiet)
            frame.select(self._pick, position, number, **quiet)
            number.change(self._follow, [number, position], [frame, followed, strip], **heavy)
            gr.on([look.click, phrase.submit], self._search, phrase, hits, **heavy)
            blocks.unload(self._leave)
        return blocks

    def _look_at(self, source: str | None, request: gr.Request) -> Any:
        # A warning and not an error, which gradio would lay over the place where another video is chosen.
        try:
            self.settings.limits.check_file(self.visits.admit(_session(request), source))
        except VisitorError as error:
            gr.Warning(html.escape(str(error)), duration=12, title="Sorry")
            return None
        return gr.skip()

    def _example(self) -> tuple[str, None]:
        # A copy for each visitor, because what they sent is deleted with them.
        copy = self.folder / f"example-{secrets.token_hex(16)}" / "example.mp4"
        copy.parent.mkdir(mode=0o700)
        shutil.copyfile(self.example, copy)
        return str(copy), None

    def _analyse(
        self,
        source: str | None,
        stored: str | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio looks for it
    ) -> tuple:
        with _told():
            session = _session(request)
            path = self.visits.admit(session, source)
            trajectories = self.visits.admit(session, stored, "a trajectories file") if stored else None
            visit = self.visits.of(session)
            video = analyse(
                path,
                visit.folder,
                self.settings.limits,
                self.settings.num_frames,
                self.settings.max_trajectories,
                trajectories,
                lambda share, stage: progress(share, desc=stage),
            )
            self.visits.keep(visit, video)
            folder = video.folder
            return (
                facts(video),
                gr.Column(visible=True),
                str(folder / "sampled.mp4"),
                str(folder / "trajectories.mp4"),
                str(folder / "timeline.png"),
                str(folder / "video.traj.png"),
                str(video.frame_picture(0)),
                gr.Slider(0, max(len(video.frames) - 1, 1), 0, step=1, interactive=len(video.frames) > 1),
                None,
                None,
                empty("Nothing is chosen yet."),
                empty("The objects that fit best appear here."),
                cost_table(*video.costs()),
            )

    def _show_frame(self, position: int, number: int | None, request: gr.Request) -> str:
        with _told():
            video = self.visits.video_of(_session(request))
            chosen = video.checked(number) if number else None
            return str(video.frame_picture(min(int(position), len(video.frames) - 1), chosen))

    def _pick(self, position: int, event: gr.SelectData, request: gr.Request) -> int:
        with _told():
            x, y = event.index
            number = self.visits.video_of(_session(request)).object_at(int(position), float(x), float(y))
            if number is None:
                raise VisitorError("No trajectory passes here. Try another place.")
            return number

    def _follow(self, number: float | None, position: int, request: gr.Request) -> tuple:
        if number is None:
            return gr.skip(), None, empty("Nothing is chosen yet.")
        with _told():
            video = self.visits.video_of(_session(request))
            chosen = video.checked(number)
            frame = min(int(position), len(video.frames) - 1)
            return str(video.frame_picture(frame, chosen)), str(video.object_video(chosen)), object_strip(video, chosen)

    def _search(self, phrase: str | None, request: gr.Request) -> str:
        with _told():
            words = self.settings.limits.check_phrase(phrase)
            video = self.visits.video_of(_session(request))
            return found_objects(video, words, self.searcher.rank(video, words))

    def _leave(self, request: gr.Request) -> None:
        self.visits.end(_session(request))


def _session(request: gr.Request) -> str:
    if not request.session_hash:
        raise VisitorError("This page is for browsers: the request belongs to no session.")
    return str(request.session_hash)


@contextmanager
def _told() -> Iterator[None]:
    """Show a visitor what is wrong in our words, and of what nobody expected no more than that it happened."""
    try:
        yield
    except VisitorError as error:
        raise gr.Error(html.escape(str(error)), duration=12, title="Sorry", print_exception=False) from None
    except gr.Error:
        raise
    except Exception as error:
        raise gr.Error(
            "Something went wrong here, and it was written to the server's log. Please try another video.",
            title="Sorry",
        ) from error


def _shown(name: str) -> dict[str, Any]:
    return {"interactive": False, "loop": True, "autoplay": True, "elem_id": name, "height": 300, "buttons": []}


def _shown_image(name: str) -> dict[str, Any]:
    return {"interactive": False, "type": "filepath", "elem_id": name, "buttons": []}


def _theme() -> gr.themes.Base:
    return gr.themes.Soft(
        primary_hue="teal",
        secondary_hue="orange",
        neutral_hue="slate",
        radius_size="lg",
        font=_SYSTEM_FONTS,
        font_mono=_MONO_FONTS,
    )
