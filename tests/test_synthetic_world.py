"""The synthetic world's splits share every word but not their pairs; its source is deterministic and says what is
wrong."""

import pickle
from itertools import product

import numpy as np
import pytest

from trajvit.processing.scene_shapes import NAMED_SHAPES
from trajvit.training.samples import Clip
from trajvit.training.synthetic import NUM_SAMPLES, SyntheticSource
from trajvit.training.synthetic_captions import caption
from trajvit.training.synthetic_rendering import render_sample
from trajvit.training.synthetic_stories import draw_story
from trajvit.training.synthetic_world import (
    CAPTION_STYLES,
    COLORS,
    MOTIONS,
    WorldOptions,
    colors_for,
    shapes_for,
)


def pairs_of(split: str, count: int) -> tuple[set, set, set]:
    """Pairs of shape and colour, pairs of shape and motion, and words, of the things that are drawn."""
    colors, motions, words = set(), set(), set()
    for index in range(count):
        story = draw_story(np.random.default_rng(index), split, 16, WorldOptions())
        words.update(word for style in CAPTION_STYLES for word in caption(story, style).replace(",", "").split())
        for shot in story.shots:
            colors |= {(thing.shape, thing.color) for thing in shot.things}
            for action in shot.actions:
                motions.add((shot.things[action.actor].shape, action.motion))
                if action.target is not None:
                    done_to = "struck" if action.motion == "hit" else "still"
                    motions.add((shot.things[action.target].shape, done_to))
    return colors, motions, words


def test_no_pair_of_the_test_split_is_in_training_but_every_word_is():
    train, test = pairs_of("train", 1200), pairs_of("test", 600)
    for number, kinds in enumerate((COLORS, MOTIONS)):
        assert not train[number] & test[number]
        assert train[number] | test[number] == set(product(NAMED_SHAPES, kinds))
        assert {kind for _, kind in test[number]} == {kind for _, kind in train[number]} == set(kinds)
        assert len(test[number]) == len(NAMED_SHAPES) * len(kinds) / 4
    assert test[2] <= train[2]


def test_splits_are_all_pairs_once():
    for shape in NAMED_SHAPES:
        assert sorted(colors_for("train", shape) + colors_for("test", shape)) == sorted(COLORS)
    for motion in MOTIONS:
        assert sorted(shapes_for("train", [motion]) + shapes_for("test", [motion])) == sorted(NAMED_SHAPES)


def test_images_keep_the_pairs_of_colours_too():
    for split, other in (("train", "test"), ("test", "train")):
        for index in range(200):
            story = draw_story(np.random.default_rng(index), split, 1, WorldOptions())
            assert all(thing.color not in colors_for(other, thing.shape) for thing in story.shots[0].things)


def test_things_of_a_shot_differ_and_are_as_many_as_asked_for():
    for index in range(60):
        for fewest, most in ((1, 1), (2, 2), (3, 3), (1, 3)):
            num_frames = (1, 4, 6, 16)[index % 4]
            story = draw_story(
                np.random.default_rng(index), "test", num_frames, WorldOptions(num_objects=(fewest, most))
            )
            assert sum(shot.num_frames for shot in story.shots) == num_frames
            for shot in story.shots:
                assert fewest <= len(shot.things) <= most
                assert len({thing.shape for thing in shot.things}) == len(shot.things)
                assert len({thing.color for thing in shot.things}) == len(shot.things)


def test_shares_of_cuts_and_of_moving_cameras():
    def shares(**options):
        stories = [draw_story(np.random.default_rng(k), "train", 16, WorldOptions(**options)) for k in range(120)]
        cuts = np.mean([len(story.shots) == 2 for story in stories])
        return cuts, np.mean([shot.camera != "still" for story in stories for shot in story.shots])

    assert shares(cut_share=0.0, moving_camera_share=0.0) == (0, 0)
    assert shares(cut_share=1.0)[0] == 1
    cuts, moving = shares(cut_share=0.3, moving_camera_share=1.0)
    assert 0.18 < cuts < 0.42
    assert moving > 0.5


def clips_equal(one: Clip, other: Clip) -> bool:
    same = np.array_equal(one.frames, other.frames) and one.trajectories == other.trajectories
    return same and (one.key, one.captions) == (other.key, other.captions)


