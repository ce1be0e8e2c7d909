"""The folder in which the documentation's examples run: the names that they use, with small things behind them."""

import csv
import json
import shutil
from pathlib import Path

import annotation_samples as samples
import cv2
from result_folders import store_zero_shot

from trajvit.processing.video_writing import write_video
from trajvit.search_demo import CHECKPOINT
from trajvit.training.synthetic import SyntheticSource

SHARD_SOURCE = {"image_size": 64}
FPS = 8


def make_folder(folder: Path) -> None:
    """Fill a folder: `video.mp4`, `clip.mp4`, `videos`, `images`, `model`, and annotations of the data sets."""
    source = SyntheticSource("docs", "test", "video", 4, 8, SHARD_SOURCE)
    clips = [source.read({"key": str(index), "index": index}) for index in range(4)]
    for name, clip in zip(("video.mp4", "clip.mp4"), clips, strict=False):
        write_video(folder / name, clip.frames, fps=FPS)
    (folder / "videos").mkdir()
    rows = []
    for index, clip in enumerate(clips[2:]):
        write_video(folder / "videos" / f"{index}.mp4", clip.frames, fps=FPS)
        (folder / "videos" / f"{index}.txt").write_text(clip.captions[0], encoding="utf-8")
        rows.append({"file": f"{index}.mp4", "description": clip.captions[0], "label": "left"})
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    shutil.copytree(CHECKPOINT, folder / "runs" / "tiny_synthetic" / "model")
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "image.jpg"), clips[0].frames[0])
    shutil.copytree(CHECKPOINT, folder / "model")
    store_zero_shot(folder / "results")
    _add_annotations(folder / "annotations", folder / "videos")


def _add_annotations(folder: Path, videos: Path) -> None:
    """The annotation files of the data sets, and for MSR-VTT a video for each text."""
    (folder / "ava").mkdir(parents=True)
    for name in ("msrvtt", "k400", "ava"):
        (videos.parent / "media" / name).mkdir(parents=True)
    files = {
        "MSRVTT_JSFUSION_test.csv": samples.MSRVTT_1K_A,
        "test_videodatainfo.json": json.dumps(samples.MSRVTT),
        "val.csv": samples.KINETICS,
        "ava/ava_val_v2.2.csv": samples.AVA_VAL,
        "ava/ava_val_excluded_timestamps_v2.2.csv": "other,0902\n",
        "ava/ava_action_list_v2.2_for_activitynet_2019.pbtxt": samples.AVA_ACTIONS,
        "ava/ava_detection_val_boxes_and_labels.csv": samples.AVA_DETECTED,
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for number, name in enumerate(("video9770.mp4", "video9771.mp4")):
        shutil.copy(videos / f"{number}.mp4", videos.parent / "media" / "msrvtt" / name)
