"""`VideoSearch`: what it finds, and that it reads each video once."""

import os

import numpy as np
import pytest
import torch
from cli_runs import noise, write_videos
from evaluated_models import make_contrastive, make_processor, moving_square
from numbered_videos import write_video
from safetensors.torch import load_file
from video_search import fill

from trajvit.evaluation import feature_extraction
from trajvit.evaluation.checkpoint_loading import CheckpointError
from trajvit.evaluation.evaluation_data import MissingMediaError
from trajvit.processing.decoding import decode_video
from trajvit.processing.trajectories import Trajectories
from trajvit.search_demo import CHECKPOINT
from trajvit.video_search import VIDEOS_PER_FILE, VideoSearch


@pytest.fixture(scope="module")
def model():
    return make_contrastive("vit3d"), make_processor("vit3d")


@pytest.fixture
def read(monkeypatch):
    """The names of the videos that are read, as they are."""
    names = []
    plain = feature_extraction.load_batches

    def listening(batches, items, *others):
        names.extend(os.path.basename(items[position].media) for batch in batches for position in batch)
        return plain(batches, items, *others)

    monkeypatch.setattr(feature_extraction, "load_batches", listening)
    return names


def expected_similarities(model, paths, texts):
    """By the model alone, all at once."""
    own, processor = model
    inputs = processor(videos=[str(path) for path in paths], text=list(texts))
    with torch.no_grad():
        outputs = own(**inputs)
    return outputs.text_embeds @ outputs.video_embeds.T


def test_hits_are_ordered_by_the_models_similarities(model, tmp_path):
    folder = write_videos(tmp_path / "videos", 5)
    index = VideoSearch(model, tmp_path / "cache")
    report = index.add(folder)
    assert (report.new, report.changed, report.removed, report.unchanged, report.failures) == (5, 0, 0, 0, {})
    assert len(index) == 5
    assert folder / "3.mp4" in index
    assert "nowhere.mp4" not in index
    texts = ["a red star", "a blue ring moves left"]
    expected = expected_similarities(model, index.paths, texts)
    for found, row in zip(index.query(texts, top_k=9), expected, strict=True):
        order = row.argsort(descending=True).tolist()
        assert [hit.path for hit in found] == [index.paths[position] for position in order]
        assert [hit.score for hit in found] == pytest.approx([float(row[position]) for position in order], abs=1e-5)
    assert [hit.path for hit in index.query(texts[0], top_k=2)] == [hit.path for hit in index.query(texts, top_k=2)[0]]


def test_many_videos_are_ranked_as_by_a_plain_product(model, tmp_path):
    index = VideoSearch(model, tmp_path / "cache")
    fill(index, 200, 16)
    opened = VideoSearch(model, tmp_path / "cache")
    assert len(opened) == 200
    stored = [load_file(path) for path in (tmp_path / "cache").rglob("*.safetensors")]
    assert sorted(len(tensors["features"]) for tensors in stored) == [8, 64, 64, 64]
    with torch.no_grad():
        text = model[0].get_text_features(**model[1](text=["a red star"])).pooler_output
    scores = (opened._index.vectors @ torch.nn.functional.normalize(text, dim=-1)[0]).tolist()
    expected = sorted(zip(scores, map(str, opened.paths), strict=True), reverse=True)[:7]
    found = opened.query("a red star", top_k=7)
    assert [str(hit.path) for hit in found] == [path for _, path in expected]
    assert [hit.score for hit in found] == pytest.approx([score for score, _ in expected], abs=1e-6)


def test_only_what_is_new_or_has_changed_is_read(model, tmp_path, read):
    folder = write_videos(tmp_path / "videos", 4)
    index = VideoSearch(model, tmp_path / "cache")
    index.add(folder)
    assert sorted(read) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    read.clear()
    before = {hit.path: hit.score for hit in index.query("a red star", top_k=4)}

    (folder / "inside").mkdir()
    write_video(str(folder / "inside" / "new.mp4"), noise())
    write_video(str(folder / "1.mp4"), noise(seed=1))
    (folder / "2.mp4").unlink()
    report = index.add(folder)
    assert sorted(read) == ["1.mp4", "new.mp4"]
    assert (report.new, report.changed, report.removed, report.unchanged) == (1, 1, 1, 2)
    after = {hit.path: hit.score for hit in index.query("a red star", top_k=9)}
    assert set(after) == {folder / name for name in ("0.mp4", "1.mp4", "3.mp4", "inside/new.mp4")}
    assert after[folder / "0.mp4"] == before[folder / "0.mp4"]
    assert after[folder / "1.mp4"] != before[folder / "1.mp4"]


