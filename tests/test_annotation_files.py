"""Faults of annotation files are named by file, line or key, and media are found by their names."""

import os

import pytest
from annotated_media import media_folder, refuses, write

from trajvit.evaluation.annotation_files import chosen_split, read_headless_table, read_lines, read_table, read_text
from trajvit.evaluation.annotation_json import read_json
from trajvit.evaluation.evaluation_data import MissingMediaError, missing_media
from trajvit.evaluation.media_index import MediaIndex


class TestText:
    def test_a_byte_order_mark_is_no_text(self, tmp_path):
        assert read_text(write(tmp_path / "a.txt", b"\xef\xbb\xbfn\xc3\xa4h")) == "näh"
        assert read_table(write(tmp_path / "a.csv", b"\xef\xbb\xbfid\nx\n"), ("id",))[0].values == {"id": "x"}
        assert read_json(write(tmp_path / "a.json", b"\xef\xbb\xbf[1]")).value == [1]

    @pytest.mark.parametrize(
        ("content", "part"),
        [(b"", "is empty"), (b" \n\t\n", "is empty"), (b"a\nb\xff\n", "line 2: byte 0xff is no UTF-8")],
    )
    def test_what_is_no_text_is_refused(self, tmp_path, content, part):
        path = write(tmp_path / "a.txt", content)
        for read in (read_text, read_lines, read_json):
            refuses([str(path), part], read, path)
        refuses([str(path), part], read_table, path, ("id",))

    def test_a_file_that_is_not_there_is_named_with_its_neighbours(self, tmp_path):
        write(tmp_path / "val_1.json", "{}")
        refuses([f"{tmp_path}/val1.json", "val_1.json"], read_text, tmp_path / "val1.json")
        refuses(["there is no folder", f"{tmp_path}/no"], read_text, tmp_path / "no" / "val1.json")
        refuses([str(tmp_path), "cannot be read"], read_text, tmp_path)

    def test_lines_keep_their_numbers(self, tmp_path):
        path = write(tmp_path / "a.txt", b"one\r\n\r\n two \r\n")
        assert [(line.place, line.text) for line in read_lines(path)] == [
            (f"{path}, line 1", "one"),
            (f"{path}, line 3", "two"),
        ]


class TestTable:
    def test_quotes_line_ends_and_other_columns(self, tmp_path):
        path = write(tmp_path / "a.csv", 'other,id,text\n1,a,"x, ""y"""\n\n2,b,"two\nlines"\n3,c,z\n')
        rows = read_table(path, ("id", "text"))
        assert [(row.text("id"), row.text("text")) for row in rows] == [
            ("a", 'x, "y"'),
            ("b", "two\nlines"),
            ("c", "z"),
        ]
        assert [row.place for row in rows] == [f"{path}, line {line}" for line in (2, 4, 6)]

    @pytest.mark.parametrize(
        ("content", "parts"),
        [
            ("a,b\n1,2\n", ["line 1", "'a, b'", "without id"]),
            ("id,id\n1,2\n", ["line 1", "'id'"]),
            ("id,b\n", ["no row"]),
            ("id,b\n1\n", ["line 2", "1 values", "expected 2"]),
            ("id,b\n1,2\n1,2,3\n", ["line 3", "3 values", "expected 2"]),
            ('id,b\n1,2\n"1,2\n3,4\n', ["line 3", "no CSV"]),
            ('id,b\n1,"2"3\n', ["line 2", "no CSV"]),
        ],
    )
    def test_what_fits_no_columns_is_refused(self, tmp_path, content, parts):
        refuses([str(tmp_path / "a.csv"), *parts], read_table, write(tmp_path / "a.csv", content), ("id",))

    def test_layouts_are_told_apart_by_their_lengths(self, tmp_path):
        path = write(tmp_path / "a.csv", "x,1\ny,2,3\n")
        rows = read_headless_table(path, [("id", "a"), ("id", "a", "b")])
        assert [row.values for row in rows] == [{"id": "x", "a": "1"}, {"id": "y", "a": "2", "b": "3"}]
        write(path, "x,1\ny\n")
        refuses([f"{path}, line 2", "1 values", "2 (id, a)"], read_headless_table, path, [("id", "a")])

    @pytest.mark.parametrize("value", ["", " ", "x", "nan", "inf", "1_0", "1e999", "0x1"])
    def test_numbers_are_finite_and_written_as_numbers(self, tmp_path, value):
        row = read_table(write(tmp_path / "a.csv", f"id,n\nx,{value}\n"), ("n",))[0]
        refuses([f"{tmp_path}/a.csv, line 2", "n is", repr(value), "a number"], row.number, "n")
        refuses(["n is", "whole"], row.integer, "n")

    def test_numbers(self, tmp_path):
        row = read_table(write(tmp_path / "a.csv", "a,b,c\n 0902, -1.5e1,1.0\n"), ("a", "b", "c"))[0]
        assert (row.integer("a"), row.number("a"), row.number("b"), row.number("c")) == (902, 902.0, -15.0, 1.0)
        refuses(["c is '1.0'", "whole"], row.integer, "c")


