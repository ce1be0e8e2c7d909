"""WebDataset archives, whole and damaged: a fault costs its own sample, or the rest of its own archive."""

import gzip
import json
import pickle

import fsspec
import pytest
from numbered_videos import numbers_of
from shard_files import image_bytes, sample, tar_bytes, video_bytes, write_tar

from trajvit.processing.sampling import uniform_sample_indices
from trajvit.processing.stored_values import SampleError
from trajvit.training.clip_reading import Reading
from trajvit.training.dataset_source import DatasetSource

NO_TRAJECTORIES = Reading(needs_trajectories=False)


def source_of(path, **settings):
    return DatasetSource("videos", str(path), NO_TRAJECTORIES, **{"num_frames": 4, **settings})


def read_all(source, shard=0):
    """Captions by key, or why there are none, and what ended the shard."""
    results = {}
    rows = source.rows(shard)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return results, None
        except SampleError as error:
            return results, str(error)
        try:
            clip = source.read(pickle.loads(pickle.dumps(row)))
            assert clip.key == row["key"]
            results[row["key"]] = clip.captions
        except SampleError as error:
            results[row["key"]] = str(error)


def test_a_shard_is_read_front_to_back(tmp_path):
    path = write_tar(
        tmp_path / "7.tar", sample("000", "one", 10) + sample("001", "two", 50) + sample("002", "three", 90)
    )
    source = source_of(path)
    rows = list(source.rows(0))
    assert [row["key"] for row in rows] == ["7.tar/000", "7.tar/001", "7.tar/002"]
    clips = [source.read(row) for row in rows]
    assert [clip.captions for clip in clips] == [("one",), ("two",), ("three",)]
    for clip, first in zip(clips, (10, 50, 90), strict=True):
        assert numbers_of(clip.frames) == (first + uniform_sample_indices(12, 4)).tolist()
        assert clip.trajectories is None
    assert source.num_shards == 1
    assert source.num_samples is None


def test_rows_of_local_shards_hold_no_media(tmp_path):
    source = source_of(write_tar(tmp_path / "0.tar", sample("0")))
    assert len(pickle.dumps(next(source.rows(0)))) < 600 < len(video_bytes())


