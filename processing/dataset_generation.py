"""Trajectories for whole data sets: from a folder, archives, tables or a Hub id to the same with trajectories."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any

from .generation_folder import FOLDER, GenerationFolder
from .generation_plan import InputShard, find_input
from .generation_progress import GenerationProgress, OnProgress
from .generation_run import GenerationRun, GenerationSummary
from .generation_settings import DEFAULT_SHARD_SIZE, DEFAULT_STORED_SHORT_SIDE, GenerationSettings, StoredFrames
from .generation_worker import worker_start
from .generator import TrajectoryGenerator
from .media_folders import MediaShard
from .output_shards import OutputError
from .worker_pools import GenerationFailed, PoolEvent, WorkerPool

__all__ = ["GenerationFailed", "GenerationProgress", "GenerationSummary", "StoredFrames", "generate_trajectories"]


def generate_trajectories(
    input: str | os.PathLike | Sequence[str],
    output: str | os.PathLike,
    *,
    generator: TrajectoryGenerator | None = None,
    num_frames: int = 16,
    stored_short_side: int = DEFAULT_STORED_SHORT_SIDE,
    frames: StoredFrames | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    pack: bool = False,
    media: str = "any",
    columns: Mapping[str, str] | None = None,
    split: str = "train",
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    gpus_per_worker: float = 0.0,
    retry_failures: bool = False,
    verify: bool = False,
    on_progress: OnProgress | None = None,
) -> GenerationSummary:
    """Store trajectories with the videos or images of a data set (docs/generation.md).

    What is finished stays finished: a second call goes on where the first ended, however that was.

    Args:
        input: A folder, a file, a glob pattern, a list of these, a URL, or a Hub id; see docs/data.md.
        output: A folder. Archives become archives, tables Parquet files; beside media files of a folder, which may be
            the output folder itself, their trajectories are written.
        generator: Default: `TrajectoryGenerator()`. Its backend must have been given by name.
        num_frames: Frames sampled from each video.
        stored_short_side: Pixels to which trajectories are scaled down before they are stored.
        frames: Store the sampled frames, encoded small, instead of the media.
        shard_size: Most clips of an output shard, where the input can be read from any place on.
        pack: Make tar shards of the media files of a folder.
        media: Read "video", "image" or "any".
        columns: Names of `media`, `key` and `trajectories` where they are not usual ones.
        split: Of a Hub data set, or of a folder that has a folder of this name.
        options: Keyword arguments of `datasets.load_dataset`.
        workers: Processes, each on one core; with Ray, actors. None for as many as there are cores, or GPUs for.
        ray_address: Of a Ray cluster, or "local"; None uses processes of this machine.
        gpus_per_worker: GPUs of each worker, or its share of one.
        retry_failures: Try clips again that failed in earlier runs, and keep all else that is finished; input shards
            that have changed since are made anew.
        verify: Read all finished shards first, and make those anew whose checksums differ.
        on_progress: Called about once a second, from another thread.

    Raises:
        TypeError, ValueError: An argument is out of its range, there is no such input, or the output was begun with
            other settings or from another input; the message names what differs.
        GenerationFailed: The run had to end: the output cannot be written, or workers cannot start.
        ImportError: Ray, or what the backend needs, is not installed.
    """
    generator = generator if generator is not None else TrajectoryGenerator()
    settings = GenerationSettings(
        generator=generator.to_dict(),
        num_frames=num_frames,
        stored_short_side=stored_short_side,
        frames=frames,
        shard_size=shard_size,
        pack=pack,
        media=media,
        columns=dict(columns or {}),
        split=split,
        options=dict(options or {}),
    )
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers must be an integer of at least 1, or None, got {workers!r}.")
    path = _absolute(os.fspath(input)) if isinstance(input, (str, os.PathLike)) else list(map(_absolute, input))
    folder = GenerationFolder(Path(os.path.abspath(output)))
    found = find_input(path, settings)
    _check_places(path, found, folder.output, settings)
    gather = partial(
        _workers, worker_start(settings, folder.output), folder.worker_log, workers, ray_address, gpus_per_worker
    )
    try:
        return GenerationRun(folder, settings, retry_failures, verify, on_progress).go(found, gather)
    except OSError as error:
        raise GenerationFailed(f"{folder.output} cannot be written: {error}") from error
    except OutputError as error:
        raise GenerationFailed(str(error)) from error


def _workers(
    start: Mapping[str, Any],
    log: Path,
    workers: int | None,
    ray_address: str | None,
    gpus_per_worker: float,
    on_event: PoolEvent,
) -> WorkerPool:
    if ray_address is not None:
        from .ray_pool import RayPool

        return RayPool(start, ray_address, workers, gpus_per_worker, on_event)
    from .process_pool import ProcessPool

    return ProcessPool(start, workers, gpus_per_worker, log, on_event)


def _absolute(path: str) -> str:
    """A local path as workers find it, wherever they run; a URL or a Hub id as it is."""
    is_local = "://" not in path and (os.path.exists(path) or has_magic(path))
    return os.path.abspath(path) if is_local else path


def _check_places(
    path: str | Sequence[str], found: Sequence[InputShard], output: Path, settings: GenerationSettings
) -> None:
    """Refuse an output that would be taken for input, or the other way round.

    Raises `ValueError`.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"output {output} is a file; expected a folder")
    folders = [folder for folder in ([path] if isinstance(path, str) else path) if os.path.isdir(folder)]
    for folder in folders:
        inside = os.path.commonpath([os.path.realpath(folder), os.path.realpath(output)]) == os.path.realpath(folder)
        if not inside:
            continue
        is_same = os.path.realpath(folder) == os.path.realpath(output)
        is_beside = all(isinstance(each.shard, MediaShard) for each in found) and not settings.pack
        if not is_same or not is_beside or settings.frames is not None:
            raise ValueError(
                f"output {output} lies in the input {folder}, where it would be taken for input. Expected another "
                f"folder; the input itself can only take the trajectories beside single media files that are kept, and "
                f"a folder {FOLDER}"
            )
