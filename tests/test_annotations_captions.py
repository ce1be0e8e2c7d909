"""The caption files of MSR-VTT, ActivityNet Captions, VATEX, Charades and COCO as retrieval sets."""

import copy

import pytest
from annotated_media import assert_missing, captions, media_folder, places, refuses, write
from annotation_samples import (
    ACTIVITYNET,
    CHARADES_HEADER,
    CHARADES_ROWS,
    COCO_KARPATHY,
    COCO_OFFICIAL,
    MSRVTT,
    MSRVTT_1K_A,
    VATEX,
)

from trajvit.evaluation.coco_captions import read_coco
from trajvit.evaluation.evaluation_data import MissingMediaError
from trajvit.evaluation.video_captions import read_activitynet, read_charades, read_msrvtt, read_vatex

FIRST = "v_uqiMw7tQ1Cc"


def changed(content, keys, value):
    """A copy of a JSON value with one place replaced, or taken out where the value is `...`."""
    content = copy.deepcopy(content)
    place = content
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return content


class TestMsrvtt:
    def test_videos_have_all_their_sentences(self, tmp_path):
        folder = media_folder(tmp_path / "m", "video7010.mp4", "video6512.mp4", "video7010.traj.png")
        path = write(tmp_path / "test_videodatainfo.json", MSRVTT)
        found = read_msrvtt(path, folder)
        assert found.name == "msrvtt"
        assert captions(found) == {"video7010": ["a girl runs"], "video7011": ["a man sings", "somebody sings"]}
        assert places(found.items, folder) == ["video7010.mp4", None]
        assert found.items[0].trajectories == f"{folder}/video7010.traj.png"
        assert_missing(found.items, "video7011")
        assert captions(read_msrvtt(path, folder, split="validate")) == {"video6512": ["a dog barks"]}

    def test_1k_a_has_one_sentence_a_video(self, tmp_path):
        folder = media_folder(tmp_path / "m", "TestVideo/video9771.mp4")
        path = write(tmp_path / "MSRVTT_JSFUSION_test.csv", MSRVTT_1K_A)
        found = read_msrvtt(path, folder)
        assert captions(found) == {"video9770": ["a person connects"], "video9771": ["'a girl'"]}
        assert places(found.items, folder) == [None, "TestVideo/video9771.mp4"]
        refuses([str(path), "no splits", "'test'"], read_msrvtt, path, folder, split="test")

    @pytest.mark.parametrize(
        ("keys", "value", "parts"),
        [
            (("videos",), ..., ["none is videos"]),
            (("videos",), {}, ["videos is an object without keys", "a list"]),
            (("videos", 1, "video_id"), "video7010", ["videos[1]", "'video7010'", "videos[0]"]),
            (("videos", 1, "split"), ..., ["videos[1]", "none is split"]),
            (("sentences",), ..., ["none is sentences"]),
            (("sentences", 2, "video_id"), "video1", ["sentences[2].video_id is 'video1'", "one of videos"]),
            (("sentences", 3, "caption"), " ", ["sentences[3].caption is ' '", "a text"]),
            (("sentences", 3, "caption"), 7, ["sentences[3].caption is 7", "a text"]),
            (("sentences", 1), "a", ["sentences[1] is 'a'", "an object"]),
            (("sentences", 1, "video_id"), "video7011", ["videos[0]", "no sentence", "video7010"]),
        ],
    )
    def test_malformed_json_is_refused(self, tmp_path, keys, value, parts):
        path = write(tmp_path / "a.json", changed(MSRVTT, keys, value))
        refuses([str(path), *parts], read_msrvtt, path, tmp_path)

    @pytest.mark.parametrize(
        ("table", "parts"),
        [
            (MSRVTT_1K_A.replace("video_id", "video"), ["line 1", "without video_id"]),
            (MSRVTT_1K_A.replace("video9771", "video9770"), ["line 3", "'video9770'", "line 2"]),
            (MSRVTT_1K_A.replace("a person connects", ""), ["line 2", "sentence is ''", "a text"]),
            (MSRVTT_1K_A.replace("video9771", " "), ["line 3", "video_id is ' '"]),
            (MSRVTT_1K_A.replace("a person", "a, person"), ["line 2", "5 values"]),
        ],
    )
    def test_malformed_csv_is_refused(self, tmp_path, table, parts):
        path = write(tmp_path / "a.csv", table)
        refuses([str(path), *parts], read_msrvtt, path, tmp_path)

    def test_unknown_splits_and_folders_are_refused(self, tmp_path):
        path = write(tmp_path / "a.json", MSRVTT)
        refuses([str(path), "no split 'val'", "'test', 'validate'"], read_msrvtt, path, tmp_path, split="val")
        with pytest.raises(MissingMediaError, match=f"no folder {tmp_path}/m"):
            read_msrvtt(path, tmp_path / "m")


