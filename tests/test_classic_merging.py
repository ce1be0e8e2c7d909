"""The region graph against plain loops, and greedy merging against the definition of its cost."""

from itertools import combinations

import numpy as np
import pytest

from trajvit.processing.frame_appearance import FrameFeatures
from trajvit.processing.region_graph import RegionGraph, RegionGraphBuilder
from trajvit.processing.region_merging import MergeWeights, merge_regions
from trajvit.processing.region_motion import SHRINKAGE, fit_affine_motion

RNG = np.random.default_rng(0)


def made_up_features(height, width):
    lab = RNG.uniform(-50, 100, (height, width, 3)).astype(np.float32)
    gradient = RNG.uniform(0, 20, (height, width)).astype(np.float32)
    unused = np.zeros((height, width), np.uint8)
    return FrameFeatures(np.zeros((height, width, 3), np.uint8), lab, gradient, unused, np.zeros(512))


def random_graph(num_regions, density=0.5):
    pairs = np.array([pair for pair in combinations(range(num_regions), 2) if RNG.uniform() < density])
    contact = RNG.uniform(1, 30, len(pairs))
    contour = np.bincount(pairs.ravel(), np.repeat(contact, 2), num_regions)
    pixels = RNG.uniform(5, 500, num_regions)
    colours = RNG.uniform(0, 60, (num_regions, 3)) * pixels[:, None]
    gradients, motions = RNG.uniform(0, 15, len(pairs)) * contact, RNG.uniform(0, 9, len(pairs)) * contact
    return RegionGraph(4, pixels, colours, contour, pairs, contact, gradients, motions)


def test_region_sums_match_plain_loops():
    volume = RNG.integers(0, 6, (3, 6, 7))
    frames = [made_up_features(6, 7) for _ in volume]
    builder = RegionGraphBuilder(5)
    for labels, features in zip(volume, frames, strict=True):
        builder.add_frame(labels, features)
    graph = builder.build()

    pixels, colours, contacts, edges = np.zeros(5), np.zeros((5, 3)), {}, {}
    for labels, features in zip(volume, frames, strict=True):
        for y in range(6):
            for x in range(7):
                if not labels[y, x]:
                    continue
                pixels[labels[y, x] - 1] += 1
                colours[labels[y, x] - 1] += features.lab[y, x]
                for y2, x2 in ((y + 1, x), (y, x + 1)):
                    if y2 < 6 and x2 < 7 and labels[y2, x2] and labels[y2, x2] != labels[y, x]:
                        pair = tuple(sorted((labels[y, x] - 1, labels[y2, x2] - 1)))
                        contacts[pair] = contacts.get(pair, 0) + 1
                        stronger = max(features.gradient[y, x], features.gradient[y2, x2])
                        edges[pair] = edges.get(pair, 0) + stronger
    np.testing.assert_array_equal(graph.pixels, pixels)
    np.testing.assert_allclose(graph.colour_sums, colours)
    found = [tuple(pair) for pair in graph.pairs.tolist()]
    assert sorted(found) == sorted(contacts)
    np.testing.assert_array_equal(graph.contact, [contacts[pair] for pair in found])
    np.testing.assert_allclose(graph.gradient_sums, [edges[pair] for pair in found], rtol=1e-6)
    contour = [sum(length for pair, length in contacts.items() if region in pair) for region in range(5)]
    np.testing.assert_array_equal(graph.contour, contour)
    assert graph.num_frames == 3


def test_the_motion_along_a_border_is_the_difference_of_the_sides():
    labels = np.repeat([[1, 1, 1, 2, 2, 2]], 8, axis=0)
    flow = np.where((labels == 1)[..., None], np.float32((3, 4)), np.float32((0, 0)))
    builder = RegionGraphBuilder(2)
    builder.add_frame(labels, made_up_features(8, 6), flow)
    builder.add_frame(labels, made_up_features(8, 6))
    graph = builder.build()
    assert graph.contact.item() == 16
    assert graph.motion_sums.item() == pytest.approx(8 * 5**3)


def test_affine_motion_is_the_ridge_solution():
    labels = RNG.integers(0, 3, (30, 40))
    flow = RNG.normal(size=(30, 40, 2)).astype(np.float32)
    motion = fit_affine_motion(labels, flow, 3)
    for label in (1, 2):
        y, x = np.nonzero(labels == label)
        centred = np.stack([x - x.mean(), y - y.mean()], axis=1)
        prior = np.sqrt(SHRINKAGE * len(x)) * np.eye(2)
        values = flow[y, x]
        slopes = np.linalg.lstsq(
            np.concatenate([centred, prior]),
            np.concatenate([values - values.mean(axis=0), np.zeros((2, 2))]),
            rcond=None,
        )[0]
        offset = values.mean(axis=0) - np.array([x.mean(), y.mean()]) @ slopes
        np.testing.assert_allclose(motion[label], np.concatenate([offset[None], slopes]), atol=1e-6)
    np.testing.assert_array_equal(motion[3], 0)


