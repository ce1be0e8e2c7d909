"""Shards as data sets have them: tar archives of small numbered videos and of images, with captions beside them."""

import io
import json
import tarfile
from functools import cache

import numpy as np
from numbered_videos import numbered, write_video
from PIL import Image

from trajvit.processing.trajectories import Trajectories

FRAMES = 12


@cache
def video_bytes(first=0, count=FRAMES) -> bytes:
    """A video whose frames show `first`, `first` + 1, ... (48 x 80 pixels)."""
    file = io.BytesIO()
    write_video(file, [numbered(first + i) for i in range(count)], file_format="mp4")
    return file.getvalue()


@cache
def image_bytes(number=0, file_format="PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(numbered(number)).save(file, file_format)
    return file.getvalue()


@cache
def trajectory_bytes(frame_indices=tuple(range(4)), height=24, width=40) -> bytes:
    """Two trajectories, left and right, of frames with these numbers."""
    ids = np.ones((len(frame_indices), height, width), dtype=np.int32)
    ids[:, :, width // 2 :] = 2
    return Trajectories(ids, frame_indices=frame_indices).to_bytes()


def sample(key, caption="a caption", number=0, **more):
    """The files of a sample as video2dataset writes them, as (name, content)."""
    metadata = json.dumps({"caption": caption, "key": key, "status": "success"}).encode()
    files = [(f"{key}.mp4", video_bytes(number)), (f"{key}.txt", caption.encode()), (f"{key}.json", metadata)]
    return files + [(f"{key}.{suffix}", content) for suffix, content in more.items()]


def write_tar(path, files, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def tar_bytes(files) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()
