"""Makes the pictures of the README and of docs/concepts.md from the project's synthetic clips: two minutes of one core.

python docs/make_pictures.py                # into docs/images
python docs/make_pictures.py --only overlay # one of them
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import cv2
import matplotlib
import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from trajvit.processing.decoding import decode_video
from trajvit.processing.drawing import contact_sheet, draw_overlay, timeline, trajectory_colors, write_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.scene_rendering import render_frames
from trajvit.processing.scene_script import SceneSettings, draw_script
from trajvit.processing.synthetic_scenes import make_scene
from trajvit.processing.trajectories import Trajectories

# Read as well on a white page as on a dark one.
GREY = (125, 133, 144)
ORANGE = (232, 122, 16)
FADED = 42
# Text and rounded corners are drawn larger, then scaled down: Pillow's shapes have no smooth edges.
OVERSAMPLING = 3

PANEL = (424, 240)
GAP = 12
PLAYED_PER_SECOND = 8
# Of the clip: many small things on a plain ground, then a cut to a person; chosen by eye.
SEED = 9


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def rounded(picture: np.ndarray, radius: int) -> Image.Image:
    """The picture with transparent, smooth corners."""
    height, width = picture.shape[:2]
    mask = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING), 0)
    box = (0, 0, mask.width - 1, mask.height - 1)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius * OVERSAMPLING, fill=255)
    image = Image.fromarray(picture).convert("RGBA")
    image.putalpha(mask.resize((width, height), Image.Resampling.LANCZOS))
    return image


def resized(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def tokens_strip(
    size: tuple[int, int], colors: np.ndarray, opacities: Sequence[int], pitch: float, side: float
) -> Image.Image:
    """A rounded square for each token, in rows; `opacities` are 0 to 255."""
    strip = Image.new("RGBA", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), (0, 0, 0, 0))
    pen = ImageDraw.Draw(strip)
    per_row = max(1, int((size[0] + pitch - side) // pitch))
    for number, (color, opacity) in enumerate(zip(colors, opacities, strict=True)):
        row, column = divmod(number, per_row)
        left, top = column * pitch * OVERSAMPLING, row * pitch * OVERSAMPLING
        box = (left, top, left + side * OVERSAMPLING, top + side * OVERSAMPLING)
        pen.rounded_rectangle(box, 0.25 * side * OVERSAMPLING, fill=(*(int(value) for value in color), opacity))
    return strip.resize(size, Image.Resampling.LANCZOS)


@cache
def tracked_clip(num_frames: int, max_trajectories: int = 128) -> tuple[np.ndarray, Trajectories]:
    """Frames of a synthetic clip of two shots, eight seconds, and the trajectories that the default backend finds."""
    settings = SceneSettings(num_sprites=(5, 6), speed=0.3, noise=(1.0, 2.0), jpeg_quality=None, shutter_share=0.0)
    script = draw_script(SEED, 192, 480, 848, 24.0, [0, 96], settings)
    generator = TrajectoryGenerator(max_trajectories=max_trajectories)
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "clip.mp4", (frame for frame, _ in render_frames(script)), fps=24)
        clip = decode_video(path, num_frames=num_frames, frame_interval=generator.frame_interval, short_side=480)
    where = {"frame_indices": clip.frame_indices, "timestamps": clip.timestamps}
    return clip.sampled, generator(clip.frames, clip.sample_indices, **where)


def draw_animation(path: Path) -> None:
    """The video beside its trajectories, and below a token for each, bright while its part is in view."""
    frames, trajectories = tracked_clip(num_frames=8 * PLAYED_PER_SECOND)
    plain = resized(frames, PANEL)
    drawn = draw_overlay(plain, trajectories, alpha=0.6)
    width, text_height = 2 * PANEL[0] + GAP, 26
    colors = trajectory_colors(trajectories.num_trajectories)[1:]
    pitch = (width + 3) / 64
    strip_height = int(np.ceil(pitch * np.ceil(len(colors) / 64)))
    pictures = []
    for number, (left, right) in enumerate(zip(plain, drawn, strict=True)):
        canvas = Image.new("RGBA", (width, PANEL[1] + text_height + strip_height), (0, 0, 0, 0))
        canvas.paste(rounded(left, 10), (0, 0))
        canvas.paste(rounded(right, 10), (PANEL[0] + GAP, 0))
        present = trajectories.presence[:, number]
        pen = ImageDraw.Draw(canvas)
        pen.text((1, PANEL[1] + 5), "one token for each trajectory", fill=GREY, font=font(13))
        state = f"{present.sum()} of {len(present)} in view"
        pen.text((width - 1, PANEL[1] + 5), state, fill=GREY, font=font(13), anchor="ra")
        opacities = [255 if here else FADED for here in present]
        strip = tokens_strip((width, strip_height), colors, opacities, pitch, pitch - 3)
        canvas.paste(strip, (0, PANEL[1] + text_height))
        pictures.append(canvas)
    still, *moving = pictures
    options: dict[str, Any] = {"quality": 58, "method": 6, "minimize_size": True}
    still.save(path, save_all=True, append_images=moving, duration=1000 // PLAYED_PER_SECOND, loop=0, **options)


def draw_clips(path: Path) -> None:
    """Sixteen frames in a row, key frames framed, and below the clips that they begin, each with its boundary frame."""
    frames, trajectories = tracked_clip(num_frames=16)
    tile = (146, 82)
    gap, per_row, top = 6, 8, 22
    drawn = resized(draw_overlay(frames, trajectories, alpha=0.5), tile)
    row_height = tile[1] + 62
    keys = list(trajectories.key_frames)
    size = (per_row * (tile[0] + gap) + gap, top + 2 * row_height - 22)
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    corner = [(gap + n % per_row * (tile[0] + gap), top + n // per_row * row_height) for n in range(len(frames))]
    for number, (left, upper) in enumerate(corner):
        canvas.paste(rounded(drawn[number], 6), (left, upper))
        if number in keys:
            box = (left - 3, upper - 3, left + tile[0] + 2, upper + tile[1] + 2)
            pen.rounded_rectangle(box, 8, outline=ORANGE, width=4)
            pen.text((left, upper - 21), "key frame", fill=ORANGE, font=font(13, bold=True))
    ends = [*keys[1:], len(frames) - 1]
    for clip, (first, last) in enumerate(zip(keys, ends, strict=True)):
        color = ((40, 160, 190), (200, 90, 170))[clip % 2]
        for row in range(first // per_row, last // per_row + 1):
            begin, end = max(first, row * per_row), min(last, row * per_row + per_row - 1)
            level = corner[begin][1] + tile[1] + 10 + 7 * (clip % 2)
            pen.rounded_rectangle((corner[begin][0], level, corner[end][0] + tile[0], level + 4), 2, fill=color)
            if begin == first:
                shared = ", its last frame is the next clip's first" if clip + 1 < len(keys) else ""
                pen.text((corner[begin][0], level + 8), f"clip {clip + 1}{shared}", fill=GREY, font=font(13))
    canvas.save(path, quality=86, method=6)


def exact_trajectories(masks: np.ndarray, shots: np.ndarray) -> Trajectories:
    """Those of a scene whose masks are known: a trajectory for each thing, and one for the background of each shot."""
    return Trajectories.from_labels(np.where(masks == 0, masks.max() + 1 + shots[:, None, None], masks))


def scene_colors(count: int) -> np.ndarray:
    """Colours (count, 3) in which the first, the background's, is a quiet one."""
    return trajectory_colors(count + 1)[2:]


