"""Tables, folders of files, data sets that HF Datasets finds, subsets, and what the settings of a stream may say."""

import csv
import json

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from numbered_videos import numbers_of
from shard_files import image_bytes, sample, video_bytes, write_tar

from trajvit.processing.columns import Columns
from trajvit.processing.dataset_files import hub_shards
from trajvit.processing.stored_values import SampleError
from trajvit.training.record_stream import RecordStream
from trajvit.training.run_config import StreamSettings
from trajvit.training.sources import Reading, build_source
from trajvit.training.subsets import Subset

NO_TRAJECTORIES = Reading(needs_trajectories=False)
FIRST = 2  # the first of four frames sampled from twelve is the second


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    datasets.disable_progress_bars()


def source_of(path, source="table", **settings):
    path = [str(each) for each in path] if isinstance(path, list) else str(path)
    settings = StreamSettings(name="videos", source=source, path=path, **{"num_frames": 3, **settings})
    return build_source(settings, NO_TRAJECTORIES)


def read_all(source):
    """(key, captions, number on the first frame), or (key, why not), of all shards; (None, why) where one ends."""
    results = []
    for shard in range(source.num_shards):
        try:
            for row in source.rows(shard):
                try:
                    clip = source.read(row)
                    results.append((row["key"], clip.captions, numbers_of(clip.frames)[0]))
                except SampleError as error:
                    results.append((row["key"], str(error)))
        except SampleError as error:
            results.append((None, str(error)))
    return results


def write_parquet(path, numbers, media="video", **columns):
    table = {media: [video_bytes(number) for number in numbers], "caption": [f"no. {number}" for number in numbers]}
    pa.parquet.write_table(pa.table({**table, **columns}), path, row_group_size=2)


class TestParquet:
    def test_bytes_in_a_column(self, tmp_path):
        write_parquet(tmp_path / "0.parquet", [10, 20, 30])
        write_parquet(tmp_path / "1.parquet", [40])
        source = source_of(tmp_path / "*.parquet")
        assert read_all(source) == [
            (f"{name}.parquet/{row}", (f"no. {number}",), number + FIRST)
            for name, row, number in [(0, 0, 10), (0, 1, 20), (0, 2, 30), (1, 0, 40)]
        ]
        assert source.num_samples == 4

    def test_as_hf_datasets_writes_media(self, tmp_path):
        features = datasets.Features({"image": datasets.Image(), "text": datasets.List(datasets.Value("string"))})
        images = [{"bytes": image_bytes(number), "path": None} for number in (7, 8)]
        table = datasets.Dataset.from_dict({"image": images, "text": [["a", "b"], ["c", ""]]}, features=features)
        table.to_parquet(tmp_path / "0.parquet")
        table.save_to_disk(tmp_path / "saved")
        expected = [("0", ("a", "b"), 7), ("1", ("c",), 8)]
        for path in (tmp_path / "0.parquet", tmp_path / "saved"):
            found = read_all(source_of(path, media="image"))
            assert [(key.rpartition("/")[2], *rest) for key, *rest in found] == expected

    def test_a_damaged_file_costs_itself_alone(self, tmp_path):
        write_parquet(tmp_path / "0.parquet", [1, 2])
        whole = (tmp_path / "0.parquet").read_bytes()
        (tmp_path / "1.parquet").write_bytes(whole[:-200])
        (tmp_path / "2.parquet").write_bytes(b"")
        write_parquet(tmp_path / "3.parquet", [3])
        source = source_of(tmp_path)
        results = read_all(source)
        assert [result[0] for result in results] == ["0.parquet/0", "0.parquet/1", None, None, "3.parquet/0"]
        assert all(f"{k}.parquet cannot be read any further" in results[k + 1][1] for k in (1, 2))
        assert source.num_samples is None

    def test_damage_inside_costs_the_rest(self, tmp_path):
        write_parquet(tmp_path / "0.parquet", [1, 2, 3, 4, 5, 6])
        data = bytearray((tmp_path / "0.parquet").read_bytes())
        middle = pa.parquet.read_metadata(tmp_path / "0.parquet").row_group(1).column(0)
        start = middle.dictionary_page_offset or middle.data_page_offset
        data[start : start + 40] = bytes(40)
        (tmp_path / "0.parquet").write_bytes(data)
        write_parquet(tmp_path / "1.parquet", [7])
        *before, broken, behind = read_all(source_of(tmp_path))
        assert [key for key, *_ in before] in ([], ["0.parquet/0", "0.parquet/1"])
        assert "0.parquet cannot be read any further" in broken[1]
        assert behind == ("1.parquet/0", ("no. 7",), 7 + FIRST)

    def test_a_row_without_media_costs_itself_alone(self, tmp_path):
        table = pa.table({"video": [video_bytes(1), None, video_bytes(2)], "caption": ["a", "b", None]})
        pa.parquet.write_table(table, tmp_path / "0.parquet")
        results = read_all(source_of(tmp_path))
        assert results[0] == ("0.parquet/0", ("a",), 1 + FIRST)
        assert "has no video among caption, video" in results[1][1]
        assert "has no caption" in results[2][1]

    def test_columns_are_named_and_keys_taken(self, tmp_path):
        more = {"sentences": [json.dumps(["x", "y"]), "['it''s', 'z']"], "id": [5, 6]}
        write_parquet(tmp_path / "0.parquet", [1, 2], media="clip.bytes", **more)
        results = read_all(source_of(tmp_path, columns={"media": "clip.bytes", "captions": "sentences", "key": "id"}))
        assert [result[:2] for result in results] == [("0.parquet/5", ("x", "y")), ("0.parquet/6", ("its", "z"))]

    def test_a_name_that_is_not_there_is_told_with_those_that_are(self, tmp_path):
        write_parquet(tmp_path / "0.parquet", [1])
        with pytest.raises(ValueError, match=r"stream videos: .*no clip \(columns.media\) among caption, video"):
            source_of(tmp_path, columns={"media": "clip"})
        with pytest.raises(ValueError, match=r"has no image among caption, video: expected one of .*columns\.media"):
            source_of(tmp_path, media="image")


