"""The demo's self-contained HTML page."""

import base64
import html
import io
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from trajvit.modeling_trajvit import TrajViTConfig
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
class EncoderCost:
    """Tokens of one video and the GFLOP (multiply and add counted apart) of one ViT-Large encoder pass over them."""

    tokens: int
    gflop: float

    @classmethod
    def of(cls, tokens: int) -> "EncoderCost":
        config = TrajViTConfig.from_name("large")
        width, inner = config.hidden_size, config.intermediate_size
        projections = 2 * tokens * (4 * width * width + 2 * width * inner)
        attention = 4 * tokens * tokens * width
        return cls(tokens, config.num_hidden_layers * (projections + attention) / 1e9)

    @classmethod
    def of_trajectories(cls, run: DemoRun) -> "EncoderCost":
        return cls.of(run.trajectories.num_trajectories + 1)

    @classmethod
    def of_tubelets(cls, run: DemoRun) -> "EncoderCost":
        return cls.of(-(-run.trajectories.num_frames // TUBELET_FRAMES) * PATCHES_PER_FRAME)


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


def write_report(run: DemoRun, output: Path) -> Path:
    """Writes `report.html` into `output` from a run and the pictures beside it; returns its path."""
    cost, patches = EncoderCost.of_trajectories(run), EncoderCost.of_tubelets(run)
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
    )
    path = output / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