def test_a_sample_depends_on_its_number_and_settings_alone():
    source = SyntheticSource("world", "train", "video", 130, 8, {"image_size": 64})
    rows = list(source.rows(5))
    assert rows == list(source.rows(5))
    first = [source.read(row) for row in rows]
    copy = pickle.loads(pickle.dumps(source))
    # In another order and another object, beside other calls of NumPy's generators.
    np.random.default_rng(0).random(10)
    assert all(clips_equal(a, copy.read(row)) for a, row in zip(first[::-1], rows[::-1], strict=True))
    others = [
        SyntheticSource("world", "test", "video", 130, 8, {"image_size": 64}),
        SyntheticSource("world", "train", "video", 130, 8, {"image_size": 64, "seed": 1}),
        SyntheticSource("world", "train", "video", 130, 9, {"image_size": 64}),
    ]
    for other in others:
        assert not np.array_equal(other.read(rows[0]).frames[:8], first[0].frames)


@pytest.mark.parametrize(("num_samples", "num_shards"), [(1, 1), (63, 63), (64, 64), (200, 64)])
def test_shards_hold_every_sample_once(num_samples, num_shards):
    source = SyntheticSource("world", num_samples=num_samples)
    assert source.num_shards == num_shards
    rows = [row for shard in range(num_shards) for row in source.rows(shard)]
    assert sorted(row["index"] for row in rows) == list(range(num_samples))
    assert len({row["key"] for row in rows}) == num_samples


def test_clips_are_as_asked_for():
    source = SyntheticSource("world", num_frames=5, options={"image_size": 80, "captions": ["full", "short"]})
    assert source.num_samples == NUM_SAMPLES
    clip = source.read({"key": "some key", "index": 3})
    assert (clip.key, clip.frames.shape, clip.frames.dtype) == ("some key", (5, 80, 80, 3), np.uint8)
    assert clip.trajectories.shape == (5, 80, 80)
    assert len(clip.captions) == 2
    assert len(clip.captions[0]) > len(clip.captions[1])
    image = SyntheticSource("world", media="image", options={"num_objects": [3, 3]}).read({"key": "", "index": 0})
    assert image.frames.shape == (1, 112, 112, 3)
    assert image.trajectories.num_trajectories == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "validation"}, "world: split is 'validation'"),
        ({"media": "sound"}, "world: media is 'sound'"),
        ({"num_samples": 0}, "world: num_samples is 0"),
        ({"num_frames": 3}, "world: num_frames is 3; expected 4 or more"),
        ({"options": {"size": 1}}, r"world: options.size is not known; expected some of \['image_size'"),
        ({"options": {"image_size": 40}}, "options.image_size is 40; expected 48 or more"),
        ({"options": {"image_size": "big"}}, "options.image_size is 'big'"),
        ({"options": {"seed": -1}}, "options.seed is -1"),
        ({"options": {"num_objects": 2}}, "options.num_objects is 2; expected a list"),
        ({"options": {"num_objects": [2, 1]}}, r"options.num_objects is \[2, 1\]"),
        ({"options": {"num_objects": [0, 1]}}, r"options.num_objects is \[0, 1\]"),
        ({"options": {"num_objects": [1, 4]}}, r"options.num_objects is \[1, 4\]"),
        ({"options": {"cut_share": 1.5}}, "options.cut_share is 1.5"),
        ({"options": {"moving_camera_share": "often"}}, "options.moving_camera_share is 'often'"),
        ({"options": {"captions": []}}, r"options.captions is \[\]"),
        ({"options": {"captions": ["short", "short"]}}, r"options.captions is \['short', 'short'\]"),
        ({"options": {"captions": ["long"]}}, r"options.captions is \['long'\]; expected some of \['short'"),
    ],
)
def test_illegal_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticSource("world", **arguments)


def test_a_shard_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"world: shard is 64; expected 0\.\.63"):
        next(SyntheticSource("world").rows(64))


def test_splits_of_a_seed_are_drawn_apart():
    options = WorldOptions(image_size=48, num_objects=(1, 1))
    backgrounds = [
        [render_sample(index, split, "image", 1, options).story.shots[0].background for index in range(20)]
        for split in ("train", "test")
    ]
    assert sum(one == other for one, other in zip(*backgrounds, strict=True)) < 12
