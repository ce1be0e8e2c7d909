"""The annotations of Kinetics-400, Something-Something v2, UCF-101 and ImageNet as classification sets."""

import pytest
from annotated_media import assert_missing, media_folder, places, refuses, write
from annotation_samples import IMAGENET_SYNSETS, KINETICS, SSV2, SSV2_LABELS, UCF_CLASSES, UCF_TEST, UCF_TRAIN

from trajvit.evaluation.evaluation_data import MissingMediaError
from trajvit.evaluation.imagenet_classes import read_imagenet
from trajvit.evaluation.video_classes import read_kinetics400, read_ssv2, read_ucf101

NAMES = ("tench, Tinca tinca", "crane", "crane", "goldfish, Carassius auratus")


def labelled(found):
    return {item.key: found.class_names[label] for item, label in zip(found.items, found.labels, strict=True)}


class TestKinetics:
    def test_clips_in_one_folder_or_in_one_for_each_class(self, tmp_path):
        folder = media_folder(
            tmp_path / "m",
            "---QUuC4vJs_000084_000094.mp4",
            "shooting_goal_(soccer)/--2bpI6nwd0_000000_000010.mp4",
            "elsewhere/--2bpI6nwd0_000000_000010.mp4",
        )
        found = read_kinetics400(write(tmp_path / "val.csv", KINETICS), folder)
        assert found.name == "kinetics400"
        assert found.class_names == ("shooting goal (soccer)", "testifying")
        assert found.labels == (1, 0, 1)
        assert places(found.items, folder) == [
            "---QUuC4vJs_000084_000094.mp4",
            "shooting_goal_(soccer)/--2bpI6nwd0_000000_000010.mp4",
            None,
        ]
        assert_missing(found.items, "-0x_000007_000017")

    def test_splits(self, tmp_path):
        path = write(tmp_path / "all.csv", KINETICS.replace("94,val", "94,test"))
        refuses([str(path), "no split is asked for", "'test', 'val'"], read_kinetics400, path, tmp_path)
        refuses([str(path), "'train'", "'test', 'val'"], read_kinetics400, path, tmp_path, split="train")
        found = read_kinetics400(path, tmp_path, split="test")
        assert labelled(found) == {"---QUuC4vJs_000084_000094": "testifying"}
        assert found.class_names == ("shooting goal (soccer)", "testifying")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("classes.txt", "abseiling\nshooting goal (soccer)\ntestifying\n"),
            ("classes.csv", "id,name\n0,abseiling\n1,shooting goal (soccer)\n2,testifying\n"),
        ],
    )
    def test_classes_have_the_given_numbers(self, tmp_path, name, content):
        classes = write(tmp_path / name, content)
        found = read_kinetics400(write(tmp_path / "val.csv", KINETICS), tmp_path, classes=classes)
        assert found.labels == (2, 1, 2)
        assert found.class_names == ("abseiling", "shooting goal (soccer)", "testifying")

    def test_a_list_of_paths(self, tmp_path):
        folder = media_folder(tmp_path / "m", "x/a b.mp4", "y/c.mp4")
        classes = write(tmp_path / "classes.txt", "abseiling\ntestifying\n")
        path = write(tmp_path / "val.txt", "x/a b.mp4 1\n/data/k400/c.mp4,0\nd.mp4, 1\n")
        found = read_kinetics400(path, folder, classes=classes)
        assert places(found.items, folder) == ["x/a b.mp4", "y/c.mp4", None]
        assert labelled(found) == {"x/a b": "testifying", "/data/k400/c": "abseiling", "d": "testifying"}
        refuses([str(path), "without names", "in classes"], read_kinetics400, path, folder)
        refuses([str(path), "without splits"], read_kinetics400, path, folder, classes=classes, split="val")

    @pytest.mark.parametrize(
        ("line", "parts"),
        [
            ("a.mp4 2", ["line 2", "'a.mp4 2'", "0 to 1"]),
            ("a.mp4", ["line 2", "the number of a class"]),
            ("a.mp4 -1", ["line 2", "the number of a class"]),
            ("b.mp4 1", ["line 2", "'b'", "line 1", "each once"]),
        ],
    )
    def test_malformed_lists_are_refused(self, tmp_path, line, parts):
        path = write(tmp_path / "val.txt", f"b.mp4 0\n{line}\n")
        classes = write(tmp_path / "classes.txt", "abseiling\ntestifying\n")
        refuses([str(path), *parts], read_kinetics400, path, tmp_path, classes=classes)

    @pytest.mark.parametrize(
        ("table", "parts"),
        [
            (KINETICS.replace("label,", ""), ["line 1", "without label"]),
            (KINETICS.replace("84,94", "84,84"), ["line 2", "time_end is '84'", "after time_start"]),
            (KINETICS.replace("84,94", "x,94"), ["line 2", "time_start is 'x'"]),
            (KINETICS.replace("-0x,7,17", "---QUuC4vJs,84,94"), ["line 4", "line 2", "each once"]),
            (KINETICS.replace("testifying,-0x", ",-0x"), ["line 4", "label is ''"]),
            (KINETICS.replace("-0x,7", ",7"), ["line 4", "youtube_id is ''"]),
        ],
    )
    def test_malformed_tables_are_refused(self, tmp_path, table, parts):
        path = write(tmp_path / "val.csv", table)
        refuses([str(path), *parts], read_kinetics400, path, tmp_path)

    @pytest.mark.parametrize(
        ("name", "content", "parts"),
        [
            ("c.txt", "testifying\n", ["val.csv, line 3", "one of the 1 names in"]),
            ("c.txt", "a\nb\na\n", ["c.txt, line 3", "'a'", "each once"]),
            ("c.csv", "id,name\n1,a\n", ["c.csv, line 2", "id is '1'", "expected 0"]),
            ("c.csv", "id,label\n0,a\n", ["c.csv, line 1", "without name"]),
        ],
    )
    def test_malformed_classes_are_refused(self, tmp_path, name, content, parts):
        path = write(tmp_path / "val.csv", KINETICS)
        refuses(parts, read_kinetics400, path, tmp_path, classes=write(tmp_path / name, content))