class TestTextTables:
    def test_csv_with_paths(self, tmp_path):
        (tmp_path / "media").mkdir()
        for number in (1, 2):
            (tmp_path / "media" / f"{number}.mp4").write_bytes(video_bytes(number))
        with open(tmp_path / "list.csv", "w", newline="") as file:
            rows = [
                ["path", "caption", "n"],
                ["media/1.mp4", "null", 1],
                [tmp_path / "media/2.mp4", '["a, b", "007"]', 2],
            ]
            csv.writer(file).writerows([*rows, ["media/3.mp4", "gone", 3]])
        first, second, third = read_all(source_of(tmp_path / "list.csv"))
        assert first == ("list.csv/0", ("null",), 1 + FIRST)
        assert second == ("list.csv/1", ("a, b", "007"), 2 + FIRST)
        assert third[0] == "list.csv/2"
        assert "does not exist" in third[1]

    @pytest.mark.parametrize("name", ["list.tsv", "list.csv"])
    def test_a_bad_line_costs_itself_alone(self, tmp_path, name):
        (tmp_path / "1.mp4").write_bytes(video_bytes(1))
        lines = [b"path\tcaption", b"1.mp4\tone", b"1.mp4", b"1.mp4\tcaf\xe9", b"", b"1.mp4\ta\tb", b'1.mp4\t"a\nb"']
        (tmp_path / name).write_bytes(b"\r\n".join(lines))
        results = read_all(source_of(tmp_path / name, options={"sep": "\t"} if name == "list.csv" else {}))
        assert [result[1] for result in results] == [
            ("one",),
            "has 1 values: expected 2",
            "is not UTF-8",
            "has 3 values: expected 2",
            ("a\nb",),
        ]

    def test_json_lines(self, tmp_path):
        (tmp_path / "1.mp4").write_bytes(video_bytes(1))
        lines = [b'{"path": "1.mp4", "caption": "one", "n": 1}', b'{"path": "1.mp4", "caption": ["a", "b"], "n": "x"}']
        lines += [b'{"path": ', b"[3]", b'{"path": "1.mp4", "caption": "\xff"}', b"", b'{"path": "1.mp4", "text": "d"}']
        (tmp_path / "list.jsonl").write_bytes(b"\n".join(lines))
        results = [result[1] for result in read_all(source_of(tmp_path / "list.jsonl"))]
        assert results[:2] == [("one",), ("a", "b")]
        assert results[2].startswith("is no JSON")
        assert results[3:] == ["is list: expected an object", "is not UTF-8", ("d",)]

    def test_a_url(self):
        with fsspec.open("memory://tables/list.tsv", "wb") as file:
            file.write(b"path\tcaption\nmemory://k.mp4\tone\nmemory://l.mp4\t2\n")
        source = source_of("memory://tables/list.tsv")
        assert [row["media"] for row in source.rows(0)] == ["memory://k.mp4", "memory://l.mp4"]

    def test_a_json_file(self, tmp_path):
        (tmp_path / "1.mp4").write_bytes(video_bytes(1))
        (tmp_path / "list.json").write_text(json.dumps([{"path": "1.mp4", "caption": "one"}] * 2))
        assert read_all(source_of(tmp_path / "list.json")) == [
            (f"list.json/{k}", ("one",), 1 + FIRST) for k in range(2)
        ]

    def test_options_that_mean_nothing_are_named(self, tmp_path):
        (tmp_path / "list.csv").write_text("path,caption\n")
        with pytest.raises(ValueError, match=r"\['header'\] of list.csv: expected sep alone"):
            source_of(tmp_path / "list.csv", options={"header": None})


