"""What generation writes for each kind of input, read back by other libraries and by the training streams."""

import csv
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from generation_runs import (
    FIRST,
    FRAMES,
    expected,
    failures,
    generate_here,
    outputs,
    tar_contents,
    write_folder,
    write_shards,
)
from numbered_videos import decode_all, number_of, numbers_of
from PIL import Image
from shard_files import image_bytes, sample, tar_bytes, trajectory_bytes, video_bytes, write_tar

from trajvit.processing.dataset_generation import StoredFrames
from trajvit.processing.decoding import decode_video
from trajvit.processing.trajectories import Trajectories
from trajvit.training.clip_reading import Reading
from trajvit.training.dataset_source import DatasetSource


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()


@pytest.fixture
def generate(monkeypatch):
    return lambda *args, **settings: generate_here(monkeypatch, *args, **settings)


def read_all(path, **settings):
    """What training reads of it, by key, and the source."""
    source = DatasetSource("videos", str(path), Reading(needs_trajectories=True), **{"num_frames": FRAMES, **settings})
    rows = [row for shard in range(source.num_shards) for row in source.rows(shard)]
    return {row["key"]: source.read(row) for row in rows}


class TestArchives:
    def test_members_stay_and_trajectories_follow(self, generate, tmp_path):
        inputs = write_shards(tmp_path / "in", [10, 20], [30])
        summary = generate(inputs, tmp_path / "out")
        assert (summary.clips, summary.shards, summary.failures) == (3, 2, 0)
        assert set(outputs(tmp_path / "out")) == {"0.tar", "1.tar"}
        for name in ("0.tar", "1.tar"):
            before, after = tar_contents(inputs / name), tar_contents(tmp_path / "out" / name)
            made = {member: after.pop(member) for member in list(after) if member.endswith(".traj.png")}
            assert after == before
            assert set(made) == {f"{member[:-4]}.traj.png" for member in before if member.endswith(".mp4")}
            for member, content in made.items():
                video = before[member.replace("traj.png", "mp4")]
                assert Trajectories.from_bytes(content) == expected(video)

    def test_training_reads_them(self, generate, tmp_path):
        generate(write_shards(tmp_path / "in", [10, 20], [30]), tmp_path / "out")
        clips = read_all(tmp_path / "out")
        assert {key: number_of(clip.frames[0]) for key, clip in clips.items()} == {
            "0.tar/000": 10 + FIRST,
            "0.tar/001": 20 + FIRST,
            "1.tar/000": 30 + FIRST,
        }
        assert all(clip.trajectories.num_trajectories == 4 for clip in clips.values())

    def test_frames_can_be_stored_for_the_media(self, generate, tmp_path):
        generate(write_shards(tmp_path / "in", [10]), tmp_path / "out", frames=StoredFrames(short_side=24, crf=4))
        contents = tar_contents(tmp_path / "out" / "0.tar")
        assert set(contents) == {"000.mp4", "000.txt", "000.json", "000.traj.png"}
        (tmp_path / "small.mp4").write_bytes(contents["000.mp4"])
        frames = decode_all(tmp_path / "small.mp4")
        assert frames.shape == (FRAMES, 24, 40, 3)
        source = decode_video(video_bytes(10), FRAMES)
        assert numbers_of(frames) == numbers_of(source.sampled)
        # They play at the pace of the video.
        small = decode_video(contents["000.mp4"], FRAMES)
        np.testing.assert_allclose(np.diff(small.timestamps), np.diff(source.timestamps), rtol=1e-3)
        stored = Trajectories.from_bytes(contents["000.traj.png"])
        assert stored.frame_indices.tolist() == [0, 1, 2]
        np.testing.assert_allclose(stored.timestamps, source.timestamps)
        assert np.array_equal(stored.ids, expected(video_bytes(10)).ids)

    def test_trajectories_can_be_stored_smaller(self, generate, tmp_path):
        generate(write_shards(tmp_path / "in", [10]), tmp_path / "out", stored_short_side=20)
        content = tar_contents(tmp_path / "out" / "0.tar")["000.traj.png"]
        assert Trajectories.from_bytes(content) == expected(video_bytes(10)).resize(20, 33)

    def test_fewer_of_the_stored_frames_can_be_read(self, generate, tmp_path):
        generate(write_shards(tmp_path / "in", [10]), tmp_path / "out", num_frames=6, frames=StoredFrames(24, 4))
        (clip,) = read_all(tmp_path / "out", num_frames=3).values()
        numbers = numbers_of(decode_video(video_bytes(10), 6).sampled)
        assert numbers_of(clip.frames) == numbers[1::2]
        assert clip.trajectories.frame_indices.tolist() == [1, 3, 5]

    def test_images(self, generate, tmp_path):
        files = [("a.png", image_bytes(5)), ("a.txt", b"five"), ("b.jpg", image_bytes(6, "JPEG")), ("b.txt", b"six")]
        write_tar(tmp_path / "in" / "0.tar", files)
        generate(tmp_path / "in", tmp_path / "kept")
        generate(tmp_path / "in", tmp_path / "small", frames=StoredFrames(short_side=24))
        kept, small = tar_contents(tmp_path / "kept" / "0.tar"), tar_contents(tmp_path / "small" / "0.tar")
        assert set(kept) == {"a.png", "a.txt", "a.traj.png", "b.jpg", "b.txt", "b.traj.png"}
        assert set(small) == {"a.jpg", "a.txt", "a.traj.png", "b.jpg", "b.txt", "b.traj.png"}
        assert kept["a.png"] == image_bytes(5)
        (tmp_path / "a.jpg").write_bytes(small["a.jpg"])
        with Image.open(tmp_path / "a.jpg") as image:
            assert (image.format, image.size) == ("JPEG", (40, 24))
            assert number_of(np.asarray(image)) == 5
        assert Trajectories.from_bytes(small["a.traj.png"]).shape == (1, 32, 53)
        assert set(read_all(tmp_path / "small", media="image")) == {"0.tar/a", "0.tar/b"}

    def test_old_trajectories_are_replaced(self, generate, tmp_path):
        write_tar(tmp_path / "in" / "0.tar", sample("000", number=10, **{"traj.png": trajectory_bytes((0, 1, 2))}))
        generate(tmp_path / "in", tmp_path / "out")
        content = tar_contents(tmp_path / "out" / "0.tar")["000.traj.png"]
        assert Trajectories.from_bytes(content) == expected(video_bytes(10))

    def test_names_can_be_given(self, generate, tmp_path):
        files = [("7.left.mp4", video_bytes(10)), ("7.right.mp4", video_bytes(20)), ("7.json", b'{"id": "seven"}')]
        write_tar(tmp_path / "in" / "0.tar", [*files, ("8.left.mp4", b"no video"), ("8.json", b'{"id": "eight"}')])
        columns = {"media": "right.mp4", "key": "json.id", "trajectories": "right.traj.png"}
        generate(tmp_path / "in", tmp_path / "out", columns=columns)
        contents = tar_contents(tmp_path / "out" / "0.tar")
        assert set(contents) == {"7.left.mp4", "7.right.mp4", "7.json", "7.right.traj.png"}
        assert Trajectories.from_bytes(contents["7.right.traj.png"]) == expected(video_bytes(20))
        assert [(key, stage) for key, stage, _ in failures(tmp_path / "out")] == [("eight", "read")]

    def test_compressed_archives_become_plain_ones(self, generate, tmp_path):
        import gzip

        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "0.tar.gz").write_bytes(gzip.compress(tar_bytes(sample("000", number=10))))
        generate(tmp_path / "in", tmp_path / "out")
        assert set(tar_contents(tmp_path / "out" / "0.tar")) == {"000.mp4", "000.txt", "000.json", "000.traj.png"}