class TestSsv2:
    def read(self, folder, content=SSV2, labels=SSV2_LABELS, name="something-something-v2-labels.json"):
        write(folder / name, labels)
        return read_ssv2(write(folder / "something-something-v2-validation.json", content), folder / "m")

    @pytest.mark.parametrize("name", ["something-something-v2-labels.json", "labels.json"])
    def test_templates_are_classes(self, tmp_path, name):
        folder = media_folder(tmp_path / "m", "74225.webm", "20bn/10.webm", "10.traj.png")
        found = self.read(tmp_path, name=name)
        assert found.class_names == ("Holding something", "Putting something on something")
        assert found.labels == (1, 0, 0)
        assert [item.key for item in found.items] == ["74225", "9", "10"]
        assert places(found.items, folder) == ["74225.webm", None, "20bn/10.webm"]
        assert found.items[2].trajectories == f"{folder}/10.traj.png"

    @pytest.mark.parametrize(
        ("content", "labels", "parts"),
        [
            ([*SSV2, SSV2[0]], SSV2_LABELS, ["[3]", "'74225'", "[0]", "each once"]),
            ([{"id": "1"}], SSV2_LABELS, ["[0]", "none is template"]),
            ([{"id": "1", "template": "Moving [something]"}], SSV2_LABELS, ["[0].template is 'Moving", "2 templates"]),
            ([{"template": "Holding [something]"}], SSV2_LABELS, ["[0]", "none is id"]),
            ([{"id": None, "template": "Holding [something]"}], SSV2_LABELS, ["[0].id is None"]),
            ([], SSV2_LABELS, ["no video"]),
            ({}, SSV2_LABELS, ["an object without keys", "a list"]),
            (SSV2, {"Holding something": "0", "Putting something on something": "0"}, ["is '0'", "no other template"]),
            (SSV2, {"Holding something": "1"}, ["no template has the number 0"]),
            (SSV2, {"Holding something": "0", "Putting something": "2"}, ["no template has the number 1"]),
            (SSV2, {"Holding something": "x"}, ["Holding something is 'x'", "a number from 0"]),
            (SSV2, {"Holding something": "0", "Holding [something]": "1"}, ["'Holding something'", "each once"]),
            (SSV2, [], ["a list of 0", "an object"]),
        ],
    )
    def test_malformed_json_is_refused(self, tmp_path, content, labels, parts):
        media_folder(tmp_path / "m")
        refuses([str(tmp_path), *parts], self.read, tmp_path, content, labels)

    def test_labels_are_looked_for_beside_the_annotations(self, tmp_path):
        path = write(tmp_path / "validation.json", SSV2)
        refuses(["no labels.json beside", str(path)], read_ssv2, path, tmp_path)
        labels = write(tmp_path / "numbers.json", SSV2_LABELS)
        assert read_ssv2(path, tmp_path, labels=labels).labels == (1, 0, 0)