BROKEN = {
    "bad_json": ([("k.mp4", video_bytes()), ("k.json", b'{"caption": ')], "json is no JSON"),
    "json_of_a_number": ([("k.mp4", video_bytes()), ("k.json", b"3")], "json holds int 3"),
    "caption_not_text": ([("k.mp4", video_bytes()), ("k.json", b'{"caption": ["a", {"b": 1}]}')], "holds dict"),
    "not_utf8": ([("k.mp4", video_bytes()), ("k.txt", b"caf\xe9 \xff")], "txt is not UTF-8"),
    "no_media": ([("k.txt", b"a"), ("k.json", b"{}")], "has no video among json, txt: expected one of"),
    "no_caption": ([("k.mp4", video_bytes()), ("k.foo", b"b")], "has no caption among foo, mp4: expected one of"),
    "empty_captions": ([("k.mp4", video_bytes()), ("k.txt", b" \n"), ("k.json", b'{"caption": null}')], "is empty"),
    "empty_media": ([("k.mp4", b""), ("k.txt", b"a")], "its media is empty"),
    "no_video": ([("k.mp4", b"<html>404 not found</html>"), ("k.txt", b"a")], "cannot be decoded"),
    "half_a_video": ([("k.mp4", video_bytes()[: len(video_bytes()) // 2]), ("k.txt", b"a")], "cannot be decoded"),
    "twice": ([("k.mp4", video_bytes()), ("k.mp4", video_bytes()), ("k.txt", b"a")], "two files .mp4"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_damaged_sample_costs_itself_alone(tmp_path, kind):
    files, reason = BROKEN[kind]
    path = write_tar(tmp_path / "0.tar", sample("before") + files + sample("behind"))
    results, end = read_all(source_of(path))
    assert end is None
    assert list(results) == ["0.tar/before", "0.tar/k", "0.tar/behind"]
    assert reason in results["0.tar/k"]
    assert results["0.tar/before"] == results["0.tar/behind"] == ("a caption",)


@pytest.mark.parametrize("kind", BROKEN)
def test_as_the_first_sample_too(tmp_path, kind):
    files, reason = BROKEN[kind]
    results, end = read_all(source_of(write_tar(tmp_path / "0.tar", files + sample("behind"))))
    assert end is None
    assert reason in results["0.tar/k"]
    assert results["0.tar/behind"] == ("a caption",)


class TestNames:
    def test_keys_may_have_dots_and_folders(self, tmp_path):
        files = (
            sample("./a/v1.0_x") + sample("a/v1.0_y") + sample("b/v1.0_x") + [("a/.hidden.mp4", b""), ("README", b"")]
        )
        results, _ = read_all(source_of(write_tar(tmp_path / "0.tar", files)))
        assert results == dict.fromkeys(["0.tar/a/v1.0_x", "0.tar/a/v1.0_y", "0.tar/b/v1.0_x"], ("a caption",))

    def test_the_files_of_a_sample_may_lie_anywhere(self, tmp_path):
        first, second = sample("1", "one"), sample("2", "two")
        path = write_tar(tmp_path / "0.tar", [second[1], first[0], first[2], second[0], first[1], second[2]])
        results, _ = read_all(source_of(path))
        assert results == {"0.tar/2": ("two",), "0.tar/1": ("one",)}

    def test_suffixes_are_found_in_any_case(self, tmp_path):
        path = write_tar(tmp_path / "0.tar", [("k.MP4", video_bytes()), ("k.Txt", b"a")])
        assert read_all(source_of(path))[0] == {"0.tar/k": ("a",)}

    def test_other_names_are_given(self, tmp_path):
        files = [
            ("k.one.mp4", b"-"),
            ("k.left.mp4", video_bytes()),
            ("k.meta.json", b'{"long": {"text": ["a", "b"]}, "id": 9}'),
        ]
        columns = {"media": "left.mp4", "captions": "meta.json.long.text", "key": "meta.json.id"}
        results, _ = read_all(source_of(write_tar(tmp_path / "0.tar", files), columns=columns))
        assert results == {"0.tar/9": ("a", "b")}

    def test_a_missing_key_costs_the_sample(self, tmp_path):
        files = sample("1") + [("2.mp4", video_bytes()), ("2.txt", b"a"), ("2.json", b"{}")]
        results, _ = read_all(source_of(write_tar(tmp_path / "0.tar", files), columns={"key": "json.key"}))
        assert results["0.tar/1"] == ("a caption",)
        assert "json has no field 'key'" in results["0.tar/2"]

    def test_shards_of_one_name_are_told_apart_by_their_folders(self, tmp_path):
        for folder in ("a", "b"):
            write_tar(tmp_path / folder / "0.tar", sample("k"))
        source = source_of(tmp_path)
        assert [next(source.rows(shard))["key"] for shard in range(2)] == ["a/0.tar/k", "b/0.tar/k"]


class TestBrokenArchives:
    def whole(self):
        return tar_bytes(sample("0") + sample("1") + sample("2"))

    @pytest.mark.parametrize("place", ["header", "content", "boundary", "garbage"])
    def test_what_lies_before_is_used(self, tmp_path, place):
        data = self.whole()
        third = data.index(b"2.mp4")  # where its header starts
        cut = {"header": third + 200, "content": third + 700, "boundary": third}.get(place)
        data = data[:cut] if cut else data[:third] + b"\x07" * 512 + data[third + 512 :]
        (tmp_path / "0.tar").write_bytes(data)
        results, end = read_all(source_of(tmp_path / "0.tar"))
        assert list(results) == ["0.tar/0"] + ["0.tar/1"] * (place == "content")
        assert results["0.tar/0"] == ("a caption",)
        assert end.startswith("0.tar cannot be read any further")

    @pytest.mark.parametrize("content", [b"", b"no tar" * 200, None])
    def test_what_is_no_archive_costs_no_other(self, tmp_path, content):
        write_tar(tmp_path / "1.tar", sample("k"))
        if content is not None:
            (tmp_path / "0.tar").write_bytes(content)
        else:
            (tmp_path / "0.tar").mkdir()
        paths = [str(tmp_path / "[01].tar")] if content is not None else [str(tmp_path / "1.tar")]
        source = DatasetSource("videos", paths, NO_TRAJECTORIES)
        shards = [read_all(source, shard) for shard in range(source.num_shards)]
        assert shards[-1] == ({"1.tar/k": ("a caption",)}, None)
        if content is not None:
            assert shards[0][0] == {}
            assert shards[0][1].startswith("0.tar cannot be read any further")

    def test_an_empty_archive_is_legal(self, tmp_path):
        write_tar(tmp_path / "0.tar", [])
        write_tar(tmp_path / "1.tar", sample("k"))
        assert read_all(source_of(tmp_path), 0) == ({}, None)

    def test_a_file_that_vanishes_costs_its_sample(self, tmp_path):
        path = write_tar(tmp_path / "0.tar", sample("0"))
        source = source_of(path)
        row = next(source.rows(0))
        path.unlink()
        with pytest.raises(SampleError, match="No such file"):
            source.read(row)


class TestStreams:
    """URLs and compressed archives, which are read in one go."""

    def test_a_url(self):
        with fsspec.open("memory://tars/0.tar", "wb") as file:
            file.write(tar_bytes(sample("0", "one") + sample("1", "two")))
        with fsspec.open("memory://tars/1.tar", "wb") as file:
            file.write(tar_bytes(sample("2", "three"))[:3000])
        source = source_of("memory://tars/*.tar")
        assert read_all(source, 0) == ({"0.tar/0": ("one",), "0.tar/1": ("two",)}, None)
        _, end = read_all(source, 1)
        assert end.startswith("1.tar cannot be read any further")
        with pytest.raises(ValueError, match="none of the first records can be used"):
            source_of("memory://tars/2.tar")

    def test_a_compressed_archive(self, tmp_path):
        data = tar_bytes(sample("0", "one") + [("k.txt", b"a")] + sample("1", "two"))
        (tmp_path / "0.tar.gz").write_bytes(gzip.compress(data))
        results, end = read_all(source_of(tmp_path / "0.tar.gz"))
        assert end is None
        assert results.pop("0.tar.gz/k").startswith("has no video")
        assert results == {"0.tar.gz/0": ("one",), "0.tar.gz/1": ("two",)}

    def test_one_that_breaks_off(self, tmp_path):
        data = gzip.compress(tar_bytes(sample("0", "one") + sample("1", "two")))
        (tmp_path / "0.tar.gz").write_bytes(data[: len(data) // 2])
        (tmp_path / "1.tar.gz").write_bytes(gzip.compress(tar_bytes(sample("2"))))
        source = source_of(tmp_path)
        assert read_all(source, 0)[1].startswith("0.tar.gz cannot be read any further")
        assert read_all(source, 1) == ({"1.tar.gz/2": ("a caption",)}, None)


class TestImages:
    def test_img2dataset_shards(self, tmp_path):
        files = []
        for number, (suffix, file_format) in enumerate([("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")]):
            metadata = json.dumps({"caption": f"no. {number}", "width": 80}).encode()
            files += [(f"{number}.{suffix}", image_bytes(number, file_format)), (f"{number}.json", metadata)]
        source = source_of(write_tar(tmp_path / "0.tar", files), media="image")
        clips = [source.read(row) for row in source.rows(0)]
        assert [clip.captions for clip in clips] == [("no. 0",), ("no. 1",), ("no. 2",)]
        assert [clip.frames.shape for clip in clips] == [(1, 48, 80, 3)] * 3
        assert [numbers_of(clip.frames)[0] for clip in clips] == [0, 1, 2]

    def test_a_damaged_image_costs_itself_alone(self, tmp_path):
        jpeg = image_bytes(5, "JPEG")
        files = [("0.jpg", jpeg[:300]), ("0.txt", b"a"), ("1.jpg", jpeg), ("1.txt", b"b")]
        results, _ = read_all(source_of(write_tar(tmp_path / "0.tar", files), media="image"))
        assert "cannot be decoded" in results["0.tar/0"]
        assert results["0.tar/1"] == ("b",)