class TestJson:
    @pytest.mark.parametrize(
        ("content", "parts"),
        [
            ('{"a": 1,\n "b": }', ["line 2", "column 7"]),
            ("[1, 2", ["line 1"]),
            ('{"a": 1, "a": 2}', ["the key 'a' twice"]),
            ('{"a": NaN}', ["NaN"]),
            ("[" * 100_000, ["without end"]),
        ],
    )
    def test_what_is_no_json_is_refused(self, tmp_path, content, parts):
        path = write(tmp_path / "a.json", content)
        refuses([str(path), *parts], read_json, path)

    def test_endless_numbers_are_refused(self, tmp_path):
        # Python reads them, or refuses to: its releases differ.
        path = write(tmp_path / "a.json", "[" + "9" * 5000 + "]")
        refuses([str(path)], lambda: next(read_json(path).elements()).number())

    def test_faults_name_the_place(self, tmp_path):
        path = write(tmp_path / "a.json", {"s": [{"c": "x"}, {"c": 3, "n": True, "e": " ", "f": 1e308, "l": []}]})
        second = list(read_json(path).field("s").elements())[1]
        refuses([f"{path}: s[1].c is 3", "a text"], second.field("c").text)
        refuses([f"{path}: s[1].e is ' '", "a text"], second.field("e").text)
        refuses([f"{path}: s[1].n is True", "a number"], second.field("n").number)
        refuses([f"{path}: s[1].n is True", "a whole number"], second.field("n").identifier)
        refuses([f"{path}: s[1].l is a list of 0", "an object"], second.field("l").field, "x")
        refuses([f"{path}: s[1] has the keys", "c, n, e, f, l", "none is x"], second.field, "x")
        refuses([f"{path}: s[1] is an object with 'c, n", "a list"], lambda: list(second.elements()))
        refuses([f"{path} is an object with 's'", "a list"], lambda: list(read_json(path).elements()))
        assert second.field("c").identifier() == "3"
        assert second.field("f").number() == 1e308


def test_splits_are_listed():
    assert chosen_split("a", None, ["val", "val"]) == "val"
    assert chosen_split("a", None, ["val", "test"], default="test") == "test"
    assert chosen_split("a", "val", ["val", "test"], default="test") == "val"
    refuses(["a: there is no split 'dev'", "'val', 'test'"], chosen_split, "a", "dev", ["val", "test", "val"])
    refuses(["a: no split is asked for", "'val', 'test'"], chosen_split, "a", None, ["val", "test"])


