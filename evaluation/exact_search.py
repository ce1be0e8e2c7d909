"""Exact retrieval among embeddings, without the matrix of all similarities: memory grows with a block's size and the
number of queries, not with their product.

Shape letters: Q queries, N candidates, d width, q and n those of a block.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import torch

from .embedding_blocks import EmbeddingBlocks, Embeddings, device_of

BLOCK = 4096
# Values are rounded to so many steps of a unit. Their products then add up without rounding in float64, in whatever
# order: a similarity of normalised rows, or a part of its sum, is at most 1, which is 2 ** 52 steps of a product.
_GRID = 2.0**26
# So many more than wanted are chosen in float32, so that what its rounding swaps at the end is among them.
_SPARE = 4


def best_positive_ranks(
    queries: Embeddings,
    candidates: Embeddings,
    group_of_query: Sequence[int] | np.ndarray,
    group_of_candidate: Sequence[int] | np.ndarray,
    *,
    tie_tolerance: float = 1e-6,
    block: int = BLOCK,
    device: str | torch.device | None = None,
    query_blocks: tuple[int, int] = (0, 1),
) -> np.ndarray:
    """Rank of the best positive candidate of each query, from float32 similarities.

    A candidate is positive when its group is that of the query. The rank is 1 and how many candidates that are not
    positive are as similar as the best positive or more. Those that are less similar by no more than `tie_tolerance`
    count as well: equal vectors at different places of a matrix product may differ in the last bits, and a model
    that gives all the same embedding must find nothing.

    Args:
        queries: (Q, d) normalised, float16, bfloat16 or float32; a NumPy array may be mapped from a file.
        candidates: (N, d), likewise.
        group_of_query: (Q,) integers.
        group_of_candidate: (N,) integers.
        tie_tolerance: In units of similarity; 0 for none.
        block: Rows of queries and of candidates that are multiplied at once; `block` ** 2 similarities are held.
        device: Where they are multiplied; that of the queries unless given.
        query_blocks: (first, step): which blocks of queries are ranked, where several processes share the work; the
            ranks do not depend on it.

    Returns:
        (Q,) int64, 0 for queries of other blocks, so that processes' ranks add up to those of all.

    Raises:
        ValueError: A query has no positive; shapes do not match; rows are not finite or longer than 1.
    """
    first, step = query_blocks
    if not 0 <= first < step:
        raise ValueError(f"query_blocks are {query_blocks}; expected (first, step), first from 0 to step - 1")
    if not tie_tolerance >= 0:
        raise ValueError(f"tie_tolerance is {tie_tolerance}; expected 0 or more")
    place = device_of(queries, device)
    query_rows, candidate_rows = _matching_blocks(queries, candidates, block, place)
    own, others = _group_numbers(group_of_query, group_of_candidate, len(query_rows), len(candidate_rows))
    groups = torch.from_numpy(others).to(place)
    ranks = np.zeros(len(query_rows), np.int64)
    with _true_float32(place):
        for start in query_rows.starts(first, step):
            own_groups = own[start : start + block]
            with_positives = _blocks_with(own_groups, others, block)
            own_on_device = torch.from_numpy(own_groups).to(place)[:, None]
            rows = query_rows.at(start)
            found = _ranks_of_block(rows, own_on_device, candidate_rows, groups, with_positives, tie_tolerance)
            ranks[start : start + block] = found.cpu().numpy()
    return ranks


def top_k(
    queries: Embeddings,
    candidates: Embeddings,
    k: int,
    *,
    backend: Literal["torch", "faiss"] = "torch",
    block: int = BLOCK,
    device: str | torch.device | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar candidates of each query.

    Values are rounded to multiples of 2 ** -26, which changes a similarity by less than float32 can tell near 1, and
    then multiplied and added without any rounding. So equal vectors have equal similarities, and the result is the
    same for every block size, device and backend.

    Args:
        queries, candidates, block, device: As `best_positive_ranks` takes them.
        k: 1 to N.
        backend: What chooses candidates in float32: "torch", in blocks; or "faiss", a flat index on the CPU with all
            candidates in memory. The choice is checked against a bound on float32's rounding; where that does not
            decide, as among many equal candidates, all are multiplied again in float64.

    Returns:
        (Q, k) float32 similarities, falling, and (Q, k) int64 positions; the lower of equally similar ones first.

    Raises:
        ValueError: k is out of range; another backend; shapes do not match; rows are not finite or longer than 1.
        ImportError: FAISS is asked for and not installed.
    """
    if backend not in ("torch", "faiss"):
        raise ValueError(f"backend is {backend!r}; expected 'torch' or 'faiss'")
    place = torch.device("cpu") if backend == "faiss" else device_of(queries, device)
    query_rows, candidate_rows = _matching_blocks(queries, candidates, block, place)
    if not 1 <= k <= len(candidate_rows):
        raise ValueError(f"k is {k}; expected 1 to {len(candidate_rows)}, the number of candidates")
    index = _faiss_index(candidate_rows) if backend == "faiss" else None
    scores = np.empty((len(query_rows), k), np.float32)
    found = np.empty((len(query_rows), k), np.int64)
    with _true_float32(place):
        for start in query_rows.starts():
            keys = _best_keys(query_rows.at(start), candidate_rows, k, index)
            scores[start : start + block], found[start : start + block] = _scores_and_positions(keys)
    return scores, found


