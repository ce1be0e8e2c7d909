"""Rows of tables of HF Datasets as media that stay in their files until they are asked for."""

import os
import pickle
import tracemalloc
from collections import deque

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from trajvit.evaluation.evaluation_data import LazyItems, missing_media, outlines
from trajvit.evaluation.feature_store import hash_of_item
from trajvit.evaluation.hub_data import read_hub_classification, read_hub_retrieval

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    use_cache(tmp_path / "cache", monkeypatch)
    datasets.disable_progress_bars()


def use_cache(folder, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)


def write_clips(path, contents, **columns):
    pa.parquet.write_table(pa.table({"video": contents, "text": ["a"] * len(contents), **columns}), path)
    return path


def mixed_files(folder):
    """A mapping of bytes and path of each kind, with what its media are and where they were looked for."""
    (folder / "there.mp4").write_bytes(b"there")
    rows = [
        ({"bytes": b"one", "path": "name.mp4"}, b"one", None),
        ({"bytes": b"two", "path": None}, b"two", None),
        ({"bytes": None, "path": "there.mp4"}, f"{folder}/there.mp4", None),
        ({"bytes": b"", "path": "gone.mp4"}, None, f"file {folder}/gone.mp4"),
        ({"bytes": None, "path": None}, None, "value in video"),
        (None, None, "value in video"),
    ]
    return write_clips(folder / "mixed.parquet", [stored for stored, _, _ in rows]), rows


def peak(work):
    """The most bytes that Python has held at once for this, and the most that Arrow has, in sum."""
    pool, usual = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


@pytest.mark.parametrize("mapped", [False, True])
def test_media_are_read_as_items_are_asked_for(tmp_path, mapped):
    contents = [bytes([number]) * (4 * MIB) for number in range(6)]
    stored = [{"bytes": content, "path": "a.mp4"} for content in contents] if mapped else contents
    datasets.Dataset.from_dict({"video": stored, "traj": contents, "text": ["a"] * 6, "label": [0] * 6}).save_to_disk(
        tmp_path / "saved"
    )

    def read(kind=read_hub_retrieval, **options):
        return kind(tmp_path / "saved", trajectories_column="traj", **options)

    items = read().items
    assert peak(lambda: pa.array(contents)) > 24 * MIB
    assert peak(lambda: [item.media for item in items]) > 24 * MIB
    assert peak(read) < 2 * MIB
    assert peak(lambda: read(read_hub_classification, class_names=["a"])) < 2 * MIB
    assert peak(lambda: missing_media(items)) < 12 * MIB
    assert peak(lambda: deque(items, maxlen=1)) < 24 * MIB
    without = read_hub_retrieval(tmp_path / "saved").items
    assert peak(lambda: missing_media(without)) < 2 * MIB
    assert peak(lambda: [hash_of_item(item) for item in outlines(without)]) < 2 * MIB
    assert len(pickle.dumps(items)) < 8192
    assert [item.media for item in pickle.loads(pickle.dumps(items))] == contents


def test_items_are_what_is_stored(tmp_path):
    path, rows = mixed_files(tmp_path)
    items = read_hub_retrieval(path).items
    assert isinstance(items, LazyItems)
    assert [(item.key, item.media, item.expected) for item in items] == [
        (str(number), media, expected) for number, (_, media, expected) in enumerate(rows)
    ]
    assert [item.media for item in items[1:3]] == [b"two", f"{tmp_path}/there.mp4"]
    assert items[-5].media == b"two"
    for position in (6, -7):
        with pytest.raises(IndexError, match=f"position is {position} of 6 rows"):
            items[position]
    again = pickle.loads(pickle.dumps(items))
    assert [vars(item) for item in again] == [vars(item) for item in items]


def test_outlines_say_the_same_of_items(tmp_path):
    path, rows = mixed_files(tmp_path)
    table = pa.parquet.read_table(path).append_column("traj", pa.array([b"ids", None, b"", b"ids", None, b"x"]))
    pa.parquet.write_table(table.append_column("name", pa.array(list("abcdef"))), path)
    items = read_hub_retrieval(path, key_column="name", trajectories_column="traj").items
    outlined = list(outlines(items))
    assert [item.key for item in outlined] == list("abcdef")
    assert missing_media(items) == {
        key: f"there is no {expected}" for key, (_, media, expected) in zip("abcdef", rows, strict=True) if not media
    }
    assert [item.trajectories for item in outlined] == [b"ids", None, None, b"ids", None, b"x"]
    assert [hash_of_item(item) for item in outlined] == [hash_of_item(item) for item in items]
    assert not any(isinstance(item.media, bytes) for item in outlined)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3)])
def test_bytes_of_every_type(tmp_path, kind):
    items = read_hub_retrieval(write_clips(tmp_path / "a.parquet", pa.array([b"one", None], kind))).items
    assert [item.media for item in items] == [b"one", None]
    assert [item.expected for item in outlines(items)] == [None, "value in video"]


def identities(path, **options):
    return [item.identity for item in read_hub_retrieval(path, **options).items]


def test_identities_tell_contents_apart(tmp_path, monkeypatch):
    path = write_clips(tmp_path / "a.parquet", [b"one", b"two"], image=[b"red", b"tan"])
    first = identities(path, media_column="video")
    use_cache(tmp_path / "other cache", monkeypatch)
    assert identities(path, media_column="video") == first
    others = [
        *identities(path, media_column="image"),
        *identities(write_clips(tmp_path / "b.parquet", [b"one", b"two"])),
    ]
    changed = os.stat(path).st_mtime + 5
    write_clips(path, [b"six", b"ten"], image=[b"red", b"tan"])
    os.utime(path, (changed, changed))
    assert read_hub_retrieval(path, media_column="video").items[0].media == b"six"
    others += identities(path, media_column="video")
    assert len({*first, *others}) == 8
    mixed, rows = mixed_files(tmp_path)
    assert [identity is not None for identity in identities(mixed)] == [isinstance(row[1], bytes) for row in rows]


def test_a_saved_table_keeps_its_fingerprint_but_not_its_identity(tmp_path):
    found = []
    for number, content in enumerate((b"one", b"six")):
        table = datasets.Dataset.from_dict({"video": [content], "text": ["a"]}, split="test")
        table._fingerprint = "same"
        table.save_to_disk(tmp_path / "saved")
        (file,) = (tmp_path / "saved").glob("*.arrow")
        os.utime(file, (number, number))
        found.append(identities(tmp_path / "saved"))
        assert identities(tmp_path / "saved") == found[number]
    assert found[0] != found[1]
