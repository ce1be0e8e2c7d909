"""Runs by Ray Data on a cluster of two nodes: the same bytes as without Ray, whatever is killed."""

import json
import os
import signal
import sys
from threading import Thread

import pytest
from generation_runs import failures, generate, generate_here, generator, outputs, write_shards
from waiting import wait_for

from trajvit.processing.dataset_generation import GenerationFailed
from trajvit.processing.generation_folder import GenerationFolder

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402 - Ray is an extra

SECONDS = 300


NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU on this machine; actors find the backend of the tests by the path that they are told."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set of four shards, and its output by a run that nothing happens to, in this process."""
    folder = tmp_path_factory.mktemp("whole")
    shards = [range(10, 60, 10), range(60, 110, 10), range(110, 160, 10), range(160, 180, 10)]
    write_shards(folder / "in", *shards)
    with pytest.MonkeyPatch.context() as patch:
        generate_here(patch, folder / "in", folder / "out", generator=generator(seconds=0.3))
    return folder / "in", outputs(folder / "out")


def running_in_background(*args, **settings):
    results = []
    thread = Thread(target=lambda: results.append(generate(*args, **settings)))
    thread.start()
    return thread, results


def at_work(output, condition):
    def told():
        running = GenerationFolder(output).running() if output.exists() else []
        return running if condition(running) else None

    return wait_for("workers", told, SECONDS)


def test_two_nodes_count_and_divide_archives_and_write_the_same_bytes(cluster, whole, tmp_path, monkeypatch):
    inputs, _ = whole
    output = tmp_path / "out"
    settings = {"generator": generator(seconds=0.3), "shard_size": 3}
    run, results = running_in_background(inputs, output, ray_address=cluster.address, **settings)
    at_work(output, lambda told: len({each["pid"] for each in told if each["done"]}) == 2)
    run.join(SECONDS)
    assert [(summary.clips, summary.failures, summary.new_shards) for summary in results] == [(17, 0, 7)]
    generate_here(monkeypatch, inputs, tmp_path / "here", shard_size=3)
    assert outputs(output) == outputs(tmp_path / "here")
    lines = map(json.loads, (output / "__generation__" / "log.jsonl").read_text().splitlines())
    connected = next(line for line in lines if line["event"] == "ray_connected")
    assert (connected["nodes"], connected["workers"]) == (2, 2)


def test_killed_actors_and_clips_that_kill(cluster, whole, tmp_path):
    inputs, expected = whole
    output = tmp_path / "out"
    deadly = generator(seconds=0.3, dies_at=[172])
    run, results = running_in_background(inputs, output, ray_address=cluster.address, generator=deadly)
    told = at_work(output, lambda told: any(each["done"] >= 2 for each in told))
    os.kill(next(each["pid"] for each in told if each["done"] >= 2), signal.SIGKILL)
    run.join(SECONDS)
    assert [(summary.clips, summary.failures) for summary in results] == [(16, 1)]
    assert failures(output) == [("001", "worker", "3 worker processes ended while they were at this clip")]
    assert {name: data for name, data in outputs(output).items() if name != "3.tar"} == {
        name: data for name, data in expected.items() if name != "3.tar"
    }


def test_what_ends_a_run(cluster, whole, tmp_path, monkeypatch):
    inputs, _ = whole
    with pytest.raises(GenerationFailed, match="a worker cannot start: OSError: there are no weights"):
        generate(inputs, tmp_path / "a", ray_address=cluster.address, generator=generator(starts=False))
    with pytest.raises(GenerationFailed, match=r"has 2 CPUs and 0 GPUs; a worker needs 1 CPU and 1 GPUs"):
        generate(inputs, tmp_path / "b", ray_address=cluster.address, gpus_per_worker=1)


def test_ray_is_an_extra(whole, tmp_path, monkeypatch):
    inputs, _ = whole
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"Ray is not installed; expected: pip install 'trajvit\[scale\]'"):
        generate(inputs, tmp_path / "out", ray_address="auto")


def test_a_node_may_go_down(whole, tmp_path):
    """There is no CPU to start its actor again while others work."""
    inputs, expected = whole
    output = tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    # To the head, while it is alone: a driver does not outlive the node that it is connected to.
    ray.init(address=cluster.address)
    try:
        node = cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        run, results = running_in_background(
            inputs, output, ray_address=cluster.address, generator=generator(seconds=0.3)
        )
        at_work(output, lambda told: len([each for each in told if each["done"]]) == 2)
        cluster.remove_node(node, allow_graceful=False)
        run.join(SECONDS)
        assert ray.is_initialized()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert [(summary.clips, summary.failures) for summary in results] == [(17, 0)]
    assert outputs(output) == expected
