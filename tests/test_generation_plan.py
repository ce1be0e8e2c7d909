"""Which output shards a run makes of its input, and how the plan goes to other processes and outlasts them."""

import json

import pytest
from generation_runs import generator, write_folder, write_shards

from trajvit.processing.generation_plan import (
    InputShard,
    ShardTask,
    find_input,
    plan_tasks,
    shard_from_dict,
    shard_to_dict,
)
from trajvit.processing.generation_settings import GenerationSettings, StoredFrames, differences
from trajvit.processing.media_folders import MediaShard
from trajvit.processing.table_shards import HubShard, TableShard, TextTableShard
from trajvit.processing.tar_shards import TarShard

SUFFIXES = frozenset({"mp4", "txt"})


def settings(**values):
    return GenerationSettings(generator=generator().to_dict(), **values)


def spans(tasks):
    return [(task.name, task.start, task.stop) for task in tasks]


@pytest.mark.parametrize(
    ("shard", "name"),
    [
        (TarShard("a/7.tar", "/in/a/7.tar", SUFFIXES), "a/7.tar"),
        (TarShard("7.tgz", "/in/7.tgz", SUFFIXES), "7.tar"),
        (TarShard("7.tar.bz2", "/in/7.tar.bz2", SUFFIXES), "7.tar"),
        (TarShard("s3://bucket/7.tar", "s3://bucket/7.tar", SUFFIXES), "00000.tar"),
        (TarShard("../7.tar", "../7.tar", SUFFIXES), "00000.tar"),
        (TableShard("a.b.parquet", "/in/a.b.parquet", "parquet"), "a.b.parquet"),
        (TableShard("a.arrow", "/in/a.arrow", "arrow"), "a.parquet"),
        (TextTableShard("x/a.csv", "/in/x/a.csv"), "x/a.parquet"),
        (HubShard("owner/name, part 0", "owner/name", "train", 0, 1), "00000.parquet"),
        (MediaShard("clips", "/in/clips", ("a.mp4",)), "00000"),
    ],
)
def test_names(shard, name):
    (task,) = plan_tasks([InputShard(shard, 1)], settings())
    assert (task.name, task.start, task.stop) == (name, 0, None)
    # By JSON to another process.
    assert ShardTask.from_dict(json.loads(json.dumps(task.to_dict()))) == task
    assert shard_from_dict(json.loads(json.dumps(shard_to_dict(shard)))) == shard


def test_what_can_be_read_from_any_place_is_divided():
    tar = TarShard("7.tar", "/in/7.tar", SUFFIXES)
    assert spans(plan_tasks([InputShard(tar, 7)], settings(shard_size=3))) == [
        ("7-00000.tar", 0, 3),
        ("7-00001.tar", 3, 6),
        ("7-00002.tar", 6, None),
    ]
    for shard, count in ((tar, 3), (tar, None), (TarShard("7.tgz", "/in/7.tgz", SUFFIXES), 7)):
        assert len(plan_tasks([InputShard(shard, count)], settings(shard_size=3))) == 1
    for shard in (TableShard("a.json", "/in/a.json", "json"), TableShard("a.parquet", "s3://a.parquet", "parquet")):
        assert len(plan_tasks([InputShard(shard, 7)], settings(shard_size=3))) == 1


def test_places_do_not_depend_on_what_else_there_is(tmp_path):
    """A folder's shards are named by their places in it, also where all lie in one of its folders."""
    write_shards(tmp_path / "tars" / "only", [10])
    (shard,) = find_input(str(tmp_path / "tars"), settings())
    assert shard.shard.name == "only/0.tar"
    assert shard.size == (tmp_path / "tars" / "only" / "0.tar").stat().st_size
    write_folder(tmp_path / "clips" / "only", [10])
    (shard,) = find_input(str(tmp_path / "clips"), settings())
    assert (shard.shard.folder, shard.shard.files) == (str(tmp_path / "clips"), ("only/00.mp4",))


def test_own_notes_and_hidden_files_are_no_input(tmp_path):
    for folder in ("__generation__", ".cache", "a/__pycache__"):
        write_shards(tmp_path / folder, [10])
    write_shards(tmp_path / "a", [10])
    assert [each.shard.name for each in find_input(str(tmp_path), settings())] == ["a/0.tar"]


def test_settings_survive_json():
    given = settings(frames=StoredFrames(crf=20), columns={"media": "clip"}, options={"sep": ";"}, pack=True)
    assert GenerationSettings.from_dict(json.loads(json.dumps(given.to_dict()))) == given
    assert GenerationSettings.from_dict(settings().to_dict()) == settings()


def test_differences_name_the_place_and_both_values():
    before = {"a": 1, "b": {"c": [1], "d": 2}, "e": None}
    now = {"a": 1, "b": {"c": [2], "d": 2}, "f": True}
    assert differences(before, now) == ["b.c was [1], is [2]", "f was None, is True"]
    assert differences(before, before) == []
