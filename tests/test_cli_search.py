"""`trajvit search`, as a user types it."""

import pytest
from cli_runs import files_under, result, trajvit, write_videos

from trajvit.search_demo import CHECKPOINT
from trajvit.video_search import VideoSearch

TEXT = "a red star moves left"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return write_videos(tmp_path / "videos", 3)


def test_search_is_that_of_the_class(folder, tmp_path):
    told = result("search", folder, TEXT, "a blue ring", "--like", folder / "1.mp4", "--device", "cpu", "-k", 2)
    assert (told["videos"], told["new"], told["failures"]) == (3, 3, [])
    index = VideoSearch(CHECKPOINT, tmp_path / "own")
    index.add(folder)
    by_text, other, like = told["queries"]
    expected = [(str(hit.path), hit.score) for hit in index.query(TEXT, 2)]
    assert [hit["path"] for hit in by_text["hits"]] == [path for path, _ in expected]
    assert [hit["score"] for hit in by_text["hits"]] == pytest.approx([score for _, score in expected], abs=1e-4)
    assert other["text"] == "a blue ring"
    assert like["like"] == like["hits"][0]["path"] == str(folder / "1.mp4")
    # The index lies in the user's cache, not among the videos.
    assert files_under(folder) == {"0.mp4", "1.mp4", "2.mp4"}
    (cache,) = (tmp_path / "home" / "trajvit" / "search").iterdir()
    assert cache.name.startswith("videos-")


def test_search_again_reads_what_is_new_and_lists_what_is_bad(folder, tmp_path):
    options = ["--device", "cpu", "--cache", tmp_path / "cache"]
    assert result("search", folder, TEXT, *options)["new"] == 3
    (folder / "bad.mp4").write_bytes(b"no video")
    (folder / "0.mp4").unlink()
    told = result("search", folder, TEXT, *options, code=1)
    assert (told["new"], told["removed"], told["unchanged"]) == (0, 1, 2)
    assert [each["input"] for each in told["failures"]] == [str(folder / "bad.mp4")]
    done = trajvit("search", folder, TEXT, *options, "--objects", "2")
    assert done.exit_code == 1
    assert str(folder / "bad.mp4") in done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows if row[0]] == ["1", "2"]
    assert {row[2] for row in rows if row[2]} == {str(folder / "1.mp4"), str(folder / "2.mp4")}
    assert len([row for row in rows if row[3].startswith("#")]) == len(rows) - 2 > 0


def test_objects_are_told_with_their_boxes(folder):
    told = result("search", folder, TEXT, "--device", "cpu", "-k", 1, "--objects", 1)
    ((hit,),) = [query["hits"] for query in told["queries"]]
    (found,) = hit["objects"]
    assert found["trajectory"] >= 1
    assert -1 <= found["score"] <= 1
    for place in found["boxes"]:
        assert set(place) == {"frame", "frame_index", "timestamp", "box"}
        assert 0 <= place["box"]["xmin"] < place["box"]["xmax"] <= 1
        assert 0 <= place["box"]["ymin"] < place["box"]["ymax"] <= 1
