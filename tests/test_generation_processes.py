"""Runs by real worker processes: the same bytes however many there are, and nothing lost when any of them is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from generation_runs import (
    failures,
    generate,
    generate_here,
    generator,
    heed_interrupts,
    outputs,
    write_folder,
    write_shards,
)
from numbered_videos import write_video
from waiting import wait_for

from trajvit.processing import process_pool
from trajvit.processing.backends import register_backend
from trajvit.processing.dataset_generation import GenerationFailed, StoredFrames
from trajvit.processing.generation_folder import GenerationFolder
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.synthetic_scenes import make_scene

TESTS = Path(__file__).parent
SECONDS = 60  # to wait for what a run is to do next


def at_work(output, least_done=0):
    """What workers tell of shards under way, once there is one with so many clips done."""

    def told():
        return [each for each in GenerationFolder(output).running() if each["done"] >= least_done]

    return wait_for("a worker at work", told)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def events(output, event):
    lines = (output / "__generation__" / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set of three shards, and its output by a run that nothing happens to, in this process.

    Of two workers, one is in the middle of the long shard when the other is done with the first.
    """
    folder = tmp_path_factory.mktemp("whole")
    write_shards(folder / "in", [10, 20], [30, 40, 50, 60, 70, 80], [90, 100])
    with pytest.MonkeyPatch.context() as patch:
        generate_here(patch, folder / "in", folder / "out")
    return folder / "in", outputs(folder / "out")


def test_any_number_of_workers_writes_the_same_bytes(monkeypatch, tmp_path):
    """With the classic backend, and small frames of real motion."""
    for number in range(4):
        scene = make_scene(number)
        (tmp_path / "in").mkdir(exist_ok=True)
        write_video(str(tmp_path / "in" / f"{number}.mp4"), scene.frames[::6], rate=8)
    settings = {
        "generator": TrajectoryGenerator("classic", short_side=64, max_trajectories=16, num_superpixels=80),
        "frames": StoredFrames(short_side=48),
        "num_frames": 5,
        "pack": True,
        "shard_size": 1,
    }
    generate_here(monkeypatch, tmp_path / "in", tmp_path / "here", **settings)
    monkeypatch.undo()
    for workers in (1, 3):
        summary = generate(tmp_path / "in", tmp_path / f"by{workers}", workers=workers, **settings)
        assert (summary.clips, summary.failures) == (4, 0)
        assert len({event["pid"] for event in events(tmp_path / f"by{workers}", "worker_started")}) == workers
        assert outputs(tmp_path / f"by{workers}") == outputs(tmp_path / "here")
        same_record = [GenerationFolder(tmp_path / name).record("00002.tar") for name in ("here", f"by{workers}")]
        assert same_record[0].files["00002.tar"].sha256 == same_record[1].files["00002.tar"].sha256


def test_a_killed_worker_costs_its_shard_only_time(whole, tmp_path):
    inputs, expected = whole
    output = tmp_path / "out"
    results = []
    run = Thread(target=lambda: results.append(generate(inputs, output, workers=2, generator=generator(seconds=0.3))))
    run.start()
    killed = at_work(output, least_done=3)[0]["pid"]
    os.kill(killed, signal.SIGKILL)
    run.join(SECONDS)
    assert [(summary.clips, summary.failures) for summary in results] == [(10, 0)]
    assert outputs(output) == expected
    assert [(event["pid"], event["exit_code"]) for event in events(output, "worker_ended")] == [(killed, -9)]
    assert sorted(event["shard"] for event in events(output, "shard_finished")) == ["0.tar", "1.tar", "2.tar"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_ends_mid_shard_is_followed_by_another(whole, tmp_path, number):
    inputs, expected = whole
    output = tmp_path / "out"
    # As for the command, a signal to end is an exception.
    program = """
import signal
import sys

from generation_runs import generate, generator

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
generate(*sys.argv[1:], workers=2, generator=generator(seconds=0.3))
"""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-X", "trajvit_lazy", "-c", program, inputs, output]
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, preexec_fn=heed_interrupts)
    wait_for("a finished shard", lambda: output.exists() and list(output.glob("*.tar")))
    workers = {each["pid"] for each in at_work(output, least_done=1)}
    driver.send_signal(number)
    driver.communicate(timeout=SECONDS)
    assert driver.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: -2}[number]
    wait_for("the workers' end", lambda: not any(map(is_alive, workers)))

    finished = outputs(output)
    assert 1 <= len(finished) < 3
    assert all(expected[name] == content for name, content in finished.items())
    if number != signal.SIGKILL:
        assert not list((output / "__generation__" / "parts").iterdir())
        assert GenerationFolder(output).running() == []
    inodes = {path: path.stat().st_ino for path in output.glob("*.tar")}
    summary = generate(inputs, output, workers=2, generator=generator(seconds=0.3))
    assert summary.new_shards == 3 - len(finished)
    assert outputs(output) == expected
    assert {path: path.stat().st_ino for path in inodes} == inodes