def draw_complexity(path: Path) -> None:
    """Scenes of one length with ever more in them: the tokens of TrajViT beside those of ViT3D, which do not care."""
    columns, tile, gap, num_frames = (1, 4, 8, 16), (292, 182), 16, 16
    dots = 138
    size = (len(columns) * (tile[0] + gap) - gap, tile[1] + 95 + dots)
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    for column, things in enumerate(columns):
        settings = SceneSettings(num_sprites=(things, things), sprite_size=(0.2, 0.42), max_parts=1, shutter_share=0)
        scene = make_scene(11, num_frames=num_frames, height=256, width=410, cut=False, settings=settings)
        trajectories = exact_trajectories(scene.masks, scene.shot_of_frame)
        left, count = column * (tile[0] + gap), trajectories.num_trajectories
        middle = slice(num_frames // 2, num_frames // 2 + 1)
        drawn = draw_overlay(scene.frames[middle], trajectories.select_frames([num_frames // 2]), alpha=0)
        ids = trajectories.ids[num_frames // 2]
        colors = np.concatenate([[GREY], scene_colors(count)]).astype(np.uint8)
        drawn = cv2.addWeighted(drawn[0], 0.45, colors[ids], 0.55, 0)
        canvas.paste(rounded(cv2.resize(drawn, tile, interpolation=cv2.INTER_AREA), 8), (left, 0))
        below = tile[1] + 10
        pen.text((left, below), f"{count + 1} tokens", fill=ORANGE, font=font(15, bold=True))
        pen.text((left + tile[0], below), f"TrajViT, {num_frames} frames", fill=GREY, font=font(13), anchor="ra")
        canvas.paste(tokens_strip((tile[0], 18), colors, [255] * len(colors), 16.4, 13), (left, below + 25))
        below += 60
        pen.text((left, below), "1,569 tokens", fill=GREY, font=font(15, bold=True))
        pen.text((left + tile[0], below), f"ViT3D, {num_frames} frames", fill=GREY, font=font(13), anchor="ra")
        grey = np.broadcast_to(GREY, (1569, 3))
        canvas.paste(tokens_strip((tile[0], dots), grey, [255] * 1569, 5.08, 3.9), (left, below + 25))
    canvas.save(path, lossless=True, method=6)


def draw_single_trajectories(path: Path) -> None:
    """Two trajectories through time, all else in grey: what one token stands for."""
    frames, trajectories = tracked_clip(num_frames=16)
    height, width = frames.shape[1:3]
    ids = trajectories.resize(height, width).ids
    shown = range(9, 15)
    # The parts that move farthest among those that are large and fill their boxes, in all of these frames.
    boxes, areas = (
        trajectories.boxes[:, shown],
        trajectories.areas[:, shown] / (trajectories.height * trajectories.width),
    )
    filled = areas / np.maximum(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1), 1e-6)
    way = np.linalg.norm(np.diff((boxes[..., :2] + boxes[..., 2:]) / 2, axis=1), axis=-1).sum(1)
    fit = ((filled > 0.5) & (areas > 0.015)).all(1)
    chosen = np.argsort(np.where(fit, way, -1))[-2:] + 1
    colors = trajectory_colors(trajectories.num_trajectories)
    tile, gap = (198, 112), 6
    canvas = Image.new("RGBA", (len(shown) * (tile[0] + gap) - gap, tile[1] + 24), (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    for column, position in enumerate(shown):
        grey = cv2.cvtColor(cv2.cvtColor(frames[position], cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        picture = (0.4 * grey + 30).astype(np.uint8)
        for number in chosen:
            mask = (ids[position] == number).astype(np.uint8)
            picture = np.where(mask[..., None] == 1, frames[position], picture)
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            picture = cv2.drawContours(picture.copy(), outlines, -1, colors[number].tolist(), 8, cv2.LINE_AA)
        left = column * (tile[0] + gap)
        canvas.paste(rounded(cv2.resize(picture, tile, interpolation=cv2.INTER_AREA), 6), (left, 0))
        pen.text((left + 2, tile[1] + 5), f"{trajectories.timestamps[position]:.1f} s", fill=GREY, font=font(13))
    canvas.save(path, quality=88, method=6)


def draw_sheet_and_timeline(sheet: Path, lives: Path) -> None:
    """What `trajvit draw` makes of the same clip."""
    frames, trajectories = tracked_clip(num_frames=16)
    picture = Image.fromarray(contact_sheet(frames, trajectories))
    picture.resize((1200, round(1200 * picture.height / picture.width)), Image.Resampling.LANCZOS).save(
        sheet, quality=84, method=6
    )
    figure = timeline(trajectories)
    figure.savefig(lives, dpi=90)


PICTURES: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "overlay": (draw_animation, ("trajectories.webp",)),
    "clips": (draw_clips, ("clips.webp",)),
    "single": (draw_single_trajectories, ("single_trajectories.webp",)),
    "complexity": (draw_complexity, ("tokens_by_scene.webp",)),
    "sheet": (draw_sheet_and_timeline, ("contact_sheet.webp", "timeline.png")),
}


def main(
    output: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path(__file__).parent / "images",
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PICTURES)}; default: all.")] = None,
) -> None:
    """Makes the pictures of the README and of the concepts' page."""
    unknown = set(only or ()) - set(PICTURES)
    if unknown:
        raise typer.BadParameter(f"there is no picture {min(unknown)!r}; expected of {', '.join(PICTURES)}")
    output.mkdir(parents=True, exist_ok=True)
    for name in only or PICTURES:
        draw, files = PICTURES[name]
        draw(*(output / file for file in files))
        for file in files:
            print(f"{output / file}: {(output / file).stat().st_size / 1e3:,.0f} KB")


if __name__ == "__main__":
    typer.run(main)