class TestFolders:
    def test_beside_the_files(self, generate, tmp_path):
        folder = write_folder(tmp_path / "clips" / "train", [10, 20])
        (tmp_path / "clips" / "b").mkdir()
        before = outputs(tmp_path / "clips")
        times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        generate(tmp_path / "clips" / "train", tmp_path / "clips" / "train")
        after = outputs(tmp_path / "clips")
        made = {name: after.pop(name) for name in list(after) if name.endswith(".traj.png")}
        assert after == before
        assert {path: path.stat().st_mtime_ns for path in times} == times
        assert set(made) == {"train/00.traj.png", "train/01.traj.png"}
        assert Trajectories.from_bytes(made["train/01.traj.png"]) == expected(video_bytes(20))
        assert set(read_all(tmp_path / "clips")) == {"train/00", "train/01"}

    def test_another_folder_gets_all(self, generate, tmp_path):
        write_folder(tmp_path / "in" / "sub", [10])
        (tmp_path / "in" / "sub" / "00.mp4").rename(tmp_path / "in" / "sub" / "00.MP4")
        generate(tmp_path / "in", tmp_path / "out")
        assert set(outputs(tmp_path / "out")) == {"sub/00.MP4", "sub/00.txt", "sub/00.traj.png"}
        assert outputs(tmp_path / "out")["sub/00.MP4"] == video_bytes(10)

    def test_small_frames(self, generate, tmp_path):
        write_folder(tmp_path / "in", [10], suffix="webm")
        generate(tmp_path / "in", tmp_path / "out", frames=StoredFrames(short_side=24))
        assert set(outputs(tmp_path / "out")) == {"00.mp4", "00.txt", "00.traj.png"}
        assert decode_video(tmp_path / "out" / "00.mp4", None).frames.shape == (FRAMES, 24, 40, 3)

    def test_few_files_are_a_worker_s_job(self, generate, tmp_path):
        """No file depends on how many they are."""
        write_folder(tmp_path / "in", [10] * 18, captions=False)
        assert generate(tmp_path / "in", tmp_path / "out").shards == 2
        assert len(outputs(tmp_path / "out")) == 36

    def test_packed_to_archives(self, generate, tmp_path):
        write_folder(tmp_path / "in" / "a", [10, 20, 30])
        summary = generate(tmp_path / "in", tmp_path / "out", pack=True, shard_size=2)
        assert summary.shards == 2
        assert set(outputs(tmp_path / "out")) == {"00000.tar", "00001.tar"}
        assert list(tar_contents(tmp_path / "out" / "00000.tar")) == [
            f"a/{key}.{suffix}" for key in ("00", "01") for suffix in ("mp4", "txt", "traj.png")
        ]

    def test_two_files_of_one_name(self, generate, tmp_path):
        write_folder(tmp_path / "in", [10])
        (tmp_path / "in" / "00.jpg").write_bytes(image_bytes(1, "JPEG"))
        with pytest.raises(ValueError, match=r"00\.jpg and 00\.mp4 would share one trajectories file.*media='video'"):
            generate(tmp_path / "in", tmp_path / "out")
        assert generate(tmp_path / "in", tmp_path / "out", media="video").clips == 1