def test_an_index_on_disk_is_opened_without_reading_any_video(model, tmp_path, read):
    folder = write_videos(tmp_path / "videos", 3)
    first = VideoSearch(model, tmp_path / "cache")
    first.add(folder)
    read.clear()
    again = VideoSearch(model, tmp_path / "cache")
    assert len(again) == 3
    assert again.query("a red star") == first.query("a red star")
    assert again.add(folder).unchanged == 3
    assert read == []
    # Another model, or other frames, know nothing of it.
    assert len(VideoSearch((make_contrastive("vit3d", seed=1), model[1]), tmp_path / "cache")) == 0
    assert len(VideoSearch(model, tmp_path / "cache", num_frames=2)) == 0


def test_a_query_embeds_its_text_and_touches_no_file(model, tmp_path, monkeypatch, read):
    index = VideoSearch(model, tmp_path / "cache")
    index.add(write_videos(tmp_path / "videos", 2))
    read.clear()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    calls = []
    text_model = model[0].text_model
    hook = text_model.register_forward_hook(lambda *values: calls.append(1))
    try:
        index.query("a red star")
    finally:
        hook.remove()
    assert calls == [1]
    assert read == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before


def test_a_bad_file_is_reported_and_read_again_only_when_it_has_changed(model, tmp_path, read):
    folder = write_videos(tmp_path / "videos", 2)
    bad = folder / "bad.mp4"
    bad.write_bytes(b"no video")
    index = VideoSearch(model, tmp_path / "cache")
    report = index.add(folder)
    assert report.new == 2
    assert list(report.failures) == [bad]
    assert "bad.mp4" in report.failures[bad]
    read.clear()
    again = VideoSearch(model, tmp_path / "cache")
    assert again.add(folder).failures == report.failures == again.failures
    assert read == []
    again.add(folder, retry_failures=True)
    assert read == ["bad.mp4"]
    write_video(str(bad), noise())
    assert again.add(folder).changed == 1
    assert (len(again), again.failures) == (3, {})


def test_a_run_that_is_broken_off_goes_on(model, tmp_path, read, monkeypatch):
    folder = write_videos(tmp_path / "videos", 5)
    monkeypatch.setattr("trajvit.video_search.VIDEOS_PER_FILE", 2)
    index = VideoSearch(model, tmp_path / "cache", batch_size=1)

    def stop(done, total):
        assert total == 5
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(folder, on_progress=stop)
    read.clear()
    again = VideoSearch(model, tmp_path / "cache", batch_size=1)
    assert len(again) == 2
    report = again.add(folder)
    assert (report.new, report.unchanged) == (3, 2)
    assert sorted(read) == ["2.mp4", "3.mp4", "4.mp4"]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name.startswith(".")]
    assert VIDEOS_PER_FILE <= feature_extraction.ITEMS_PER_CHUNK


def test_damaged_features_are_computed_again(model, tmp_path, read):
    folder = write_videos(tmp_path / "videos", 3)
    index = VideoSearch(model, tmp_path / "cache")
    index.add(folder)
    expected = index.query("a red star")
    (features,) = (tmp_path / "cache").rglob("*.safetensors")
    features.unlink()
    read.clear()
    again = VideoSearch(model, tmp_path / "cache")
    assert len(again) == 0
    again.add(folder)
    assert len(read) == 3
    assert again.query("a red star") == expected
    next((tmp_path / "cache").rglob("videos.json")).write_text("{")
    with pytest.raises(ValueError, match=r"videos\.json is no index of videos"):
        VideoSearch(model, tmp_path / "cache")


def test_videos_are_taken_out_with_their_features(model, tmp_path):
    index = VideoSearch(model, tmp_path / "cache")
    index.add([write_videos(tmp_path / "a", 2), write_videos(tmp_path / "b", 1)])
    index.add(write_videos(tmp_path / "c", 1))
    assert index.remove(tmp_path / "a") == 2
    assert index.remove(tmp_path / "a") == 0
    assert [path.parent.name for path in VideoSearch(model, tmp_path / "cache").paths] == ["b", "c"]
    assert index.remove(tmp_path / "b" / "0.mp4") == 1
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1


def test_one_process_at_a_time(model, tmp_path):
    folder = write_videos(tmp_path / "videos", 1)
    one, other = VideoSearch(model, tmp_path / "cache"), VideoSearch(model, tmp_path / "cache")
    with one._index.alone(), pytest.raises(ValueError, match="another process is changing the index"):
        other.add(folder)
    one.add(folder)
    # What the first has done, the second sees before it begins.
    assert other.add(folder).unchanged == 1


