"""What a visitor's video gives: trajectories, pictures of them, objects found by a click or by words, and costs.

No web framework is needed here. A video's pictures are written to one folder, which is removed with it.
"""

import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from trajvit.demo_report import DemoRun, VideoCost
from trajvit.processing.decoding import VideoDecodingError, decode_video
from trajvit.processing.drawing import draw_overlay, timeline, trajectory_colors, write_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.trajectory_inputs import check_fit
from trajvit.processing.video_frames import VideoFrames
from trajvit.web_limits import PageLimits, VisitorError

if TYPE_CHECKING:
    from trajvit.modeling_trajvit import TrajViTForContrastive
    from trajvit.processing.processing_trajvit import TrajViTProcessor

DISPLAY_SHORT_SIDE = 480
_DIMMED = 0.3
_CROP_SIZE = 120
# Around a box, in shares of its longer side, so that a crop shows where the object is.
_CROP_MARGIN = 0.15
_MOST_CROPS = 8
# Of an uploaded trajectories file; the page has a picture for each.
_MOST_FRAMES = 64

Report = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done."""


@dataclass(frozen=True, eq=False)
class FoundObject:
    """A trajectory that fits a phrase.

    Attributes:
        number: Its id, 1 and up.
        score: Cosine similarity with the phrase, when it is seen alone.
    """

    number: int
    score: float


@dataclass(frozen=True, eq=False)
class VisitorVideo:
    """A video that was analysed.

    Attributes:
        folder: Where its pictures are written; no other video's are.
        frames: (T, H, W, 3) uint8, the sampled frames as they are shown.
        overlay: (T, H, W, 3) uint8, coloured by trajectory.
        trajectories: Those of the frames.
        frames_per_second: Of the videos that are shown.
    """

    folder: Path
    frames: np.ndarray
    overlay: np.ndarray
    trajectories: Trajectories
    frames_per_second: float

    @property
    def regions(self) -> np.ndarray:
        """(T, h, w) ids at the trajectories' own resolution."""
        return self.trajectories.ids

    def object_at(self, frame: int, x: float, y: float) -> int | None:
        """The trajectory at a point of a shown frame, in its pixels; None where there is none."""
        height, width = self.frames.shape[1:3]
        if not (0 <= frame < len(self.frames) and 0 <= x < width and 0 <= y < height):
            raise VisitorError("This point lies outside the frame.")
        row = int(y * self.trajectories.height / height)
        column = int(x * self.trajectories.width / width)
        return int(self.regions[frame, row, column]) or None

    def checked(self, number: float | None) -> int:
        """The number of an object of this video.

        Raises:
            VisitorError: There is no such object.
        """
        count = self.trajectories.num_trajectories
        if number is None or number != number or int(number) != number or not 1 <= number <= count:
            raise VisitorError(f"There is no object {number}; this video has objects 1 to {count}.")
        return int(number)

    def highlighted(self, frame: int, number: int) -> np.ndarray:
        """A frame with all but one object dimmed, and a line in its colour around it."""
        picture = self.frames[frame]
        height, width = picture.shape[:2]
        mask = (self.regions[frame] == number).astype(np.uint8)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        shown = np.where(mask[..., None] > 0, picture, (grey * _DIMMED).astype(np.uint8))
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        color = tuple(int(value) for value in trajectory_colors(number)[number])
        return cv2.drawContours(shown, outlines, -1, color, max(2, round(min(height, width) / 160)), cv2.LINE_AA)

    def largest_frame(self, number: int) -> int:
        """The frame in which an object has most pixels."""
        return int(self.trajectories.areas[number - 1].argmax())

    def crop(self, frame: int, number: int, size: int = _CROP_SIZE) -> np.ndarray:
        """(size, size, 3): an object's box in a frame with a little around it, on a dark square."""
        height, width = self.frames.shape[1:3]
        x0, y0, x1, y1 = self.trajectories.boxes[number - 1, frame] * (width, height, width, height)
        margin = _CROP_MARGIN * max(x1 - x0, y1 - y0) + 1
        left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
        right, bottom = min(width, int(np.ceil(x1 + margin))), min(height, int(np.ceil(y1 + margin)))
        part = self.frames[frame, top:bottom, left:right]
        scale = size / max(part.shape[:2])
        fitted = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
        part = cv2.resize(part, fitted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        square = np.full((size, size, 3), 24, np.uint8)
        y, x = (size - part.shape[0]) // 2, (size - part.shape[1]) // 2
        square[y : y + part.shape[0], x : x + part.shape[1]] = part
        return square

    def crops(self, number: int) -> list[tuple[float, np.ndarray]]:
        """Seconds and crop of an object in at most eight frames, evenly among those that show it."""
        present = np.flatnonzero(self.trajectories.presence[number - 1])
        chosen = present[np.linspace(0, len(present) - 1, min(len(present), _MOST_CROPS)).round().astype(int)]
        return [(float(self.trajectories.timestamps[t]), self.crop(int(t), number)) for t in chosen]

    def frame_picture(self, frame: int, number: int | None = None) -> Path:
        """A file with a coloured frame, or with one object of it highlighted."""
        if number is None:
            return self._picture(f"frame-{frame}", self.overlay[frame])
        return self._picture(f"frame-{frame}-object-{number}", self.highlighted(frame, number))

    def object_video(self, number: int) -> Path:
        """A file that shows one object through all frames."""
        path = self.folder / f"object-{number}.mp4"
        if not path.exists():
            frames = (self.highlighted(frame, number) for frame in range(len(self.frames)))
            write_video(path, frames, fps=self.frames_per_second, crf=21)
        return path

    def costs(self) -> tuple[VideoCost, VideoCost]:
        """What TrajViT and ViT3D need for this video at ViT-Large."""
        run = DemoRun("video", self.trajectories, self.frames, {}, {})
        return VideoCost.of_trajectories(run), VideoCost.of_tubelets(run)

    def _picture(self, name: str, pixels: np.ndarray) -> Path:
        path = self.folder / f"{name}.webp"
        if not path.exists():
            Image.fromarray(pixels).save(path, quality=85, method=2)
        return path


def analyse(
    source: Path,
    folder: Path,
    limits: PageLimits,
    num_frames: int = 16,
    max_trajectories: int = 128,
    stored: Path | None = None,
    report: Report = lambda share, stage: None,
) -> VisitorVideo:
    """Follow the parts of a video and draw them.

    Args:
        source: The video, in the folder of uploads.
        folder: Where a folder for its pictures is made.
        limits: What the page takes.
        num_frames: Frames sampled.
        max_trajectories: Most trajectories.
        stored: A trajectories file of this video, taken in place of finding them.
        report: Told how far it is.

    Raises:
        VisitorError: The video is outside the limits or cannot be decoded, or the trajectories are not its own.
    """
    report = _only_forward(report)
    report(0.02, "Looking at the file")
    limits.check_file(source)
    given = None if stored is None else _stored_trajectories(stored)
    generator = TrajectoryGenerator(max_trajectories=max_trajectories)
    report(0.05, "Decoding")
    interval = generator.frame_interval if given is None else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            video = decode_video(
                source,
                num_frames=num_frames if given is None else given.num_frames,
                frame_interval=interval,
                short_side=DISPLAY_SHORT_SIDE,
            )
    except VideoDecodingError as error:
        raise VisitorError("None of the frames of this video can be decoded. Please try another.") from error
    if given is None:
        trajectories = generator(
            video.frames,
            video.sample_indices,
            frame_indices=video.frame_indices,
            timestamps=video.timestamps,
            progress=lambda stage, done, total: report(_share(stage, done, total), f"Following parts: {stage}"),
        )
    else:
        trajectories = _fitting(given, video)
    return _drawn(video, trajectories, folder, report)


def _drawn(video: VideoFrames, trajectories: Trajectories, parent: Path, report: Report) -> VisitorVideo:
    report(0.85, "Drawing")
    folder = parent / f"video-{secrets.token_hex(8)}"
    folder.mkdir(parents=True)
    frames = video.sampled
    overlay = draw_overlay(frames, trajectories)
    duration = max(float(video.timestamps[-1] - video.timestamps[0]), 1e-3)
    rate = min(max((len(frames) - 1) / duration, 3.0), 12.0)
    write_video(folder / "sampled.mp4", frames, fps=rate, crf=21)
    write_video(folder / "trajectories.mp4", overlay, fps=rate, crf=21)
    report(0.95, "Drawing the timeline")
    timeline(trajectories, path=folder / "timeline.png")
    trajectories.save(folder / "video.traj.png")
    return VisitorVideo(folder, frames, overlay, trajectories, rate)


def _only_forward(report: Report) -> Report:
    """Stages may come more than once, for each clip of a video; a bar that goes back would be no help."""
    furthest = 0.0

    def told(share: float, stage: str) -> None:
        nonlocal furthest
        furthest = max(furthest, share)
        report(furthest, stage)

    return told


def _share(stage: str, done: int, total: int) -> float:
    start, end = {"key frames": (0.1, 0.15), "join": (0.8, 0.84)}.get(stage, (0.15, 0.8))
    return start + (end - start) * done / max(total, 1)


def _stored_trajectories(path: Path) -> Trajectories:
    try:
        stored = Trajectories.load(path)
    except (ValueError, OSError) as error:
        raise VisitorError("This is no trajectories file, or it is damaged. Expected NAME.traj.png.") from error
    if stored.num_frames > _MOST_FRAMES:
        raise VisitorError(f"This trajectories file has {stored.num_frames} frames; at most {_MOST_FRAMES} are shown.")
    return stored


def _fitting(given: Trajectories, video: VideoFrames) -> Trajectories:
    try:
        check_fit(given, video, "the file")
    except (TypeError, ValueError) as error:
        raise VisitorError("These trajectories belong to another video: frames or aspect differ.") from error
    return given


@dataclass(frozen=True, eq=False)
class ObjectSearch:
    """Finds objects of a video by words.

    Attributes:
        model: A contrastive model of the tower `trajvit`, in evaluation mode.
        processor: That belongs to it.
        is_shipped: Whether it is the tiny one of the package, which knows moving shapes alone.
    """

    model: "TrajViTForContrastive"
    processor: "TrajViTProcessor"
    is_shipped: bool

    @classmethod
    def load(cls, checkpoint: str | Path | None = None) -> "ObjectSearch":
        """Load a checkpoint, a folder or a Hub id; None for the shipped one."""
        from trajvit.modeling_trajvit import TrajViTForContrastive
        from trajvit.processing.processing_trajvit import TrajViTProcessor
        from trajvit.search_demo import CHECKPOINT

        source = CHECKPOINT if checkpoint is None else checkpoint
        model = TrajViTForContrastive.from_pretrained(source).eval()
        return cls(model, TrajViTProcessor.from_pretrained(source), checkpoint is None)

    def inputs(self, video: VisitorVideo) -> tuple[dict[str, Any], np.ndarray]:
        """What the model takes, and (m,) for each trajectory in it the number that it has in the video.

        The model sees as many frames as it was trained on, and on its grid small objects may have no pixel.
        """
        processor: Any = self.processor
        settings = processor.video_processor
        count = min(settings.num_frames, len(video.frames))
        # The middles of equal segments, as a video's frames are sampled.
        chosen = ((np.arange(count) + 0.5) * len(video.frames) / count).astype(int)
        part = video.trajectories.select_frames(chosen)
        numbers = np.unique(video.regions[chosen])
        numbers = numbers[numbers > 0]
        grid = settings.feature_size
        inputs = processor(videos=[video.frames[chosen]], trajectories=[part], do_sample_frames=False)
        return dict(inputs), numbers[part.ids_at(grid, grid) - 1]

    def rank(self, video: VisitorVideo, phrase: str, most: int = 6) -> list[FoundObject]:
        """The objects of a video that fit a phrase best, best first.

        Raises:
            VisitorError: The video has no object that the model can see.
        """
        from trajvit.search import search

        inputs, numbers = self.inputs(video)
        if not len(numbers):
            raise VisitorError("This video has no object that is large enough for the model to see.")
        scores = search(self.model, self.processor, [phrase], inputs).trajectories[0, 0]
        best = scores[: len(numbers)].topk(min(most, len(numbers)))
        return [
            FoundObject(int(numbers[row]), float(score))
            for score, row in zip(best.values, best.indices.tolist(), strict=True)
        ]
