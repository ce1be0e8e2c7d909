"""Which sources of videos are in a batch, however they are nested."""

import os
from typing import Any

from .frame_arrays import is_frame_array, is_single_frame
from .video_frames import VideoDecodingError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
"""Endings of paths that, in a list, are taken for the frames of one video rather than for videos."""


def batch_of_videos(videos: Any) -> list[Any]:
    """The videos of a batch as a flat list, each a source that `decode_video` takes.

    A list whose items are all single images (PIL images, arrays or tensors of their shape, or paths with an image's
    ending) is the frames of one video (one path alone is all frames of its file); any other list is a batch of its
    items, and nested batches are joined. An array or tensor of five axes is a batch; anything else is one video. A
    batch can be given again and is the same.

    Raises:
        VideoDecodingError: If there is no video, or if single images and videos are mixed in one list.
    """
    batch = _flatten(videos)
    if not batch:
        raise VideoDecodingError("videos is an empty list; expected at least one video")
    return batch


def batch_of_images(images: Any) -> list[Any]:
    """The images of a batch as a flat list, however deeply their lists are nested.

    An array or tensor of four axes is a batch of images.

    Raises:
        VideoDecodingError: If there is no image.
    """
    if is_frame_array(images) and images.ndim == 4:
        images = list(images)
    if not isinstance(images, (list, tuple)):
        return [images]
    batch = [image for item in images for image in batch_of_images(item)]
    if not batch:
        raise VideoDecodingError("images is an empty list; expected at least one image")
    return batch


def _flatten(videos: Any) -> list[Any]:
    if is_frame_array(videos) and videos.ndim == 5:
        return list(videos)
    if not isinstance(videos, (list, tuple)):
        return [[videos]] if _is_one_image(videos) else [videos]
    is_image = [_is_one_image(item) for item in videos]
    if videos and all(is_image):
        return [list(videos)]
    if any(is_image):
        raise VideoDecodingError(
            f"item {is_image.index(True)} of the list of videos is a single image and item {is_image.index(False)} is "
            "not; expected either the frames of one video, or videos (an image among them as a list of one)"
        )
    return [video for item in videos for video in _flatten(item)]


def _is_one_image(item: Any) -> bool:
    if isinstance(item, (str, os.PathLike)):
        path = os.fspath(item)
        return "://" not in path and os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES
    return is_single_frame(item)
