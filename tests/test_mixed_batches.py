"""Which stream a step takes."""

import math

import pytest
from array_source import ArraySource, word_tokenizer

from trajvit.training.augmentation import ClipTransform
from trajvit.training.clip_loader import ClipLoader
from trajvit.training.mixed_batches import MixedBatches
from trajvit.training.record_stream import Position, RecordStream
from trajvit.training.run_config import AugmentationSettings

BATCH_SIZES = {"videos": 2, "images": 3}


def loaders(positions=None):
    """A loader for each stream, at its position."""
    made = {}
    for name, batch_size in BATCH_SIZES.items():
        source = ArraySource(name=name, frames=(2,) if name == "videos" else (1,))
        position = (positions or {}).get(name, Position())
        made[name] = ClipLoader(
            RecordStream(source, seed=4, shuffle_block=3, position=position),
            source,
            ClipTransform(16, 4, AugmentationSettings(), 8, 1),
            word_tokenizer(),
            name=name,
            batch_size=batch_size,
            num_workers=0,
            prefetch=1,
        )
    return made


def order_of(weights, seed=0, steps=2000):
    mixed = MixedBatches(dict.fromkeys(weights), weights, seed)
    return [mixed.stream_of(step) for step in range(steps)]


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1, "b": 1}, {"a": 7.3, "b": 0.4}, {"a": 3, "b": 2, "c": 0.05}])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_shares_follow_the_weights_at_every_step(weights, seed):
    order = order_of(weights, seed)
    for name, weight in weights.items():
        count = 0
        for step, taken in enumerate(order, start=1):
            count += taken == name
            assert abs(count - step * weight / sum(weights.values())) < 2 + math.log2(step) / 2


def test_the_order_depends_on_the_seed_and_on_nothing_else():
    assert order_of({"a": 2, "b": 1}) == order_of({"b": 4, "a": 8})
    assert order_of({"a": 2, "b": 1}, seed=1) != order_of({"a": 2, "b": 1}, seed=2)


def test_steps_far_into_a_run_are_still_told_apart():
    mixed = MixedBatches(dict.fromkeys("ab"), {"a": 1, "b": 3}, 0)
    order = [mixed.stream_of(10**12 + step) for step in range(1000)]
    assert abs(order.count("a") - 250) < 8


def test_batches_come_from_their_streams_in_their_sizes():
    mixed = MixedBatches(loaders(), {"videos": 1, "images": 1}, seed=0)
    for step in range(12):
        name = mixed.stream_of(step)
        batch = next(mixed)
        assert batch.stream == name
        assert len(batch.keys) == len(batch.inputs["pixel_values_videos"]) == BATCH_SIZES[name]
        assert batch.inputs["pixel_values_videos"].shape[1] == (2 if name == "videos" else 1)


def test_going_on_at_a_step_is_as_if_never_stopped():
    weights = {"videos": 2, "images": 1}
    mixed = MixedBatches(loaders(), weights, seed=3)
    whole = [next(mixed) for _ in range(14)]
    positions = {batch.stream: batch.position for batch in whole[:6]}
    resumed = MixedBatches(loaders(positions), weights, seed=3, step=6)
    for expected in whole[6:]:
        batch = next(resumed)
        assert (batch.stream, batch.keys, batch.position) == (expected.stream, expected.keys, expected.position)
        assert all(tensor.equal(expected.inputs[name]) for name, tensor in batch.inputs.items())


@pytest.mark.parametrize(
    ("weights", "step", "message"),
    [
        ({"videos": 1}, 0, "expected one for each"),
        ({"videos": 1, "images": 0}, 0, "weight 0 of stream 'images'"),
        ({"videos": 1, "images": math.inf}, 0, "weight inf"),
        ({"videos": 1, "images": 1}, -1, "step=-1"),
    ],
)
def test_wrong_arguments_are_named(weights, step, message):
    with pytest.raises(ValueError, match=message):
        MixedBatches(dict.fromkeys(BATCH_SIZES), weights, 0, step)
