"""The pieces of HTML on the web page. What a visitor typed is escaped here, and pictures are part of the page."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from trajvit.demo_report import VideoCost
from trajvit.processing.drawing import trajectory_colors
from trajvit.web_session import FoundObject, VisitorVideo

HEADER = """<div class="tv-head"><h1>TrajViT</h1>
<p>One trajectory, one token. A video becomes the paths of its parts through time, so its number of tokens follows what
there is to see, not how long it lasts.</p></div>"""

_LOGO = (
    '<svg viewBox="0 0 120 60" aria-hidden="true"><path d="M6 48C30 8 58 56 84 24" class="a"/>'
    '<path d="M14 14c30 34 56-16 92 20" class="b"/><circle cx="84" cy="24" r="6" class="a"/>'
    '<circle cx="106" cy="34" r="6" class="b"/></svg>'
)

STYLE = """
.gradio-container {width: 100% !important; max-width: 1180px !important; margin: 0 auto !important;}
#source video {max-height: 240px; object-fit: contain;}
.tv-empty p {margin: .4rem 0 0;}
.tv-head h1 {font-size: 2rem; font-weight: 750; letter-spacing: -.02em; margin: .4rem 0 .1rem;}
.tv-head p, .tv-note {color: var(--body-text-color-subdued); max-width: 46rem; margin: 0;}
.tv-note {font-size: .88rem; line-height: 1.45;}
.tv-empty {text-align: center; padding: 2.2rem 1rem; border: 1px dashed var(--border-color-primary);
  border-radius: 14px; color: var(--body-text-color-subdued);}
