"""Features are the model's own, whoever computes them and however often it was interrupted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluated_models import FRAMES, make_model, write_squares

from trajvit.evaluation import feature_extraction
from trajvit.evaluation.evaluation_data import MediaItem
from trajvit.evaluation.feature_extraction import (
    Extraction,
    embed_media,
    embed_texts,
    extract_regions,
    extract_tokens,
)
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.video_frames import VideoFrames

TEXTS = ["a red star moves left", "a large blue circle", "a green heart"]


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("videos"), 5)


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(feature_extraction, "ITEMS_PER_CHUNK", 2)


def extraction_in(folder, **changes):
    return Extraction(folder, batch_size=2, show_progress=False, **changes)


@pytest.mark.parametrize("tower", ["trajvit", "rlt"])
def test_embeddings_are_those_of_the_processor_and_the_model(tower, items, tmp_path):
    model = make_model(tower)
    store = embed_media(model, items, extraction_in(tmp_path))
    paths = [item.media for item in items]
    with torch.no_grad():
        inputs = model.video_processor(paths, return_tensors="pt")
        expected = model.model.get_video_features(**inputs).pooler_output
    assert torch.allclose(store.vectors(), torch.nn.functional.normalize(expected, dim=-1), atol=1e-5)


def test_tokens_are_those_that_are_there(items, tmp_path):
    model = make_model("trajvit")
    tower = replace(model, model=model.model.vision_model, tokenizer=None)
    store = extract_tokens(tower, items, extraction_in(tmp_path))
    with torch.no_grad():
        outputs = tower.model(**model.video_processor([item.media for item in items], return_tensors="pt"))
    sequences = [chunk.sequence(number) for chunk in store.chunks() for number in range(len(chunk.lengths))]
    assert len({len(tokens) for tokens in sequences}) > 1
    for tokens, all_tokens, mask in zip(sequences, outputs.last_hidden_state, outputs.token_mask, strict=True):
        assert torch.allclose(tokens, all_tokens[mask], atol=1e-5)


def test_texts_have_the_models_embeddings_in_their_order(tmp_path):
    model = make_model()
    found = embed_texts(model, TEXTS, extraction_in(tmp_path))
    with torch.no_grad():
        expected = [
            model.model.get_text_features(**model.tokenizer(text, return_tensors="pt")).pooler_output[0]
            for text in TEXTS
        ]
    assert torch.allclose(found, torch.nn.functional.normalize(torch.stack(expected), dim=-1), atol=1e-5)


def test_regions_are_pooled_in_the_frame_nearest_to_the_key_frame(items, tmp_path):
    model = make_model("vit3d")
    boxes = torch.tensor([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]])
    # Six frames at 24 a second; four are sampled: 0, 2, 3 and 5.
    asked = ([boxes, boxes[:1], boxes[:0]], [5 / 24, 0.0, 0.0])
    store = extract_regions(model, items[:3], *asked, extraction_in(tmp_path))
    assert [count for chunk in store.chunks() for count in chunk.counts.tolist()] == [2, 1, 0]
    tower = model.vision_tower
    with torch.no_grad():
        outputs = tower(**model.video_processor([items[0].media], return_tensors="pt"))
        expected = tower.region_features(outputs, boxes[None], torch.tensor([3]))
        other = tower.region_features(outputs, boxes[None], torch.tensor([0]))
    first = store.read(0)
    for region in range(2):
        assert torch.allclose(first.sequence(region), expected.features[0, region], atol=1e-5)
        assert not torch.allclose(first.sequence(region), other.features[0, region], atol=1e-3)
    elsewhere = extract_regions(model, items[:3], asked[0], [0.0] * 3, extraction_in(tmp_path))
    assert torch.allclose(elsewhere.read(0).sequence(0), other.features[0, 0], atol=1e-5)


def test_processes_share_the_work_and_find_the_same_bits(items, tmp_path):
    model = make_model()
    alone = embed_media(model, items, extraction_in(tmp_path / "alone"))
    waited = []
    for rank in (1, 0):
        shared = embed_media_of(model, items, tmp_path / "shared", rank, waited)
    assert waited == [1, 3]
    assert torch.equal(alone.vectors(), shared)


def embed_media_of(model, items, folder, rank, waited):
    """What a process of two computes; it notes how many files are there when it has done its part."""

    def wait():
        waited.append(len(list(folder.rglob("*.safetensors"))))

    store = embed_media(model, items, extraction_in(folder, process_index=rank, num_processes=2, wait=wait))
    return store.vectors() if len(waited) == 2 else None


def test_what_is_there_is_not_computed_again(items, tmp_path, monkeypatch):
    model = make_model()
    first = embed_media(model, items, extraction_in(tmp_path)).vectors()
    monkeypatch.setattr(model.model, "get_video_features", lambda **_: pytest.fail("it was computed again"))
    assert torch.equal(embed_media(model, items, extraction_in(tmp_path)).vectors(), first)


def test_an_interrupted_run_goes_on_with_the_files_that_are_missing(items, tmp_path, monkeypatch):
    model = make_model()
    calls = []
    features_of = model.model.get_video_features

    def interrupted(**inputs):
        calls.append(len(inputs["pixel_values_videos"]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return features_of(**inputs)

    monkeypatch.setattr(model.model, "get_video_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed_media(model, items, extraction_in(tmp_path))
    store = embed_media(model, items, extraction_in(tmp_path))
    assert calls == [2, 2, 2, 1]
    expected = embed_media(make_model(), items, extraction_in(tmp_path / "whole"))
    assert torch.equal(store.vectors(), expected.vectors())


def test_other_weights_have_other_features(items, tmp_path):
    first, second = make_model(seed=0), make_model(seed=1)
    assert first.fingerprint == make_model(seed=0).fingerprint != second.fingerprint
    vectors = [embed_media(model, items, extraction_in(tmp_path)).vectors() for model in (first, second)]
    assert not torch.allclose(*vectors, atol=1e-3)


def test_an_item_that_cannot_be_used_costs_no_other(items, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    wrong = [MediaItem("broken", str(tmp_path / "broken.mp4")), MediaItem("gone", None, expected="gone.mp4 in videos")]
    mixed = [items[0], *wrong, items[1]]
    store = embed_media(make_model(), mixed, extraction_in(tmp_path / "cache"))
    failures = store.failures()
    assert sorted(failures) == [1, 2]
    assert "broken.mp4" in failures[1]
    assert failures[2] == "there is no gone.mp4 in videos"
    expected = embed_media(make_model(), [items[0], items[1]], extraction_in(tmp_path / "others")).vectors()
    assert torch.allclose(store.vectors(), expected, atol=1e-6)


def test_what_could_not_be_used_is_tried_again(tmp_path):
    path = tmp_path / "0.mp4"
    path.write_bytes(b"no video")
    model, item = make_model(), MediaItem("0", b"no video")
    extraction = extraction_in(tmp_path / "cache")
    assert embed_media(model, [item], extraction).failures()
    calls = []
    original = feature_extraction.load_batches

    def listen(batches, *rest):
        calls.append(len(batches))
        return original(batches, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_extraction, "load_batches", listen)
        embed_media(model, [item], replace(extraction, retry_failures=False))
        assert calls == [0]
        embed_media(model, [item], extraction)
        assert calls == [0, 1]


def test_a_model_is_known_by_its_weights_wherever_it_lies(items, tmp_path):
    model = make_model()
    first = embed_media(model, items, extraction_in(tmp_path)).vectors()
    moved = replace(model, name="user/model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.model, "get_video_features", lambda **_: pytest.fail("it was computed again"))
        assert torch.equal(embed_media(moved, items, extraction_in(tmp_path)).vectors(), first)


def test_stored_trajectories_are_no_more_than_the_processor_makes(items, tmp_path):
    model = make_model("trajvit")
    tower = replace(model, model=model.model.vision_model, tokenizer=None)
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    numbers = np.arange(4)
    labels = np.broadcast_to(np.arange(64).reshape(8, 8).repeat(4, 0).repeat(4, 1), (4, 32, 32)).copy()
    labels[:, :8, :8] = 1
    stored = Trajectories.from_labels(labels)
    assert stored.num_trajectories > 50
    item = MediaItem("many", VideoFrames(frames, numbers, numbers, numbers / 8, 8.0), trajectories=stored)
    store = extract_tokens(tower, [item], extraction_in(tmp_path))
    # The processor's generator makes at most six; CLS is the seventh.
    assert store.read(0).lengths.tolist() == [7]


def test_stretches_and_workers(items, tmp_path):
    model = make_model()
    stretches = [MediaItem(f"{item.key}-end", item.media, start=2 / 24) for item in items[:3]]
    store = embed_media(model, stretches, extraction_in(tmp_path, num_workers=1))
    expected = []
    for item in stretches:
        video = model.video_processor(item.media, do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]
        assert video.shape[1] == 6
        with torch.no_grad():
            expected.append(model.model.get_video_features(pixel_values_videos=video[:, 2:]).pooler_output[0])
    expected = torch.nn.functional.normalize(torch.stack(expected), dim=-1)
    assert FRAMES == 4
    assert torch.allclose(store.vectors(), expected, atol=1e-5)
