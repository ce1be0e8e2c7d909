"""AVA's official files, and boxes of a person detector, as an action detection set."""

import numpy as np
import pytest
from annotated_media import media_folder, places, refuses, write
from annotation_samples import AVA_ACTIONS, AVA_DETECTED, AVA_VAL

from trajvit.evaluation.action_list import read_action_list
from trajvit.evaluation.ava_annotations import WINDOW_SECONDS, read_ava


@pytest.fixture
def annotations(tmp_path):
    folder = media_folder(tmp_path / "annotations")
    write(folder / "ava_val_v2.2.csv", AVA_VAL)
    write(folder / "ava_val_excluded_timestamps_v2.2.csv", "-5KQ66BBWC4,1001\nother,0902\n")
    write(folder / "ava_action_list_v2.2_for_activitynet_2019.pbtxt", AVA_ACTIONS)
    return folder


def key_frames(found):
    return {key_frame.item.key: key_frame for key_frame in found.key_frames}


class TestKeyFrames:
    def test_boxes_and_actions(self, annotations, tmp_path):
        folder = media_folder(
            tmp_path / "m", "trainval/1j20qq1JyX4.mkv", "1j20qq1JyX4_0903.traj.png", "1j20qq1JyX4.traj.png"
        )
        found = read_ava(annotations, folder)
        assert found.name == "ava"
        assert found.action_names == {
            1: "bend/bow (at the waist)",
            12: "stand",
            79: "talk to (e.g., self, a person, a group)",
        }
        # By video in the file's order, then by time; one is excluded.
        assert list(key_frames(found)) == [
            "1j20qq1JyX4_0902",
            "1j20qq1JyX4_0903",
            "1j20qq1JyX4_0904",
            "-5KQ66BBWC4_0900",
        ]
        first, second, third, last = found.key_frames
        assert first.boxes.dtype == np.float32
        expected = [[0.002, 0.118, 0.714, 0.977], [0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2]]
        np.testing.assert_array_equal(first.boxes, np.array(expected, np.float32))
        assert first.actions == ((12, 79), (12,), (1,))
        np.testing.assert_array_equal(second.boxes, np.array([[0.5, 0.5, 0.5, 0.75]], np.float32))
        assert third.boxes.shape == (0, 4)
        assert third.actions == ()
        assert last.actions == ((1,),)
        assert all(
            key_frame.detected_boxes is None and key_frame.detection_scores is None for key_frame in found.key_frames
        )
        assert places(found.items, folder) == ["trainval/1j20qq1JyX4.mkv"] * 3 + [None]
        assert [item.trajectories for item in found.items] == [None, f"{folder}/1j20qq1JyX4_0903.traj.png", None, None]

    def test_windows_lie_around_key_frames(self, annotations, tmp_path):
        assert pytest.approx(2.1333, abs=1e-4) == WINDOW_SECONDS
        first = read_ava(annotations, tmp_path).key_frames[0]
        assert first.seconds == 902
        assert first.item.start == pytest.approx(902 - 16 / 15)
        assert first.item.end == pytest.approx(902 + 16 / 15)

    def test_files_cut_to_the_annotated_minutes(self, annotations, tmp_path):
        frames = key_frames(read_ava(annotations, tmp_path, video_start=900, window_seconds=4.0))
        first, earliest = frames["1j20qq1JyX4_0902"], frames["-5KQ66BBWC4_0900"]
        assert (first.seconds, first.item.start, first.item.end) == (2.0, 0.0, 4.0)
        assert (earliest.seconds, earliest.item.start, earliest.item.end) == (0.0, 0.0, 2.0)
        refuses(["-5KQ66BBWC4 is at second 900", "video_start=901"], read_ava, annotations, tmp_path, video_start=901)

    def test_other_files_can_be_named(self, annotations, tmp_path):
        items = 'item {\n  name: "stand"\n  id: 12\n}\n'
        actions = write(tmp_path / "list.pbtxt", items)
        found = read_ava(annotations, tmp_path, action_list=actions, excluded=write(tmp_path / "none.csv", ""))
        assert found.action_names == {12: "stand"}
        assert len(found.key_frames) == 5
        assert found.key_frames[0].actions == ((12,), (12,))
        assert found.key_frames[-1].boxes.shape == (0, 4)


