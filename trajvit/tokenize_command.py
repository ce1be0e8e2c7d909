"""`trajvit tokenize`: videos become trajectories files."""

import os
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trajvit.command_conventions import (
    FAILED,
    BackendOption,
    BackendOptionsOption,
    JsonOption,
    MaxTrajectoriesOption,
    MediaOption,
    ShortSideOption,
    described,
    pairs,
    print_json,
    print_table,
    progress_bar,
    tell,
    tell_failures,
    written_whole,
)
from trajvit.command_inputs import MediaInput, find_media

if TYPE_CHECKING:
    from trajvit.processing.clip_generation import ClipGenerator

SUFFIX = ".traj.png"


def tokenize(
    inputs: Annotated[
        list[str], typer.Argument(help="Videos, images, folders, glob patterns or URLs.", show_default=False)
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Folder. Default: beside each video."),
    ] = None,
    backend: BackendOption = "classic",
    backend_option: BackendOptionsOption = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames sampled from each video.")] = 16,
    max_trajectories: MaxTrajectoriesOption = 128,
    short_side: ShortSideOption = 256,
    stored_short_side: Annotated[
        int, typer.Option(min=1, help="Pixels of the stored trajectories' short side; no more than --short-side.")
    ] = 64,
    media: MediaOption = "any",
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave videos alone that have a trajectories file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the trajectories of videos and write each to NAME.traj.png.

    For whole data sets, with many processes and in shards, there is `trajvit generate`.
    """
    found, failures = find_media(inputs, media)
    planned = _planned(found, output, failures)
    skipped = [path for _, path in planned if skip_existing and path.is_file()]
    planned = [(each, path) for each, path in planned if path not in skipped]
    written = []
    if planned:
        options = pairs(backend_option, "--backend-option")
        generator = _generator(backend, options, frames, max_trajectories, short_side, stored_short_side)
        with progress_bar("tokenize") as report:
            for done, (each, path) in enumerate(planned):
                report(done, len(planned))
                one = _tokenized(generator, each, path, failures)
                if one is not None:
                    written.append(one)
    if as_json:
        told = [{"input": name, "error": reason} for name, reason in failures.items()]
        print_json({"outputs": written, "skipped": [str(path) for path in skipped], "failures": told})
    else:
        headings = ("output", "trajectories", "frames", "bytes", "seconds")
        if written:
            print_table(headings, [[one[name] for name in headings] for one in written], left=("output",))
        if skipped:
            tell(f"{len(skipped)} had a trajectories file already")
    tell_failures(failures)
    if failures:
        raise typer.Exit(FAILED)


def _planned(found: list[MediaInput], output: Path | None, failures: dict[str, str]) -> list[tuple[MediaInput, Path]]:
    """Which file each input gives; of several that would give one, the first alone."""
    planned: dict[Path, MediaInput] = {}
    for each in found:
        path = each.output(output, SUFFIX)
        first = planned.setdefault(path, each)
        if first is not each:
            failures[each.source] = f"would be written to {path}, as {first.source}; expected names that differ"
    return [(each, path) for path, each in planned.items()]


def _generator(
    backend: str, options: dict[str, Any], frames: int, max_trajectories: int, short_side: int, stored_short_side: int
) -> "ClipGenerator":
    from trajvit.processing.clip_generation import ClipGenerator
    from trajvit.processing.generation_settings import GenerationSettings
    from trajvit.processing.generator import TrajectoryGenerator

    settings = TrajectoryGenerator(backend, max_trajectories, short_side, **options).to_dict()
    generator = ClipGenerator(GenerationSettings(settings, num_frames=frames, stored_short_side=stored_short_side))
    generator.load()
    return generator


def _tokenized(
    generator: "ClipGenerator", media: MediaInput, path: Path, failures: dict[str, str]
) -> dict[str, Any] | None:
    from trajvit.processing.clip_generation import ClipError

    started = perf_counter()
    try:
        clip = generator(media.source, None)
        with written_whole(path) as part:
            part.write_bytes(clip.trajectories)
    except (ClipError, OSError) as error:
        failures[media.source] = described(error).removeprefix("decode: its media cannot be decoded: ")
        return None
    if clip.warning:
        tell(f"warning: {clip.warning}")
    num_frames, height, width = clip.value.shape
    return {
        "input": media.source,
        "output": os.fspath(path),
        "trajectories": clip.value.num_trajectories,
        "frames": num_frames,
        "height": height,
        "width": width,
        "key_frames": list(clip.value.key_frames),
        "coverage": round(clip.value.coverage, 4),
        "bytes": len(clip.trajectories),
        "warning": clip.warning,
        "seconds": round(perf_counter() - started, 2),
    }
