"""Bad and odd inputs through the commands."""

import numpy as np
import pytest
from bad_inputs import in_time
from bad_media import MEDIA, link_media, make_media
from bad_trajectories import CHECKPOINTS, TRAJECTORIES_FILES
from bad_videos import clip
from cli_runs import files_under, result, trajvit
from numbered_videos import write_video

from trajvit.processing.columns import VIDEO_SUFFIXES
from trajvit.processing.decoding import decode_video

pytestmark = pytest.mark.filterwarnings("ignore::trajvit.processing.video_frames.VideoDecodingWarning")

GOOD = {bad.name for bad in MEDIA if bad.error is None}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def links(sources, tmp_path_factory):
    """The files in one folder."""
    return link_media(sources, tmp_path_factory.mktemp("links"))


def named(links, told):
    """The inputs' names by the paths that were told."""
    names = {str(link): name for name, link in links.items()}
    return {names[path] for path in told}


def test_tokenize_reports_what_is_bad_and_loses_nothing_else(links, tmp_path):
    size = ("--frames", 2, "--short-side", 24, "--stored-short-side", 8)
    with in_time(120):
        told = result("tokenize", *links.values(), *size, "-o", tmp_path / "out", code=1)
    assert named(links, (each["input"] for each in told["outputs"])) == GOOD
    assert named(links, (each["input"] for each in told["failures"])) == links.keys() - GOOD
    assert all("\n" not in each["error"] for each in told["failures"])
    assert len(list((tmp_path / "out").iterdir())) == len(GOOD)


def test_draw_of_each(links, tmp_path):
    size = ("--frames", 2, "--short-side", 24, "--drawn-short-side", 24)
    drawn = set()
    for bad in MEDIA:
        path = tmp_path / f"{len(drawn)}.gif"
        with in_time(60):
            done = trajvit("draw", links[bad.name], "-o", path, *size)
        assert done.exit_code == (bad.error is not None), (bad.name, done.stderr)
        if bad.error is None:
            assert len(decode_video(str(path), num_frames=None).frames) <= 2
            drawn.add(path.name)
        else:
            assert done.stdout == ""
            assert done.stderr.splitlines()[-1].startswith(f"error: {links[bad.name]} "), bad.name
    assert files_under(tmp_path) == drawn


@pytest.mark.parametrize("size", [(20, 20_000), (20_000, 20)], ids=str)
def test_draw_says_which_files_cannot_hold_what_is_too_large(size, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (2, *size, 3), dtype=np.uint8)
    video = write_video(str(tmp_path / "long.mkv"), frames, codec="ffv1", pix_fmt="bgr0")
    for suffix in ("mp4", "webp"):
        done = trajvit("draw", video, "-o", tmp_path / f"a.{suffix}", "--short-side", 20)
        assert done.exit_code == 1
        assert done.stderr.startswith(
            f"error: {tmp_path}/a.{suffix} cannot hold {size[0]} x {size[1]} pixels; expected"
        )
    # On a sheet, frames are as small as they must be.
    with in_time(60):
        assert trajvit("draw", video, "-o", tmp_path / "a.png", "--short-side", 20).exit_code == 0
    assert files_under(tmp_path) == {"long.mkv", "a.png"}


def test_what_is_too_wide_to_follow_is_said(tmp_path):
    frames = np.zeros((2, 2, 40_000, 3), dtype=np.uint8)
    video = write_video(str(tmp_path / "wide.mkv"), frames, codec="ffv1", pix_fmt="bgr0")
    told = result("tokenize", video, "-o", tmp_path / "out", code=1)
    assert told["failures"] == [{"input": video, "error": told["failures"][0]["error"]}]
    assert "Frames of 2 x 40000 cannot be followed; expected sides of at most 32766" in told["failures"][0]["error"]


def test_search_reports_what_is_bad_and_finds_all_else(links, tmp_path):
    folder = next(iter(links.values())).parent
    seen = {name for name, link in links.items() if link.suffix.lstrip(".") in VIDEO_SUFFIXES}
    with in_time(120):
        told = result(
            "search", folder, "a square", "-k", 100, "--objects", 1, "--frames", 2, "--cache", tmp_path, code=1
        )
    hits = told["queries"][0]["hits"]
    assert named(links, (hit["path"] for hit in hits)) == seen & GOOD
    assert named(links, (each["input"] for each in told["failures"])) == seen - GOOD
    assert len(seen - GOOD) >= 20
    for hit in hits:
        assert -1 <= hit["score"] <= 1
        assert all(
            0 <= side <= 1 for each in hit["objects"] for place in each["boxes"] for side in place["box"].values()
        )


def test_info_of_each(sources):
    for bad in MEDIA:
        with in_time(20):
            done = trajvit("info", sources[bad.name], "--json")
        assert "Traceback" not in done.stderr
        if bad.error is None:
            assert done.exit_code == 0, (bad.name, done.stderr)


def test_info_of_trajectories_files(tmp_path):
    for bad in TRAJECTORIES_FILES:
        done = trajvit("info", bad.make(tmp_path))
        assert done.exit_code == 1, bad.name
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")


def test_draw_with_bad_trajectories_files(tmp_path):
    video = clip(tmp_path, 4)
    for bad in TRAJECTORIES_FILES:
        with in_time(30):
            done = trajvit("draw", video, "--trajectories", bad.make(tmp_path), "-o", tmp_path / "out.gif")
        assert done.exit_code == 1, bad.name
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert not (tmp_path / "out.gif").exists()


@pytest.mark.parametrize("command", ["embed", "search"])
def test_broken_checkpoints(command, tmp_path):
    (tmp_path / "in").mkdir()
    video = clip(tmp_path / "in", 4)
    given = [video] if command == "embed" else [video.parent, "a square", "--cache", tmp_path / "cache"]
    broken = [bad for bad in CHECKPOINTS if bad.name != "an unknown type of model"]
    for number, bad in enumerate(broken):
        folder = tmp_path / str(number)
        folder.mkdir()
        with in_time(30):
            done = trajvit(command, *given, "--model", bad.make(folder), "--json")
        assert done.exit_code == 1, bad.name
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert not (folder / "checkpoint" / "intruder").exists()
