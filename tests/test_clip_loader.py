"""Batches are the same whatever makes them, bad records cost nothing but themselves, and runs go on where they were."""

import multiprocessing
import os
import signal

import pytest
import torch
from array_source import ArraySource, word_tokenizer
from waiting import wait_for

from trajvit.training import clip_loader
from trajvit.training.augmentation import ClipTransform
from trajvit.training.clip_loader import ClipLoader, UnusableStreamError
from trajvit.training.record_stream import RecordStream
from trajvit.training.run_config import AugmentationSettings
from trajvit.training.sample_reader import RecordError, Skipped

BAD = {3: "bad", 4: "bad", 11: "bad"}


def open_loader(source, num_workers=0, batch_size=4, prefetch=2, transform=None, **stream_settings):
    settings = {"seed": 1, "shuffle_block": 5} | stream_settings
    return ClipLoader(
        RecordStream(source, **settings),
        source,
        transform or ClipTransform(32, 8, AugmentationSettings(), 4, 2),
        word_tokenizer(),
        name="arrays",
        batch_size=batch_size,
        num_workers=num_workers,
        prefetch=prefetch,
    )


def take(loader, count):
    try:
        return [next(loader) for _ in range(count)]
    finally:
        loader.close()


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert (batch.stream, batch.keys, batch.skipped) == (other.stream, other.keys, other.skipped)
        assert batch.position == other.position
        assert batch.inputs.keys() == other.inputs.keys()
        for name, tensor in batch.inputs.items():
            assert torch.equal(tensor, other.inputs[name]), name


@pytest.fixture(scope="module")
def in_one_process():
    return take(open_loader(ArraySource(faults=BAD, frames=(4, 2))), 12)


class TestExactness:
    @pytest.mark.parametrize(("num_workers", "prefetch"), [(1, 1), (2, 3)])
    def test_workers_change_nothing(self, in_one_process, num_workers, prefetch):
        source = ArraySource(faults=BAD, frames=(4, 2))
        assert_equal(take(open_loader(source, num_workers, prefetch=prefetch), 12), in_one_process)

    def test_batches_hold_what_the_transform_makes_of_the_streams_records(self, in_one_process):
        """By the plainest loop over the same stream."""
        source = ArraySource(faults=BAD, frames=(4, 2))
        transform = ClipTransform(32, 8, AugmentationSettings(), 4, 2)
        good, entries = [], iter(RecordStream(source, seed=1, shuffle_block=5))
        while len(good) < 48:
            entry = next(entries)
            if entry.row["number"] not in BAD:
                good.append((entry, transform(source.clip(entry.row["number"]), entry.seed)))
        for number, batch in enumerate(in_one_process):
            expected = good[4 * number : 4 * number + 4]
            assert batch.keys == tuple(sample.key for _, sample in expected)
            assert batch.position == expected[-1][0].position
            for row, (_, sample) in enumerate(expected):
                pixels = batch.inputs["pixel_values_videos"][row]
                assert torch.equal(pixels[: len(sample.pixels)], sample.pixels)
                assert torch.equal(batch.inputs["trajectory_maps"][row, : len(sample.pixels)], sample.trajectory_map)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_run_goes_on_behind_any_batch(self, in_one_process, num_workers):
        source = ArraySource(faults=BAD, frames=(4, 2))
        for stopped in (1, 4, 7):
            position = in_one_process[stopped - 1].position
            resumed = take(open_loader(source, num_workers, position=position), 12 - stopped)
            assert_equal(resumed, in_one_process[stopped:])

    def test_the_number_of_threads_changes_nothing(self):
        """On several threads torch splits the sum over a picture, which contrast needs."""
        settings = AugmentationSettings(color_jitter=1, hue=0, saturation=0, brightness=0, contrast=1, blur=0)
        source = ArraySource(height=320, width=320)
        transform = ClipTransform(300, 8, settings, 4, 1)
        batch = take(open_loader(source, transform=transform), 1)
        torch.set_num_threads(3)
        try:
            other = take(open_loader(source, transform=transform), 1)
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(1)
        assert_equal(batch, other)

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_global_random_numbers_are_left_alone(self, num_workers):
        before = torch.get_rng_state()
        take(open_loader(ArraySource(), num_workers), 3)
        assert torch.equal(before, torch.get_rng_state())

    def test_loaders_of_one_tokenizer_do_not_meet(self):
        """A fast tokenizer changes its own settings during a call."""
        tokenizer = word_tokenizer()
        loader = open_loader(ArraySource())
        loader._tokenizer.padding_side = "left"
        assert tokenizer.padding_side == "right"