def test_a_video_finds_itself_and_what_is_like_it(model, tmp_path, read):
    folder = write_videos(tmp_path / "videos", 4)
    index = VideoSearch(model, tmp_path / "cache")
    index.add(folder)
    read.clear()
    hits = index.query_by_video(folder / "2.mp4", top_k=4)
    assert hits[0].path == folder / "2.mp4"
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    # An array goes through the model, the file's frames to the same vector.
    frames = decode_video(str(folder / "2.mp4"), num_frames=None).frames
    by_frames = index.query_by_video(frames, top_k=4)
    assert [hit.path for hit in by_frames] == [hit.path for hit in hits]
    assert [hit.score for hit in by_frames] == pytest.approx([hit.score for hit in hits], abs=1e-4)


def test_objects_are_the_trajectories_that_the_model_finds_most_similar(tmp_path):
    model = make_contrastive("trajvit"), make_processor("trajvit")
    path = tmp_path / "clip.mp4"
    write_video(str(path), moving_square(3, 8, 64))
    index = VideoSearch(model, tmp_path / "cache")
    found = index.objects("a red star", path, top_k=20)
    inputs = model[1](videos=[str(path)], return_trajectories=True)
    (trajectories,) = inputs.pop("trajectories")
    assert 2 <= len(found) <= trajectories.num_trajectories
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    # Each as if its video had no other: the same trajectory given alone.
    with torch.no_grad():
        text = model[0].get_text_features(**model[1](text=["a red star"])).pooler_output
        for hit in found[:2]:
            alone = trajectories.select([hit.trajectory])
            inputs = model[1](videos=[str(path)], trajectories=[alone])
            video = model[0].get_video_features(**inputs).pooler_output
            assert hit.score == pytest.approx(float(torch.cosine_similarity(text, video)), abs=1e-4)
            frames = np.flatnonzero(trajectories.presence[hit.trajectory - 1])
            assert hit.frames.tolist() == frames.tolist()
            assert np.array_equal(hit.boxes, trajectories.boxes[hit.trajectory - 1][frames])
            assert hit.timestamps.tolist() == trajectories.timestamps[frames].tolist()


def test_stored_trajectories_are_used_when_that_is_asked_for(tmp_path):
    folder = write_videos(tmp_path / "videos", 1)
    index = VideoSearch((make_contrastive("trajvit"), make_processor("trajvit")), tmp_path / "cache")
    index.add(folder)
    generated = index.query("a red star")[0].score
    video = decode_video(str(folder / "0.mp4"), 4)
    ids = np.ones((4, 32, 32), np.int32)
    ids[:, :, 16:] = 2
    Trajectories(ids, video.frame_indices, video.timestamps).save(folder / "0.traj.png")
    assert index.add(folder).unchanged == 1
    assert index.add(folder, stored_trajectories=True).changed == 1
    assert index.query("a red star")[0].score != generated


def test_the_shipped_checkpoint_by_its_path(tmp_path):
    index = VideoSearch(CHECKPOINT, tmp_path / "cache")
    index.add(write_videos(tmp_path / "videos", 2))
    assert len(index.query("a red star moves left")) == 2
    assert "2 videos" in repr(index)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda index: index.query(""), ValueError, "expected words"),
        (lambda index: index.query([]), ValueError, "expected words"),
        (lambda index: index.query("a star", top_k=0), ValueError, "top_k is 0"),
        (lambda index: index.query_by_video("nowhere.mp4"), ValueError, "nowhere.mp4 does not exist"),
        (lambda index: index.add("nowhere"), MissingMediaError, "no folder .*nowhere"),
        (lambda index: index.objects("a star", np.zeros((4, 32, 32, 3), np.uint8)), ValueError, "trajectories"),
        (lambda index: VideoSearch(3, "cache"), TypeError, "model is of type int"),
        (lambda index: VideoSearch("nowhere", "cache"), CheckpointError, "nowhere is no checkpoint"),
        (lambda index: VideoSearch("nowhere", "cache", dtype="int8"), ValueError, "dtype is 'int8'"),
    ],
)
def test_wrong_calls_say_what_was_expected(model, tmp_path, call, error, message):
    index = VideoSearch(model, tmp_path / "cache")
    assert index.query("a red star") == []
    with pytest.raises(error, match=message):
        call(index)
