"""Search in blocks, against the whole matrix: loops over it for ranks, integers and a stable sort for the best k."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trajvit.evaluation.exact_search import best_positive_ranks, top_k
from trajvit.training.validation import retrieval_metrics

BACKENDS = [
    "torch",
    pytest.param(
        "faiss", marks=pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="FAISS is not installed")
    ),
]


def unit_rows(count, width=24, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def ranks_by_loop(queries, candidates, group_of_query, group_of_candidate, tolerance=1e-6):
    ranks = []
    for query, group in zip(queries.astype(np.float64), group_of_query, strict=True):
        similarities = candidates.astype(np.float64) @ query
        best = max(value for value, own in zip(similarities, group_of_candidate, strict=True) if own == group)
        ahead = (
            value >= best - tolerance
            for value, own in zip(similarities, group_of_candidate, strict=True)
            if own != group
        )
        ranks.append(1 + sum(ahead))
    return ranks


def best_by_sorting(queries, candidates, k):
    """In integers, which add up exactly: values are multiples of 2 ** -26."""
    rows, others = (np.rint(values.astype(np.float64) * 2**26).astype(np.int64) for values in (queries, candidates))
    scores = ((rows @ others.T) / 2**52).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


@pytest.mark.parametrize("block", [1, 7, 16, 100])
def test_ranks_are_those_of_a_loop(block):
    queries, candidates = unit_rows(53, seed=1), unit_rows(31, seed=2)
    random = np.random.default_rng(3)
    # Groups of several, one of a third of the candidates, and one with none of the queries.
    groups = np.where(random.random(31) < 0.3, 100, random.integers(0, 9, 31))
    group_of_query = random.choice(groups[groups != groups[0]], 53)
    wanted = ranks_by_loop(queries, candidates, group_of_query, groups)
    assert len(set(wanted)) > 10
    ranks = best_positive_ranks(queries, candidates, group_of_query, groups, block=block)
    assert ranks.dtype == np.int64
    assert ranks.tolist() == wanted


def test_ranks_give_the_recalls_of_validation():
    videos = torch.from_numpy(unit_rows(20))
    texts = torch.from_numpy(unit_rows(60, seed=1)) + 2 * videos.repeat_interleave(3, 0)
    texts = torch.nn.functional.normalize(texts, dim=1)
    of_text = np.arange(60) // 3
    wanted = retrieval_metrics(videos, texts)
    for name, ranks in (
        ("txt2vid", best_positive_ranks(texts, videos, of_text, range(20), block=8)),
        ("vid2txt", best_positive_ranks(videos, texts, range(20), of_text, block=8)),
    ):
        assert [100 * (ranks <= k).mean() for k in (1, 5, 10)] == pytest.approx(
            [wanted[f"{name}_R@{k}"] for k in (1, 5, 10)]
        )
        assert np.median(ranks) == wanted[f"{name}_median_rank"]


@pytest.mark.parametrize("block", [5, 16, 64])
def test_a_model_that_gives_all_the_same_finds_nothing(block):
    rows = unit_rows(1, width=512).repeat(40, 0)
    assert best_positive_ranks(rows, rows, range(40), range(40), block=block).tolist() == [40] * 40
    groups = np.arange(40) // 4
    assert best_positive_ranks(rows, rows, groups, groups, block=block).tolist() == [37] * 40
    assert best_positive_ranks(rows, rows, [7] * 40, [7] * 40, block=block).tolist() == [1] * 40
    assert best_positive_ranks(rows[:1], rows[:1], [3], [3], block=block).tolist() == [1]


def test_a_tie_is_what_lies_within_the_tolerance():
    angles = np.array([0.0, 3e-4, 3e-3])
    candidates = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    query = np.array([[1, 0]], np.float32)
    # The cosines are 1, 1 - 4.5e-8 and 1 - 4.5e-6.
    for tolerance, rank in ((0, 1), (1e-6, 2), (1e-5, 3)):
        ranks = best_positive_ranks(query, candidates, [0], [0, 1, 2], tie_tolerance=tolerance)
        assert ranks.tolist() == [rank], tolerance
    assert best_positive_ranks(query, candidates, [2], [0, 1, 2], tie_tolerance=0).tolist() == [3]


def test_parts_add_up_to_the_whole():
    queries, candidates = unit_rows(50, width=300, seed=1), unit_rows(45, width=300, seed=2)
    candidates[20:30] = candidates[10:20]
    groups = np.arange(50) % 45
    options = {"tie_tolerance": 0, "block": 8}
    whole = best_positive_ranks(queries, candidates, groups, range(45), **options)
    parts = [
        best_positive_ranks(queries, candidates, groups, range(45), query_blocks=(process, 3), **options)
        for process in range(3)
    ]
    assert (sum(parts) == whole).all()
    assert [np.count_nonzero(part) for part in parts] == [8 + 8 + 2, 16, 16]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("block", [6, 64])
def test_the_best_are_those_of_a_stable_sort(backend, block):
    queries, candidates = unit_rows(40, seed=1), unit_rows(90, seed=2)
    # Some candidates several times, each near a query.
    candidates[50:70] = candidates[20:40] = queries[:20]
    candidates[71:79] = candidates[70]
    for k in (1, 5, 90):
        scores, found = top_k(queries, candidates, k, backend=backend, block=block)
        wanted, order = best_by_sorting(queries, candidates, k)
        assert (scores.dtype, found.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(found, order)
        np.testing.assert_array_equal(scores, wanted)
        plain = np.sort(queries.astype(np.float64) @ candidates.astype(np.float64).T, axis=1)[:, ::-1][:, :k]
        np.testing.assert_allclose(scores, plain, rtol=0, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rows", [unit_rows(1, width=384).repeat(60, 0), np.zeros((60, 8), np.float32)])
def test_of_equal_candidates_the_first_are_found(backend, rows):
    for block in (7, 64):
        scores, found = top_k(rows, rows, 9, backend=backend, block=block)
        assert (found == np.arange(9)).all()
        assert (scores == scores[0, 0]).all()
    scores, found = top_k(-rows[:1], rows[:1], 1, backend=backend)
    assert (found.tolist(), scores[0, 0]) == ([[0]], pytest.approx(-float(rows[0] @ rows[0])))


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_is_overruled_where_its_rounding_might_decide(backend):
    # More candidates than float32 chooses are the same but for the last bits.
    base, random = unit_rows(1, width=512)[0], np.random.default_rng(0)
    candidates = base + random.normal(scale=3e-8, size=(200, 512))
    candidates = (candidates / np.linalg.norm(candidates, axis=1, keepdims=True)).astype(np.float32)
    candidates *= 1 - random.random((200, 1), np.float32) / 1_000_000
    queries = base[None].repeat(4, 0)
    wanted, order = best_by_sorting(queries, candidates, 50)
    assert len(np.unique(wanted)) > 1
    assert not (np.argsort(-(queries @ candidates.T), axis=1, kind="stable")[:, :50] == order).all()
    scores, found = top_k(queries, candidates, 50, backend=backend)
    np.testing.assert_array_equal(found, order)
    np.testing.assert_array_equal(scores, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_embeddings_may_lie_in_files_and_have_16_bits(backend, tmp_path):
    rows = unit_rows(30).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    others = torch.from_numpy(unit_rows(20, seed=1))
    wanted = top_k(rows.astype(np.float32), others.numpy(), 4)
    found = top_k(mapped, others, 4, backend=backend, block=7)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])
    found = top_k(torch.from_numpy(rows), others.bfloat16(), 4, backend=backend)
    wanted = top_k(rows.astype(np.float32), others.bfloat16().float(), 4)
    np.testing.assert_array_equal(found[1], wanted[1])
    ranks = best_positive_ranks(mapped, others, np.arange(30) % 20, range(20), block=7)
    full = rows.astype(np.float32)
    assert ranks.tolist() == ranks_by_loop(full, others.numpy(), np.arange(30) % 20, range(20))


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor that an operation makes, and the products of two matrices."""

    def __init__(self):
        super().__init__()
        self.elements = self.products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.untyped_storage().nbytes() // result.element_size())
        self.products += function == torch.ops.aten.matmul.default and args[0].ndim == 2
        return result