class TestBatches:
    def test_a_finite_stream_ends_with_what_is_left(self):
        for num_workers in (0, 2):
            batches = take_all(open_loader(ArraySource(18, faults=BAD), num_workers, num_epochs=1))
            assert [len(batch.keys) for batch in batches] == [4, 4, 4, 3]
            assert [len(batch.inputs["pixel_values_videos"]) for batch in batches] == [4, 4, 4, 3]

    @pytest.mark.parametrize("bad", [{0, 1}, {9, 10}, {18, 19}, {3, 4, 17, 19}, {0, 19}, set()])
    def test_every_record_is_in_a_batch_or_reported_as_skipped_once(self, bad):
        source = ArraySource(20, num_shards=1, faults=dict.fromkeys(bad, "bad"))
        batches = take_all(open_loader(source, shuffle_block=0, num_epochs=1))
        met, size = [], 0
        for batch in batches:
            met += [*batch.keys, *(record.key for record in batch.skipped)]
            size += len(batch.keys)
            # Those skipped lie before the end of the batch that reports them.
            numbers = [int(record.key[-4:]) for record in batch.skipped]
            assert batch is batches[-1] or all(number < batch.position.index for number in numbers)
        assert sorted(met) == [f"clip-{number:04d}" for number in range(20)]
        assert size == 20 - len(bad)

    def test_reasons_are_told(self):
        batch = take(open_loader(ArraySource(20, num_shards=1, faults={1: "bad"}), shuffle_block=0), 1)[0]
        assert batch.skipped == (Skipped("clip-0001", "number 1 is bad"),)
        source = ArraySource(8, num_shards=1, has_trajectories=False)
        plain = take(open_loader(source, transform=ClipTransform(8, None, AugmentationSettings(), 4, 1)), 1)[0]
        assert "trajectory_maps" not in plain.inputs

    @pytest.mark.gpu
    def test_batches_are_pinned_for_a_gpu(self):
        for num_workers in (0, 1):
            for batch in take(open_loader(ArraySource(), num_workers), 2):
                assert all(tensor.is_pinned() for tensor in batch.inputs.values())

    @pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"num_workers": -1}, {"prefetch": 0}])
    def test_wrong_arguments_are_named(self, wrong):
        with pytest.raises(ValueError, match="expected at least 1, 0 and 1"):
            open_loader(ArraySource(), **wrong)


def take_all(loader):
    try:
        return list(loader)
    finally:
        loader.close()


class TestFailures:
    def test_a_shard_that_breaks_off_is_reported_and_the_others_are_used(self):
        batches = take(open_loader(BrokenShard(12, num_shards=3), shuffle_block=0, num_epochs=1), 2)
        assert sum(len(batch.keys) for batch in batches) == 8
        assert [record.reason for batch in batches for record in batch.skipped] == ["the shard ends early"]

    def test_a_stream_without_usable_records_is_given_up(self, monkeypatch):
        monkeypatch.setattr(clip_loader, "MAX_SKIPPED_IN_A_ROW", 50)
        all_bad = ArraySource(20, faults=dict.fromkeys(range(20), "bad"))
        with pytest.raises(UnusableStreamError, match=r"'arrays': 50 records in a row[^$]*clip-\d+: number \d+ is bad"):
            next(open_loader(all_bad))
        with pytest.raises(UnusableStreamError, match="None of its 20 records can be used"):
            next(open_loader(all_bad, num_epochs=1))
        # One in twenty is enough to go on for ever.
        take(open_loader(ArraySource(20, faults=dict.fromkeys(range(1, 20), "bad"))), 3)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_unforeseen_errors_name_the_record_and_stay(self, num_workers):
        loader = open_loader(ArraySource(20, num_shards=1, faults={9: "bug"}), num_workers, shuffle_block=0)
        try:
            next(loader)
            for _ in range(2 if num_workers else 1):
                with pytest.raises(RecordError, match=r"'clip-0009' of stream 'arrays' raised KeyError: 'a bug'"):
                    take_all(loader) if num_workers == 0 else [next(loader) for _ in range(3)]
        finally:
            loader.close()

    def test_errors_of_the_stream_pass(self):
        with pytest.raises(ValueError, match="arrays has no shard"):
            take(open_loader(ArraySource(num_shards=0), 1), 1)

    def test_a_worker_that_is_killed_is_noticed(self):
        loader = open_loader(ArraySource(20, num_shards=1, faults={9: "die"}), 2, shuffle_block=0)
        with pytest.raises(UnusableStreamError, match="Reading stream 'arrays' failed"):
            take(loader, 6)

    def test_a_worker_that_is_killed_while_idle_is_noticed(self):
        loader = open_loader(ArraySource(), 1)
        first = next(loader)
        os.kill(worker_ids()[0], signal.SIGKILL)
        with pytest.raises(UnusableStreamError, match="Reading stream 'arrays' failed"):
            take(loader, 20)
        assert len(first.keys) == 4

    def test_closing_ends_workers_even_where_one_hangs(self):
        loader = open_loader(ArraySource(20, num_shards=1, faults={9: "hang"}), 2, shuffle_block=0)
        next(loader)
        assert len(worker_ids()) == 2
        loader.close()
        wait_for("the workers' end", lambda: not multiprocessing.active_children())
        with pytest.raises(StopIteration):
            next(loader)
        loader.close()


class BrokenShard(ArraySource):
    def rows(self, shard):
        from trajvit.processing.stored_values import SampleError

        if shard == 1:
            raise SampleError("the shard ends early")
        yield from super().rows(shard)


def worker_ids():
    wait_for("workers", multiprocessing.active_children)
    return [process.pid for process in multiprocessing.active_children()]
