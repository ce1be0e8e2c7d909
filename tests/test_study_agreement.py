"""What the clip in first place shares with the described one, against loops and by hand."""

import numpy as np
import pytest
import torch

from trajvit.evaluation.study_agreement import KINDS, agreement, facts_of_world
from trajvit.training.rendered_world import create_world
from trajvit.training.synthetic import SyntheticSource


def make_facts(*rows):
    return [dict(zip(KINDS, map(set, row), strict=True)) for row in rows]


def test_by_hand():
    facts = make_facts(
        (["brick"], ["red", "blue"], ["star"], ["left"]),
        (["brick"], ["red"], ["ring"], ["left"]),
        (["grass"], ["pink"], ["star"], []),
    )
    videos = torch.eye(3)
    # The first text finds the second clip, the second the third, the third the first.
    texts = torch.tensor([[0.9, 0.8, 0.1], [0.1, 0.9, 0.7], [0.6, 0.2, 0.9]])
    found = agreement(videos, texts, facts)
    assert found["first_background"] == pytest.approx(100 * (1 + 0 + 0) / 3)
    assert found["first_color"] == pytest.approx(100 * (0.5 + 0 + 0) / 3)
    assert found["first_shape"] == pytest.approx(100 * (0 + 0 + 1) / 3)
    # The third does nothing, so that nothing of it can be found.
    assert found["first_motion"] == pytest.approx(100 * (1 + 0) / 2)
    assert found["any_color"] == pytest.approx(100 * (0.5 + 0 + 1 + 0 + 0 + 0) / 6)


def test_on_random_clips_by_loops():
    rng = np.random.default_rng(0)
    facts = [{kind: set(rng.choice(list("abcdef"), rng.integers(1, 4))) for kind in KINDS} for _ in range(12)]
    videos, texts = (torch.nn.functional.normalize(torch.randn(12, 5), dim=-1) for _ in range(2))
    found = agreement(videos, texts, facts)
    for kind in KINDS:
        shares = []
        for text in range(12):
            order = sorted((-(texts[text] @ videos[clip]).item(), clip) for clip in range(12) if clip != text)
            described, first = facts[text][kind], facts[order[0][1]][kind]
            shares.append(len(described & first) / len(described))
        assert found[f"first_{kind}"] == pytest.approx(100 * np.mean(shares))


def test_facts_are_those_of_the_rendered_clips(tmp_path):
    source = SyntheticSource("clips", "test", "video", 4, 4, {"image_size": 48, "seed": 3})
    create_world(tmp_path, source)
    for index, facts in enumerate(facts_of_world(tmp_path, 4)):
        rendered = source.render(index)
        assert facts["color"] == {thing.color for _, thing, _ in rendered.things}
        assert facts["shape"] == {thing.shape for _, thing, _ in rendered.things}
        assert facts["motion"] == {motion for _, _, motions in rendered.things for motion in motions}
        assert facts["background"] == {shot.background for shot in rendered.story.shots}