def naive_merging(graph, weights):
    """Partitions after 0, 1, 2, ... merges; every quantity anew from the unmerged graph."""
    regions = [frozenset([region]) for region in range(graph.num_regions)]
    evidence = zip(graph.contact, graph.gradient_sums, graph.motion_sums, strict=True)
    contacts = dict(zip(map(tuple, graph.pairs.tolist()), evidence, strict=True))

    def between(first, second):
        total = np.zeros(3)
        for (i, j), sums in contacts.items():
            if (i in first and j in second) or (j in first and i in second):
                total += sums
        return total

    def contour(region):
        inside = sum(sums[0] for (i, j), sums in contacts.items() if i in region and j in region)
        return graph.contour[list(region)].sum() - 2 * inside

    def cost(first, second):
        length, gradient, motion = between(first, second)
        if not length:
            return np.inf
        pixels = [graph.pixels[list(region)].sum() for region in (first, second)]
        means = [graph.colour_sums[list(r)].sum(axis=0) / n for r, n in zip((first, second), pixels, strict=True)]
        unlike = weights.colour * np.linalg.norm(means[0] - means[1]) + weights.gradient * gradient / length
        unlike += weights.motion * np.cbrt(motion / length)
        size = 1 / (1 / pixels[0] + 1 / pixels[1]) / graph.num_frames
        share = min(1, length / max(1, min(contour(first), contour(second)))) + 0.02
        return unlike * size**weights.area_exponent / share**weights.contact_exponent

    partitions = [set(regions)]
    while True:
        best, first, second = min(
            ((cost(*pair), *pair) for pair in combinations(regions, 2)), key=lambda entry: entry[0]
        )
        if best == np.inf:
            return partitions
        regions = [region for region in regions if region not in (first, second)] + [first | second]
        partitions.append(set(regions))
        if len(regions) == 1:
            return partitions


def as_partition(labels):
    return {frozenset(np.flatnonzero(labels[1:] == label).tolist()) for label in np.unique(labels[1:])}


@pytest.mark.parametrize(
    "weights", [MergeWeights(), MergeWeights(1, 0, 3, 0.6, 0), MergeWeights(0, 1, 0, 0, 1)], ids=str
)
@pytest.mark.parametrize("density", [0.25, 0.8])
def test_merging_matches_the_definition(weights, density):
    graph = random_graph(14, density)
    history = merge_regions(graph, weights)
    expected = naive_merging(graph, weights)
    assert len(history.steps) == len(expected) - 1
    for merges, partition in enumerate(expected):
        assert as_partition(history.labels_at(14 - merges)) == partition


def test_merging_stops_at_a_count_or_a_cost():
    graph = random_graph(20, 0.6)
    whole = merge_regions(graph, MergeWeights())
    assert len(as_partition(merge_regions(graph, MergeWeights(), min_regions=7).labels_at(1))) == 7
    limit = float(np.maximum.accumulate(whole.costs)[5])
    stopped = merge_regions(graph, MergeWeights(), max_cost=limit)
    assert len(stopped.steps) < len(whole.steps)
    np.testing.assert_array_equal(stopped.steps, whole.steps[: len(stopped.steps)])
    assert (stopped.costs < limit).all()


def test_labels_that_never_occur_do_not_count():
    builder = RegionGraphBuilder(9)
    builder.add_frame(np.array([[2, 2, 5], [8, 8, 5]]), made_up_features(2, 3))
    history = merge_regions(builder.build(), MergeWeights())
    assert history.num_regions == 3
    labels = history.labels_at(2)
    assert labels[0] == 0
    assert len(set(labels[[2, 5, 8]].tolist())) == 2


def test_links_join_what_never_touches_but_replace_no_contact():
    graph = random_graph(6, 0.5)
    touching = tuple(graph.pairs[0].tolist())
    apart = next(pair for pair in combinations(range(6), 2) if list(pair) not in graph.pairs.tolist())
    linked = graph.with_links(np.array([touching, apart[::-1], apart]), np.array([7.0, 8.0, 9.0]), 3.0)
    assert len(linked.pairs) == len(graph.pairs) + 1
    np.testing.assert_array_equal(linked.pairs[-1], apart)
    assert linked.contact[-1] == 8
    assert linked.gradient_sums[-1] == 24
    np.testing.assert_array_equal(linked.contact[:-1], graph.contact)
    np.testing.assert_array_equal(linked.contour - graph.contour, [8 if region in apart else 0 for region in range(6)])


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"area_exponent.*-1"):
        MergeWeights(area_exponent=-1)
