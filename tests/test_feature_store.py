"""Features on disk: what is written is read, file by file, and nothing is taken for what it is not."""

import os

import pytest
import torch

from trajvit.evaluation.evaluation_data import MediaItem
from trajvit.evaluation.feature_store import FeatureStore, hash_of_item
from trajvit.processing.stored_values import FilePart


def make_features(lengths, width=3):
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randn(length, width, generator=generator) for length in lengths]


def test_sequences_of_any_length_come_back_in_order(tmp_path):
    store = FeatureStore(tmp_path, list("abcde"), chunk_size=3, about={"kind": "regions"})
    written = {0: make_features([2, 5]), 2: make_features([1]), 3: make_features([4]), 4: []}
    store.write(0, {0: written[0], 2: written[2]}, {1: "no such file"})
    store.write(1, {3: written[3], 4: written[4]}, {})
    first, second = store.chunks()
    assert first.counts.tolist() == [2, 0, 1]
    assert first.lengths.tolist() == [2, 5, 1]
    assert second.first == 3
    assert second.counts.tolist() == [1, 0]
    for number, expected in enumerate([*written[0], *written[2]]):
        assert torch.equal(first.sequence(number), expected)
    assert torch.equal(second.all_features(), written[3][0])
    assert store.failures() == {1: "no such file"}


def test_vectors_are_those_of_the_items_that_could_be_used(tmp_path):
    store = FeatureStore(tmp_path, list("abc"), chunk_size=2, about={})
    vectors = make_features([1, 1])
    store.write(0, {}, {0: "broken", 1: "broken"})
    assert not store.has(1)
    store.write(1, {2: vectors[1:]}, {})
    assert store.has(1)
    assert torch.equal(store.vectors(), vectors[1])


@pytest.mark.parametrize(("features", "failures"), [({0: []}, {}), ({0: [], 1: []}, {1: "why"}), ({}, {0: "", 2: ""})])
def test_a_file_knows_of_each_of_its_items_once(tmp_path, features, failures):
    store = FeatureStore(tmp_path, list("ab"), chunk_size=2, about={})
    with pytest.raises(ValueError, match=r"expected range\(0, 2\)"):
        store.write(0, features, failures)
    assert not store.has(0)


def test_what_changes_costs_its_own_file_alone(tmp_path):
    vectors = make_features([1, 1, 1, 1])
    store = FeatureStore(tmp_path, list("abcd"), 2, {})
    store.write(0, {0: vectors[:1], 1: vectors[1:2]}, {})
    store.write(1, {2: vectors[2:3]}, {3: "broken"})
    changed = FeatureStore(tmp_path, list("abcx"), 2, {})
    assert [changed.has(0), changed.has(1)] == [True, False]
    moved = FeatureStore(tmp_path, list("cdab"), 2, {})
    assert moved.failures() == {1: "broken"}
    assert torch.equal(moved.vectors(), torch.cat([vectors[2], vectors[0], vectors[1]]))


def test_a_damaged_file_is_named(tmp_path):
    store = FeatureStore(tmp_path, ["a"], 1, {})
    store.write(0, {0: make_features([3])}, {})
    path = next(tmp_path.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=f"{path.name} holds no features .*; remove it"):
        FeatureStore(tmp_path, ["a"], 1, {}).read(0)


def test_an_unfinished_file_is_no_file(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, ["a"], 1, {})

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        store.write(0, {0: make_features([1])}, {})
    assert not store.has(0)
    assert [path.name for path in tmp_path.iterdir()] == ["about.json"]


def test_other_media_have_another_hash(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    whole = MediaItem("a", str(path))
    items = [
        whole,
        MediaItem("b", str(path)),
        MediaItem("a", str(path), start=1.0),
        MediaItem("a", None),
        MediaItem("a", str(path), trajectories=b"png"),
        MediaItem("a", b"one"),
        MediaItem("a", b"two"),
        MediaItem("a", b"two", identity="row 7"),
        MediaItem("a", FilePart(str(path), 1, 2)),
    ]
    hashes = {hash_of_item(item) for item in items}
    assert len(hashes) == len(items)
    assert hash_of_item(MediaItem("a", {"bytes": None, "path": str(path)})) == hash_of_item(whole)
    assert hash_of_item(MediaItem("a", {"bytes": b"one", "path": None})) == hash_of_item(items[5])
    assert hash_of_item(MediaItem("a", {"bytes": None, "path": None})) == hash_of_item(items[3])
    assert hash_of_item(MediaItem("a", b"other", identity="row 7")) == hash_of_item(items[7])
    path.write_bytes(b"another")
    assert hash_of_item(whole) not in hashes
