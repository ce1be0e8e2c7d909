"""What a tracking backend is, and where the generator finds one by name.

A backend turns a clip's frames into tracked regions. Everything else (key frames, clips, joining, numbering, the cap)
is shared by `TrajectoryGenerator`; `docs/backends.md` shows a complete backend in twenty lines.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    # Named for the code that travels with a checkpoint, which is found by its imports. SAM 2's stays behind: it needs
    # a library that few have.
    from .classic_backend import ClassicBackend  # noqa: F401

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`."""


def no_progress(stage: str, done: int, total: int) -> None:
    """The progress callback of a caller who wants none."""


@dataclass(frozen=True, eq=False)
class Clip:
    """The frames between two key frames, as a backend sees them.

    Attributes:
        frames: (N, H, W, 3) uint8 RGB at the resolution the backend asks for, from this clip's key frame up to and
            including the next clip's key frame (the boundary frame; the last clip has none). Between sampled frames
            there may be others.
        sampled: (n,) int64, increasing positions in `frames` of the sampled frames: the first is 0, the last N - 1.
        has_boundary: Whether the last frame belongs to the next clip. What a backend labels there serves only to
            recognise its regions in the next clip.
        label_size: (H, W) of the labels, in pixels. Default: that of the frames.
    """

    frames: np.ndarray
    sampled: np.ndarray
    has_boundary: bool
    label_size: tuple[int, int] = cast("tuple[int, int]", None)

    def __post_init__(self) -> None:
        height, width = self.frames.shape[1:3] if self.label_size is None else self.label_size
        object.__setattr__(self, "label_size", (int(height), int(width)))


@runtime_checkable
class TrackingBackend(Protocol):
    """The one method and two attributes that make a tracking backend.

    A backend may also have `frame_short_side`, an int: the short side, in pixels, that its clips' frames shall have
    where the labels' is smaller (they are never scaled up). Without it, or where it is None, frames have the size of
    the labels. One with weights may have `load(max_trajectories)`, which loads them before the first video.
    """

    @property
    def name(self) -> str:
        """The name that errors and saved settings use."""

    @property
    def frame_interval(self) -> float | None:
        """Seconds wanted between consecutive dense frames; None for sampled frames only."""

    def track(self, clips: Sequence[Clip], max_trajectories: int, progress: Progress | None = None) -> list[np.ndarray]:
        """Segment and track every clip of one video.

        Args:
            clips: All clips of the video, in order, so that a backend can batch them or share a budget among them.
            max_trajectories: How many the whole video may have; the generator drops the smallest beyond it.
            progress: Called as `progress(stage, done, total)` where the backend has something to tell.

        Returns:
            One integer volume (n, H, W) per clip, of the size `label_size`: at each of the clip's n sampled frames
            (boundary included) the label of every pixel, 0 for none. Equal labels within a clip are one trajectory;
            across clips labels say nothing.
        """


_ROOM = __name__.rpartition(".")[0]
_BACKENDS: dict[str, str] = {
    "classic": f"{_ROOM}.classic_backend:ClassicBackend",
    "sam2": "trajvit.processing.sam2_backend:Sam2Backend",
}


def backend_names() -> list[str]:
    """The names that `get_backend` knows, sorted."""
    return sorted(_BACKENDS)


def backend_location(name: str) -> str:
    """Where a backend comes from, as `register_backend` was told, for processes that have yet to be.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in _BACKENDS:
        raise ValueError(f"Unknown backend {name!r}; known backends: {', '.join(backend_names())}.")
    return _BACKENDS[name]


def register_backend(name: str, location: str) -> None:
    """Make a backend available by name.

    Args:
        name: What `TrajectoryGenerator(backend=name)` shall find.
        location: "package.module:Class". Nothing is imported before the backend is asked for.

    Raises:
        ValueError: The location has another form, or the name is taken by another location.
    """
    module, colon, class_name = location.partition(":")
    identifiers = [*module.split("."), class_name]
    if not name or not colon or not all(part.isidentifier() for part in identifiers):
        raise ValueError(f'A backend needs a name and a location "package.module:Class", got {name!r} at {location!r}.')
    if _BACKENDS.get(name, location) != location:
        raise ValueError(f"The backend name {name!r} is already taken by {_BACKENDS[name]}.")
    _BACKENDS[name] = location


def get_backend(name: str, **options: Any) -> TrackingBackend:
    """Import and build the backend of that name.

    Args:
        name: One of `backend_names()`.
        options: Keyword arguments of the backend's class.

    Raises:
        ValueError: The name is unknown, or the backend has no such option.
    """
    module, _, class_name = backend_location(name).partition(":")
    backend_class = getattr(importlib.import_module(module), class_name)
    parameters = inspect.signature(backend_class).parameters.values()
    legal = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [option for option in options if option not in legal]
    if unknown and not takes_any:
        raise ValueError(
            f"Backend {name!r} has no option {', '.join(map(repr, unknown))}; it has: {', '.join(legal) or 'none'}."
        )
    return backend_class(**options)