class TestDetections:
    def test_boxes_are_there_once_and_above_the_score(self, annotations, tmp_path):
        path = write(tmp_path / "boxes.csv", AVA_DETECTED)
        frames = key_frames(read_ava(annotations, tmp_path, detections=path))
        first = frames["1j20qq1JyX4_0902"]
        expected = np.array([[0.01, 0.02, 0.7, 0.9], [0.3, 0.3, 0.4, 0.4]], np.float32)
        np.testing.assert_array_equal(first.detected_boxes, expected)
        np.testing.assert_array_equal(first.detection_scores, np.array([0.995, 0.8], np.float32))
        assert first.actions == ((12, 79), (12,), (1,))
        # Nobody is annotated there, so that whatever is said of this box is wrong.
        only = frames["1j20qq1JyX4_0905"]
        assert (only.boxes.shape, only.detected_boxes.shape, only.actions) == ((0, 4), (1, 4), ())
        none = frames["-5KQ66BBWC4_0900"]
        assert (none.detected_boxes.shape, none.detection_scores.shape) == ((0, 4), (0,))
        assert len(frames) == 5

    def test_the_score_is_an_option(self, annotations, tmp_path):
        path = write(tmp_path / "boxes.csv", AVA_DETECTED)
        for score, count in ((0.0, 3), (0.9, 1)):
            frames = key_frames(read_ava(annotations, tmp_path, detections=path, min_detection_score=score))
            assert len(frames["1j20qq1JyX4_0902"].detected_boxes) == count

    @pytest.mark.parametrize(
        ("row", "parts"),
        [
            ("1j20qq1JyX4,0902,0.1,0.1,0.4,0.5,12,1.2", ["line 1", "score is '1.2'", "from 0 to 1"]),
            ("1j20qq1JyX4,0902,0.1,0.1,0.4,0.5,12,", ["line 1", "score is ''"]),
            ("1j20qq1JyX4,0902,0.1,0.1,0.4,1.5,12,0.9", ["line 1", "y2 is '1.5'"]),
            ("1j20qq1JyX4,0902,0.1,0.1,0.4,0.5", ["line 1", "6 values"]),
            ("notours,0902,0.1,0.1,0.4,0.5,12,0.9", ["1 videos such as notours", "none of them is annotated"]),
        ],
    )
    def test_malformed_rows_are_refused(self, annotations, tmp_path, row, parts):
        path = write(tmp_path / "boxes.csv", row + "\n")
        refuses([str(path), *parts], read_ava, annotations, tmp_path, detections=path)