class TestFolders:
    def test_files_beside_one_another(self, tmp_path):
        (tmp_path / "a").mkdir()
        for name, number in (("a/v1.0", 1), ("a/v1.1", 2), ("b", 3)):
            (tmp_path / f"{name}.mp4").write_bytes(video_bytes(number))
        (tmp_path / "a/v1.0.txt").write_text("one")
        (tmp_path / "a/v1.1.json").write_text('{"captions": ["two", "zwei"], "caption": "deux"}')
        source = source_of(tmp_path)
        first, second, third = read_all(source)
        assert first == (f"{tmp_path.name}/a/v1.0", ("one",), 1 + FIRST)
        assert second == (f"{tmp_path.name}/a/v1.1", ("two", "zwei"), 2 + FIRST)
        assert third[0] == f"{tmp_path.name}/b"
        assert "has no caption" in third[1]
        assert source.num_samples == 3

    def test_a_pattern_and_many_files(self, tmp_path):
        for number in range(300):
            (tmp_path / f"{number:03}.png").write_bytes(image_bytes(number))
            (tmp_path / f"{number:03}.title").write_text(f"no. {number}")
        source = source_of(tmp_path / "*.png", media="image", columns={"captions": "title"})
        assert source.num_shards == 2
        assert read_all(source)[299] == (f"{tmp_path.name}/299", ("no. 299",), 299)

    def test_images_with_trajectories_beside_them(self, tmp_path):
        for name in ("k.png", "k.traj.png"):
            (tmp_path / name).write_bytes(image_bytes(1))
        (tmp_path / "k.txt").write_text("one")
        assert [key for key, *_ in read_all(source_of(tmp_path, media="image"))] == [f"{tmp_path.name}/k"]

    def test_a_metadata_file(self, tmp_path):
        (tmp_path / "k.mp4").write_bytes(video_bytes(1))
        (tmp_path / "metadata.csv").write_text("file_name,text\nk.mp4,one\n")
        assert read_all(source_of(tmp_path)) == [("metadata.csv/0", ("one",), 1 + FIRST)]

    def test_archives_beside_their_tables(self, tmp_path):
        """As video2dataset leaves them: the tables hold no media."""
        write_tar(tmp_path / "00000.tar", sample("k"))
        write_parquet(tmp_path / "00000.parquet", [1])
        (tmp_path / "00000_stats.json").write_text("{}")
        assert [key for key, *_ in read_all(source_of(tmp_path, "panda70m"))] == ["00000.tar/k"]

    def test_only_the_folder_of_the_split(self, tmp_path):
        write_tar(tmp_path / "train" / "0.tar", sample("a"))
        write_tar(tmp_path / "test" / "0.tar", sample("b"))
        assert [key for key, *_ in read_all(source_of(tmp_path, split="test"))] == ["0.tar/b"]

    def test_a_list_keeps_its_order(self, tmp_path):
        paths = [write_tar(tmp_path / f"{name}.tar", sample(name)) for name in "cab"]
        assert [key for key, *_ in read_all(source_of(paths))] == ["c.tar/c", "a.tar/a", "b.tar/b"]

    @pytest.mark.parametrize("path", ["nothing/*.tar", "nothing.tar", "./nothing"])
    def test_what_is_not_there_is_named(self, path):
        with pytest.raises(ValueError, match="found no file there; expected one, a pattern, a folder"):
            source_of(path)

    def test_an_unknown_format_is_named(self, tmp_path):
        (tmp_path / "0.rar").write_bytes(b"")
        with pytest.raises(ValueError, match=r"0\.rar is of no known format: expected one of tar"):
            source_of(tmp_path / "0.rar")

    def test_a_missing_id_is_named(self):
        with pytest.raises(ValueError, match=r"path='nobody/nothing', split='train'.*as an id of the Hub"):
            source_of("nobody/nothing")


