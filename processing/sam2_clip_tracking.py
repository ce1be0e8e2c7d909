"""From clips to label volumes with SAM 2: segment key frames, follow every segment, fuse what they claim.

Shape legend: F encoded frames, N objects, S image size (square), (h, w) size of the labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .backends import Clip, Progress
from .label_fusion import LabelFusion
from .new_segments import new_segments
from .sam2_features import FrameFeatures
from .sam2_object_chunks import ObjectChunk, is_out_of_memory
from .sam2_schedule import MAX_FRAMES, Piece, Window, clip_spans, plan_windows, portions
from .sam2_tracker import Sam2Tracker, StepOutput
from .segmenters import KeyFrameSegmenter

# Key frames that are segmented together.
_KEY_FRAMES_AT_ONCE = 4


@dataclass(frozen=True)
class TrackingSettings:
    """How clips are tracked.

    Attributes:
        max_segments: Most segments of a key frame; where new objects are looked for, most new and old ones in view.
        new_objects_interval: Every so many frames, what no trajectory covers starts new ones; None for never.
        drop_after: An object without a pixel in so many frames in a row is followed no further; None for never.
        segments_from_features: Whether the segmenter reads SAM 2's features.
    """

    max_segments: int
    new_objects_interval: int | None
    drop_after: int | None
    segments_from_features: bool


def track_clips(
    tracker: Sam2Tracker,
    segmenter: KeyFrameSegmenter,
    clips: Sequence[Clip],
    settings: TrackingSettings,
    objects_at_once: Callable[[int], int],
    report: Progress,
) -> list[np.ndarray]:
    """Track all clips of a video.

    Args:
        tracker: Follows the objects.
        segmenter: Finds them on key frames.
        clips: At least one, in order, as `TrackingBackend.track` gets them. Only their sampled frames are looked at.
        settings: See there.
        objects_at_once: From the number of steps to how many objects may be followed together.
        report: Called as `report(stage, done, total)` with the stages "segment" (clips) and "track" (frames of clips).

    Returns:
        Per clip int32 labels (n, h, w), 0 for none.

    Raises:
        torch.OutOfMemoryError: The memory does not suffice for a single object.
    """
    return _ClipTracking(tracker, segmenter, clips, settings, objects_at_once, report).run()


class _ClipTracking:
    """One run over a video's clips."""

    def __init__(
        self,
        tracker: Sam2Tracker,
        segmenter: KeyFrameSegmenter,
        clips: Sequence[Clip],
        settings: TrackingSettings,
        objects_at_once: Callable[[int], int],
        report: Progress,
    ):
        self._segmenter = segmenter
        self._settings = settings
        self._objects_at_once = objects_at_once
        self._size = clips[0].label_size
        self._tracker = tracker
        self._spans = clip_spans(clips)
        self._windows = plan_windows(
            self._spans, settings.new_objects_interval, settings.segments_from_features, MAX_FRAMES
        )
        pictures = {
            span.first + n: clip.frames[position]
            for clip, span in zip(clips, self._spans, strict=True)
            for n, position in enumerate(clip.sampled)
        }
        self._frames = _EncodedFrames(tracker, pictures)
        self._volumes = [np.zeros((len(clip.sampled), *self._size), dtype=np.int32) for clip in clips]
        self._num_labels = [0] * len(clips)
        self._num_broken = 0
        # Once the memory did not suffice for more objects, none are tried again.
        self._most_objects: int | None = None
        self._progress = _RunProgress(report, len(clips), sum(map(len, self._volumes)))

    def run(self) -> list[np.ndarray]:
        waiting: list[ObjectChunk] = []
        for window in self._windows:
            self._frames.hold(window.frames)
            starts = {clip: self._at_image_size(labels) for clip, labels in self._start_labels(window).items()}
            waiting = self._follow_all(window, [*waiting, *self._new_chunks(window, starts)], starts)
        if self._num_broken:
            warnings.warn(
                f"SAM 2 gave NaN or infinite values for {self._num_broken} of {sum(self._num_labels)} objects;"
                " they end in the frame where it did.",
                RuntimeWarning,
                stacklevel=2,
            )
        return self._volumes

    def _start_labels(self, window: Window) -> dict[int, np.ndarray]:
        """Per clip where objects start, the labels (h, w) of those that do; they are in the volumes too."""
        pieces = [piece for piece in window.pieces if piece.is_key or (piece.starts_objects and self._has_room(piece))]
        started = {}
        for portion in portions(len(pieces), _KEY_FRAMES_AT_ONCE):
            together = [pieces[i] for i in portion]
            for piece, segments in zip(together, self._segment(together), strict=True):
                known = self._labels_at(piece)
                if not piece.is_key:
                    in_view = int(np.count_nonzero(np.bincount(known.reshape(-1))[1:]))
                    segments = new_segments(segments, known > 0, max(0, self._settings.max_segments - in_view))
                labels = np.where(segments > 0, segments + self._num_labels[piece.clip], 0).astype(np.int32)
                self._num_labels[piece.clip] = max(self._num_labels[piece.clip], int(np.max(labels)))
                known[labels > 0] = labels[labels > 0]
                started[piece.clip] = labels
        self._progress.segmented(sum(piece.is_key for piece in window.pieces))
        return started

    def _has_room(self, piece: Piece) -> bool:
        """Whether the objects leave so much of the frame uncovered that a new one may be there."""
        everything = np.ones(self._size, dtype=np.int32)
        return bool(new_segments(everything, self._labels_at(piece) > 0, max_segments=1).any())

    def _segment(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        frames = [piece.start for piece in pieces]
        features = self._frames.features_of(frames) if self._settings.segments_from_features else None
        return self._segmenter(self._frames.pictures_of(frames), features, self._size)

    def _labels_at(self, piece: Piece) -> np.ndarray:
        """The labels (h, w) of the frame in which a piece starts, to read and to write."""
        return self._volumes[piece.clip][piece.start - self._spans[piece.clip].first]

    def _new_chunks(self, window: Window, starts: dict[int, np.ndarray]) -> list[ObjectChunk]:
        """The objects that start here and have a frame to be followed into, in chunks; longest pieces first."""
        rows = [
            (piece.clip, int(label))
            for piece in sorted(window.pieces, key=lambda piece: -piece.num_steps)
            if piece.num_steps > 0 and piece.clip in starts
            for label in np.flatnonzero(np.bincount(starts[piece.clip].reshape(-1)))
            if label > 0
        ]
        if not rows:
            return []
        at_most = self._objects_at_once(max(piece.num_steps for piece in window.pieces))
        at_most = min(at_most, self._most_objects or at_most)
        return [
            ObjectChunk(tuple(rows[i][0] for i in part), tuple(rows[i][1] for i in part), (0,) * len(part))
            for part in portions(len(rows), at_most)
        ]

    def _at_image_size(self, labels: np.ndarray) -> np.ndarray:
        """(S, S): the label under the middle of each of SAM 2's pixels."""
        middles = np.arange(self._tracker.model.image_size) + 0.5
        rows, columns = ((middles * side / len(middles)).astype(np.int64) for side in labels.shape)
        return labels[rows[:, None], columns]

    def _follow_all(
        self, window: Window, chunks: Sequence[ObjectChunk], starts: dict[int, np.ndarray]
    ) -> list[ObjectChunk]:
        """Follow every chunk through the window, write the volumes, and return the chunks that go on."""
        if not chunks:
            self._progress.tracked(window, 1, 1)
            return []
        pieces = {piece.clip: piece for piece in window.pieces}
        slots, num_slots = {}, 0
        for piece in window.pieces:
            slots[piece.clip] = num_slots
            num_slots += piece.num_steps
        device = self._tracker.model.device
        fusion = LabelFusion(num_slots, self._size, device)
        start_labels = {clip: torch.from_numpy(labels).to(device) for clip, labels in starts.items()}
        going_on = []
        for number, chunk in enumerate(chunks):
            going_on += self._follow(replace(chunk, position=0), pieces, slots, start_labels, fusion)
            self._progress.tracked(window, number + 1, len(chunks))
        labels = fusion.labels()
        for piece in window.pieces:
            first = piece.start - self._spans[piece.clip].first + 1
            followed = labels[slots[piece.clip] : slots[piece.clip] + piece.num_steps]
            self._volumes[piece.clip][first : first + piece.num_steps] = followed
        return going_on

    def _follow(
        self,
        chunk: ObjectChunk,
        pieces: dict[int, Piece],
        slots: dict[int, int],
        start_labels: dict[int, torch.Tensor],
        fusion: LabelFusion,
    ) -> list[ObjectChunk]:
        """Follow one chunk through its pieces; where memory runs out, its halves one after the other."""
        pending = [chunk]
        going_on = []
        while pending:
            chunk = pending.pop()
            ongoing = [row for row, clip in enumerate(chunk.clips) if pieces[clip].num_steps > chunk.position]
            if not ongoing:
                rest = chunk.select([row for row, clip in enumerate(chunk.clips) if not pieces[clip].is_last])
                going_on += [rest.compact()] if len(rest) else []
                continue
            chunk = chunk.select(ongoing)
            frames = [pieces[clip].start + chunk.position + 1 for clip in chunk.clips]
            advanced = self._advance(chunk, pieces, start_labels, frames)
            if advanced is None:
                # What the failed step and its error held is gone by now.
                if self._tracker.model.device.type == "cuda":
                    torch.cuda.empty_cache()
                self._most_objects = len(chunk) // 2
                pending += reversed(chunk.halves())
                continue
            moved, output = advanced
            frame_slots = [slots[clip] + chunk.position for clip in chunk.clips]
            pending.append(self._record(moved, output, frame_slots, fusion))
        return going_on

    def _advance(
        self, chunk: ObjectChunk, pieces: dict[int, Piece], start_labels: dict[int, torch.Tensor], frames: list[int]
    ) -> tuple[ObjectChunk, StepOutput] | None:
        """One step; None where memory does not suffice for so many objects. The chunk stays as it is."""
        features = self._frames.features
        try:
            objects = chunk.objects
            if objects is None:
                own = zip(chunk.clips, chunk.labels, strict=True)
                masks = torch.stack([start_labels[clip] == label for clip, label in own])
                key_frames = self._frames.positions([pieces[clip].start for clip in chunk.clips])
                objects, _ = self._tracker.start(features, key_frames, masks)
            objects, output = self._tracker.step(objects, features, self._frames.positions(frames))
            return replace(chunk, position=chunk.position + 1, objects=objects), output
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(chunk) == 1:
                raise torch.OutOfMemoryError(
                    f"The memory of {self._tracker.model.device} does not suffice to follow even one object at"
                    f" image_size {self._tracker.model.image_size}; a smaller image_size or model needs less. ({error})"
                ) from error
        return None

    def _record(
        self, chunk: ObjectChunk, output: StepOutput, frame_slots: list[int], fusion: LabelFusion
    ) -> ObjectChunk:
        """Let the objects claim their pixels, and drop those that ended."""
        has_pixels = (output.logits > 0).flatten(1).any(dim=1)
        is_number = output.logits.isfinite().flatten(1).all(dim=1) & output.object_scores.isfinite()
        seen, sound = torch.stack([has_pixels, is_number]).tolist()
        absent = tuple(0 if is_seen else count + 1 for is_seen, count in zip(seen, chunk.absent, strict=True))
        claiming = [row for row in range(len(chunk)) if seen[row] and sound[row]]
        fusion.add(
            [frame_slots[row] for row in claiming], [chunk.labels[row] for row in claiming], output.logits[claiming]
        )
        self._num_broken += sound.count(False)
        limit = self._settings.drop_after
        kept = [row for row in range(len(chunk)) if sound[row] and (limit is None or absent[row] < limit)]
        return replace(chunk, absent=absent).select(kept)


class _EncodedFrames:
    """The features of a few frames, each encoded when it is first held."""

    def __init__(self, tracker: Sam2Tracker, pictures: dict[int, np.ndarray]):
        self._tracker = tracker
        self._pictures = pictures
        self._features: FrameFeatures | None = None
        self._held: list[int] = []

    @property
    def features(self) -> FrameFeatures:
        """Features of the frames held."""
        assert self._features is not None
        return self._features

    def hold(self, frames: Sequence[int]) -> None:
        """Encode those frames that are not held yet, and let go of those that are held and not among them."""
        kept = [frame for frame in self._held if frame in frames]
        new = [frame for frame in frames if frame not in self._held]
        if not new and len(kept) == len(self._held):
            return
        parts = [self.features[self.positions(kept)]] if kept else []
        self._features = None
        if new:
            parts.append(self._tracker.encode(self.pictures_of(new)))
        self._features = parts[0] if len(parts) == 1 else FrameFeatures.concatenate(parts) if parts else None
        self._held = kept + new

    def positions(self, frames: Sequence[int]) -> torch.Tensor:
        """(N,) int64 where in `features` the frames are."""
        position = {frame: i for i, frame in enumerate(self._held)}
        return torch.tensor([position[frame] for frame in frames])

    def features_of(self, frames: Sequence[int]) -> FrameFeatures:
        """Features of some of the frames held."""
        return self.features[self.positions(frames)]

    def pictures_of(self, frames: Sequence[int]) -> np.ndarray:
        """(F, H, W, 3) uint8 RGB of any frames."""
        return np.stack([self._pictures[frame] for frame in frames])


class _RunProgress:
    """Counts what is done and reports it."""

    def __init__(self, report: Progress, num_clips: int, num_frames: int):
        self._report = report
        self._num_clips, self._num_frames = num_clips, num_frames
        self._clips_done, self._frames_done = 0, 0
        report("segment", 0, num_clips)

    def segmented(self, num_key_frames: int) -> None:
        """So many more key frames have been segmented."""
        self._clips_done += num_key_frames
        self._report("segment", self._clips_done, self._num_clips)

    def tracked(self, window: Window, chunks_done: int, num_chunks: int) -> None:
        """So many of a window's chunks have been followed."""
        frames = sum(piece.num_steps + piece.is_key for piece in window.pieces)
        self._report("track", self._frames_done + frames * chunks_done // num_chunks, self._num_frames)
        if chunks_done == num_chunks:
            self._frames_done += frames
