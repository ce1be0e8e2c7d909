"""Values that are no numbers and memory that runs out while SAM 2 tracks a video."""

import numpy as np
import pytest
import torch

pytest.importorskip("sam2")

from random_sam2 import randomise_
from sam2_clips import (
    IMAGE_SIZE,
    Grid,
    Steps,
    assert_same,
    clips_of,
    pictures,
    track,
    track_naively,
)

from trajvit.processing.sam2_loading import build_sam2
from trajvit.processing.sam2_tracker import Sam2Tracker


@pytest.fixture(scope="module")
def tracker():
    return Sam2Tracker(randomise_(build_sam2("tiny", IMAGE_SIZE)))


@pytest.fixture(scope="module")
def video():
    """Nine frames, cut before frames 4, 7 and 8, and what a plain loop finds in them."""
    return clips_of(pictures(9), [0, 4, 7, 8])


@pytest.fixture(scope="module")
def expected(tracker, video):
    return track_naively(tracker, video, Grid())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_object_without_a_score_ends_with_a_warning(tracker, value):
    (clip,) = clips_of(pictures(5))
    (sound,) = track(tracker, [clip])
    victim = int(np.bincount(sound[2:].reshape(-1), minlength=5)[1:].argmax())
    calls = []

    def break_one(module, inputs, output):
        calls.append(len(inputs[0]))
        if len(calls) == 3:
            output[victim] = value
        return output

    handle = tracker.model.sam_mask_decoder.pred_obj_score_head.register_forward_hook(break_one)
    try:
        with pytest.warns(RuntimeWarning, match="NaN or infinite values for 1 of 4 objects") as caught:
            (volume,) = track(tracker, [clip])
    finally:
        handle.remove()
    assert len(caught) == 1
    assert calls == [4, 4, 4, 3, 3]
    np.testing.assert_array_equal(volume[:2], sound[:2])
    assert not (volume[2:] == victim + 1).any()
    others = (sound[2:] != victim + 1) & (sound[2:] > 0)
    assert np.mean(volume[2:][others] != sound[2:][others]) <= 5e-4


def test_objects_without_logits_end_with_a_warning(tracker):
    (clip,) = clips_of(pictures(4))
    handles = [
        head.register_forward_hook(lambda module, inputs, output: output * float("nan"))
        for head in tracker.model.sam_mask_decoder.output_hypernetworks_mlps
    ]
    try:
        with pytest.warns(RuntimeWarning, match="NaN or infinite values for 4 of 4 objects"):
            (volume,) = track(tracker, [clip])
    finally:
        for handle in handles:
            handle.remove()
    assert len(np.unique(volume[0])) == 4
    assert not volume[1:].any()


def raise_beyond(most, error):
    def check(batch):
        if batch > most:
            raise error

    return check


CPU_ERROR = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize(
    ("most", "error"), [(1, CPU_ERROR), (5, torch.OutOfMemoryError("CUDA out of memory."))], ids=["cpu", "cuda"]
)
def test_where_memory_runs_out_the_chunk_is_halved_and_goes_on(tracker, video, expected, most, error):
    with Steps(tracker, raise_beyond(most, error)) as steps:
        volumes = track(tracker, video, at_once=12)
    assert_same(volumes, expected)
    assert max(steps.batches) <= most
    # Nothing is done twice but the failed steps: 12 starts, and 4 objects for each of 4 + 3 + 1 steps.
    assert sum(steps.batches) == 12 + 4 * 8


def test_memory_that_runs_out_in_mid_clip(tracker, video, expected):
    calls = []

    def check(batch):
        calls.append(batch)
        if len(calls) > 3 and batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with Steps(tracker, check) as steps:
        volumes = track(tracker, video, at_once=12)
    assert_same(volumes, expected)
    assert sum(steps.batches) == 12 + 4 * 8
    assert max(steps.batches[3:]) <= 2


def test_memory_that_does_not_suffice_for_one_object_is_said(tracker, video):
    with (
        Steps(tracker, raise_beyond(0, torch.OutOfMemoryError("CUDA out of memory."))),
        pytest.raises(torch.OutOfMemoryError, match="even one object at image_size 64; a smaller image_size"),
    ):
        track(tracker, video)


def test_other_errors_are_not_taken_for_it(tracker, video):
    with (
        Steps(tracker, raise_beyond(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))),
        pytest.raises(RuntimeError, match="mat1 and mat2"),
    ):
        track(tracker, video)