class TestFaults:
    @pytest.mark.parametrize(
        ("row", "parts"),
        [
            ("1j20qq1JyX4,0902,0.1,0.1,0.4,0.5", ["6 values", "8 (video_id, timestamp"]),
            ("1j20qq1JyX4,x,0.1,0.1,0.4,0.5,12,0", ["timestamp is 'x'", "a second"]),
            ("1j20qq1JyX4,-1,0.1,0.1,0.4,0.5,12,0", ["timestamp is '-1'"]),
            (",0902,0.1,0.1,0.4,0.5,12,0", ["video_id is ''"]),
            ("1j20qq1JyX4,0902,-0.1,0.1,0.4,0.5,12,0", ["x1 is '-0.1'", "from 0 to 1"]),
            ("1j20qq1JyX4,0902,0.1,nan,0.4,0.5,12,0", ["y1 is 'nan'", "from 0 to 1"]),
            ("1j20qq1JyX4,0902,0.1,0.1,300,0.5,12,0", ["x2 is '300'", "from 0 to 1"]),
            ("1j20qq1JyX4,0902,0.4,0.1,0.1,0.5,12,0", ["x2 is '0.1'", "no less than x1, which is 0.4"]),
            ("1j20qq1JyX4,0902,0.1,0.5,0.4,0.1,12,0", ["y2 is '0.1'", "no less than y1, which is 0.5"]),
            ("1j20qq1JyX4,0902,0.1,0.1,0.4,0.5,0,0", ["action_id is '0'", "from 1 to 80"]),
            ("1j20qq1JyX4,0902,0.1,0.1,0.4,0.5,81,0", ["action_id is '81'", "from 1 to 80"]),
            ("1j20qq1JyX4,0902,0.1,0.1,0.4,0.5,stand,0", ["action_id is 'stand'"]),
        ],
    )
    def test_malformed_rows_are_refused(self, annotations, tmp_path, row, parts):
        path = write(annotations / "ava_val_v2.2.csv", AVA_VAL + row + "\n")
        refuses([f"{path}, line 10", *parts], read_ava, annotations, tmp_path)

    def test_files_that_are_not_there_are_named(self, annotations, tmp_path):
        refuses(["no ava_test_v2.2.csv", str(annotations), "one of val"], read_ava, annotations, tmp_path, split="test")
        (annotations / "ava_val_excluded_timestamps_v2.2.csv").unlink()
        refuses([f"{annotations}/ava_val_excluded_timestamps_v2.2.csv"], read_ava, annotations, tmp_path)
        (annotations / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").unlink()
        refuses([f"{annotations}/ava_action_list_v2.2_for_activitynet_2019.pbtxt"], read_ava, annotations, tmp_path)
        actions = write(tmp_path / "list.pbtxt", AVA_ACTIONS)
        refuses([f"{tmp_path}/no/ava_val_v2.2.csv"], read_ava, tmp_path / "no", tmp_path, action_list=actions)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"min_detection_score": 80}, "min_detection_score=80"),
            ({"window_seconds": 0}, "window_seconds=0"),
            ({"window_seconds": float("nan")}, "window_seconds=nan"),
            ({"video_start": -1}, "video_start=-1"),
        ],
    )
    def test_numbers_out_of_range_are_refused(self, annotations, tmp_path, options, message):
        with pytest.raises(ValueError, match=f"{message}; expected a number"):
            read_ava(annotations, tmp_path, **options)


class TestActionList:
    def test_blocks_on_one_line_with_comments_and_escapes(self, tmp_path):
        text = '# actions\nlabel { name: "a \\"b\\"" label_id: 3 }  # more\nitem{name:\'c\',id:1;}\n'
        assert read_action_list(write(tmp_path / "a.pbtxt", text)) == {3: 'a "b"', 1: "c"}

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("# nothing\n", ["no action"]),
            ('label {\n  name: "a"\n', ["at its end"]),
            ('label {\n  name: "a\n  label_id: 1\n}', ["line 2", "is not expected"]),
            ('label {\n  name "a"\n}', ["line 2", "is not expected"]),
            ('label {\n  name: "a"\n}', ["line 1", "a name, and an id"]),
            ("label {\n  label_id: 1\n}", ["line 1", "a name, and an id"]),
            ('label { name: "a" label_id: 0 }', ["line 1", "an id from 1 on"]),
            ('label { name: "a" label_id: x }', ["line 1", "an id from 1 on"]),
            ('label { name: "a" label_id: 1 }\nlabel { name: "b" label_id: 1 }', ["line 2", "1 'b' is there twice"]),
            ('label { name: "a" label_id: 1 }\nlabel { name: "a" label_id: 2 }', ["line 2", "2 'a' is there twice"]),
            ('action { name: "a" label_id: 1 }', ["line 1", "'action' is not expected"]),
            ("id,name\n1,stand\n", ["line 1", "'id' is not expected"]),
            ("[1]", ["line 1", "is not expected"]),
        ],
    )
    def test_other_files_are_refused(self, tmp_path, text, parts):
        path = write(tmp_path / "a.pbtxt", text)
        refuses([str(path), *parts], read_action_list, path)
