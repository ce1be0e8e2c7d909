"""What a model finds by: what the clip in first place shares with the one that a text describes.

A clip that is not the described one may still have its background, or things of its colours, shapes or motions. How
often, beside how often any other clip does, tells what of a caption a model goes by.

Shape letters: N clips and texts, text n describing clip n; d width of the common space.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from trajvit.training.rendered_world import read_description
from trajvit.training.synthetic_stories import Story, draw_story
from trajvit.training.synthetic_world import MEDIA, SPLITS, WorldOptions

KINDS = ("background", "color", "shape", "motion")


def agreement(videos: torch.Tensor, texts: torch.Tensor, facts: Sequence[dict[str, set[str]]]) -> dict[str, float]:
    """`first_background`, `first_color`, `first_shape`, `first_motion`, and the same of `any_`, in percent.

    The share of what was described that the clip in first place has too, without the described clip itself; and that
    any other clip has, which is what chance gives.

    Args:
        videos, texts: (N, d) normalised.
        facts: For each clip its backgrounds and what its things are and do, by kind.
    """
    similarities = (texts @ videos.T).fill_diagonal_(-torch.inf)
    shares = {kind: _shares([own[kind] for own in facts]) for kind in KINDS}
    first = similarities.argmax(1).numpy()
    rows = np.arange(len(facts))
    found = {f"first_{kind}": 100 * float(np.nanmean(share[rows, first])) for kind, share in shares.items()}
    others = ~np.eye(len(facts), dtype=bool)
    return found | {f"any_{kind}": 100 * float(np.nanmean(share[others])) for kind, share in shares.items()}


def facts_of_world(folder: Path, count: int) -> list[dict[str, set[str]]]:
    """What the first clips of a rendered world show, drawn again from their seeds."""
    description = read_description(folder)
    options = WorldOptions(**description["options"])
    split, media = SPLITS.index(description["split"]), MEDIA.index(description["media"])
    stories = [
        draw_story(
            np.random.default_rng([options.seed, split, media, index]),
            description["split"],
            description["num_frames"],
            options,
        )
        for index in range(count)
    ]
    return [_facts(story) for story in stories]


def _facts(story: Story) -> dict[str, set[str]]:
    things = [thing for shot in story.shots for thing in shot.things]
    return {
        "background": {shot.background for shot in story.shots},
        "color": {thing.color for thing in things},
        "shape": {thing.shape for thing in things},
        "motion": {action.motion for shot in story.shots for action in shot.actions},
    }


def _shares(sets: Sequence[set[str]]) -> np.ndarray:
    """(N, N): of what clip n has, the share that clip m has too; NaN where n has nothing."""
    names = sorted(set().union(*sets))
    has = np.array([[name in own for name in names] for own in sets], dtype=np.float64).reshape(len(sets), len(names))
    counts = has.sum(1, keepdims=True)
    return np.divide(has @ has.T, counts, out=np.full((len(sets), len(sets)), np.nan), where=counts > 0)
