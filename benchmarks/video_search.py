"""What a search by text costs: with an index, by a plain matrix product, and by embedding the videos anew.

    python benchmarks/video_search.py [--videos 100000] [--checkpoint FOLDER]

The embeddings are random, as many as are asked for, in an index on disk like any other; the texts pass the checkpoint's
text tower. Videos are embedded anew from files, a few of them, and the time for one is told.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from trajvit.evaluation.feature_extraction import ITEMS_PER_CHUNK, text_embeddings
from trajvit.evaluation.feature_store import FeatureStore, hash_of
from trajvit.processing.synthetic_scenes import write_demo_clip
from trajvit.search_demo import CHECKPOINT
from trajvit.video_index import Segment
from trajvit.video_search import VIDEOS_PER_FILE, VideoSearch

TEXTS = ("a red star moves left", "a blue ring turns", "a green square grows", "two circles meet", "a dog runs")


def fill(index: VideoSearch, num_videos: int, width: int) -> None:
    """Put random normalised vectors into an index, in files as `VideoSearch.add` makes them."""
    generator = torch.Generator().manual_seed(0)
    segments = []
    for begin in range(0, num_videos, VIDEOS_PER_FILE):
        numbers = range(begin, min(begin + VIDEOS_PER_FILE, num_videos))
        hashes = tuple(hash_of(number) for number in numbers)
        rows = torch.nn.functional.normalize(torch.randn(len(numbers), width, generator=generator), dim=1)
        store = FeatureStore(index._index.folder, hashes, ITEMS_PER_CHUNK, {})
        store.write(0, {row: [vector[None]] for row, vector in enumerate(rows)}, {})
        segments.append(Segment(hashes, tuple(f"/videos/{number // 1000:04d}/{number:08d}.mp4" for number in numbers)))
    index._index.put(segments)


def seconds_of(work: Callable[[str], object], repeats: int) -> float:
    """Median time for one text, in seconds; the first round, which warms up, does not count."""
    for text in TEXTS:
        work(text)
    spent = []
    for _ in range(repeats):
        for text in TEXTS:
            started = time.perf_counter()
            work(text)
            spent.append(time.perf_counter() - started)
    return median(spent)


def main(
    videos: Annotated[int, typer.Option(min=1, help="Videos in the index.")] = 100_000,
    clips: Annotated[int, typer.Option(min=1, help="Video files that are embedded anew.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of five texts.")] = 5,
    checkpoint: Annotated[str, typer.Option(help="Folder or Hub id.")] = str(CHECKPOINT),
    device: Annotated[str, typer.Option(help="Of the model.")] = "cpu",
    output: Annotated[Path | None, typer.Option(help="JSON file for the numbers.")] = None,
) -> None:
    """Measure a search by text in three ways."""
    with tempfile.TemporaryDirectory() as folder:
        index = VideoSearch(checkpoint, Path(folder) / "cache", device=device)
        width = index.model.model.config.projection_dim
        fill(index, videos, width)
        started = time.perf_counter()
        opened = VideoSearch(index.model, Path(folder) / "cache")
        rows = opened._index.vectors
        opening = time.perf_counter() - started
        size = sum(path.stat().st_size for path in (Path(folder) / "cache").rglob("*") if path.is_file())

        (Path(folder) / "clips").mkdir()
        write_demo_clip(Path(folder) / "clips" / "0.mp4")
        for number in range(1, clips):
            (Path(folder) / "clips" / f"{number}.mp4").write_bytes((Path(folder) / "clips" / "0.mp4").read_bytes())
        anew = VideoSearch(index.model, Path(folder) / "anew")
        embedding = anew.add(Path(folder) / "clips").seconds / clips

        def product(text: str) -> object:
            return (text_embeddings(index.model, [text])[0] @ rows.T).topk(5)

        measured = {
            "videos": videos,
            "width": width,
            "threads": torch.get_num_threads(),
            "index_bytes": size,
            "open_s": opening,
            "text_s": seconds_of(lambda text: text_embeddings(index.model, [text]), repeats),
            "query_s": seconds_of(opened.query, repeats),
            "product_s": seconds_of(product, repeats),
            "embedding_s_per_video": embedding,
        }
    _show(measured)
    if output is not None:
        output.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def _show(measured: dict[str, float]) -> None:
    anew = measured["embedding_s_per_video"] * measured["videos"]
    table = Table(title=f"{measured['videos']:,} videos, width {measured['width']}", box=MARKDOWN)
    table.add_column("one search by text")
    table.add_column("time", justify="right")
    table.add_row("`VideoSearch.query`", f"{1000 * measured['query_s']:.1f} ms")
    table.add_row("of that the text", f"{1000 * measured['text_s']:.1f} ms")
    table.add_row("the text, a plain product and `topk`", f"{1000 * measured['product_s']:.1f} ms")
    each = measured["embedding_s_per_video"]
    table.add_row("embedding the videos anew", f"{each:.2f} s a video, {anew / 3600:,.0f} h for all")
    console = Console(width=120)
    console.print(table)
    console.print(f"Opening the index: {measured['open_s']:.2f} s; on disk {measured['index_bytes'] / 1e6:.0f} MB.")


if __name__ == "__main__":
    typer.run(main)
