"""`TrajectoryGenerator`: from a video's frames to its trajectories, whatever backend tracks them."""

import os
from collections.abc import Generator, Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import numpy as np

from .backends import Clip, Progress, TrackingBackend, get_backend, no_progress
from .clips import join_clips, keep_largest, split_into_clips
from .frame_checks import checked_frames
from .frame_size import fit_short_side, scale_frame
from .key_frames import KeyFrameDetector
from .streamed_trajectory import StreamedTrajectory
from .trajectories import Trajectories
from .trajectory_checks import checked_frame_indices, checked_key_frames, checked_positions, checked_timestamps
from .trajectory_stream import DEFAULT_CLIP_FRAMES, DEFAULT_FRAMES_PER_PIECE, stream_frames
from .video_frames import TimedFrame


class TrajectoryGenerator:
    """Key frames, clips, tracking by a backend, joining at the boundaries, the cap and the numbering (main paper).

    Args:
        backend: A name (`backends.backend_names()`) or an object with the protocol `TrackingBackend`.
        max_trajectories: Cap for a video; beyond it those with most space-time pixels stay.
        short_side: Resolution of the trajectories, and where key frames are found: frames with a longer short side are
            scaled down to it, aspect kept, by area interpolation; they are never scaled up. A backend may ask for
            larger frames to track in.
        key_frame_detector: Default: `KeyFrameDetector()`.
        join_iou: Least IoU, in 0..1, for two regions on a boundary frame to be one trajectory (the paper's is 0.5).
        backend_options: Keyword arguments of the named backend.

    Raises:
        TypeError, ValueError: A setting has the wrong type, lies outside its range, or is unknown to the backend.
    """

    def __init__(
        self,
        backend: str | TrackingBackend = "classic",
        max_trajectories: int = 128,
        short_side: int = 256,
        key_frame_detector: KeyFrameDetector | None = None,
        join_iou: float = 0.5,
        **backend_options: Any,
    ):
        for name, value in (("max_trajectories", max_trajectories), ("short_side", short_side)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, got {value!r}.")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if not 0 <= join_iou <= 1:
            raise ValueError(f"join_iou must lie in 0..1, got {join_iou}.")
        if isinstance(backend, str):
            self.backend = get_backend(backend, **backend_options)
        elif backend_options:
            raise ValueError(f"Options {sorted(backend_options)} need a backend's name; this one is an object already.")
        elif isinstance(backend, TrackingBackend):
            self.backend = backend
        else:
            raise TypeError(
                f"backend must be a name or have `name`, `frame_interval` and `track`, got {type(backend).__name__}."
            )
        self.max_trajectories = int(max_trajectories)
        self.short_side = int(short_side)
        self.key_frame_detector = key_frame_detector if key_frame_detector is not None else KeyFrameDetector()
        self.join_iou = float(join_iou)
        self._named_backend = {"backend": backend, **_saveable(backend_options)} if isinstance(backend, str) else None

    @property
    def frame_interval(self) -> float | None:
        """Seconds that the backend wants between dense frames; None where sampled frames are enough."""
        return self.backend.frame_interval

    @property
    def frame_short_side(self) -> int:
        """Short side, in pixels, beyond which frames are scaled down before tracking; no need to decode larger ones."""
        return max(self.short_side, getattr(self.backend, "frame_short_side", None) or 0)

    def __call__(
        self,
        frames: np.ndarray,
        sample_indices: np.ndarray | Sequence[int] | None = None,
        *,
        frame_indices: np.ndarray | Sequence[int] | None = None,
        timestamps: np.ndarray | Sequence[float] | None = None,
        progress: Progress | None = None,
    ) -> Trajectories:
        """Generate the trajectories of one video (T sampled frames) or image (T = 1).

        Args:
            frames: (N, H, W, 3) uint8 RGB: the sampled frames, or a denser stack that contains them.
            sample_indices: (T,) strictly increasing positions in `frames` of the sampled frames. Default: all.
            frame_indices: (T,) positions of the sampled frames in their source, passed on to the result.
            timestamps: (T,) seconds of the sampled frames, passed on to the result.
            progress: Called as `progress(stage, done, total)`.

        Returns:
            The sampled frames' trajectories, at the resolution that `short_side` says.

        Raises:
            TypeError, ValueError: An argument breaks its rule above, or the backend returned no such labels as it must.
        """
        frames = checked_frames(frames)
        samples = np.arange(len(frames)) if sample_indices is None else sample_indices
        samples = checked_positions(samples, "sample_indices", len(frames))
        frame_indices = checked_frame_indices(frame_indices, len(samples))
        timestamps = checked_timestamps(frame_indices if timestamps is None else timestamps, len(samples))
        report = progress if progress is not None else no_progress

        label_size = fit_short_side(frames.shape[1], frames.shape[2], self.short_side)
        frame_size = fit_short_side(frames.shape[1], frames.shape[2], self.frame_short_side)
        dense = frames if frame_size == frames.shape[1:3] else _scaled(list(frames), frame_size, report)
        report("key frames", 0, 1)
        same_size = frame_size == label_size
        sampled = dense[samples] if same_size else _scaled([frames[position] for position in samples], label_size)
        key_frames = checked_key_frames(self.key_frame_detector(sampled), len(samples))
        report("key frames", 1, 1)
        clips = split_into_clips(dense, samples, key_frames, label_size)
        volumes = self.track(clips, report)
        report("join", 0, 1)
        labels = keep_largest(join_clips(clips, volumes, self.join_iou), self.max_trajectories)
        trajectories = Trajectories.from_labels(
            labels, frame_indices=frame_indices, timestamps=timestamps, key_frames=key_frames
        )
        report("join", 1, 1)
        return trajectories

    def stream(
        self,
        frames: Iterable[np.ndarray],
        *,
        clip_frames: int = DEFAULT_CLIP_FRAMES,
        max_frames_per_piece: int = DEFAULT_FRAMES_PER_PIECE,
        progress: Progress | None = None,
    ) -> Generator[StreamedTrajectory, None, None]:
        """Find the trajectories of a video of any length, frame by frame, in bounded memory (docs/streaming.md).

        Args:
            frames: (H, W, 3) uint8 RGB arrays of one size, in order: an array of them, a generator, or any iterable.
                Each may be overwritten once the next is asked for.
            clip_frames: Frames after which a clip ends where no key frame ends it sooner. Trajectories are joined at
                the ends of clips, by `join_iou`.
            max_frames_per_piece: Frames after which a trajectory is given away in pieces.
            progress: Called as `progress("stream", done, read)` after each clip, with the frames done and those read so
                far, and by the backend within each clip.

        Returns:
            An iterator that yields each trajectory when it has ended, in the order of the clips, and within one clip by
            id. `max_trajectories` holds for each clip. Where it is never exceeded, ids and pixels are those that a call
            finds in the same frames, provided that the backend treats clips independently and none ends early.

        Raises:
            TypeError, ValueError: A setting is out of range; and, when the iterator reaches it, a frame has another
                type, shape or size than the first, there is no frame, or the backend returned no such labels as it
                must.
        """
        timed = (TimedFrame(number, float(number), frame) for number, frame in enumerate(frames))
        return stream_frames(timed, self, clip_frames, max_frames_per_piece, progress)

    def track(self, clips: Sequence[Clip], progress: Progress | None = None) -> list[np.ndarray]:
        """Have the backend track clips of one video; see `TrackingBackend.track`.

        Raises:
            ValueError: The backend returned no such labels as it must.
        """
        volumes = self.backend.track(clips, self.max_trajectories, progress)
        self._check_volumes(volumes, clips)
        return volumes

    def load(self) -> None:
        """Have a backend that has weights load them now, not at its first video.

        Raises:
            ImportError, OSError, ValueError: They cannot be loaded.
        """
        load = getattr(self.backend, "load", None)
        if load is not None:
            load(self.max_trajectories)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data, for `from_dict`.

        Raises:
            ValueError: The backend or the key frame detector was given as an object that has no such form.
        """
        if self._named_backend is None:
            raise ValueError(
                f"The backend {self.backend.name!r} was given as an object and cannot be saved;"
                " register it with `register_backend` and give its name."
            )
        if not isinstance(self.key_frame_detector, KeyFrameDetector):
            raise ValueError(f"A {type(self.key_frame_detector).__name__} cannot be saved, only a KeyFrameDetector.")
        return {
            **deepcopy(self._named_backend),
            "max_trajectories": self.max_trajectories,
            "short_side": self.short_side,
            "join_iou": self.join_iou,
            "key_frame_detector": asdict(self.key_frame_detector),
        }

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "TrajectoryGenerator":
        """Build the generator that `to_dict` described; what is missing has its default.

        Raises:
            TypeError, ValueError: As for the class.
        """
        detector = settings.get("key_frame_detector")
        return cls(**{**settings, "key_frame_detector": None if detector is None else KeyFrameDetector(**detector)})

    def __repr__(self) -> str:
        return (
            f"TrajectoryGenerator(backend={self.backend.name!r}, max_trajectories={self.max_trajectories},"
            f" short_side={self.short_side}, join_iou={self.join_iou}, key_frame_detector={self.key_frame_detector})"
        )

    def _check_volumes(self, volumes: Sequence[np.ndarray], clips: Sequence[Clip]) -> None:
        name = self.backend.name
        if not isinstance(volumes, (list, tuple)) or len(volumes) != len(clips):
            found = f"{len(volumes)} volumes" if isinstance(volumes, (list, tuple)) else type(volumes).__name__
            raise ValueError(
                f"Backend {name!r} must return one label volume per clip, {len(clips)} in all; got {found}."
            )
        for k, (volume, clip) in enumerate(zip(volumes, clips, strict=True)):
            expected = (len(clip.sampled), *clip.label_size)
            is_integer = isinstance(volume, np.ndarray) and np.issubdtype(volume.dtype, np.integer)
            if not is_integer or volume.shape != expected:
                found = f"{volume.dtype} {volume.shape}" if isinstance(volume, np.ndarray) else type(volume).__name__
                raise ValueError(f"Backend {name!r} must return integers {expected} for clip {k}, got {found}.")


def _scaled(frames: Sequence[np.ndarray], size: tuple[int, int], report: Progress = no_progress) -> np.ndarray:
    num_frames = len(frames)
    scaled = np.empty((num_frames, *size, 3), dtype=np.uint8)
    for t, frame in enumerate(frames):
        report("scale", t, num_frames)
        scaled[t] = scale_frame(frame, *size)
    report("scale", num_frames, num_frames)
    return scaled


def _saveable(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of a backend's options that later changes of theirs do not reach, with paths as text."""
    saveable = {}
    for name, value in options.items():
        if isinstance(value, os.PathLike):
            saveable[name] = os.fspath(value)
        else:
            saveable[name] = value.item() if isinstance(value, np.generic) else deepcopy(value)
    return saveable
