"""Runs of tubelets against loops over every place and cases computed by hand."""

import pytest
import torch

from trajvit.modeling_trajvit.run_length import assign_tokens, find_runs, tubelet_changes
from trajvit.modeling_trajvit.tubelet_embedding import cut_tubelets


def random_changes(batch_size=3, time=7, height=2, width=3, seed=0):
    """Changes in steps of 1/8, so that some equal the threshold."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 5, (batch_size, time - 1, height, width), generator=generator) / 8


def runs_of(changes, mask, threshold):
    """Every place by itself: [(video, first step, row, column, length)] in the order of tokens."""
    found = []
    for video, count in enumerate(mask.sum(1).tolist()):
        own = []
        for row in range(changes.shape[2]):
            for column in range(changes.shape[3]):
                start = 0
                for step in range(1, count + 1):
                    if step == count or changes[video, step - 1, row, column] >= threshold:
                        own.append((video, start, row, column, step - start))
                        start = step
        found += sorted(own)
    return found


def mask_of(counts, time):
    return torch.arange(time) < torch.tensor(counts)[:, None]


@pytest.mark.parametrize("tubelet_size", [1, 2, 3])
def test_a_tubelets_last_frame_is_compared_with_the_first_frame_of_the_one_before(tubelet_size):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 7, 3, 8, 12, generator=generator)
    pixels = cut_tubelets(frames, torch.ones(2, 7, dtype=torch.bool), tubelet_size, 4).pixels
    changes = tubelet_changes(pixels, tubelet_size)
    time = -(-7 // tubelet_size)
    assert changes.shape == (2, time - 1, 2, 3)
    for step in range(1, time):
        first, last = (step - 1) * tubelet_size, min((step + 1) * tubelet_size - 1, 6)
        for row in range(2):
            for column in range(3):
                place = (slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
                for video in range(2):
                    earlier, later = frames[video, first][place], frames[video, last][place]
                    expected = sum(abs(a - b) for a, b in zip(earlier.flatten(), later.flatten(), strict=True)) / 48
                    torch.testing.assert_close(changes[video, step - 1, row, column], expected, rtol=0, atol=1e-5)


def test_an_image_has_nothing_to_compare():
    pixels = torch.randn(2, 1, 2, 3, 24)
    changes = tubelet_changes(pixels, 2)
    assert changes.shape == (2, 0, 2, 3)
    runs = find_runs(changes, torch.ones(2, 1, dtype=torch.bool), 0.1)
    assert runs.starts.all()
    assert (runs.lengths == 1).all()


def test_half_precision_is_compared_in_full():
    """5 and 1/256 differ by a number that bfloat16 would round to 5."""
    pixels = torch.full((1, 2, 1, 1, 12), 5.0, dtype=torch.bfloat16)
    pixels[:, 1] = 1 / 256
    assert tubelet_changes(pixels, 1).item() == 5 - 1 / 256


@pytest.mark.parametrize("threshold", [0, 0.125, 0.25, 0.3, 9.0])
@pytest.mark.parametrize("counts", [(7, 7, 7), (1, 7, 4), (2, 3, 1)])
def test_runs_are_those_of_a_loop_over_every_place(threshold, counts):
    changes, mask = random_changes(), mask_of(counts, 7)
    runs = find_runs(changes, mask, threshold)
    lengths = torch.zeros(3, 7, 2, 3, dtype=torch.long)
    for video, step, row, column, length in runs_of(changes, mask, threshold):
        lengths[video, step, row, column] = length
    assert torch.equal(runs.lengths, lengths)
    assert torch.equal(runs.starts, lengths > 0)
    # Together the runs of a place last as long as its video.
    assert torch.equal(runs.lengths.sum(1), mask.sum(1)[:, None, None].expand(3, 2, 3))


def test_a_change_equal_to_the_threshold_begins_a_run():
    changes = torch.tensor([0.25, 0.125, 0.25]).view(1, 3, 1, 1)
    runs = find_runs(changes, torch.ones(1, 4, dtype=torch.bool), 0.25)
    assert runs.lengths.flatten().tolist() == [1, 2, 0, 1]


def test_a_threshold_of_zero_leaves_out_nothing_even_of_a_still():
    runs = find_runs(torch.zeros(1, 3, 2, 2), torch.ones(1, 4, dtype=torch.bool), 0)
    assert runs.starts.all()


def test_runs_are_compared_link_by_link():
    """A place that brightens by 1 a frame: links of single frames see 1, links of two-frame tubelets see 3."""
    frames = torch.arange(8.0).view(1, 8, 1, 1, 1).expand(-1, -1, 3, 4, 4)
    every = torch.ones(1, 8, dtype=torch.bool)
    single = tubelet_changes(cut_tubelets(frames, every, 1, 4).pixels, 1)
    double = tubelet_changes(cut_tubelets(frames, every, 2, 4).pixels, 2)
    assert single.flatten().tolist() == [1] * 7
    assert double.flatten().tolist() == [3] * 3
    assert find_runs(single, every, 1.5).lengths.flatten().tolist() == [8, 0, 0, 0, 0, 0, 0, 0]
    assert find_runs(double, every[:, :4], 1.5).lengths.flatten().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("counts", [(7, 7, 7), (1, 7, 4)])
@pytest.mark.parametrize("threshold", [0, 0.25, 9.0])
def test_every_tubelet_finds_the_token_of_its_run(threshold, counts):
    changes, mask = random_changes(), mask_of(counts, 7)
    tokens = assign_tokens(find_runs(changes, mask, threshold).starts, mask)
    found = runs_of(changes, mask, threshold)
    most = max(sum(run[0] == video for run in found) for video in range(3))
    sources, places = torch.zeros(3, 7, 2, 3, dtype=torch.long), [0, 0, 0]
    assert tokens.mask.shape == (3, most)
    assert len(tokens.tubelets) == len(tokens.slots) == len(found)
    for index, (video, step, row, column, length) in enumerate(found):
        assert tokens.tubelets[index] == ((video * 7 + step) * 2 + row) * 3 + column
        assert tokens.slots[index] == video * most + places[video]
        places[video] += 1
        sources[video, step : step + length, row, column] = places[video]
    assert torch.equal(tokens.sources, sources)
    assert tokens.mask.sum(1).tolist() == places
    assert tokens.mask.flatten()[tokens.slots].all()


def test_with_fixed_shapes_every_tubelet_has_a_place():
    changes, mask = random_changes(), mask_of((7, 2, 5), 7)
    starts = find_runs(changes, mask, 0.25).starts
    fixed = torch.compile(assign_tokens, backend="eager", fullgraph=True)(starts, mask)
    assert torch.equal(fixed.tubelets, torch.arange(126))
    assert torch.equal(fixed.slots, torch.arange(126))
    assert torch.equal(fixed.mask, starts.flatten(1))
    sources = torch.zeros(3, 7, 2, 3, dtype=torch.long)
    for video, step, row, column, length in runs_of(changes, mask, 0.25):
        sources[video, step : step + length, row, column] = 1 + (step * 2 + row) * 3 + column
    assert torch.equal(fixed.sources, sources)
