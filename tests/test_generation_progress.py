"""How far a run says it is, and what its log holds."""

import json

import pytest
from generation_runs import generate_here, write_shards

from trajvit.processing import generation_progress
from trajvit.processing.generation_folder import GenerationFolder
from trajvit.processing.generation_progress import GenerationLog, ProgressWatch
from trajvit.processing.generation_statistics import GenerationStatistics
from trajvit.processing.running_shard import RunningShard
from trajvit.processing.shard_records import Failure, ShardRecord


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [0.0]
    monkeypatch.setattr(generation_progress, "monotonic", lambda: now[0])
    return now


def finished(clips, failures=0):
    faults = tuple(Failure(str(number), "decode", "no video", number) for number in range(failures))
    return ShardRecord("0.tar", "0.tar", {}, faults, GenerationStatistics(clips=clips))


def test_pace_and_time_left_are_those_since_the_first_clip(tmp_path, clock):
    folder = GenerationFolder(tmp_path)
    folder.create()
    watch = ProgressWatch(folder, 100, 4, None, GenerationLog(folder.log))
    watch.count(finished(20))  # of an earlier run
    with watch:
        assert (watch.progress().clips, watch.progress().clips_per_second) == (20, None)
        clock[0] = 30.0  # workers have started
        running = RunningShard(folder.running_path("1.tar"), 0)
        running.at(2, 2)
        told = watch.progress()
        assert (told.clips, told.workers, told.clips_per_second, told.seconds_left) == (22, 1, None, None)
        clock[0] = 40.0
        running.at(7, 7)
        told = watch.progress()
        assert (told.clips, told.clips_per_second, told.seconds_left) == (27, 0.5, 146.0)
        clock[0] = 50.0
        running.finish()
        watch.count(finished(28, failures=2))
        told = watch.progress()
        assert (told.clips, told.failures, told.shards, told.num_shards) == (50, 2, 2, 4)
        assert told.clips_per_second == pytest.approx(28 / 20)
        assert told.seconds_left == pytest.approx(50 / 1.4)


def test_no_time_is_told_where_clips_cannot_be_counted(tmp_path, clock):
    folder = GenerationFolder(tmp_path)
    folder.create()
    watch = ProgressWatch(folder, None, 4, None, GenerationLog(folder.log))
    with watch:
        for clock[0], clips in ((1.0, 5), (2.0, 5)):
            watch.count(finished(clips))
            told = watch.progress()
        assert (told.clips, told.clips_per_second, told.seconds_left) == (10, 5.0, None)


def test_who_asked_is_told_at_the_end(monkeypatch, tmp_path):
    write_shards(tmp_path / "in", [10, 20], [30])
    told = []
    generate_here(monkeypatch, tmp_path / "in", tmp_path / "out", on_progress=told.append)
    assert (told[-1].clips, told[-1].num_clips, told[-1].shards, told[-1].num_shards) == (3, 3, 2, 2)


def test_the_log_is_json_with_times_in_order(monkeypatch, tmp_path):
    write_shards(tmp_path / "in", [10], [20])
    generate_here(monkeypatch, tmp_path / "in", tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "__generation__" / "log.jsonl").read_text().splitlines()]
    names = ["run_started", "planned", "shard_finished", "shard_finished", "run_finished"]
    assert [line["event"] for line in lines] == names
    assert sorted(line["time"] for line in lines) == [line["time"] for line in lines]
    assert lines[-1]["clips"] == 2


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path):
    GenerationLog(tmp_path / "nowhere" / "log.jsonl")("event", value=1)
