"""How many objects go together, and what tells that memory ran out."""

import pytest
import torch

from trajvit.processing.sam2_object_chunks import ObjectChunk, is_out_of_memory, objects_at_once

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_on_a_cpu_few_objects_go_together():
    assert objects_at_once(CPU, 10**6, None) == 8
    assert objects_at_once(CPU, 10**6, memory_budget_gb=1) == 8
    assert objects_at_once(CPU, 10**6, memory_budget_gb=0.0055) == 5
    assert objects_at_once(CPU, 10**6, memory_budget_gb=1e-9) == 1


def test_a_given_budget_needs_no_look_at_the_gpu():
    assert objects_at_once(CUDA, 10**8, memory_budget_gb=2.55) == 25


def test_on_a_gpu_most_of_its_free_memory_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (9 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * 10**9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * 10**9)
    assert objects_at_once(CUDA, 10**8, None) == 80


def test_the_errors_that_say_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not is_out_of_memory(caught.value)


def test_halves_keep_every_object():
    chunk = ObjectChunk((0, 0, 1, 1, 2), (1, 2, 1, 2, 1), (0, 1, 2, 3, 4), position=3)
    first, second = chunk.halves()
    assert first.clips + second.clips == chunk.clips
    assert first.labels + second.labels == chunk.labels
    assert first.absent + second.absent == chunk.absent
    assert {len(first), len(second)} == {2, 3}
    assert first.position == second.position == 3