class TestActivitynet:
    def test_paragraphs_are_of_whole_videos(self, tmp_path):
        folder = media_folder(tmp_path / "m", "v_bXdq2zI1Ms0.mkv")
        found = read_activitynet(write(tmp_path / "val_1.json", ACTIVITYNET), folder)
        assert found.name == "activitynet"
        assert captions(found) == {
            "v_uqiMw7tQ1Cc": ["A tutorial is given. The coach helps."],
            "v_bXdq2zI1Ms0": ["Men fight."],
        }
        assert places(found.items, folder) == [None, "v_bXdq2zI1Ms0.mkv"]
        assert all((item.start, item.end) == (None, None) for item in found.items)

    def test_segments_are_stretches(self, tmp_path):
        folder = media_folder(tmp_path / "m", "v_uqiMw7tQ1Cc.mp4", "v_bXdq2zI1Ms0.mp4")
        found = read_activitynet(write(tmp_path / "val_1.json", ACTIVITYNET), folder, texts="segments")
        assert captions(found) == {
            "v_uqiMw7tQ1Cc_0": ["A tutorial is given."],
            "v_uqiMw7tQ1Cc_1": ["The coach helps."],
            "v_bXdq2zI1Ms0_0": ["Men fight."],
        }
        # The first ends with the video, and the last before it starts.
        assert [(item.start, item.end) for item in found.items[:2]] == [(0.28, 55.15), (13.79, 54.32)]
        assert places(found.items, folder) == ["v_uqiMw7tQ1Cc.mp4", "v_uqiMw7tQ1Cc.mp4", None]
        assert found.items[2].expected == "stretch from 9 to 8 s of v_bXdq2zI1Ms0"

    @pytest.mark.parametrize(
        ("keys", "value", "parts"),
        [
            ((FIRST,), [], [f"{FIRST} is a list of 0", "an object"]),
            ((FIRST, "sentences"), ..., [FIRST, "none is sentences"]),
            ((FIRST, "sentences"), [], [f"{FIRST}.sentences is a list of 0", "at least one"]),
            ((FIRST, "sentences", 1), "\n", [f"{FIRST}.sentences[1]", "a text"]),
            ((FIRST, "sentences", 1), None, [f"{FIRST}.sentences[1] is None"]),
            ((FIRST, "duration"), "55", [f"{FIRST}.duration is '55'", "a number"]),
            ((FIRST, "timestamps", 1), ..., [f"{FIRST}.timestamps is a list of 1", "2 stretches"]),
            ((FIRST, "timestamps", 0), [1], [f"{FIRST}.timestamps[0]", "the first and the last second"]),
            (
                (FIRST, "timestamps", 0),
                [-1, 2],
                [f"{FIRST}.timestamps[0]", "the first and the last second"],
            ),
            ((FIRST, "timestamps", 0, 1), "x", [f"{FIRST}.timestamps[0][1] is 'x'", "a number"]),
        ],
    )
    def test_malformed_json_is_refused(self, tmp_path, keys, value, parts):
        path = write(tmp_path / "a.json", changed(ACTIVITYNET, keys, value))
        refuses([str(path), *parts], read_activitynet, path, tmp_path, texts="segments")

    def test_nothing_and_unknown_texts_are_refused(self, tmp_path):
        refuses(["no video"], read_activitynet, write(tmp_path / "a.json", {}), tmp_path)
        refuses(["'v_x' twice"], read_activitynet, write(tmp_path / "b.json", '{"v_x": 1, "v_x": 2}'), tmp_path)
        with pytest.raises(ValueError, match="texts='all'; expected 'paragraphs' or 'segments'"):
            read_activitynet(tmp_path / "a.json", tmp_path, texts="all")


