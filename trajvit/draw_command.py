"""`trajvit draw`: the trajectories of a video, for the eye."""

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trajvit.command_conventions import (
    BackendOption,
    BackendOptionsOption,
    JsonOption,
    MaxTrajectoriesOption,
    ShortSideOption,
    pairs,
    print_json,
    print_line,
    progress_bar,
    written_whole,
)

if TYPE_CHECKING:
    import numpy as np

    from trajvit.processing.trajectories import Trajectories
    from trajvit.processing.video_frames import VideoFrames

_MOVING = (".mp4", ".gif", ".webp")
_STILL = (".png", ".jpg", ".jpeg")


def draw(
    video: Annotated[str, typer.Argument(help="A video or image: a file or URL.", show_default=False)],
    output: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            help="File to write: mp4, gif or webp shows frame after frame, png or jpg all on a sheet. May be repeated. "
            "Default: NAME.trajectories.mp4 here.",
        ),
    ] = None,
    timeline: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Picture of when each trajectory lives: png, pdf or svg."),
    ] = None,
    trajectories: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A trajectories file of this video, instead of finding them anew."),
    ] = None,
    backend: BackendOption = "classic",
    backend_option: BackendOptionsOption = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames sampled from the video.")] = 16,
    max_trajectories: MaxTrajectoriesOption = 128,
    short_side: ShortSideOption = 256,
    drawn_short_side: Annotated[int, typer.Option(min=16, help="Pixels of the drawn frames' short side.")] = 480,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Opacity of the colours.")] = 0.55,
    ids: Annotated[bool, typer.Option("--ids", help="Write each trajectory's number where it fits.")] = False,
    boundaries: Annotated[bool, typer.Option(help="Draw lines between trajectories.")] = True,
    fps: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0.1, max=60, help="Frames per second. Default: the video's pace, but 3 to 10."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the trajectories of a video over its frames."""
    outputs = _checked_outputs(output, timeline, video)
    with progress_bar("draw") as report:
        if trajectories is not None:
            shown, found = _given(video, trajectories, drawn_short_side)
        else:
            options = pairs(backend_option, "--backend-option")
            shown, found = _generated(
                video, backend, options, frames, max_trajectories, short_side, drawn_short_side, report
            )
        moving = [path for path in outputs if path.suffix.lower() in _MOVING]
        _check_fit(moving, shown.sampled[0])
        overlay = _overlay(shown.sampled, found, alpha, ids, boundaries) if moving else None
        sheet = _sheet(shown.sampled, found) if len(moving) < len(outputs) else None
        if sheet is not None:
            _check_fit([path for path in outputs if path not in moving], sheet)
        pace = _pace(shown) if fps is None else fps
        for path in outputs:
            with written_whole(path) as part:
                if overlay is not None and path in moving:
                    _write_moving(part, overlay, pace)
                elif sheet is not None:
                    _write_still(part, sheet)
        if timeline is not None:
            with written_whole(timeline) as part:
                _write_timeline(part, found)
    written = [os.fspath(path) for path in (*outputs, *filter(None, [timeline]))]
    if as_json:
        count, (num_frames, height, width) = found.num_trajectories, shown.sampled.shape[:3]
        size = {"frames": num_frames, "height": height, "width": width}
        print_json({"input": video, "outputs": written, "trajectories": count, **size})
    else:
        for name in written:
            print_line(name)


def _checked_outputs(output: list[Path] | None, timeline: Path | None, video: str) -> list[Path]:
    if timeline is not None and timeline.suffix.lower() not in (*_STILL, ".pdf", ".svg"):
        raise typer.BadParameter(f"{str(timeline)!r}; expected a .png, .pdf or .svg file", param_hint="--timeline")
    if not output:
        name = os.path.splitext(os.path.basename(video))[0] or "video"
        return [Path(f"{name}.trajectories.mp4")] if timeline is None else []
    for path in output:
        if path.suffix.lower() not in (*_MOVING, *_STILL):
            known = ", ".join((*_MOVING, *_STILL))
            raise typer.BadParameter(f"{str(path)!r}; expected a file that ends in {known}", param_hint="--output")
        if "://" not in video and path.exists() and os.path.exists(video) and path.samefile(video):
            raise typer.BadParameter(f"{str(path)!r} is the video itself; expected another file", param_hint="--output")
    return output


def _generated(
    video: str,
    backend: str,
    options: dict[str, Any],
    num_frames: int,
    max_trajectories: int,
    short_side: int,
    drawn_short_side: int,
    report: Any,
) -> tuple["VideoFrames", "Trajectories"]:
    from trajvit.processing.decoding import decode_video
    from trajvit.processing.generator import TrajectoryGenerator

    generator = TrajectoryGenerator(backend, max_trajectories, short_side, **options)
    frames = decode_video(
        video, num_frames, generator.frame_interval, max(drawn_short_side, generator.frame_short_side)
    )
    found = generator(
        frames.frames,
        frames.sample_indices,
        frame_indices=frames.frame_indices,
        timestamps=frames.timestamps,
        progress=lambda stage, done, total: report(done, total),
    )
    return frames, found


def _given(video: str, file: Path, short_side: int) -> tuple["VideoFrames", "Trajectories"]:
    """The very frames that a trajectories file is of, wherever in the video they lie."""
    import numpy as np

    from trajvit.processing.decoding import decode_video, iterate_video
    from trajvit.processing.trajectories import Trajectories
    from trajvit.processing.trajectory_inputs import check_fit
    from trajvit.processing.video_frames import VideoFrames

    found = Trajectories.load(file)
    frames = decode_video(video, found.num_frames, short_side=short_side)
    if not np.array_equal(frames.frame_indices, found.frame_indices):
        wanted, last = set(found.frame_indices.tolist()), int(found.frame_indices[-1])
        picked = {}
        with closing(iterate_video(video, short_side=short_side)) as every:
            for frame in every:
                if frame.number in wanted:
                    picked[frame.number] = frame
                if frame.number >= last:
                    break
        if missing := sorted(wanted - picked.keys()):
            raise ValueError(
                f"{file} is of frame {missing[0]}, which {video} does not have; expected those of this video"
            )
        in_order = [picked[number] for number in sorted(picked)]
        seconds = np.array([frame.seconds for frame in in_order])
        pixels = np.stack([frame.pixels for frame in in_order])
        frames = VideoFrames(pixels, np.arange(len(in_order)), found.frame_indices, seconds, frames.fps)
    check_fit(found, frames, str(file))
    return frames, found


def _overlay(
    frames: "np.ndarray", trajectories: "Trajectories", alpha: float, ids: bool, boundaries: bool
) -> "np.ndarray":
    from trajvit.processing.overlay import draw_overlay

    return draw_overlay(frames, trajectories, alpha, ids, boundaries)


def _sheet(frames: "np.ndarray", trajectories: "Trajectories") -> "np.ndarray":
    from trajvit.processing.contact_sheet import contact_sheet

    return contact_sheet(frames, trajectories)


def _check_fit(paths: list[Path], picture: "np.ndarray") -> None:
    from trajvit.processing.picture_limits import check_fits

    for path in paths:
        check_fits(path, *picture.shape[:2])


def _pace(video: "VideoFrames") -> float:
    # Near real time, but never so slow that motion falls apart.
    span = max(float(video.timestamps[-1] - video.timestamps[0]), 1e-3)
    return min(max((len(video.timestamps) - 1) / span, 3.0), 10.0)


def _write_moving(path: Path, frames: "np.ndarray", fps: float) -> None:
    if path.suffix.lower() == ".mp4":
        from trajvit.processing.video_writing import write_video

        write_video(path, frames, fps)
        return
    from PIL import Image

    first, *others = (Image.fromarray(frame) for frame in frames)
    settings: dict[str, Any] = {"quality": 85, "method": 4} if path.suffix.lower() == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=round(1000 / fps), loop=0, **settings)


def _write_still(path: Path, pixels: "np.ndarray") -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def _write_timeline(path: Path, trajectories: "Trajectories") -> None:
    from trajvit.processing.timeline import timeline

    timeline(trajectories, path)
