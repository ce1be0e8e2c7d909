"""Bipartite matching and merging against loops over one video at a time, written from the paper's steps."""

import pytest
import torch

from trajvit.modeling_trajvit.token_merging import match_tokens, merge_tokens


def naive_matching(metric, num_merged):
    """Groups of the tokens of one video (n, d) without CLS, in the order in which the merged tokens stand."""
    set_b, set_a = range(0, len(metric), 2), range(1, len(metric), 2)
    edges = []
    for a in set_a:
        similarities = [float(metric[a] @ metric[b] / (metric[a].norm() * metric[b].norm())) for b in set_b]
        best = max(similarities)
        edges.append((-best, a, set_b[similarities.index(best)]))
    groups = {token: [token] for token in (*set_a, *set_b)}
    for _, a, b in sorted(edges)[:num_merged]:
        groups[b].append(a)
        del groups[a]
    return list(groups.values()) if num_merged else [[token] for token in range(len(metric))]


def naive_merge(tokens, sizes, groups):
    merged, merged_sizes = [], []
    for group in groups:
        merged_sizes.append(sum(float(sizes[token]) for token in group))
        merged.append(sum(tokens[token] * float(sizes[token]) for token in group) / merged_sizes[-1])
    return torch.stack(merged), torch.tensor(merged_sizes, dtype=torch.float64)


def make_batch(counts, dim=6, width=5, seed=0):
    """CLS and `counts` tokens a video: metric, tokens, sizes and mask of a padded batch."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(counts), 1 + max(counts))
    mask = torch.arange(shape[1]) <= torch.tensor(counts)[:, None]
    metric = torch.randn(*shape, dim, dtype=torch.float64, generator=generator)
    tokens = torch.randn(*shape, width, dtype=torch.float64, generator=generator)
    sizes = torch.randint(1, 9, shape, generator=generator).double()
    sizes[:, 0] = 1
    return metric, tokens, sizes * mask, mask


@pytest.mark.parametrize("num_merged", [(0, 0, 0, 0), (1, 1, 1, 1), (5, 3, 2, 0), (0, 4, 1, 1), (99, 99, 99, 99)])
@pytest.mark.parametrize("counts", [(12, 12, 12, 12), (13, 8, 5, 1), (3, 17, 2, 16)])
def test_merging_equals_a_loop_over_every_video(counts, num_merged):
    metric, tokens, sizes, mask = make_batch(counts)
    destination = match_tokens(metric, mask, torch.tensor(num_merged))
    length = 1 + max(counts)
    merged, merged_sizes = merge_tokens(tokens, sizes, destination, length)
    for video, (count, wanted) in enumerate(zip(counts, num_merged, strict=True)):
        own = slice(1, 1 + count)
        groups = naive_matching(metric[video, own], min(wanted, count // 2))
        expected, expected_sizes = naive_merge(tokens[video, own], sizes[video, own], groups)
        remaining = len(groups)
        assert remaining == count - min(wanted, count // 2)
        torch.testing.assert_close(merged[video, 1 : 1 + remaining], expected, rtol=0, atol=1e-12)
        assert torch.equal(merged_sizes[video, 1 : 1 + remaining], expected_sizes)
        for place, group in enumerate(groups):
            assert {int(destination[video, 1 + token]) for token in group} == {1 + place}
        assert torch.equal(merged[video, 0], tokens[video, 0])
        assert merged_sizes[video, 0] == 1
        assert not merged[video, 1 + remaining :].any()
        assert not merged_sizes[video, 1 + remaining :].any()
        assert not destination[video, 1 + count :].any()


def test_the_result_fits_the_shorter_sequence():
    metric, tokens, sizes, mask = make_batch((12, 9))
    destination = match_tokens(metric, mask, torch.tensor([4, 2]))
    whole = merge_tokens(tokens, sizes, destination, 13)
    short = merge_tokens(tokens, sizes, destination, 9)
    for longer, shorter in zip(whole, short, strict=True):
        assert torch.equal(longer[:, :9], shorter)


def test_equal_similarities_are_decided_by_position():
    metric = torch.ones(1, 9, 3)
    destination = match_tokens(metric, torch.ones(1, 9, dtype=torch.bool), torch.tensor([2]))
    # Tokens 1 3 5 7 are B, 2 4 6 8 are A: the edges of 2 and 4 merge, into 1; 6 and 8 come before B.
    assert destination.tolist() == [[0, 3, 3, 4, 3, 5, 1, 6, 2]]


def test_cls_and_padding_never_merge_however_similar():
    metric, tokens, sizes, mask = make_batch((6, 4))
    metric[:] = metric[:, :1]
    metric[1, 5:] = 1e3 * metric[1, :1]
    destination = match_tokens(metric, mask, torch.tensor([3, 3]))
    assert (destination[mask] == 0).sum() == 2
    merged, merged_sizes = merge_tokens(tokens, sizes, destination, 7)
    assert torch.equal(merged[:, 0], tokens[:, 0])
    assert (merged_sizes > 0).sum(1).tolist() == [4, 3]


def test_padding_does_not_change_a_video():
    metric, _, _, mask = make_batch((7, 20))
    alone = match_tokens(metric[:1, :8], mask[:1, :8], torch.tensor([3]))
    padded = match_tokens(metric, mask, torch.tensor([3, 5]))
    assert torch.equal(padded[0, :8], alone[0])


def test_sizes_always_sum_to_the_tokens_that_were_there_first():
    counts = (40, 23)
    _, tokens, _, mask = make_batch(counts)
    sizes = mask.double()
    for layer in range(6):
        destination = match_tokens(tokens, sizes > 0, torch.tensor([7, 5]))
        tokens, sizes = merge_tokens(tokens, sizes, destination, tokens.shape[1] - 5 if layer < 5 else tokens.shape[1])
        assert sizes.sum(1).tolist() == [41, 24]


def test_equal_tokens_come_back_exactly_when_merged_ones_are_duplicated():
    """Every token of A has an equal one in B, so that merging and putting back loses nothing."""
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(3, 8, generator=generator)
    tokens = torch.cat([torch.randn(1, 8, generator=generator), values[torch.arange(24) % 3]]).unsqueeze(0)
    sizes = torch.ones(1, 25)
    destination = match_tokens(tokens, sizes > 0, torch.tensor([12]))
    merged, merged_sizes = merge_tokens(tokens, sizes, destination, 13)
    torch.testing.assert_close(merged.gather(1, destination.unsqueeze(-1).expand(-1, -1, 8)), tokens, rtol=0, atol=1e-6)
    assert merged_sizes[0].sort().values[-3:].sum() == 15


def test_gradients_by_finite_differences():
    metric, tokens, sizes, mask = make_batch((7, 4), width=3)
    destination = match_tokens(metric, mask, torch.tensor([3, 1]))
    assert torch.autograd.gradcheck(
        lambda inputs: merge_tokens(inputs, sizes, destination, 5)[0], (tokens.requires_grad_(),)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_and_averaged_in_single(dtype):
    metric, tokens, sizes, mask = make_batch((30, 18), dim=16)
    metric, tokens, sizes = metric.to(dtype), tokens.to(dtype), sizes.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        destination = match_tokens(metric, mask, torch.tensor([9, 9]))
    assert torch.equal(destination, match_tokens(metric.float(), mask, torch.tensor([9, 9])))
    merged, _ = merge_tokens(tokens, sizes, destination, 31)
    assert merged.dtype == dtype
    assert torch.equal(merged, merge_tokens(tokens.float(), sizes, destination, 31)[0].to(dtype))
