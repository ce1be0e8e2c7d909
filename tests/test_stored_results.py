"""A folder of results is read whole; bad files are named with the reason."""

import json

import pytest
from result_folders import store

from trajvit.evaluation.stored_results import read_results


def test_results_by_file_name(tmp_path):
    path = store(tmp_path, "retrieval", "vatex", "rlt", {"txt2vid_R@5": 20.0}, trained_on="panda-2m")
    stored = read_results(tmp_path)
    assert stored.bad_files == {}
    assert [*stored.results] == [path.name]
    assert stored.results[path.name].metrics == {"txt2vid_R@5": 20.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metrics": {"top_5": "high"}}, "has top_5='high': expected a finite number"),
        ({"metrics": {"top_5": float("nan")}}, "has top_5=nan: expected a finite number"),
        ({"metrics": {"top_5": True}}, "has top_5=True: expected a finite number"),
        ({"metrics": {"top_5": 100.5}}, "has top_5=100.5: expected a percentage in [0, 100]"),
        ({"metrics": [1.0]}, "has metrics=[1.0]: expected a JSON object"),
        ({"num_items": -1}, "has num_items=-1: expected a count"),
        ({"tower": ""}, "has tower='': expected a name"),
        ({"trained_on": 8}, "has trained_on=8: expected a name or null"),
        ({"missing": ["a"]}, "has missing=['a']: expected a JSON object"),
        ({"format": 9}, "another format"),
        ({"accuracy": 1.0}, "unexpected keyword argument 'accuracy'"),
    ],
)
def test_bad_fields_are_named_and_the_rest_is_read(tmp_path, change, reason):
    good = store(tmp_path, "retrieval", "vatex", "rlt", {"txt2vid_R@5": 20.0})
    content = json.loads(good.read_text())
    (tmp_path / "zz.json").write_text(json.dumps({**content, "dataset": "msrvtt", **change}))
    stored = read_results(tmp_path)
    assert [*stored.results] == [good.name]
    assert [*stored.bad_files] == ["zz.json"]
    assert reason in stored.bad_files["zz.json"]
    assert str(tmp_path) not in stored.bad_files["zz.json"]


def test_files_that_are_no_json_objects(tmp_path):
    for name, text in {"cut.json": '{"format": 1', "list.json": "[]", "note.txt": "not looked at"}.items():
        (tmp_path / name).write_text(text)
    stored = read_results(tmp_path)
    assert stored.results == {}
    assert [*stored.bad_files] == ["cut.json", "list.json"]


def test_a_second_file_of_the_same_case_is_left_out(tmp_path):
    first = store(tmp_path, "retrieval", "vatex", "rlt", {"txt2vid_R@5": 20.0})
    (tmp_path / "zz.json").write_text(first.read_text().replace("20.0", "30.0"))
    stored = read_results(tmp_path)
    assert [result.metrics["txt2vid_R@5"] for result in stored.results.values()] == [20.0]
    assert stored.bad_files == {"zz.json": f"has the task, data set, model, training data and device of {first.name}"}


def test_no_folder_and_no_results(tmp_path):
    with pytest.raises(ValueError, match=r"none is no folder: expected one with the JSON files of evaluations"):
        read_results(tmp_path / "none")
    with pytest.raises(ValueError, match=r"has no results: expected JSON files that evaluations wrote"):
        read_results(tmp_path)
