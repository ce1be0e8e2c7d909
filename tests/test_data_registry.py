"""Data sets are opened by their names, and what is not known is refused with what is."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
from annotated_media import media_folder, write

from trajvit.evaluation.data_registry import (
    DATASETS,
    dataset_options,
    open_action_detection_set,
    open_classification_set,
    open_retrieval_set,
)

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "evaluation_data.md").read_text(encoding="utf-8")
OPENERS = {
    "retrieval": open_retrieval_set,
    "classification": open_classification_set,
    "action_detection": open_action_detection_set,
}


@pytest.mark.parametrize("name", DATASETS)
def test_every_reader_has_the_form_that_opening_needs(name):
    module, function = DATASETS[name].reader.split(":")
    reader = getattr(importlib.import_module(f"trajvit.evaluation.{module}"), function)
    parameters = list(inspect.signature(reader).parameters.values())
    assert [parameter.name for parameter in parameters[:2]] == ["annotations", "media_folder"]
    assert {parameter.kind for parameter in parameters[2:]} == {inspect.Parameter.KEYWORD_ONLY}
    # An option that the documentation does not tell of cannot be found.
    for option in dataset_options(name):
        assert re.search(rf"^ +(\w+, )*{option}(, \w+)*: ", reader.__doc__, re.MULTILINE), option


@pytest.mark.parametrize("name", DATASETS)
def test_the_documentation_has_every_data_set_and_option(name):
    for word in (name, *dataset_options(name)):
        assert re.search(rf"`{word}\b", PAGE), word


def test_sets_of_each_task_are_opened(tmp_path):
    folder = media_folder(tmp_path / "m", "a.mp4", "YoYo/v_YoYo_g01_c01.avi")
    table = write(tmp_path / "Charades_v1_test.csv", "id,descriptions,script\na,one;two,three\n")
    assert open_retrieval_set("charades", table, folder).texts == ("one", "two")
    assert open_retrieval_set("charades", table, folder, texts="script").texts == ("three",)
    write(tmp_path / "classInd.txt", "1 YoYo\n")
    write(tmp_path / "testlist01.txt", "YoYo/v_YoYo_g01_c01.avi\n")
    assert open_classification_set("ucf101", tmp_path, folder).class_names == ("YoYo",)
    write(tmp_path / "ava_val_v2.2.csv", "a,0902,0,0,1,1,12,0\n")
    write(tmp_path / "ava_val_excluded_timestamps_v2.2.csv", "")
    write(tmp_path / "ava_action_list_v2.2_for_activitynet_2019.pbtxt", 'label { name: "stand" label_id: 12 }')
    assert open_action_detection_set("ava", tmp_path, folder).key_frames[0].actions == ((12,),)


def test_media_of_hf_datasets_need_no_folder(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    media_folder(tmp_path, "a.mp4")
    table = write(tmp_path / "a.jsonl", '{"video": "a.mp4", "text": "one"}\n')
    opened = open_retrieval_set("hub_retrieval", table)
    assert opened.items[0].media == f"{tmp_path}/a.mp4"


@pytest.mark.parametrize("task", OPENERS)
def test_unknown_names_are_refused_with_those_of_the_task(task):
    names = ", ".join(name for name, entry in DATASETS.items() if entry.task == task)
    with pytest.raises(ValueError, match=f"no data set 'k400' for {task}; expected one of {names}$"):
        OPENERS[task]("k400", "annotations", "media")


def test_a_data_set_of_another_task_is_refused():
    with pytest.raises(ValueError, match="no data set 'ava' for retrieval; expected one of activitynet, vatex"):
        open_retrieval_set("ava", "annotations", "media")
    with pytest.raises(ValueError, match="no data set 'k400'; expected one of activitynet"):
        dataset_options("k400")


def test_unknown_options_and_no_media_are_refused():
    assert dataset_options("msrvtt") == ("split", "trajectories_folder")
    with pytest.raises(ValueError, match="msrvtt has no option 'fold'; expected one of split, trajectories"):
        open_retrieval_set("msrvtt", "annotations", "media", fold=1)
    with pytest.raises(ValueError, match="msrvtt is opened without media; expected the folder"):
        open_retrieval_set("msrvtt", "annotations")
