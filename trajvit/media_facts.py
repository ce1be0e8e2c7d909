"""What a video, an image or a trajectories file is, without decoding more than that takes."""

import os
from typing import Any


def media_facts(source: str) -> dict[str, Any]:
    """The facts of a file or URL, JSON values.

    Raises:
        VideoDecodingError: It is no video and no image.
    """
    from trajvit.processing.decoding import decode_video

    facts = _video_facts(source)
    if facts is None:
        # Not a container of video: an image, an animation, or an error that says what was expected.
        frames = decode_video(source, num_frames=None)
        count, height, width = frames.sampled.shape[:3]
        span = float(frames.timestamps[-1])
        kind = "image" if count == 1 else "animation"
        facts = {"kind": kind, "width": width, "height": height, "frames": count}
        if count > 1:
            facts |= {"fps": round(frames.fps, 3), "seconds": round(span + 1 / frames.fps, 3)}
    size = os.path.getsize(source) if "://" not in source else None
    return {"kind": facts.pop("kind"), "path": source, "bytes": size, **facts}


def _video_facts(source: str) -> dict[str, Any] | None:
    """Those of a container that FFmpeg opens and Pillow does not."""
    import av

    from trajvit.processing.image_file import is_image_file
    from trajvit.processing.video_file import open_video
    from trajvit.processing.video_frames import VideoDecodingError

    if "://" not in source and (not os.path.isfile(source) or is_image_file(lambda: source, source)):
        return None
    try:
        with open_video(lambda: source, source) as (container, stream):
            rate = stream.average_rate or stream.guessed_rate
            seconds: float | None
            if stream.duration is not None and stream.time_base is not None:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = container.duration / av.time_base if container.duration is not None else None
            frames = stream.frames or None
            if frames is None:
                frames = sum(1 for packet in container.demux(stream) if packet.size > 0)
            if not frames or not stream.codec_context.width:
                return None
            # PyAV 17 breaks off the process when asked for the name of a pixel format that is not known.
            pixels = stream.codec_context.format
            return {
                "kind": "video",
                "width": stream.codec_context.width,
                "height": stream.codec_context.height,
                "frames": frames,
                "fps": None if rate is None else round(float(rate), 3),
                "seconds": None if seconds is None else round(seconds, 3),
                "codec": stream.codec_context.name,
                "pixel_format": None if pixels is None else pixels.name,
                "container": container.format.name,
            }
    except (av.error.FFmpegError, VideoDecodingError):
        return None


def trajectories_facts(path: str) -> dict[str, Any]:
    """The facts of a trajectories file, JSON values.

    Raises:
        OSError, ValueError: As of `Trajectories.load`.
    """
    import numpy as np

    from trajvit.processing.trajectories import Trajectories

    value = Trajectories.load(path)
    lifetimes = value.lifetimes
    per_frame = value.presence.sum(0)
    return {
        "kind": "trajectories",
        "path": path,
        "bytes": os.path.getsize(path),
        "frames": value.num_frames,
        "height": value.height,
        "width": value.width,
        "trajectories": value.num_trajectories,
        "frame_indices": value.frame_indices.tolist(),
        "timestamps": [round(seconds, 6) for seconds in value.timestamps.tolist()],
        "key_frames": list(value.key_frames),
        "coverage": round(value.coverage, 4),
        "trajectories_per_frame": {
            "least": int(per_frame.min()),
            "mean": round(float(per_frame.mean()), 2),
            "most": int(per_frame.max()),
        },
        "lifetimes": {
            "median": float(np.median(lifetimes)) if len(lifetimes) else None,
            "mean": round(float(lifetimes.mean()), 2) if len(lifetimes) else None,
            "whole_video": int((lifetimes == value.num_frames).sum()),
            "one_frame": int((lifetimes == 1).sum()),
        },
    }


def is_trajectories_file(path: str) -> bool:
    """Whether a PNG says of itself that it holds trajectories; damaged ones do too."""
    try:
        if not os.path.isfile(path):
            # To open a pipe would wait for somebody to write to it.
            return False
        with open(path, "rb") as file:
            start = file.read(2**16)
    except OSError:
        return False
    return start.startswith(b"\x89PNG\r\n\x1a\n") and b"tEXttrajectories\0" in start
