"""A picture of all sampled frames with their trajectories, in reading order."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .overlay import check_frames, draw_overlay
from .picture_limits import check_fits
from .trajectories import Trajectories

_SHEET_WIDTH = 1680
# Lighter than in a video: small pictures must still be recognised.
_ALPHA = 0.45
# How many times as high as wide a tile may be: a strip that stands is shown smaller, not on a sheet without end.
_HIGHEST = 4
_GAP = 12
_MARGIN = 24
_CAPTION = 30
_HEADER = 46
_PAPER = (255, 255, 255)
_INK = (27, 31, 36)
_SOFT = (92, 102, 112)
_KEY = (218, 112, 0)


def contact_sheet(
    frames: np.ndarray, trajectories: Trajectories, path: str | Path | None = None, columns: int = 4
) -> np.ndarray:
    """Draw all frames with their trajectories on one sheet, about 1,680 pixels wide; key frames have an orange frame.

    Args:
        frames: (T, H, W, 3) uint8 RGB, of any size.
        trajectories: of the same T frames.
        path: also write the sheet there (a PNG, or what the suffix says); missing folders are made.
        columns: frames in a row.

    Returns:
        The sheet, (H', W', 3) uint8 RGB.

    Raises ValueError for fewer than one column, a sheet too large for its kind of file, and what `draw_overlay` raises.
    """
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected at least 1")
    check_frames(frames, trajectories)
    columns = min(columns, len(frames))
    # A few large frames in a row would be a poster, not a sheet: tiles are at most a quarter of the sheet wide.
    slots = max(columns, 4)
    tile_width = (_SHEET_WIDTH - 2 * _MARGIN - (slots - 1) * _GAP) // slots
    height, width = frames.shape[1:3]
    scale = min(tile_width / width, _HIGHEST * tile_width / height)
    tile_height, shown_width = max(1, round(scale * height)), max(1, round(scale * width))
    interpolation = cv2.INTER_AREA if shown_width < width else cv2.INTER_CUBIC
    tiles = np.stack([cv2.resize(frame, (shown_width, tile_height), interpolation=interpolation) for frame in frames])
    tiles = draw_overlay(tiles, trajectories, alpha=_ALPHA)
    rows = -(-len(frames) // columns)
    heading = _summary(trajectories)
    inner_width = max(columns * (tile_width + _GAP) - _GAP, int(np.ceil(_font(22).getlength(heading))))
    inner_height = _HEADER + rows * (tile_height + _CAPTION + _GAP) - _GAP
    size = (inner_width + 2 * _MARGIN, inner_height + 2 * _MARGIN)
    if path is not None:
        check_fits(path, size[1], size[0])
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), heading, fill=_INK, font=_font(22))
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        left = _MARGIN + column * (tile_width + _GAP)
        top = _MARGIN + _HEADER + row * (tile_height + _CAPTION + _GAP)
        sheet.paste(Image.fromarray(tile), (left, top))
        is_key = index in trajectories.key_frames
        if is_key:
            pen.rectangle((left - 4, top - 4, left + shown_width + 3, top + tile_height + 3), outline=_KEY, width=4)
        _write_caption(pen, (left, top + tile_height + 6), tile_width, trajectories, index, is_key)
    if path is not None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    return np.asarray(sheet)


def _write_caption(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, trajectories: Trajectories, index: int, is_key: bool
) -> None:
    left, top = corner
    time = f"{trajectories.timestamps[index]:.2f} s"
    pen.text((left, top), time, fill=_INK, font=_font(17))
    if is_key:
        pen.text((left + pen.textlength(time + "  ", font=_font(17)), top), "key frame", fill=_KEY, font=_font(17))
    present = int(trajectories.presence[:, index].sum())
    count = f"{present} trajectories" if width >= 300 else str(present)
    pen.text((left + width - pen.textlength(count, font=_font(17)), top), count, fill=_SOFT, font=_font(17))


def _summary(trajectories: Trajectories) -> str:
    seconds = trajectories.timestamps[-1] - trajectories.timestamps[0]
    parts = [
        _count(trajectories.num_trajectories, "trajectory", "trajectories"),
        _count(trajectories.num_frames, "frame", "frames"),
        f"{seconds:.1f} s",
        _count(len(trajectories.key_frames), "key frame", "key frames"),
        f"{trajectories.coverage:.0%} covered",
    ]
    return "   \N{MIDDLE DOT}   ".join(parts)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib carries a font of its own, so text looks the same on machines without any.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