def test_a_clip_that_ends_its_process_is_given_up(whole, tmp_path):
    inputs, expected = whole
    summary = generate(inputs, tmp_path / "out", workers=1, generator=generator(dies_at=[22], lost_at=[42]))
    assert (summary.clips, summary.failures) == (8, 2)
    assert failures(tmp_path / "out") == [
        ("001", "worker", "3 worker processes ended while they were at this clip"),
        ("001", "worker", "3 worker processes ended while they were at this clip"),
    ]
    assert outputs(tmp_path / "out")["2.tar"] == expected["2.tar"]
    assert [event["exit_code"] for event in events(tmp_path / "out", "worker_ended")] == [-9] * 3 + [1] * 3
    log = (tmp_path / "out" / "__generation__" / "workers.log").read_text()
    assert log.count("RuntimeError: CUDA error: an illegal memory access") == 3


def test_workers_that_cannot_start_end_the_run(whole, tmp_path, monkeypatch):
    inputs, _ = whole
    with pytest.raises(GenerationFailed, match="a worker cannot start: OSError: there are no weights"):
        generate(inputs, tmp_path / "out", workers=2, generator=generator(starts=False))
    (tmp_path / "ends_at_once.py").write_text(
        "import os, sys\nif not hasattr(sys, 'is_driver'):\n    os._exit(7)\n"
        "class Ends:\n    name, frame_interval = 'ends', None\n    def track(self, clips, most, progress=None): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "is_driver", True, raising=False)
    register_backend("ends-at-once", "ends_at_once:Ends")
    with pytest.raises(GenerationFailed, match=r"end as they start, the last with exit code 7; .*workers\.log says"):
        generate(inputs, tmp_path / "other", workers=2, generator=TrajectoryGenerator("ends-at-once"))


def test_a_backend_that_others_cannot_import_is_refused(whole, tmp_path, monkeypatch):
    inputs, _ = whole
    monkeypatch.setattr(sys.modules["__main__"], "Quarters", generator().backend.__class__, raising=False)
    register_backend("mine", "__main__:Quarters")
    with pytest.raises(ValueError, match="'mine' is registered at __main__:Quarters, which worker processes cannot"):
        generate(inputs, tmp_path / "out", generator=TrajectoryGenerator("mine"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_ends_the_run_and_costs_nothing_that_is_finished(tmp_path, monkeypatch):
    videos = write_folder(tmp_path / "in", range(10, 200, 10), captions=False)
    for path in videos.iterdir():
        # A megabyte behind the video, which no decoder minds.
        path.write_bytes(path.read_bytes() + os.urandom(2**20 // 8))
    settings = {"pack": True, "shard_size": 3}
    generate_here(monkeypatch, videos, tmp_path / "whole", **settings)
    monkeypatch.undo()
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    try:
        with pytest.raises(GenerationFailed, match="cannot be written: No space left on device"):
            generate(videos, disk / "out", workers=2, **settings)
        finished = outputs(disk / "out")
        assert 1 <= len(finished) < 7
        assert not list((disk / "out" / "__generation__" / "parts").iterdir())
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        summary = generate(videos, disk / "out", workers=2, **settings)
        assert summary.new_shards == 7 - len(finished)
        assert outputs(disk / "out") == outputs(tmp_path / "whole")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


class TestDevices:
    """Which GPUs each worker sees."""

    @pytest.fixture(autouse=True)
    def _four_gpus(self, monkeypatch):
        monkeypatch.setattr(process_pool, "_visible_gpus", lambda: ["0", "1", "GPU-a", "3"])

    @pytest.mark.parametrize(
        ("workers", "share", "devices"),
        [
            (3, 0, [None] * 3),
            (None, 1, ["0", "1", "GPU-a", "3"]),
            (None, 2, ["0,1", "GPU-a,3"]),
            (None, 0.5, ["0", "0", "1", "1", "GPU-a", "GPU-a", "3", "3"]),
            (5, 0.4, ["0", "0", "1", "1", "GPU-a"]),
            (1, 4, ["0,1,GPU-a,3"]),
        ],
    )
    def test_shares(self, workers, share, devices):
        assert process_pool.devices_of_workers(workers, share) == devices

    @pytest.mark.parametrize(
        ("workers", "share", "message"),
        [
            (5, 1, "5 workers with 1 GPUs each do not fit on the 4 GPUs"),
            (9, 0.5, "9 workers with 0.5 GPUs each"),
            (None, 8, "0 workers with 8 GPUs each"),
            (1, 1.5, r"gpus_per_worker must be in 0\.\.1 or a whole number, got 1\.5"),
            (1, -1, "got -1"),
        ],
    )
    def test_illegal(self, workers, share, message):
        with pytest.raises(ValueError, match=message):
            process_pool.devices_of_workers(workers, share)

    def test_no_gpu(self, monkeypatch):
        monkeypatch.setattr(process_pool, "_visible_gpus", list)
        with pytest.raises(ValueError, match="on the 0 GPUs that there are"):
            process_pool.devices_of_workers(None, 1)