class TestTables:
    def test_every_type_stays(self, generate, tmp_path):
        import datetime

        table = pa.table(
            {
                "video": pa.array([video_bytes(10), video_bytes(20), video_bytes(30)], pa.binary()),
                "number": pa.array([1, None, 3], pa.int8()),
                "time": pa.array([datetime.datetime(2020, 1, 1, microsecond=5)] * 3, pa.timestamp("us")),
                "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
                "share": pa.array([0.5, 0.25, None], pa.float32()),
            }
        ).replace_schema_metadata({"origin": "a test"})
        (tmp_path / "in").mkdir()
        pa.parquet.write_table(table, tmp_path / "in" / "a.parquet", row_group_size=2)
        generate(tmp_path / "in", tmp_path / "out")
        after = pa.parquet.read_table(tmp_path / "out" / "a.parquet")
        assert after.schema.metadata == {b"origin": b"a test"}
        assert after.drop(["trajectories"]).equals(table)
        assert after.schema.field("trajectories").type == pa.binary()
        for number, content in zip((10, 20, 30), after["trajectories"].to_pylist(), strict=True):
            assert Trajectories.from_bytes(content) == expected(video_bytes(number))
        assert len(read_all_without_captions(tmp_path / "out")) == 3

    def test_paths_lead_on_to_the_files(self, generate, tmp_path):
        write_folder(tmp_path / "in" / "clips", [10, 20])
        with open(tmp_path / "in" / "list.csv", "w", newline="") as file:
            rows = [("path", "caption", "number"), ("clips/00.mp4", "ten", "1"), ("clips/01.mp4", "twenty", "")]
            csv.writer(file).writerows(rows)
        generate(tmp_path / "in" / "list.csv", tmp_path / "out")
        rows = pa.parquet.read_table(tmp_path / "out" / "list.parquet").to_pylist()
        assert [(row["path"], row["caption"], row["number"]) for row in rows] == [
            ("../in/clips/00.mp4", "ten", "1"),
            ("../in/clips/01.mp4", "twenty", ""),
        ]
        clips = read_all(tmp_path / "out")
        assert [number_of(clip.frames[0]) for clip in clips.values()] == [10 + FIRST, 20 + FIRST]
        assert all(clip.trajectories.num_trajectories == 4 for clip in clips.values())

    def test_small_frames_for_paths(self, generate, tmp_path):
        write_folder(tmp_path / "in" / "clips", [10, 20])
        lines = [
            {"path": f"clips/0{index}.mp4", "caption": "one", "other": other} for index, other in ((0, 1), (1, "b"))
        ]
        (tmp_path / "in" / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
        generate(tmp_path / "in" / "list.jsonl", tmp_path / "out", frames=StoredFrames(short_side=24))
        rows = pa.parquet.read_table(tmp_path / "out" / "list.parquet").to_pylist()
        assert [row["path_source"] for row in rows] == ["clips/00.mp4", "clips/01.mp4"]
        # Numbers and texts in one column are JSON.
        assert [row["other"] for row in rows] == ["1", '"b"']
        assert [number_of(decode_video(row["path"]).frames[0]) for row in rows] == [10 + FIRST, 20 + FIRST]
        assert len(read_all(tmp_path / "out")) == 2

    def test_a_data_set_of_hf_datasets(self, generate, tmp_path):
        videos = [{"bytes": video_bytes(number), "path": None} for number in (10, 20)]
        features = datasets.Features({"clip": datasets.Video(), "title": datasets.Value("string")})
        table = datasets.Dataset.from_dict({"clip": videos, "title": ["a", "b"]}, features=features)
        table.save_to_disk(tmp_path / "saved")
        columns = {"media": "clip", "key": "title"}
        for frames in (None, StoredFrames(short_side=24)):
            out = tmp_path / ("kept" if frames is None else "small")
            generate(tmp_path / "saved", out, columns=columns, frames=frames)
            again = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
            assert isinstance(again.features["clip"], datasets.Video)
            again = again.cast_column("clip", datasets.Video(decode=False))
            for row, number in zip(again, (10, 20), strict=True):
                video = decode_video(row["clip"]["bytes"], None)
                assert video.frames.shape[1] == (48 if frames is None else 24)
                made = Trajectories.from_bytes(row["trajectories"])
                assert np.array_equal(made.ids, expected(video_bytes(number)).ids)
            training = {"columns": {"media": "clip", "captions": "title"}}
            assert [clip.captions for clip in read_all(out, **training).values()] == [("a",), ("b",)]

    def test_rows_whose_media_lie_otherwise(self, generate, monkeypatch, tmp_path):
        """Where frames are stored, the first rows decide which column holds them."""
        from trajvit.processing import parquet_writing

        monkeypatch.setattr(parquet_writing, "_ROWS_PER_GROUP", 1)
        write_folder(tmp_path / "in", [30])
        table = pa.table({"video": [video_bytes(10), None], "path": [None, "00.mp4"]})
        pa.parquet.write_table(table, tmp_path / "in" / "a.parquet")
        generate(tmp_path / "in" / "a.parquet", tmp_path / "kept")
        assert pa.parquet.read_table(tmp_path / "kept" / "a.parquet")["path"].to_pylist() == [None, "../in/00.mp4"]
        generate(tmp_path / "in" / "a.parquet", tmp_path / "small", frames=StoredFrames(24))
        assert failures(tmp_path / "small") == [
            ("1", "read", "its media are stored otherwise than those of the first rows")
        ]

    def test_large_files_are_divided(self, generate, tmp_path):
        (tmp_path / "in").mkdir()
        numbers = list(range(10, 17))
        videos = pa.array([video_bytes(number) for number in numbers], pa.binary())
        table = pa.table({"video": videos, "number": numbers})
        pa.parquet.write_table(table, tmp_path / "in" / "a.parquet", row_group_size=2)
        generate(tmp_path / "in", tmp_path / "out", shard_size=3)
        names = ["a-00000.parquet", "a-00001.parquet", "a-00002.parquet"]
        assert list(outputs(tmp_path / "out")) == names
        parts = [pa.parquet.read_table(tmp_path / "out" / name) for name in names]
        assert [part["number"].to_pylist() for part in parts] == [[10, 11, 12], [13, 14, 15], [16]]
        assert pa.concat_tables(parts).drop(["trajectories"]).equals(table)


def read_all_without_captions(path):
    table = pa.parquet.read_table(next(path.glob("*.parquet")))
    return [Trajectories.from_bytes(content) for content in table["trajectories"].to_pylist()]
