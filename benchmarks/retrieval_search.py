"""Time and memory of exact search among embeddings: the whole matrix of similarities, blocks of it, and FAISS.

    python benchmarks/retrieval_search.py [--queries 20000 --candidates 20000 --width 256] [--device cuda]

One way after another on the same random embeddings, on a CPU each in a process of its own, so that its peak memory is
its own. `ranks` are those of one positive among all candidates, `top k` the k best. The whole matrix is left out where
it has more than `--largest-matrix` values, and FAISS, which is on the CPU, with another device.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from trajvit.evaluation.exact_search import BLOCK, best_positive_ranks, top_k

Way = Callable[[torch.Tensor, torch.Tensor, int, int], np.ndarray]


def ranks_by_matrix(queries: torch.Tensor, candidates: torch.Tensor, k: int, block: int) -> np.ndarray:
    similarities = queries.float() @ candidates.float().T
    own = similarities.diagonal()[:, None]
    # Of a diagonal that is not counted, and so no copy of the matrix.
    return (similarities >= own - 1e-6).sum(1).cpu().numpy()


def ranks_by_blocks(queries: torch.Tensor, candidates: torch.Tensor, k: int, block: int) -> np.ndarray:
    return best_positive_ranks(queries, candidates, np.arange(len(queries)), np.arange(len(candidates)), block=block)


def top_k_by_matrix(queries: torch.Tensor, candidates: torch.Tensor, k: int, block: int) -> np.ndarray:
    return (queries.float() @ candidates.float().T).topk(k, dim=1).indices.cpu().numpy()


def top_k_by_blocks(queries: torch.Tensor, candidates: torch.Tensor, k: int, block: int) -> np.ndarray:
    return top_k(queries, candidates, k, block=block)[1]


def top_k_by_faiss(queries: torch.Tensor, candidates: torch.Tensor, k: int, block: int) -> np.ndarray:
    import faiss

    index = faiss.IndexFlatIP(candidates.shape[1])
    index.add(candidates.float().numpy())
    return index.search(queries.float().numpy(), k)[1]


def top_k_by_checked_faiss(queries: torch.Tensor, candidates: torch.Tensor, k: int, block: int) -> np.ndarray:
    return top_k(queries, candidates, k, backend="faiss", block=block)[1]


WAYS: dict[str, Way] = {
    "ranks, whole matrix": ranks_by_matrix,
    "ranks, blocks": ranks_by_blocks,
    "top k, whole matrix": top_k_by_matrix,
    "top k, blocks": top_k_by_blocks,
    "top k, FAISS": top_k_by_faiss,
    "top k, FAISS and checked": top_k_by_checked_faiss,
}


def embeddings(num_queries: int, num_candidates: int, width: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised float16 rows, the same for every way; the first candidates are near the queries of their number."""
    generator = torch.Generator(device=device).manual_seed(0)
    candidates = torch.randn(num_candidates, width, generator=generator, device=device)
    noise = torch.randn(num_queries, width, generator=generator, device=device)
    queries = candidates[:num_queries] + 4 * noise
    return torch.nn.functional.normalize(queries, dim=1).half(), torch.nn.functional.normalize(candidates, dim=1).half()


def measure(way: str, sizes: tuple[int, int, int], k: int, block: int, device: str) -> tuple[float, float, np.ndarray]:
    """Seconds of one search, GiB that it takes beside the embeddings, and what it finds."""
    queries, candidates = embeddings(*sizes, device)
    # Libraries start at their first product.
    WAYS[way](queries[:64], candidates[:64], min(k, 64), block)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    before = peak_bytes(device)
    began = time.perf_counter()
    found = WAYS[way](queries, candidates, k, block)
    seconds = time.perf_counter() - began
    return seconds, (peak_bytes(device) - before) / 2**30, found


def peak_bytes(device: str) -> int:
    """Of tensors on the device, or of this process."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(
    queries: Annotated[int, typer.Option(min=64)] = 20_000,
    candidates: Annotated[int, typer.Option(help="At least as many as queries.")] = 20_000,
    width: Annotated[int, typer.Option(min=2)] = 256,
    k: Annotated[int, typer.Option(min=1)] = 10,
    block: Annotated[int, typer.Option(min=1, help="Rows multiplied at once.")] = BLOCK,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    largest_matrix: Annotated[float, typer.Option(help="Values of a whole matrix that is still tried.")] = 2e9,
) -> None:
    """Print a row for each way."""
    if candidates < queries:
        raise typer.BadParameter(f"{candidates} candidates for {queries} queries; expected at least as many")
    table = Table(box=MARKDOWN)
    for heading in ("", "seconds", "of the first", "peak memory, GiB", "rows found as by the first"):
        table.add_column(heading, justify="right" if heading else "left")
    first: dict[str, tuple[float, np.ndarray]] = {}
    for way in WAYS:
        if ("matrix" in way and queries * candidates > largest_matrix) or ("FAISS" in way and device != "cpu"):
            continue
        settings = (way, (queries, candidates, width), k, block, device)
        if device == "cpu":
            # Forked, since importing all this again takes longer than a search.
            with multiprocessing.get_context("fork").Pool(1) as pool:
                seconds, gib, found = pool.apply(measure, settings)
        else:
            seconds, gib, found = measure(*settings)
        found = np.sort(found.reshape(queries, -1), axis=1)
        seconds_of_first, expected = first.setdefault(way.split(",")[0], (seconds, found))
        same = (found == expected).all(1).mean()
        table.add_row(way, f"{seconds:.2f}", f"{seconds / seconds_of_first:.2f}", f"{gib:.2f}", f"{same:.2%}")
    console = Console(width=120)
    console.print(f"{queries:,} queries, {candidates:,} candidates of width {width}, blocks of {block}, {device}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