@pytest.mark.parametrize("block", [16, 64])
def test_memory_is_that_of_a_block(block):
    queries, candidates = unit_rows(300), unit_rows(400, seed=1)
    with LargestTensor() as ranked:
        best_positive_ranks(queries, candidates, range(300), range(400), block=block)
    with LargestTensor() as searched:
        top_k(queries, candidates, 5, block=block)
    # The groups of all candidates are there at once.
    assert block * block <= ranked.elements <= max(block * block, 400)
    # The 5 best so far and 4 to spare beside a block's; or rows of 24 values.
    assert block * block <= searched.elements <= max(block * (block + 9), block * 24)
    across, down = -(-300 // block), -(-400 // block)
    assert searched.products == across * down
    # In order as they are here, the positives of a block of queries lie in one block of candidates.
    assert ranked.products == across * down + across


def test_a_training_scripts_precision_is_put_aside_and_back():
    before = torch.get_float32_matmul_precision()
    queries, candidates = unit_rows(40, width=64), unit_rows(40, width=64, seed=1)
    wanted = best_positive_ranks(queries, candidates, range(40), range(40))
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert (best_positive_ranks(queries, candidates, range(40), range(40)) == wanted).all()
            assert (top_k(queries, candidates, 3)[1] == best_by_sorting(queries, candidates, 3)[1]).all()
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def spoilt(value):
    rows = unit_rows(6)
    rows[4, 2] = value
    return rows


@pytest.mark.parametrize(
    ("queries", "candidates", "message"),
    [
        (spoilt(np.nan), unit_rows(6), "row 4 of queries has length nan; expected finite values and a length of 1"),
        (unit_rows(6), spoilt(np.inf), "row 4 of candidates has length inf"),
        (2 * unit_rows(6), unit_rows(6), "row 0 of queries has length 2"),
        (unit_rows(6), unit_rows(6, width=8), "queries have width 24 and candidates 8; expected the same"),
        (unit_rows(6)[0], unit_rows(6), r"queries are float32 of shape \(24,\); expected"),
        (unit_rows(6), unit_rows(6)[:0], r"candidates are float32 of shape \(0, 24\); expected"),
        (unit_rows(6).astype(np.float64), unit_rows(6), "queries are float64"),
        (unit_rows(6), torch.ones(6, 24, dtype=torch.int64), "candidates are torch.int64"),
    ],
)
def test_bad_rows_are_named(queries, candidates, message):
    with pytest.raises(ValueError, match=message):
        top_k(queries, candidates, 1, block=4)
    with pytest.raises(ValueError, match=message):
        best_positive_ranks(queries, candidates, range(6), range(6), block=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_of_query": [0, 1, 2, 9, 4, 5]}, "query 3 has no positive: no candidate is of its group, 9"),
        ({"group_of_query": [0, 1]}, r"group_of_query is int64 of shape \(2,\); expected integers \(6,\)"),
        ({"group_of_candidate": np.ones(6)}, r"group_of_candidate is float64 of shape \(6,\)"),
        ({"tie_tolerance": -1}, "tie_tolerance is -1; expected 0 or more"),
        ({"tie_tolerance": float("nan")}, "tie_tolerance is nan"),
        ({"query_blocks": (2, 2)}, r"query_blocks are \(2, 2\); expected"),
        ({"block": 0}, "block is 0; expected at least 1 row"),
    ],
)
def test_bad_settings_of_ranks_are_named(changes, message):
    settings = {"group_of_query": range(6), "group_of_candidate": range(6), **changes}
    with pytest.raises(ValueError, match=message):
        best_positive_ranks(unit_rows(6), unit_rows(6, seed=1), **settings)


def test_bad_settings_of_top_k_are_named(monkeypatch):
    rows = unit_rows(6)
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"k is {k}; expected 1 to 6"):
            top_k(rows, rows, k)
    with pytest.raises(ValueError, match="backend is 'annoy'; expected 'torch' or 'faiss'"):
        top_k(rows, rows, 1, backend="annoy")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        top_k(rows, rows, 1, backend="faiss")


@pytest.mark.gpu
def test_on_cuda_the_best_are_the_same_and_ranks_too():
    queries, candidates = unit_rows(500, width=256), unit_rows(700, width=256, seed=1)
    candidates[300:400] = candidates[:100]
    for block in (64, 1024):
        scores, found = top_k(queries, candidates, 10, block=block, device="cuda")
        wanted, order = best_by_sorting(queries, candidates, 10)
        np.testing.assert_array_equal(found, order)
        np.testing.assert_array_equal(scores, wanted)
        torch.set_float32_matmul_precision("high")
        ranks = best_positive_ranks(queries, candidates, range(500), range(700), block=block, device="cuda")
        torch.set_float32_matmul_precision("highest")
        assert np.abs(ranks - ranks_by_loop(queries, candidates, range(500), range(700))).max() == 0
