"""Reads AVA v2.2: who does what in a box, at every second of the 15 minutes of a movie.

Shape letters: R boxes of a key frame, D boxes of a person detector in it.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from .action_list import read_action_list
from .annotation_files import TableRow, read_headless_table
from .evaluation_data import ActionDetectionSet, ActionKeyFrame, AnnotationError, MediaItem
from .media_index import MediaIndex

Path = str | os.PathLike
ACTION_LIST = "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
WINDOW_SECONDS = 64 / 30
"""VideoMAE's clip for AVA: 16 frames, every fourth of a video at 30 frames a second."""
MIN_DETECTION_SCORE = 0.8
"""SlowFast's threshold for the boxes of its person detector."""

_NUM_ACTIONS = 80
_BOX = ("x1", "y1", "x2", "y2")
_ANNOTATED = (
    ("video_id", "timestamp", *_BOX, "action_id", "person_id"),
    ("video_id", "timestamp", *_BOX, "action_id"),
)
_DETECTED = (
    ("video_id", "timestamp", *_BOX, "action_id", "score"),
    ("video_id", "timestamp", *_BOX, "score"),
)
_KEY_FRAME = tuple[str, int]


@dataclass
class _Boxes:
    """What the files say of a key frame; boxes are told apart by who is in them, too."""

    actions: dict[tuple[tuple[float, ...], str], set[int]] = field(default_factory=dict)
    scores: dict[tuple[float, ...], float] = field(default_factory=dict)


def read_ava(
    annotations: Path,
    media_folder: Path,
    *,
    split: str = "val",
    action_list: Path | None = None,
    excluded: Path | None = None,
    detections: Path | None = None,
    min_detection_score: float = MIN_DETECTION_SCORE,
    window_seconds: float = WINDOW_SECONDS,
    video_start: float = 0.0,
    trajectories_folder: Path | None = None,
) -> ActionDetectionSet:
    """AVA v2.2: key frames with boxes of people and what they do.

    Args:
        annotations: The folder with the official files.
        media_folder: Holds a movie for each `video_id`, `1j20qq1JyX4.mkv`, ...
        split: `val` or `train`: `ava_val_v2.2.csv` is read.
        action_list: The actions that are evaluated. Default: the official list of 60 in the folder.
        excluded: Key frames that do not count. Default: `ava_val_excluded_timestamps_v2.2.csv` in the folder.
        detections: Boxes of a person detector as SlowFast has them in `ava_detection_val_boxes_and_labels.csv`: the
            columns of AVA, of which that of the action may be empty or absent, and a score.
        min_detection_score: Detected boxes below it are left out.
        window_seconds: How long the stretch of video around a key frame is.
        video_start: Second of the movie at which the media files start: 900 for files cut to the annotated 15 minutes.
        trajectories_folder: As for `MediaIndex`; the trajectories of a key frame are called
            `1j20qq1JyX4_0902.traj.png`.

    Returns:
        The key frames that are annotated, by video in the order of the file, then by time. A person who does nothing
        that is evaluated has no box, so that a key frame may have none; it stays, since what is detected there is
        wrong. So do key frames of these videos in which people are only detected.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
        ValueError: A number is out of its range.
    """
    _check_numbers(min_detection_score, window_seconds, video_start)
    path = _annotation_file(annotations, split)
    names = read_action_list(os.path.join(annotations, ACTION_LIST) if action_list is None else action_list)
    index = MediaIndex(media_folder, "video", trajectories_folder)
    frames = _annotated_frames(path, names)
    if detections is not None:
        _add_detections(frames, detections, min_detection_score)
    default = os.path.join(annotations, f"ava_{split}_excluded_timestamps_v2.2.csv")
    for key in _excluded_frames(default if excluded is None else excluded):
        frames.pop(key, None)
    order = {video: number for number, video in enumerate(dict.fromkeys(video for video, _ in frames))}
    key_frames = []
    for video, timestamp in sorted(frames, key=lambda key: (order[key[0]], key[1])):
        seconds = timestamp - video_start
        if seconds < 0:
            raise AnnotationError(
                f"{path}: a key frame of {video} is at second {timestamp}, before video_start={video_start:g}; "
                "expected files that start earlier"
            )
        start, end = max(0.0, seconds - window_seconds / 2), seconds + window_seconds / 2
        item = index.item(f"{video}_{timestamp:04d}", video, start=start, end=end)
        key_frames.append(_with_boxes(item, seconds, frames[video, timestamp], detections is not None))
    return ActionDetectionSet("ava", tuple(key_frames), names)