.tv-empty svg {display: block; margin: 0 auto; width: 110px; fill: none; stroke-width: 5; stroke-linecap: round;}
.tv-empty .a {stroke: #0f9d8a;} .tv-empty .b {stroke: #e07a3f;}
.tv-empty circle.a {fill: #0f9d8a;} .tv-empty circle.b {fill: #e07a3f;}
.tv-facts {display: flex; flex-wrap: wrap; gap: .5rem 1.6rem; margin: .2rem 0;}
.tv-facts b {font-size: 1.25rem; font-variant-numeric: tabular-nums; display: block;}
.tv-facts span {color: var(--body-text-color-subdued); font-size: .85rem;}
.tv-cards {display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: .9rem;}
.tv-card {border: 1px solid var(--border-color-primary); border-radius: 14px; overflow: hidden;
  background: var(--block-background-fill);}
.tv-card .pair {display: flex; background: #181818; align-items: center;}
.tv-card .pair img:first-child {width: 34%;} .tv-card .pair img:last-child {width: 66%;}
.tv-card p {margin: 0; padding: .55rem .8rem; display: flex; gap: .6rem; align-items: center; flex-wrap: wrap;}
.tv-card .score {margin-left: auto; font-variant-numeric: tabular-nums; font-weight: 650;}
.tv-chip {display: inline-block; width: .8em; height: .8em; border-radius: 50%;}
.tv-strip {display: flex; gap: .5rem; overflow-x: auto; padding-bottom: .4rem;}
.tv-strip figure {margin: 0; flex: none;} .tv-strip img {border-radius: 10px; width: 96px; height: 96px;}
.tv-strip figcaption {font-size: .8rem; text-align: center; color: var(--body-text-color-subdued);}
.tv-cost {display: grid; grid-template-columns: auto auto auto minmax(80px, 1fr); gap: .8rem 1rem;
  align-items: center; max-width: 46rem; margin: .4rem 0 1rem; font-variant-numeric: tabular-nums;}
.tv-cost .bar {height: .8rem; border-radius: 99px; min-width: 4px;}
.tv-cost .ours {background: #0f9d8a;} .tv-cost .theirs {background: #9aa7b1;}
"""


def empty(text: str) -> str:
    """What stands where nothing is yet; `text` is the page's own."""
    return f'<div class="tv-empty">{_LOGO}<p>{html.escape(text)}</p></div>'


def facts(video: VisitorVideo) -> str:
    """The numbers of a video."""
    trajectories = video.trajectories
    per_frame = trajectories.presence.sum(axis=0)
    seconds = float(trajectories.timestamps[-1] - trajectories.timestamps[0])
    values = (
        (f"{trajectories.num_trajectories}", "trajectories"),
        (f"{trajectories.num_frames}", f"frames over {seconds:.1f} s"),
        (f"{per_frame.min()}-{per_frame.max()}", "parts in a frame"),
        (f"{trajectories.coverage:.0%}", "of the pixels"),
        (f"{len(trajectories.key_frames)}", "key frames"),
    )
    return (
        '<div class="tv-facts">' + "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in values)
    ) + "</div>"


def object_strip(video: VisitorVideo, number: int) -> str:
    """Crops of an object with their times."""
    trajectories = video.trajectories
    present = np.flatnonzero(trajectories.presence[number - 1])
    times = trajectories.timestamps[present]
    figures = "".join(
        f'<figure><img src="{picture(crop)}" alt="Object {number} at {seconds:.1f} seconds">'
        f"<figcaption>{seconds:.2f} s</figcaption></figure>"
        for seconds, crop in video.crops(number)
    )
    share = trajectories.areas[number - 1].max() / (trajectories.height * trajectories.width)
    return (
        f"<p>{_chip(number)} <b>Object {number}</b>: in {len(present)} of {trajectories.num_frames} frames, "
        f"{times[0]:.2f} to {times[-1]:.2f} s, at most {share:.1%} of the picture.</p>"
        f'<div class="tv-strip">{figures}</div>'
    )


def found_objects(video: VisitorVideo, phrase: str, found: Sequence[FoundObject]) -> str:
    """A card for each object that was found, with its score, crop and frame."""
    cards = []
    for rank, each in enumerate(found, start=1):
        frame = video.largest_frame(each.number)
        seconds = video.trajectories.timestamps[frame]
        cards.append(
            f'<div class="tv-card" data-object="{each.number}"><div class="pair">'
            f'<img src="{picture(video.crop(frame, each.number))}" alt="Object {each.number}">'
            f'<img src="{picture(video.highlighted(frame, each.number), 360)}" alt="Where object {each.number} is">'
            f"</div><p><b>{rank}</b> {_chip(each.number)} object {each.number} at {seconds:.1f} s"
            f'<span class="score">{each.score:.3f}</span></p></div>'
        )
    return (
        f"<p>Objects of this video that are most like <b>{html.escape(phrase)}</b>, with the cosine similarity of each "
        f'when it is seen alone:</p><div class="tv-cards">{"".join(cards)}</div>'
    )


def cost_table(ours: VideoCost, theirs: VideoCost) -> str:
    """Tokens and GFLOP beside ViT3D's, as bars."""
    rows = []
    for name, own, other in (("Tokens", ours.tokens, theirs.tokens), ("GFLOP", ours.gflop, theirs.gflop)):
        for label, value, style in (("TrajViT", own, "ours"), ("ViT3D", other, "theirs")):
            width = 100 * value / max(own, other)
            rows.append(
                f"<span>{name}</span><span>{label}</span><b>{value:,.0f}</b>"
                f'<div><div class="bar {style}" style="width:{width:.1f}%"></div></div>'
            )
    return (
        f'<div class="tv-cost">{"".join(rows)}</div><p class="tv-note">ViT3D has {theirs.tokens / ours.tokens:.1f} '
        f"times the tokens and {theirs.gflop / ours.gflop:.1f} times the GFLOP for these frames: both with a ViT-Large "
        "at 224 x 224, the making of tokens from pixels included. Finding the trajectories themselves is apart.</p>"
    )


def picture(pixels: np.ndarray, most_width: int | None = None) -> str:
    """An image as a data URI, so that no other request is made for it."""
    image = Image.fromarray(pixels)
    if most_width is not None:
        image.thumbnail((most_width, most_width))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _chip(number: int) -> str:
    red, green, blue = trajectory_colors(number)[number]
    return f'<span class="tv-chip" style="background:rgb({red},{green},{blue})"></span>'
