"""Data sets of HF Datasets in files, folders and saved to disk, as retrieval and classification sets."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from annotated_media import assert_missing, captions, media_folder, places, refuses, write
from shard_files import image_bytes

from trajvit.evaluation.hub_data import read_hub_classification, read_hub_retrieval


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def write_parquet(path, **columns):
    pa.parquet.write_table(pa.table(columns), path)
    return path


def write_lines(path, *rows):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


class TestRetrieval:
    def test_parquet_with_bytes(self, tmp_path):
        path = write_parquet(
            tmp_path / "clips.parquet",
            video=[b"one", b"two", None],
            captions=[["a  dog", "barks"], ["a cat"], ["a bird"]],
            name=["x", "y", "z"],
            traj=[b"ids", None, None],
        )
        found = read_hub_retrieval(path, key_column="name", trajectories_column="traj")
        assert found.name == "clips"
        assert captions(found) == {"x": ["a dog", "barks"], "y": ["a cat"], "z": ["a bird"]}
        assert [item.media for item in found.items] == [b"one", b"two", None]
        assert [item.trajectories for item in found.items] == [b"ids", None, None]
        assert_missing(found.items, "z")

    @pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
    def test_paths_are_relative_to_the_file_or_to_a_folder(self, tmp_path, suffix):
        rows = [{"file_name": "m/a.mp4", "text": "a dog"}, {"file_name": "m/b.mp4", "text": "a cat"}]
        path = tmp_path / f"clips.{suffix}"
        if suffix == "parquet":
            write_parquet(path, **{name: [row[name] for row in rows] for name in rows[0]})
        elif suffix in ("csv", "tsv"):
            mark = "," if suffix == "csv" else "\t"
            write(path, "".join(mark.join(row) + "\n" for row in (rows[0], *(row.values() for row in rows))))
        else:
            write_lines(path, *rows) if suffix == "jsonl" else write(path, rows)
        folder = media_folder(tmp_path / "m", "a.mp4", "m/b.mp4")
        found = read_hub_retrieval(path, name="mine")
        assert found.name == "mine"
        assert captions(found) == {"0": ["a dog"], "1": ["a cat"]}
        assert places(found.items, tmp_path) == ["m/a.mp4", None]
        assert found.items[1].expected == f"file {tmp_path}/m/b.mp4"
        assert places(read_hub_retrieval(path, folder).items, folder) == [None, "m/b.mp4"]

    def test_images_stay_as_they_are_stored(self, tmp_path):
        features = datasets.Features({"image": datasets.Image(), "text": datasets.List(datasets.Value("string"))})
        content = [image_bytes(number) for number in (7, 8)]
        images = [{"bytes": each, "path": None} for each in content]
        table = datasets.Dataset.from_dict({"image": images, "text": [["a", "b"], ["c"]]}, features=features)
        table.to_parquet(tmp_path / "0.parquet")
        table.save_to_disk(tmp_path / "saved")
        datasets.DatasetDict({"test": table, "val": table.select([1])}).save_to_disk(tmp_path / "splits")
        for name in ("0.parquet", "saved", "splits"):
            found = read_hub_retrieval(tmp_path / name)
            assert captions(found) == {"0": ["a", "b"], "1": ["c"]}
            assert [item.media for item in found.items] == content
        assert captions(read_hub_retrieval(tmp_path / "splits", split="val")) == {"0": ["c"]}
        refuses(["no split 'dev'", "test, val"], read_hub_retrieval, tmp_path / "splits", split="dev")

    @pytest.mark.parametrize(
        ("row", "options", "parts"),
        [
            ({"video": "a.mp4", "text": " "}, {}, ["row 1", "text is ' '"]),
            ({"video": "a.mp4", "text": None}, {}, ["row 1", "text is None"]),
            ({"video": "a.mp4", "text": "a", "k": "x"}, {"key_column": "k"}, ["row 1", "'x'", "row 0", "each once"]),
            ({"video": "a.mp4", "text": "a", "k": None}, {"key_column": "k"}, ["row 1", "k is None"]),
            ({"video": "a.mp4", "text": "a"}, {"key_column": "id"}, ["video, text, k", "none is id", "key_column"]),
            ({"video": "a.mp4", "text": "a"}, {"text_column": "title"}, ["none is title", "text_column"]),
            ({"video": "a.mp4", "text": "a"}, {"media_column": "clip"}, ["none is clip", "media_column"]),
        ],
    )
    def test_rows_and_columns_that_do_not_fit_are_refused(self, tmp_path, row, options, parts):
        path = write_lines(tmp_path / "a.jsonl", {"video": "b.mp4", "text": "b", "k": "x"}, row)
        refuses([str(path), *parts], read_hub_retrieval, path, **options)

    @pytest.mark.parametrize(
        ("columns", "parts"),
        [
            ({"clip": ["a.mp4"], "text": ["a"]}, ["clip, text", "none is video or image", "media_column"]),
            ({"video": ["a.mp4"], "title": ["a"]}, ["video, title", "none is captions or caption", "text_column"]),
            ({"video": ["a.mp4"], "text": [[]]}, ["row 0", "text is []"]),
            ({"video": ["a.mp4"], "text": [7]}, ["row 0", "text is 7"]),
            ({"video": [7], "text": ["a"]}, ["row 0", "video is 7", "bytes, a path"]),
        ],
    )
    def test_values_of_other_types_are_refused(self, tmp_path, columns, parts):
        refuses(parts, read_hub_retrieval, write_parquet(tmp_path / "a.parquet", **columns))

    def test_two_columns_of_media_are_told_apart_by_name(self, tmp_path):
        features = datasets.Features({name: datasets.Image() for name in ("left", "right")})
        images = {name: [{"bytes": image_bytes(number), "path": None}] for number, name in enumerate(features)}
        table = datasets.Dataset.from_dict(images, features=features).add_column("text", ["a"])
        table.to_parquet(tmp_path / "0.parquet")
        refuses(["left, right", "media_column"], read_hub_retrieval, tmp_path / "0.parquet")
        found = read_hub_retrieval(tmp_path / "0.parquet", media_column="right")
        assert found.items[0].media == image_bytes(1)

    @pytest.mark.parametrize(
        ("name", "content", "parts"),
        [
            ("a.parquet", b"no parquet", ["a.parquet", "cannot read it"]),
            ("a.csv", "", ["a.csv", "expected"]),
            ("a.json", "{", ["a.json", "cannot read it"]),
            ("a.txt", "a", ["a.txt", "no known format", "parquet, csv"]),
            ("a.csv", "video,text\n", ["a.csv", "expected"]),
        ],
    )
    def test_damaged_files_are_refused(self, tmp_path, name, content, parts):
        refuses(parts, read_hub_retrieval, write(tmp_path / name, content))

    def test_what_is_not_there_is_refused(self, tmp_path):
        refuses([f"{tmp_path}/no", "cannot read it"], read_hub_retrieval, tmp_path / "no")

    def test_code_of_a_data_set_is_not_run(self, tmp_path):
        folder = media_folder(tmp_path / "mine")
        trace = tmp_path / "trace"
        write(folder / "mine.py", f"import pathlib\npathlib.Path({str(trace)!r}).write_text('run')\n")
        with pytest.raises(Exception, match="expected"):
            read_hub_retrieval(folder)
        assert not trace.exists()


class TestClassification:
    def test_names_of_the_columns_type(self, tmp_path):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes", "maybe"])}
        )
        images = [{"bytes": image_bytes(number), "path": None} for number in (7, 8)]
        table = datasets.Dataset.from_dict({"image": images, "label": [1, 0]}, features=features)
        table.save_to_disk(tmp_path / "saved")
        found = read_hub_classification(tmp_path / "saved")
        assert (found.name, found.labels, found.class_names) == ("saved", (1, 0), ("no", "yes", "maybe"))
        table = datasets.Dataset.from_dict({"image": images, "label": [1, -1]}, features=features)
        table.save_to_disk(tmp_path / "hidden")
        refuses(["row 1", "label is -1", "from 0 to 2"], read_hub_classification, tmp_path / "hidden")

    def test_names_in_the_column(self, tmp_path):
        media_folder(tmp_path, "a.mp4")
        path = write(tmp_path / "a.csv", "path,class\na.mp4,run\nb.mp4,jump\na.mp4,run\n")
        found = read_hub_classification(path)
        assert (found.labels, found.class_names) == ((1, 0, 1), ("jump", "run"))
        assert places(found.items, tmp_path) == ["a.mp4", None, "a.mp4"]
        given = read_hub_classification(path, class_names=("run", "swim", "jump"))
        assert (given.labels, given.class_names) == ((0, 2, 0), ("run", "swim", "jump"))
        refuses(["row 1", "class is 'jump'", "run, swim"], read_hub_classification, path, class_names=("run", "swim"))
        refuses(["two classes", "run"], read_hub_classification, path, class_names=("run", "run"))

    def test_numbers_need_names(self, tmp_path):
        path = write(tmp_path / "a.csv", "path,label\na.mp4,1\nb.mp4,0\n")
        refuses(["row 0", "label is 1", "class_names"], read_hub_classification, path)
        assert read_hub_classification(path, class_names=["no", "yes"]).labels == (1, 0)
        refuses(["row 0", "label is 1", "from 0 to 0"], read_hub_classification, path, class_names=["no"])

    def test_a_folder_for_each_class(self, tmp_path):
        for name in ("cat/1.png", "dog/2.png", "dog/3.png"):
            path = tmp_path / "pets" / "test" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_bytes(1))
        found = read_hub_classification(tmp_path / "pets")
        assert found.class_names == ("cat", "dog")
        assert sorted(found.labels) == [0, 1, 1]
        assert [str(item.media).rsplit("/", 2)[-2] for item in found.items] == [
            found.class_names[label] for label in found.labels
        ]
