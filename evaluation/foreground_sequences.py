"""Reads folders of video frames and foreground masks, such as DAVIS-2016."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

_FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
_LAYOUTS = (
    "<sequence>/frames/*.jpg with <sequence>/masks/*.png, or "
    "JPEGImages/480p/<sequence>/*.jpg with Annotations/480p/<sequence>/*.png"
)


@dataclass(frozen=True)
class ForegroundSequence:
    """The frames of a video, in order of their file names, and the folder of masks with the same names.

    A frame that is never asked for needs no mask.
    """

    name: str
    frame_paths: tuple[Path, ...]
    mask_folder: Path

    @property
    def num_frames(self) -> int:
        return len(self.frame_paths)

    def read_frames(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the frames at `positions` as (T, H, W, 3) uint8 RGB.

        Raises ValueError that names the file when one cannot be read or differs in size from the first.
        """
        return _read_equal([self.frame_paths[position] for position in positions], "RGB")

    def read_masks(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the masks of the frames at `positions` as (T, h, w) bool: every value but 0 is the object.

        Raises FileNotFoundError that names a missing mask, and ValueError as `read_frames`.
        """
        paths = [self.mask_folder / f"{self.frame_paths[position].stem}.png" for position in positions]
        for path, position in zip(paths, positions, strict=True):
            if not path.is_file():
                raise FileNotFoundError(f"there is no mask {path} for frame {self.frame_paths[position]}")
        values = _read_equal(paths, None)
        return (np.max(values, axis=-1) if values.ndim == 4 else values) != 0


def find_sequences(root: str | Path) -> list[ForegroundSequence]:
    """Find the sequences under `root`, sorted by name.

    `root` holds <sequence>/frames/*.jpg beside <sequence>/masks/*.png, or is a DAVIS folder with JPEGImages/480p and
    Annotations/480p. Raises FileNotFoundError or ValueError that says what was expected where.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; expected one that holds {_LAYOUTS}")
    davis = root / "JPEGImages" / "480p"
    if davis.is_dir():
        annotations = root / "Annotations" / "480p"
        folders = [
            (folder, annotations / folder.name) for folder in _folders(davis) if (annotations / folder.name).is_dir()
        ]
        named = [(frames.name, frames, masks) for frames, masks in folders]
    else:
        named = [(folder.name, folder / "frames", folder / "masks") for folder in _folders(root)]
        named = [(name, frames, masks) for name, frames, masks in named if frames.is_dir() and masks.is_dir()]
    if not named:
        raise ValueError(f"{root} holds no sequence; expected {_LAYOUTS}")
    return [ForegroundSequence(name, _frame_paths(frames), masks) for name, frames, masks in named]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def _frame_paths(folder: Path) -> tuple[Path, ...]:
    paths = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in _FRAME_SUFFIXES))
    if not paths:
        raise ValueError(f"{folder} holds no frame; expected files that end in {', '.join(_FRAME_SUFFIXES)}")
    return paths


def _read_equal(paths: Sequence[Path], mode: str | None) -> np.ndarray:
    """Return images of one size as one array, in a PIL mode; None keeps the numbers of images with one channel."""
    images: list[np.ndarray] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                # The numbers of a palette image are what matters, not its colours: PIL gives these without conversion.
                # An alpha channel says nothing about the object and goes.
                keep = mode is None and image.mode in ("1", "L", "P", "I", "I;16")
                images.append(np.asarray(image if keep else image.convert(mode or "RGB")))
        except OSError as error:
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        if images[-1].shape != images[0].shape:
            raise ValueError(f"{path} has shape {images[-1].shape}; expected {images[0].shape} as {paths[0].name} has")
    return np.stack(images)