def _ranks_of_block(
    queries: torch.Tensor,
    own: torch.Tensor,
    candidates: EmbeddingBlocks,
    groups: torch.Tensor,
    with_positives: list[int],
    tie_tolerance: float,
) -> torch.Tensor:
    """Ranks (q,) int64 of queries (q, d) of groups `own` (q, 1), candidates being of `groups` (N,).

    Only the blocks `with_positives` have candidates of these queries' groups.
    """
    best = queries.new_full((len(queries), 1), -torch.inf)
    for start in with_positives:
        positive = own == groups[start : start + candidates.block]
        similarities = (queries @ candidates.at(start).T).masked_fill_(~positive, -torch.inf)
        best = torch.maximum(best, similarities.amax(1, keepdim=True))
    # The same products again, so that the best one is equal to itself.
    limit = best - tie_tolerance
    ranks = torch.ones(len(queries), dtype=torch.int64, device=queries.device)
    for start in candidates.starts():
        # Zeros and ones, in place of similarities.
        ahead = (queries @ candidates.at(start).T).ge_(limit)
        if start in with_positives:
            ahead.masked_fill_(own == groups[start : start + candidates.block], 0)
        ranks += ahead.sum(1).long()
    return ranks


def _best_keys(queries: torch.Tensor, candidates: EmbeddingBlocks, k: int, index: Any = None) -> torch.Tensor:
    """Keys (q, k) int64 of the best candidates, falling: chosen by float32 where its rounding allows, else of all."""
    asked = min(len(candidates), k + _SPARE)
    if index is None:
        rounded, chosen = _best_by_float32(queries, candidates, asked)
    else:
        rounded, chosen = (torch.from_numpy(found) for found in index.search(queries.numpy(), asked))
    rows = _on_grid(queries)
    best = torch.empty(len(rows), k, dtype=torch.int64, device=rows.device)
    # As many rows of candidates as a block has.
    at_once = max(1, candidates.block // asked)
    for start in range(0, len(rows), at_once):
        own = chosen[start : start + at_once]
        others = _on_grid(candidates.picked(own.flatten().cpu().numpy())).unflatten(0, own.shape)
        exact = _similarities((others @ rows[start : start + at_once, :, None]).squeeze(2))
        best[start : start + at_once] = _keys(exact, own).topk(k, dim=1).values
    if asked < len(candidates):
        # Of sums of d products in float32, in any order, and of rounding to the grid and back.
        error = (1.5 * candidates.width + 8) * 2.0**-24
        undecided = torch.nonzero(_scores(best[:, -1]) <= rounded[:, -1] + error).squeeze(1)
        if len(undecided):
            best[undecided] = _best_keys_of_all(rows[undecided], candidates, k)
    return best


def _best_by_float32(
    queries: torch.Tensor, candidates: EmbeddingBlocks, asked: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The most similar candidates as far as float32 tells: similarities (q, asked), falling, and positions."""
    scores = queries.new_empty(len(queries), 0)
    positions = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in candidates.starts():
        products = queries @ candidates.at(start).T
        values, places = products.topk(min(asked, products.shape[1]), dim=1)
        scores, positions = torch.cat([scores, values], 1), torch.cat([positions, start + places], 1)
        scores, order = scores.topk(min(asked, scores.shape[1]), dim=1)
        positions = positions.gather(1, order)
    return scores, positions


def _best_keys_of_all(rows: torch.Tensor, candidates: EmbeddingBlocks, k: int) -> torch.Tensor:
    """Keys (q, k) int64 of the best candidates, falling, for float64 rows on the grid."""
    best = torch.empty(len(rows), 0, dtype=torch.int64, device=rows.device)
    for start in candidates.starts():
        scores = _similarities(rows @ _on_grid(candidates.at(start)).T)
        best = torch.cat([best, _best_of_block(scores, start, k)], 1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return best


def _best_of_block(scores: torch.Tensor, start: int, k: int) -> torch.Tensor:
    """Keys (q, k) of the best of the candidates from `start` on, whose similarities are (q, n); all where k > n."""
    values, places = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    keys = _keys(values[:, :k], start + places[:, :k])
    if values.shape[1] > k:
        # Which of equal ones come first is left open by `topk`: where that matters all are ordered.
        tied = torch.nonzero(values[:, k - 1] == values[:, k]).squeeze(1)
        if len(tied):
            positions = torch.arange(start, start + scores.shape[1], device=scores.device)
            keys[tied] = _keys(scores[tied], positions).topk(k, dim=1).values
    return keys


def _faiss_index(candidates: EmbeddingBlocks) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("backend 'faiss' needs FAISS: pip install faiss-cpu") from error
    index = faiss.IndexFlatIP(candidates.width)
    for start in candidates.starts():
        index.add(candidates.at(start).numpy())
    return index


def _keys(scores: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Integers (q, n) that are ordered as float32 scores (q, n) are, and where these are equal by lower position."""
    # Minus zero equals zero but has other bits.
    bits = (scores + 0.0).view(torch.int32)
    # Without their sign bit the bits of negative numbers rise as the numbers fall.
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (0xFFFFFFFF - positions)


def _scores(keys: torch.Tensor) -> torch.Tensor:
    """The float32 scores in keys."""
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _scores_and_positions(keys: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What `_keys` was given, from what it returned."""
    return _scores(keys).cpu().numpy(), (0xFFFFFFFF - (keys & 0xFFFFFFFF)).cpu().numpy()


def _on_grid(rows: torch.Tensor) -> torch.Tensor:
    """Rows in steps of the grid, whole numbers in float64."""
    return rows.double().mul_(_GRID).round_()


def _similarities(products: torch.Tensor) -> torch.Tensor:
    """Float32 from products of rows on the grid."""
    return products.mul_(_GRID**-2).float()


def _matching_blocks(
    queries: Embeddings, candidates: Embeddings, block: int, device: torch.device
) -> tuple[EmbeddingBlocks, EmbeddingBlocks]:
    query_rows = EmbeddingBlocks(queries, "queries", block, device)
    candidate_rows = EmbeddingBlocks(candidates, "candidates", block, device)
    if query_rows.width != candidate_rows.width:
        raise ValueError(
            f"queries have width {query_rows.width} and candidates {candidate_rows.width}; expected the same"
        )
    return query_rows, candidate_rows


def _group_numbers(
    group_of_query: Sequence[int] | np.ndarray,
    group_of_candidate: Sequence[int] | np.ndarray,
    num_queries: int,
    num_candidates: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The groups of queries (Q,) and of candidates (N,) numbered 0, 1, ... int64; each query has a positive."""
    groups = []
    for name, values, count in (
        ("group_of_query", group_of_query, num_queries),
        ("group_of_candidate", group_of_candidate, num_candidates),
    ):
        groups.append(np.asarray(values))
        if groups[-1].shape != (count,) or groups[-1].dtype.kind not in "iu":
            raise ValueError(f"{name} is {groups[-1].dtype} of shape {groups[-1].shape}; expected integers ({count},)")
    numbers = np.unique(np.concatenate(groups), return_inverse=True)[1].astype(np.int64)
    own, others = numbers[:num_queries], numbers[num_queries:]
    alone = np.bincount(others, minlength=len(numbers))[own] == 0
    if alone.any():
        query = int(alone.argmax())
        raise ValueError(f"query {query} has no positive: no candidate is of its group, {groups[0][query]}")
    return own, others


def _blocks_with(groups: np.ndarray, group_of_candidate: np.ndarray, block: int) -> list[int]:
    """First rows of the blocks of candidates that have one of any of these groups."""
    wanted = np.zeros(max(groups.max(), group_of_candidate.max()) + 1, bool)
    wanted[groups] = True
    return (np.unique(np.flatnonzero(wanted[group_of_candidate]) // block) * block).tolist()


@contextmanager
def _true_float32(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32: not in TF32 or bfloat16, whatever a training script has set."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(_no_autocast(device))
        backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn]
        if all(hasattr(backend, "fp32_precision") for backend in backends):
            backends[1] = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
            before = [backend.fp32_precision for backend in backends]
            try:
                for backend in backends:
                    backend.fp32_precision = "ieee"
                yield
            finally:
                for backend, precision in zip(backends, before, strict=True):
                    backend.fp32_precision = precision
        else:
            # Before PyTorch 2.9.
            setting = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(setting)


def _no_autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)
