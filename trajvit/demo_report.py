"""The demo's self-contained HTML page."""

import base64
import html
import io
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from trajvit.modeling_trajvit import TrajViTConfig
from trajvit.modeling_trajvit.frame_features import FrameFeatureExtractor
from trajvit.processing.trajectories import Trajectories

# ViT3D's tubelets: 2 frames x 16 x 16 pixels at 224 x 224, so 1,568 tokens for 16 frames.
TUBELET_FRAMES = 2
PATCHES_PER_FRAME = (224 // 16) ** 2
KEY_FRAME_THUMBNAIL_WIDTH = 320


@dataclass(frozen=True)
class DemoRun:
    """What one run of the demo found: sampled frames (T, H, W, 3) uint8, seconds by stage, shapes by tensor name."""

    name: str
    trajectories: Trajectories
    frames: np.ndarray
    stage_seconds: dict[str, float]
    tensor_shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class VideoCost:
    """Tokens of one video, and the GFLOP (multiply and add counted apart) to make and to encode them at ViT-Large."""

    tokens: int
    tokenizer_gflop: float
    encoder_gflop: float

    @property
    def gflop(self) -> float:
        return self.tokenizer_gflop + self.encoder_gflop

    @classmethod
    def of_trajectories(cls, run: DemoRun) -> "VideoCost":
        """TrajViT: the ResNet over every frame (the rest of its tokenizer is below 1 % of that), then M + 1 tokens."""
        config = TrajViTConfig.from_name("large")
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            features = FrameFeatureExtractor(config).eval()
            features(torch.empty(run.trajectories.num_frames, 3, config.image_size, config.image_size))
        tokens = run.trajectories.num_trajectories + 1
        return cls(tokens, counter.get_total_flops() / 1e9, encoder_gflop(tokens))

    @classmethod
    def of_tubelets(cls, run: DemoRun) -> "VideoCost":
        """ViT3D: one linear layer over each tubelet's pixels, then one token per tubelet."""
        tokens = -(-run.trajectories.num_frames // TUBELET_FRAMES) * PATCHES_PER_FRAME
        pixels = 3 * TUBELET_FRAMES * 16 * 16
        width = TrajViTConfig.from_name("large").hidden_size
        return cls(tokens, 2 * tokens * pixels * width / 1e9, encoder_gflop(tokens))


def encoder_gflop(tokens: int) -> float:
    """GFLOP of one ViT-Large pass over so many tokens: the layers' projections and attention."""
    config = TrajViTConfig.from_name("large")
    width, inner = config.hidden_size, config.intermediate_size
    projections = 2 * tokens * (4 * width * width + 2 * width * inner)
    attention = 4 * tokens * tokens * width
    return config.num_hidden_layers * (projections + attention) / 1e9


def embed(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def key_frame_figures(run: DemoRun) -> str:
    """The key frames as HTML figures with their position and time."""
    figures = []
    for position in run.trajectories.key_frames:
        image = Image.fromarray(run.frames[position])
        image.thumbnail((KEY_FRAME_THUMBNAIL_WIDTH, KEY_FRAME_THUMBNAIL_WIDTH))
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=85)
        seconds = run.trajectories.timestamps[position]
        figures.append(
            f'<figure><img alt="Key frame {position}" src="data:image/jpeg;base64,{embed(buffer.getvalue())}">'
            f"<figcaption>frame {position} of {run.trajectories.num_frames}, {seconds:.2f} s</figcaption></figure>"
        )
    return "".join(figures)


def search_figure(picture: Path | None) -> str:
    """What a search found, as HTML; nothing without a picture."""
    if picture is None:
        return ""
    return (
        "<h2>Search by text</h2>"
        "<p>A tiny model, trained for minutes on synthetic clips, looks for held-out ones: the three most similar "
        "clips of each text, and in the first the trajectory that fits the text best when it is seen alone.</p>"
        f'<figure><img alt="Clips found by text" src="data:image/png;base64,{embed(picture.read_bytes())}"></figure>'
    )


def write_report(run: DemoRun, output: Path, search_picture: Path | None = None) -> Path:
    """Writes `report.html` into `output` from a run and the pictures beside it; returns its path.

    `search_picture` shows what a search found, where there was one.
    """
    cost, patches = VideoCost.of_trajectories(run), VideoCost.of_tubelets(run)
    total = sum(run.stage_seconds.values())
    stages = "".join(
        f"<tr><td>{html.escape(stage)}</td><td>{seconds:.2f}</td><td>{seconds / total:.0%}</td></tr>"
        for stage, seconds in [*run.stage_seconds.items(), ("all", total)]
    )
    tensors = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{' &times; '.join(map(str, shape))}</td></tr>"
        for name, shape in run.tensor_shapes.items()
    )
    trajectories = run.trajectories
    per_frame = trajectories.presence.sum(axis=0)
    summary = (
        f"{trajectories.num_trajectories} trajectories over {trajectories.num_frames} frames "
        f"({trajectories.timestamps[-1] - trajectories.timestamps[0]:.1f} s), {per_frame.min()} to {per_frame.max()} "
        f"in a frame, covering {trajectories.coverage:.0%} of the pixels."
    )
    page = Template((files("trajvit") / "demo_report.html").read_text(encoding="utf-8")).substitute(
        name=html.escape(run.name),
        summary=html.escape(summary),
        frames=trajectories.num_frames,
        tokens=f"{cost.tokens:,}",
        patch_tokens=f"{patches.tokens:,}",
        token_ratio=f"{patches.tokens / cost.tokens:.1f}",
        flop_ratio=f"{patches.gflop / cost.gflop:.1f}",
        flops=f"{cost.gflop:,.0f}",
        patch_flops=f"{patches.gflop:,.0f}",
        video=embed((output / "trajectories.mp4").read_bytes()),
        contact_sheet=embed((output / "contact_sheet.png").read_bytes()),
        timeline=embed((output / "timeline.png").read_bytes()),
        key_frames=key_frame_figures(run),
        stages=stages,
        tensors=tensors,
        search=search_figure(search_picture),
    )
    path = output / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