class TestUcf101:
    def lists(self, folder, classes=UCF_CLASSES, test=UCF_TEST):
        write(folder / "classInd.txt", classes)
        write(folder / "testlist02.txt", test)
        write(folder / "trainlist01.txt", UCF_TRAIN)
        return folder

    def test_folds_and_splits(self, tmp_path):
        folder = media_folder(
            tmp_path / "m", "YoYo/v_YoYo_g01_c01.avi", "HandstandPushups/v_HandStandPushups_g01_c02.avi"
        )
        found = read_ucf101(self.lists(tmp_path), folder, fold=2)
        assert found.name == "ucf101"
        assert found.class_names == ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
        assert labelled(found) == {
            "v_ApplyEyeMakeup_g01_c01": "ApplyEyeMakeup",
            "v_YoYo_g01_c01": "YoYo",
            "v_HandStandPushups_g01_c02": "HandstandPushups",
        }
        assert places(found.items, folder) == [
            None,
            "YoYo/v_YoYo_g01_c01.avi",
            "HandstandPushups/v_HandStandPushups_g01_c02.avi",
        ]
        assert read_ucf101(tmp_path, folder, split="train").labels == (2, 0)
        refuses([f"{tmp_path}/testlist03.txt", "testlist02.txt"], read_ucf101, tmp_path, folder, fold=3)

    @pytest.mark.parametrize(
        ("classes", "test", "parts"),
        [
            (UCF_CLASSES, UCF_TEST + "Archery/v_Archery_g01_c01.avi\n", ["testlist02.txt, line 4", "Archery"]),
            (UCF_CLASSES, "v_YoYo_g01_c01.avi\n", ["testlist02.txt, line 1", "a class of classInd.txt"]),
            (
                UCF_CLASSES,
                "YoYo/v_YoYo_g01_c01.avi 2\n",
                ["testlist02.txt, line 1", "expected 3 as the number of YoYo"],
            ),
            (UCF_CLASSES, "YoYo/v_YoYo_g01_c01.avi x\n", ["testlist02.txt, line 1"]),
            (UCF_CLASSES, UCF_TEST + UCF_TEST, ["line 4", "v_ApplyEyeMakeup_g01_c01", "line 1"]),
            ("0 YoYo\n", UCF_TEST, ["classInd.txt, line 1", "the number 1"]),
            ("1 YoYo\n1 Archery\n", UCF_TEST, ["classInd.txt, line 2", "the number 2"]),
            ("1 YoYo\n2 yoyo\n", UCF_TEST, ["classInd.txt, line 2", "'yoyo'"]),
            ("YoYo\n", UCF_TEST, ["classInd.txt, line 1 is 'YoYo'"]),
        ],
    )
    def test_malformed_lists_are_refused(self, tmp_path, classes, test, parts):
        refuses(parts, read_ucf101, self.lists(tmp_path, classes, test), tmp_path, fold=2)

    def test_unknown_splits_and_folds_are_refused(self, tmp_path):
        refuses(["'val'", "'test' or 'train'"], read_ucf101, tmp_path, tmp_path, split="val")
        refuses(["fold 4", "1, 2 or 3"], read_ucf101, tmp_path, tmp_path, fold=4)