class TestHub:
    """What `datasets` finds by a name, here that of a folder."""

    def test_tables(self, tmp_path):
        for split, numbers in (("train", [[1, 2], [3]]), ("test", [[4]])):
            for part, some in enumerate(numbers):
                write_parquet(tmp_path / f"{split}-{part}.parquet", some)
        shards = hub_shards(str(tmp_path), "train", Columns({}, "video"), {})
        assert [[record.values["caption"] for record in shard.records()] for shard in shards] == [
            ["no. 1", "no. 2"],
            ["no. 3"],
        ]

    def test_archives(self, tmp_path):
        write_tar(tmp_path / "train-0.tar", sample("v1.a") + sample("v1.b"))
        write_tar(tmp_path / "train-1.tar", [("k.mp4", b""), ("k.json", b"{")])
        shards = hub_shards(str(tmp_path), "train", Columns({}, "video"), {})
        assert [[record.key for record in shard.records()] for shard in shards] == [["v1.a", "v1.b"], ["k"]]
        with pytest.raises(ValueError, match="split='dev'"):
            hub_shards(str(tmp_path), "dev", Columns({}, "video"), {})


class TestSubsets:
    def test_are_nested_and_of_about_their_size(self):
        keys = [f"{number:08}" for number in range(20_000)]
        kept = [
            {key for key in keys if Subset(size, 8_000_000).keeps(key)} for size in (2_000_000, 4_000_000, 8_000_000)
        ]
        assert kept[0] < kept[1] < kept[2] == set(keys)
        for found, expected in zip(kept, (5000, 10_000, 20_000), strict=True):
            assert abs(len(found) - expected) <= 5 * 71  # standard deviations of 10,000 in 20,000

    def test_are_the_same_on_every_machine(self):
        # `echo -n '["subset","0001"]' | b2sum -l 64`, as a share of 2^64, is 0.59996 for 0001, 0.01917 for 0002, ...
        shares = {"0001": 0.59996, "0002": 0.01917, "0003": 0.56891, "0004": 0.65217, "0005": 0.50780, "0006": 0.87324}
        for size in (10, 200, 505, 550, 590, 620, 700, 900):
            kept = {key for key in shares if Subset(size, 1000).keeps(key)}
            assert kept == {key for key, share in shares.items() if share < size / 1000}

    def test_are_the_same_however_the_samples_are_laid_out(self, tmp_path):
        keys = [f"{number:03}" for number in range(60)]
        files = {key: [(f"{key}.mp4", b"-"), (f"{key}.txt", b"a")] for key in keys}
        write_tar(tmp_path / "one" / "0.tar", [file for key in keys for file in files[key]])
        for part in range(4):
            write_tar(tmp_path / "four" / f"{part}.tar", [file for key in keys[::-1][part::4] for file in files[key]])
        found = []
        for folder in ("one", "four"):
            source = source_of(tmp_path / folder, "panda70m", num_samples=60, subset=20)
            assert source.num_samples == 20
            entries = RecordStream(source, seed=0, num_ranks=1, shuffle_block=7, num_epochs=1)
            found.append({entry.key.rpartition("/")[2] for entry in entries})
        assert found[0] == found[1]
        assert 8 < len(found[0]) < 32

    def test_have_legal_sizes(self):
        with pytest.raises(ValueError, match=r"subset=9 of num_samples=8: expected 1\.\.8"):
            Subset(9, 8)

    def test_need_stored_samples(self):
        settings = StreamSettings(name="made", source="synthetic", num_samples=8, subset=4)
        with pytest.raises(ValueError, match="stream made: subset=4"):
            build_source(settings, NO_TRAJECTORIES)