class TestVatex:
    def test_clips_by_their_names(self, tmp_path):
        folder = media_folder(tmp_path / "m", "G9zN5TTuGO4_000179_000189.mp4")
        found = read_vatex(write(tmp_path / "a.json", VATEX), folder)
        assert captions(found) == {
            "G9zN5TTuGO4_000179_000189": ["One person sits.", "Two sit."],
            "-_0a_000000_000010": ["A child."],
        }
        assert places(found.items, folder) == ["G9zN5TTuGO4_000179_000189.mp4", None]
        assert (found.items[0].start, found.items[0].end) == (None, None)

    def test_clips_in_whole_videos(self, tmp_path):
        folder = media_folder(tmp_path / "m", "G9zN5TTuGO4.mp4", "-_0a.webm", "-_0a_000000_000010.traj.png")
        found = read_vatex(write(tmp_path / "a.json", VATEX), folder, whole_videos=True)
        assert places(found.items, folder) == ["G9zN5TTuGO4.mp4", "-_0a.webm"]
        assert [(item.start, item.end) for item in found.items] == [(179.0, 189.0), (0.0, 10.0)]
        assert found.items[1].trajectories == f"{folder}/-_0a_000000_000010.traj.png"

    @pytest.mark.parametrize(
        ("keys", "value", "parts"),
        [
            ((0, "videoID"), "G9zN5TTuGO4", ["[0].videoID is 'G9zN5TTuGO4'", "YouTube id"]),
            ((0, "videoID"), "x_000009_000009", ["[0].videoID", "last second"]),
            ((1, "videoID"), "G9zN5TTuGO4_000179_000189", ["[1].videoID", "[0].videoID", "each once"]),
            ((1, "enCap"), ..., ["[1]", "none is enCap"]),
            ((1, "enCap"), [], ["[1].enCap is a list of 0", "at least one"]),
            ((1, "enCap"), "A child.", ["[1].enCap is 'A child.'", "a list"]),
            ((1, "enCap", 0), "", ["[1].enCap[0] is ''", "a text"]),
            ((0,), 5, ["[0] is 5", "an object"]),
        ],
    )
    def test_malformed_json_is_refused(self, tmp_path, keys, value, parts):
        path = write(tmp_path / "a.json", changed(VATEX, keys, value))
        refuses([str(path), *parts], read_vatex, path, tmp_path)

    @pytest.mark.parametrize(("content", "part"), [([], "no clip"), ({"a": 1}, "is an object"), ("[", "line 1")])
    def test_other_files_are_refused(self, tmp_path, content, part):
        path = write(tmp_path / "a.json", content)
        refuses([str(path), part], read_vatex, path, tmp_path)


class TestCharades:
    def test_descriptions_and_scripts(self, tmp_path):
        folder = media_folder(tmp_path / "m", "T5ECU.mp4", "Charades_v1_480/YSKX3.mp4")
        path = write(tmp_path / "Charades_v1_test.csv", CHARADES_HEADER + CHARADES_ROWS)
        found = read_charades(path, folder)
        assert captions(found) == {
            "YSKX3": ["A person pats a bed, slowly.", "A person leaves."],
            "T5ECU": ["A person leaves the room"],
        }
        assert places(found.items, folder) == ["Charades_v1_480/YSKX3.mp4", "T5ECU.mp4"]
        scripts = read_charades(path, folder, texts="script")
        assert captions(scripts) == {"YSKX3": ["A person fixes the bed."], "T5ECU": ["One smiles."]}

    @pytest.mark.parametrize(
        ("table", "parts"),
        [
            (CHARADES_HEADER.replace("descriptions", "text") + CHARADES_ROWS, ["line 1", "without descriptions"]),
            (
                CHARADES_HEADER + CHARADES_ROWS.replace("A person leaves the room", " ; "),
                ["line 3", "descriptions is ' ; '"],
            ),
            (CHARADES_HEADER + CHARADES_ROWS.replace("T5ECU", "YSKX3"), ["line 3", "'YSKX3'", "line 2"]),
            (CHARADES_HEADER + CHARADES_ROWS.replace("T5ECU", ""), ["line 3", "id is ''"]),
            (CHARADES_HEADER + CHARADES_ROWS.replace(',"A person', ',A "person'), ["line 2", "values"]),
            (CHARADES_HEADER, ["no row"]),
            (CHARADES_ROWS, ["line 1", "without id, descriptions"]),
        ],
    )
    def test_malformed_csv_is_refused(self, tmp_path, table, parts):
        path = write(tmp_path / "a.csv", table)
        refuses([str(path), *parts], read_charades, path, tmp_path)

    def test_unknown_texts_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="texts='actions'; expected one of descriptions, script"):
            read_charades(tmp_path / "a.csv", tmp_path, texts="actions")