def _with_boxes(item: MediaItem, seconds: float, boxes: _Boxes, has_detections: bool) -> ActionKeyFrame:
    people = [(box, tuple(sorted(ids))) for (box, _), ids in boxes.actions.items() if ids]
    return ActionKeyFrame(
        item,
        seconds,
        boxes=_as_array(box for box, _ in people),
        actions=tuple(ids for _, ids in people),
        detected_boxes=_as_array(boxes.scores) if has_detections else None,
        detection_scores=np.array(list(boxes.scores.values()), np.float32) if has_detections else None,
    )


def _annotated_frames(path: str, names: dict[int, str]) -> dict[_KEY_FRAME, _Boxes]:
    frames: dict[_KEY_FRAME, _Boxes] = {}
    highest = max(_NUM_ACTIONS, *names)
    for row in read_headless_table(path, _ANNOTATED):
        boxes = frames.setdefault(_key_frame(row), _Boxes())
        action = row.integer("action_id", f"an action from 1 to {highest}")
        if not 1 <= action <= highest:
            raise row.fault("action_id", f"an action from 1 to {highest}")
        ids = boxes.actions.setdefault((_box(row), row.values.get("person_id", "")), set())
        if action in names:
            ids.add(action)
    return frames


def _add_detections(frames: dict[_KEY_FRAME, _Boxes], path: Path, min_score: float) -> None:
    videos = {video for video, _ in frames}
    found = set()
    for row in read_headless_table(path, _DETECTED):
        score = row.number("score")
        if not 0 <= score <= 1:
            raise row.fault("score", "a number from 0 to 1")
        key, box = _key_frame(row), _box(row)
        found.add(key[0])
        if key[0] in videos and score >= min_score:
            # A box is there once for each action of the person whom it meets.
            scores = frames.setdefault(key, _Boxes()).scores
            scores[box] = max(score, scores.get(box, 0.0))
    if not found & videos:
        raise AnnotationError(
            f"{path} has boxes of {len(found)} videos such as {min(found)}, and none of them is annotated; expected "
            f"boxes of videos such as {min(videos)}"
        )


def _excluded_frames(path: Path) -> list[_KEY_FRAME]:
    if os.path.isfile(path) and not os.path.getsize(path):
        return []
    return [_key_frame(row) for row in read_headless_table(path, [("video_id", "timestamp")])]


def _key_frame(row: TableRow) -> _KEY_FRAME:
    timestamp = row.integer("timestamp", "a second of the movie")
    if timestamp < 0:
        raise row.fault("timestamp", "a second of the movie")
    return row.text("video_id"), timestamp


def _box(row: TableRow) -> tuple[float, ...]:
    box = tuple(row.number(side, "a share of the width or height, from 0 to 1") for side in _BOX)
    for side, value in zip(_BOX, box, strict=True):
        if not 0 <= value <= 1:
            raise row.fault(side, "a share of the width or height, from 0 to 1")
    if box[0] > box[2] or box[1] > box[3]:
        side = "x2" if box[0] > box[2] else "y2"
        raise row.fault(side, f"no less than {side[0]}1, which is {row.values[f'{side[0]}1']}")
    return box


def _as_array(boxes: Iterable[tuple[float, ...]]) -> np.ndarray:
    return np.array(list(boxes), np.float32).reshape(-1, 4)


def _annotation_file(folder: Path, split: str) -> str:
    path = os.path.join(folder, f"ava_{split}_v2.2.csv")
    if os.path.isdir(folder) and not os.path.isfile(path):
        names = sorted(os.listdir(folder))
        there = [name[4:-9] for name in names if name.startswith("ava_") and name.endswith("_v2.2.csv")]
        splits = [split for split in there if not split.endswith("_excluded_timestamps")]
        raise AnnotationError(
            f"there is no ava_{split}_v2.2.csv in {folder}; expected one of {', '.join(splits) or 'none'}"
        )
    return path


def _check_numbers(min_detection_score: float, window_seconds: float, video_start: float) -> None:
    if not 0 <= min_detection_score <= 1:
        raise ValueError(f"min_detection_score={min_detection_score}; expected a number from 0 to 1")
    if not 0 < window_seconds < float("inf"):
        raise ValueError(f"window_seconds={window_seconds}; expected a number above 0")
    if not 0 <= video_start < float("inf"):
        raise ValueError(f"video_start={video_start}; expected a number from 0 on")
