"""Counts over clips, against NumPy and plain loops, and the page that shows them."""

from collections import Counter

import numpy as np
import pytest
from generation_runs import generate_here, generator, write_shards

from trajvit.processing.generation_statistics import GenerationStatistics, mean_of, quantile_of
from trajvit.processing.trajectories import Trajectories


def random_trajectories(seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 6, (int(draw.integers(1, 5)), 8, 10))
    key_frames = (0, len(labels) - 1) if len(labels) > 1 else (0,)
    return Trajectories.from_labels(labels, key_frames=key_frames)


def counted(clips):
    statistics = GenerationStatistics()
    for clip in clips:
        statistics.count(clip, 100, 7)
    return statistics


def test_counts_are_those_of_a_plain_loop():
    clips = [random_trajectories(seed) for seed in range(12)]
    found = counted(clips)
    assert found.clips == 12
    assert found.frames == sum(len(clip.ids) for clip in clips)
    assert found.trajectories == Counter(int(clip.ids.max()) for clip in clips)
    lives = [
        sum(bool((frame == number).any()) for frame in clip.ids)
        for clip in clips
        for number in range(1, int(clip.ids.max()) + 1)
    ]
    assert found.lifetimes == Counter(lives)
    assert found.coverage == Counter(int(100 * np.mean(clip.ids > 0)) for clip in clips)
    assert found.shots == Counter(len(clip.key_frames) for clip in clips)
    assert (found.trajectory_bytes, found.frame_bytes) == (1200, 84)


def test_parts_add_up_and_survive_json():
    clips = [random_trajectories(seed) for seed in range(6)]
    total = counted(clips[:2])
    total.spend({"decode": 1.5})
    rest = counted(clips[2:])
    rest.spend({"decode": 0.5, "track": 2.0})
    total.add(GenerationStatistics.from_dict(rest.to_dict()))
    assert {**total.to_dict(), "seconds": {}} == counted(clips).to_dict()
    assert total.seconds == {"decode": 2.0, "track": 2.0}


def test_means_and_quantiles():
    numbers = np.random.default_rng(0).integers(0, 30, 101)
    counts = Counter(numbers.tolist())
    assert mean_of(counts) == pytest.approx(numbers.mean())
    for share in (0.1, 0.5, 0.9, 1.0):
        assert quantile_of(counts, share) == np.quantile(numbers, share, method="inverted_cdf")
    assert np.isnan(mean_of(Counter()))
    with pytest.raises(ValueError, match="no quantile of nothing"):
        quantile_of(Counter(), 0.5)


def test_the_page_of_a_run_without_a_clip(monkeypatch, tmp_path):
    write_shards(tmp_path / "in", [10])
    generate_here(monkeypatch, tmp_path / "in", tmp_path / "<out>", generator=generator(fails_at=[12]))
    page = (tmp_path / "<out>" / "__generation__" / "statistics.html").read_text()
    assert "<title>Trajectories: &lt;out&gt;</title>" in page
    assert "<b>0</b>clips with trajectories" in page
    assert page.count("nothing was counted") == 4
    assert "<tr><td>track</td><td>1</td></tr>" in page
    assert "nan" not in page


def test_equal_runs_give_equal_pages_but_for_time(monkeypatch, tmp_path):
    write_shards(tmp_path / "in", [10, 20])
    pages = []
    for name in ("a", "b"):
        generate_here(monkeypatch, tmp_path / "in", tmp_path / name / "out")
        page = (tmp_path / name / "out" / "__generation__" / "statistics.html").read_text()
        pages.append([line for line in page.splitlines() if not line.startswith("<table>")])
    assert pages[0] == pages[1]
