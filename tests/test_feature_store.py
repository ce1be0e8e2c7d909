"""Features on disk: what is written is read, file by file, and nothing is taken for what it is not."""

import os

import pytest
import torch

from trajvit.evaluation.evaluation_data import MediaItem
from trajvit.evaluation.feature_store import FeatureStore, hash_of_items


def make_features(lengths, width=3):
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randn(length, width, generator=generator) for length in lengths]


def test_sequences_of_any_length_come_back_in_order(tmp_path):
    store = FeatureStore(tmp_path, num_items=5, chunk_size=3, about={"kind": "regions"})
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
    store = FeatureStore(tmp_path, num_items=3, chunk_size=2, about={})
    vectors = make_features([1, 1])
    store.write(0, {}, {0: "broken", 1: "broken"})
    assert not store.has(1)
    store.write(1, {2: vectors[1:]}, {})
    assert store.has(1)
    assert torch.equal(store.vectors(), vectors[1])


@pytest.mark.parametrize(("features", "failures"), [({0: []}, {}), ({0: [], 1: []}, {1: "why"}), ({}, {0: "", 2: ""})])
def test_a_file_knows_of_each_of_its_items_once(tmp_path, features, failures):
    store = FeatureStore(tmp_path, num_items=2, chunk_size=2, about={})
    with pytest.raises(ValueError, match=r"expected range\(0, 2\)"):
        store.write(0, features, failures)
    assert not store.has(0)


def test_a_folder_of_other_features_is_refused(tmp_path):
    FeatureStore(tmp_path, 4, 2, {"kind": "tokens"})
    FeatureStore(tmp_path, 4, 2, {"kind": "tokens"})
    with pytest.raises(ValueError, match=r"holds other features than .*'num_items': 5"):
        FeatureStore(tmp_path, 5, 2, {"kind": "tokens"})


def test_an_unfinished_file_is_no_file(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, 1, 1, {})

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
    items = [MediaItem("a", str(path)), MediaItem("b", b"bytes")]
    hashes = {hash_of_items(items)}
    assert hash_of_items([MediaItem("a", str(path)), MediaItem("b", {"bytes": b"bytes", "path": None})]) in hashes
    others = [
        [MediaItem("a", str(path)), MediaItem("b", b"other")],
        [MediaItem("a", str(path), start=1.0), items[1]],
        [MediaItem("a", None), items[1]],
        [items[1], items[0]],
        [MediaItem("a", str(path), trajectories=b"png"), items[1]],
    ]
    hashes |= {hash_of_items(other) for other in others}
    path.write_bytes(b"another")
    hashes.add(hash_of_items(items))
    assert len(hashes) == 7
