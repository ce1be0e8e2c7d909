"""How large a picture or video a kind of file can hold."""

from pathlib import Path

from .video_writing import MAX_SIDE

_LONGEST_SIDE = {".mp4": MAX_SIDE, ".webp": 16_383, ".gif": 65_535, ".jpg": 65_500, ".jpeg": 65_500}


def check_fits(path: str | Path, height: int, width: int) -> None:
    """Raise ValueError when a file of that name cannot hold pixels of height x width; names it does not know may."""
    longest = _LONGEST_SIDE.get(Path(path).suffix.lower())
    if longest is not None and max(height, width) > longest:
        raise ValueError(f"{path} cannot hold {height} x {width} pixels; expected sides of at most {longest}")