class TestCoco:
    def test_official_captions(self, tmp_path):
        folder = media_folder(tmp_path / "m", "val2017/000000037777.jpg")
        path = write(tmp_path / "captions_val2017.json", COCO_OFFICIAL)
        found = read_coco(path, folder)
        assert captions(found) == {"000000397133": ["A man cooks."], "000000037777": ["A kitchen.", "A fridge."]}
        assert places(found.items, folder) == [None, "val2017/000000037777.jpg"]
        assert found.items[0].expected == f"image 000000397133.* in {folder}"
        refuses([str(path), "no splits"], read_coco, path, folder, split="test")

    def test_karpathys_splits(self, tmp_path):
        folder = media_folder(tmp_path / "m", "val2014/COCO_val2014_000000391895.jpg", "b.jpg", "other/b.jpg")
        path = write(tmp_path / "dataset_coco.json", COCO_KARPATHY)
        found = read_coco(path, folder)
        assert captions(found) == {"COCO_val2014_000000391895": ["A man rides.", "A biker."]}
        assert places(found.items, folder) == ["val2014/COCO_val2014_000000391895.jpg"]
        assert places(read_coco(path, folder, split="restval").items, folder) == ["b.jpg"]
        refuses([str(path), "'dev'", "'test', 'restval'"], read_coco, path, folder, split="dev")

    @pytest.mark.parametrize(
        ("content", "keys", "value", "parts"),
        [
            (COCO_OFFICIAL, ("images",), [], ["images is a list of 0", "at least one image"]),
            (COCO_OFFICIAL, ("images",), ..., ["none is images"]),
            (COCO_OFFICIAL, ("images", 1, "id"), 397133, ["images[1]", "'397133'", "images[0]"]),
            (COCO_OFFICIAL, ("images", 1, "id"), 1.5, ["images[1].id is 1.5"]),
            (COCO_OFFICIAL, ("images", 1, "file_name"), "000000397133.jpg", ["images[1]", "images[0]"]),
            (COCO_OFFICIAL, ("images", 1, "file_name"), ..., ["images[1]", "none is file_name"]),
            (COCO_OFFICIAL, ("annotations", 0, "image_id"), 5, ["annotations[0].image_id is 5", "one of images"]),
            (COCO_OFFICIAL, ("annotations", 1, "image_id"), 37777, ["images[0]", "at least one caption"]),
            (COCO_OFFICIAL, ("annotations", 2, "caption"), "", ["annotations[2].caption is ''"]),
            (COCO_OFFICIAL, ("annotations",), 5, ["annotations is 5", "a list"]),
            (COCO_KARPATHY, ("images", 0, "sentences"), [], ["images[0].sentences", "at least one"]),
            (COCO_KARPATHY, ("images", 0, "sentences", 1, "raw"), " ", ["images[0].sentences[1].raw"]),
            (COCO_KARPATHY, ("images", 1, "split"), ..., ["images[1]", "none is split"]),
            (COCO_KARPATHY, ("images", 0, "filename"), ..., ["images[0]", "none is filename"]),
        ],
    )
    def test_malformed_json_is_refused(self, tmp_path, content, keys, value, parts):
        path = write(tmp_path / "a.json", changed(content, keys, value))
        refuses([str(path), *parts], read_coco, path, tmp_path)