class TestMediaIndex:
    def test_files_are_found_in_any_folder_with_any_suffix(self, tmp_path):
        folder = media_folder(tmp_path / "m", "a.mp4", "x/b.WEBM", "x/y/c.avi", "x/c.txt", ".d.mp4", ".z/e.mp4")
        index = MediaIndex(folder, "video")
        assert index.paths == ["a.mp4", "x/b.WEBM", "x/y/c.avi"]
        assert index.item("k", "a").media == f"{folder}/a.mp4"
        assert index.item("k", "b").media == f"{folder}/x/b.WEBM"
        assert index.item("k", "somewhere/c.mkv").media == f"{folder}/x/y/c.avi"
        for name in ("d", "e", "A", "nothing"):
            missing = index.item("k", name)
            assert missing.media is None
            assert missing_media([missing]) == {"k": f"there is no video {name}.* in {folder}"}

    def test_images_and_trajectories_are_not_confused(self, tmp_path):
        folder = media_folder(tmp_path / "m", "a.png", "a.traj.png", "b.JPEG", "a.mp4")
        index = MediaIndex(folder, "image")
        assert index.paths == ["a.png", "b.JPEG"]
        assert index.item("k", "a").trajectories == f"{folder}/a.traj.png"
        assert index.item("k", "b").trajectories is None

    def test_of_two_files_the_one_at_the_place_is_taken(self, tmp_path):
        folder = media_folder(tmp_path / "m", "a.mp4", "x/a.mp4", "y/b.mp4", "z/b.mp4", "c.mp4", "c.webm")
        index = MediaIndex(folder, "video")
        assert index.item("k", "a").media == f"{folder}/a.mp4"
        assert index.item("k", "x/a").media == f"{folder}/x/a.mp4"
        assert index.item("k", "w/b", "z/b").media == f"{folder}/z/b.mp4"
        assert index.item("k", "c.webm").media == f"{folder}/c.webm"
        refuses([str(folder), "y/b.mp4 and z/b.mp4"], index.item, "k", "b")
        refuses([str(folder), "c.mp4 and c.webm"], index.item, "k", "c")

    def test_a_stretch_has_trajectories_of_its_own(self, tmp_path):
        folder = media_folder(tmp_path / "m", "a.mp4", "a.traj.png", "a_1.traj.png")
        index = MediaIndex(folder, "video")
        whole, stretch, other = index.item("a", "a"), index.item("a_1", "a", end=2.0), index.item("a_2", "a", start=1.0)
        assert whole.trajectories == f"{folder}/a.traj.png"
        assert (stretch.trajectories, stretch.end) == (f"{folder}/a_1.traj.png", 2.0)
        assert other.trajectories is None

    def test_trajectories_in_a_folder_of_their_own(self, tmp_path):
        folder = media_folder(tmp_path / "m", "x/a.mp4", "y/a.mp4", "b.mp4", "b.traj.png", "c.mp4")
        stored = media_folder(tmp_path / "t", "x/a.traj.png", "y/a.traj.png", "deep/c.traj.png")
        index = MediaIndex(folder, "video", stored)
        assert index.item("k", "y/a").trajectories == f"{stored}/y/a.traj.png"
        assert index.item("k", "b").trajectories is None
        assert index.item("k", "c").trajectories == f"{stored}/deep/c.traj.png"

    def test_links_are_followed_once(self, tmp_path):
        folder = media_folder(tmp_path / "m", "x/a.mp4")
        elsewhere = media_folder(tmp_path / "elsewhere", "b.mp4")
        os.symlink(elsewhere, folder / "more")
        os.symlink(folder, folder / "x" / "back")
        assert MediaIndex(folder, "video").paths == ["more/b.mp4", "x/a.mp4"]

    def test_folders_that_are_not_there_are_named(self, tmp_path):
        with pytest.raises(MissingMediaError, match=f"no folder {tmp_path}/m; expected the one with the videos"):
            MediaIndex(tmp_path / "m", "video")
        with pytest.raises(MissingMediaError, match=f"{tmp_path}/t; expected the one with stored trajectories"):
            MediaIndex(tmp_path, "video", tmp_path / "t")