class TestImagenet:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("LOC_synset_mapping.txt", IMAGENET_SYNSETS),
            (
                "imagenet_class_index.json",
                {
                    "1": ["n02012849", "crane"],
                    "0": ["n01440764", "tench, Tinca tinca"],
                    "2": ["n03126707", "crane"],
                    "3": ["n01443537", "goldfish, Carassius auratus"],
                },
            ),
            ("names.json", dict(line.split(" ", 1) for line in IMAGENET_SYNSETS.splitlines())),
        ],
    )
    def test_folders_by_wordnet_id(self, tmp_path, name, content):
        folder = media_folder(tmp_path / "val", "n01443537/b.JPEG", "n01440764/a.JPEG", "n01443537/a2.JPEG")
        found = read_imagenet(write(tmp_path / name, content), folder)
        assert found.class_names == NAMES
        assert places(found.items, folder) == ["n01440764/a.JPEG", "n01443537/a2.JPEG", "n01443537/b.JPEG"]
        assert found.labels == (0, 3, 3)
        assert [item.key for item in found.items] == ["n01440764/a", "n01443537/a2", "n01443537/b"]

    def test_folders_by_name(self, tmp_path):
        folder = media_folder(tmp_path / "val", "goldfish/a.jpg", "tench, Tinca tinca/a.jpg", "goldfish/deep/b.png")
        found = read_imagenet(write(tmp_path / "names.txt", IMAGENET_SYNSETS), folder)
        assert found.labels == (0, 3, 3)
        alone = read_imagenet(None, folder)
        assert alone.class_names == ("goldfish", "tench, Tinca tinca")
        assert labelled(alone) == {
            "goldfish/a": "goldfish",
            "goldfish/deep/b": "goldfish",
            "tench, Tinca tinca/a": "tench, Tinca tinca",
        }

    def test_a_solution_names_the_classes_of_one_folder(self, tmp_path):
        folder = media_folder(tmp_path / "val", "ILSVRC2012_val_00000002.JPEG")
        names = write(tmp_path / "names.txt", IMAGENET_SYNSETS)
        table = (
            "ImageId,PredictionString\n"
            "ILSVRC2012_val_00000002,n03126707 1 2 3 4 n03126707 1 2 3 4 \nILSVRC2012_val_00000001,n01440764 1 2 3 4 \n"
        )
        solution = write(tmp_path / "LOC_val_solution.csv", table)
        found = read_imagenet(names, folder, solution=solution)
        assert found.labels == (2, 0)
        assert places(found.items, folder) == ["ILSVRC2012_val_00000002.JPEG", None]
        assert_missing(found.items, "ILSVRC2012_val_00000001")
        refuses([str(solution), "LOC_synset_mapping.txt"], read_imagenet, None, folder, solution=solution)
        write(solution, table.replace("n01440764", "n99999999"))
        refuses([f"{solution}, line 3", str(names)], read_imagenet, names, folder, solution=solution)
        write(solution, table.replace("val_00000001", "val_00000002"))
        refuses([f"{solution}, line 3", "line 2"], read_imagenet, names, folder, solution=solution)

    def test_ids_without_names_are_refused(self, tmp_path):
        folder = media_folder(tmp_path / "val", "n01440764/a.JPEG")
        refuses([str(folder), "n01440764", "LOC_synset_mapping.txt"], read_imagenet, None, folder)

    @pytest.mark.parametrize("name", ["n99999999", "cod", "crane"])
    def test_folders_of_no_one_class_are_refused(self, tmp_path, name):
        # Two classes are called crane.
        folder = media_folder(tmp_path / "val", "n01440764/a.JPEG", f"{name}/a.JPEG")
        names = write(tmp_path / "names.txt", IMAGENET_SYNSETS)
        refuses([f"{folder}/{name}", str(names)], read_imagenet, names, folder)

    def test_two_images_of_one_name_are_refused(self, tmp_path):
        folder = media_folder(tmp_path / "val", "cod/a.png", "cod/a.jpg", "carp/a.jpg")
        refuses([f"{folder}/cod/a.png", "'cod/a'", f"{folder}/cod/a.jpg"], read_imagenet, None, folder)

    def test_images_outside_folders_and_none_are_refused(self, tmp_path):
        folder = media_folder(tmp_path / "val", "a.JPEG")
        refuses([f"{folder}/a.JPEG", "solution"], read_imagenet, None, folder)
        with pytest.raises(MissingMediaError, match=f"no image in {tmp_path}/none"):
            read_imagenet(None, media_folder(tmp_path / "none", "a.txt"))

    @pytest.mark.parametrize(
        ("name", "content", "parts"),
        [
            ("a.txt", "n01440764\n", ["line 1", "a WordNet id and a name"]),
            ("a.txt", "tench n01440764\n", ["line 1", "'tench' is no WordNet id"]),
            ("a.txt", IMAGENET_SYNSETS + IMAGENET_SYNSETS, ["line 5", "'n01440764'", "line 1"]),
            ("a.json", {}, ["an object without keys"]),
            ("a.json", [], ["a list of 0"]),
            ("a.json", {"0": ["n01440764"]}, ["0 is a list of 1", "a WordNet id and a name"]),
            ("a.json", {"0": "tench"}, ["0 is 'tench'", "a list"]),
            ("a.json", {"0": ["n01440764", "a"], "2": ["n01440765", "b"]}, ["2 follows no 1"]),
            ("a.json", {"5": ["n01440764", "a"]}, ["5 follows no 4"]),
            ("a.json", {"0": ["tench", "n01440764"]}, ["'tench' is no WordNet id"]),
            ("a.json", {"n01440764": 3}, ["n01440764 is 3", "a text"]),
        ],
    )
    def test_malformed_names_are_refused(self, tmp_path, name, content, parts):
        path = write(tmp_path / name, content)
        refuses([str(path), *parts], read_imagenet, path, media_folder(tmp_path / "val", "n01440764/a.JPEG"))
