"""`trajvit search`: the videos of a folder that show what a text says."""

import os
import re
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trajvit.command_conventions import (
    FAILED,
    SHIPPED_MODEL,
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    WorkersOption,
    checked_device,
    checkpoint_of,
    know_models,
    print_json,
    print_table,
    progress_bar,
    tell,
    tell_failures,
    without_preamble,
)

if TYPE_CHECKING:
    from trajvit.video_search import IndexReport, ObjectHit, VideoSearch


def search(
    folder: Annotated[Path, typer.Argument(help="Folder of videos, looked into at any depth.", show_default=False)],
    texts: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="What to look for; several texts are several searches.", show_default=False),
    ] = None,
    like: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="VIDEO", help="Look for videos like this one; may be repeated."),
    ] = None,
    model: ModelOption = SHIPPED_MODEL,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Most videos shown.")] = 5,
    objects: Annotated[
        int, typer.Option(min=0, help="For each text and each video shown, also this many trajectories that fit best.")
    ] = 0,
    cache: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of the index. Default: one for each folder of videos, in ~/.cache/trajvit."),
    ] = None,
    stored_trajectories: Annotated[
        bool, typer.Option("--stored-trajectories", help="Take trajectories from NAME.traj.png where there are some.")
    ] = False,
    retry_failures: Annotated[
        bool, typer.Option("--retry-failures", help="Read videos again that could not be used before.")
    ] = False,
    frames: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Frames sampled from each video. Default: as the model's processor says."),
    ] = None,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 8,
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Search a folder of videos by text, or by videos.

    The first search reads all videos; later ones only what is new or has changed.
    """
    queries = [*(("text", text) for text in texts or ()), *(("like", video) for video in like or ())]
    if not queries:
        raise typer.BadParameter("nothing to look for: expected a text, or --like VIDEO", param_hint="TEXTS")
    if any(not query.strip() for _, query in queries):
        raise typer.BadParameter("a text is empty; expected words", param_hint="TEXTS")
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; expected one with videos")
    know_models()
    from trajvit.video_search import VideoSearch

    index = VideoSearch(
        checkpoint_of(model),
        cache if cache is not None else _default_cache(folder),
        num_frames=frames,
        device=checked_device(device),
        batch_size=batch_size,
        num_workers=workers,
    )
    with progress_bar("read videos") as bar:
        report = index.add(
            folder, stored_trajectories=stored_trajectories, retry_failures=retry_failures, on_progress=bar
        )
    failures = {str(path): without_preamble(reason) for path, reason in report.failures.items()}
    if not len(index):
        tell_failures(failures)
        raise ValueError(f"{folder} has no video that can be used; expected some, in mp4, webm, mkv, mov, avi, ...")
    found: list[dict[str, Any]] = []
    for kind, query in queries:
        hits = index.query(query, top) if kind == "text" else index.query_by_video(query, top)
        found.append({kind: query, "hits": [{"path": str(hit.path), "score": round(hit.score, 4)} for hit in hits]})
    if objects:
        _find_objects(index, found, objects)
    if as_json:
        counts = {name: getattr(report, name) for name in ("new", "changed", "removed", "unchanged")}
        told = [{"input": name, "error": why} for name, why in failures.items()]
        print_json({"model": index.model.name, "videos": len(index), **counts, "queries": found, "failures": told})
    else:
        _show(index, report, found, folder)
        if model == SHIPPED_MODEL:
            tell("The shipped model knows moving shapes alone; --model takes one that knows real videos.")
    tell_failures(failures)
    if failures:
        raise typer.Exit(FAILED)


def _find_objects(index: "VideoSearch", found: list[dict[str, Any]], count: int) -> None:
    """Add the trajectories that fit best to the videos that texts have found."""
    wanted = [(query["text"], hit) for query in found if "text" in query for hit in query["hits"]]
    with progress_bar("read objects") as report:
        for done, (text, hit) in enumerate(wanted):
            report(done, len(wanted))
            hit["objects"] = [_object(each) for each in index.objects(text, hit["path"], count)]


def _object(hit: "ObjectHit") -> dict[str, Any]:
    arrays = (hit.frames, hit.frame_indices, hit.timestamps, hit.boxes)
    places = zip(*(array.tolist() for array in arrays), strict=True)
    return {
        "score": round(hit.score, 4),
        "trajectory": hit.trajectory,
        "boxes": [
            {
                "frame": frame,
                "frame_index": number,
                "timestamp": seconds,
                "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)),
            }
            for frame, number, seconds, box in places
        ],
    }


def _show(index: "VideoSearch", report: "IndexReport", found: list[dict[str, Any]], folder: Path) -> None:
    if report.new or report.changed or report.removed:
        count = f"{len(index):,} {'video' if len(index) == 1 else 'videos'}"
        changes = f"{report.new:,} new, {report.changed:,} changed, {report.removed:,} gone"
        tell(f"{count}: {changes}; {report.seconds:.1f} s")
    for query in found:
        kind, wanted = next(iter(query.items()))
        rows: list[tuple[object, ...]] = []
        for rank, hit in enumerate(query["hits"], start=1):
            rows.append((rank, f"{hit['score']:.3f}", _shown(hit["path"], folder), ""))
            rows += [("", f"{each['score']:.3f}", "", _place(each)) for each in hit.get("objects", ())]
        has_objects = any(row[3] for row in rows)
        headings = ("rank", "score", "video", "object")[: 3 + has_objects]
        title = wanted if kind == "text" else f"like {wanted}"
        print_table(headings, [row[: len(headings)] for row in rows], title, left=("video", "object"))


def _place(found: dict[str, Any]) -> str:
    first, last = found["boxes"][0], found["boxes"][-1]
    box = found["boxes"][len(found["boxes"]) // 2]["box"]
    x, y = (box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2
    return (
        f"#{found['trajectory']}  {first['timestamp']:.1f}-{last['timestamp']:.1f} s  at {x:.0%} across, {y:.0%} down"
    )


def _shown(path: str, folder: Path) -> str:
    """The path as it follows from the folder that was given."""
    return os.path.join(folder, os.path.relpath(path, os.path.abspath(folder)))


def _default_cache(folder: Path) -> Path:
    """One for each folder, which its name tells from others, for the people who look."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.abspath(folder)
    name = re.sub(r"[^\w.-]+", "-", os.path.basename(path)) or "root"
    return Path(home) / "trajvit" / "search" / f"{name}-{blake2b(os.fsencode(path), digest_size=6).hexdigest()}"
