"""What the metrics have in common: loading without the network, several processes, and their pages on the Hub."""

import ast
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import evaluate
import metric_processes
import pandas as pd
import pytest
import yaml

from trajvit.evaluation.metric_modules import load_metric

METRICS = Path(__file__).parents[1] / "evaluation/metrics"
NAMES = ("ava_frame_map", "retrieval_recall", "top_k_accuracy")


def test_two_processes_give_what_one_gives(tmp_path):
    second = subprocess.Popen([sys.executable, metric_processes.__file__, str(tmp_path), "2", "1"])
    together = metric_processes.results(tmp_path, 2, 0)
    assert second.wait(timeout=100) == 0
    alone = metric_processes.results(tmp_path, 1, 0)
    assert together == alone
    assert 0 < alone["retrieval_recall"]["R@1"] < 100
    assert 0 < alone["top_k_accuracy"]["mean_class_accuracy"] < 100
    assert 0 < alone["ava_frame_map"]["mAP"] < 100


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_loads_without_network_and_quietly(name, monkeypatch, capfd, tmp_path):
    def refuse(*address):
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    by_folder = evaluate.load(str(METRICS / name), cache_dir=str(tmp_path))
    by_name = load_metric(name, cache_dir=str(tmp_path), keep_in_memory=True)
    assert by_folder.name == by_name.name == name
    assert by_folder.module_type == "metric"
    assert by_folder.features == by_name.features
    assert capfd.readouterr() == ("", "")


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="name is 'recall'; expected one of ava_frame_map, retrieval_recall"):
        load_metric("recall")


@pytest.mark.parametrize("name", NAMES)
def test_modules_need_nothing_of_this_package(name):
    tree = ast.parse((METRICS / name / f"{name}.py").read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= {"collections", "typing", "datasets", "evaluate", "numpy"}
    required = (METRICS / name / "requirements.txt").read_text().splitlines()
    assert {line.split(">")[0] for line in required} == {"datasets", "evaluate", "numpy"}


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_a_spaces_and_its_examples_are_true(name, tmp_path):
    _, head, text = (METRICS / name / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(head)
    assert (card["sdk"], card["app_file"], card["tags"]) == ("gradio", "app.py", ["evaluate", "metric"])
    assert card["description"]
    assert len(card["title"]) > 0
    compared = 0
    known = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        code = block.replace("path/to/", f"{METRICS}/")
        for line in code.splitlines():
            if line.startswith("# {"):
                assert known["value"] == ast.literal_eval(line[2:])
                compared += 1
            elif line.startswith("metric.compute("):
                known["value"] = eval(line, known)
            else:
                exec(line, known)
    assert compared == (2 if name == "retrieval_recall" else 1)


INPUTS = {
    "ava_frame_map": (
        '{"boxes": [[0, 0, 0.5, 1]], "labels": [3], "scores": [0.5]}',
        '{"boxes": [[0, 0, 0.5, 0.9]], "labels": [3]}',
    ),
    "retrieval_recall": ("[0.5, 0.1]", "[0]"),
    "top_k_accuracy": ("[0.5, 0.1]", 0),
}


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("name", NAMES)
def test_the_page_computes_what_is_typed_into_it(name, monkeypatch):
    """Against a stand-in for gradio 3, which the card asks for and nothing else here uses."""
    pages = []

    class Interface:
        def __init__(self, fn, inputs, **texts):
            self.compute, self.inputs, self.texts = fn, inputs, texts

        def launch(self):
            pages.append(self)

    gradio = SimpleNamespace(
        Interface=Interface,
        inputs=SimpleNamespace(Dataframe=lambda **options: options),
        outputs=SimpleNamespace(Textbox=lambda **options: options),
    )
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    runpy.run_path(str(METRICS / name / "app.py"))
    (page,) = pages
    assert page.texts["title"] == f"Metric: {name}"
    assert page.inputs["headers"] == ("predictions", "references")
    typed = pd.DataFrame([INPUTS[name]], columns=["predictions", "references"])
    found = page.compute(typed)
    best = {"ava_frame_map": "mAP", "retrieval_recall": "R@1", "top_k_accuracy": "top_1_accuracy"}
    assert found[best[name]] == 100
