"""`python -m trajvit.evaluation.tables`: what it prints, what it writes, what it refuses; and the plots."""

import csv
import re
import sys
from runpy import run_module

import pytest
from PIL import Image
from result_folders import store, store_retrieval, store_zero_shot
from typer.testing import CliRunner

from trajvit.evaluation.published_results import all_layouts
from trajvit.evaluation.result_tables import fill_table
from trajvit.evaluation.scaling_plots import mean_recalls, plot_cost_over_frames
from trajvit.evaluation.stored_results import read_results
from trajvit.evaluation.tables import app

VIDEO_SETS = ("activitynet", "vatex", "msrvtt", "charades")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    store_zero_shot(folder)
    return folder


def test_as_a_module(results, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "trajvit.evaluation.tables")
    monkeypatch.setattr(sys, "argv", ["tables", str(results), "--table", "3", "--format", "csv"])
    with pytest.raises(SystemExit) as ended:
        run_module("trajvit.evaluation.tables", run_name="__main__")
    printed = capsys.readouterr()
    lines = [*csv.reader(printed.out.splitlines())]
    assert lines[0] == [
        "table",
        "row",
        "column",
        "ours",
        "published",
        "difference",
        "source",
        "num_items",
        "num_missing",
    ]
    assert len(lines) == 1 + 21
    assert (ended.value.code, printed.err) == (0, "")


def test_prints_the_published_tables_and_those_with_results(results):
    store(results, "attentive_probing", "ssv2", "trajvit", {"top_1": 20.0, "top_5": 40.0})
    titles = [line for line in run(results).stdout.splitlines() if line.startswith("## ")]
    assert [title.partition(":")[0] for title in titles] == [
        "## Supplement, Table 3",
        "## Supplement, Table 4",
        "## Supplement, Table 5",
        "## Supplement, Table 6",
        "## Action classification by attentive probing (accuracy, %)",
    ]


def test_prints_chosen_tables(results):
    text = run(results, "--table", "action_detection", "--table", "3").stdout
    assert re.findall(r"^## (.+?)[ ,]", text, flags=re.MULTILINE) == ["Spatio-temporal", "Supplement"]
    assert "| TrajViT (ours) | — | — |" in text


def test_bad_files_and_results_without_a_place_are_named(results):
    (results / "broken.json").write_text("{")
    store(results, "retrieval", "msvd", "trajvit", {"txt2vid_R@5": 10.0})
    done = run(results, "--table", "3")
    assert done.exit_code == 0
    assert "skipped broken.json: is no result of an evaluation" in done.stderr
    assert "retrieval_msvd_lab--trajvit.json is in no table: retrieval on msvd with txt2vid_R@5" in done.stderr
    assert "44.0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "7"], "there is no table '7': expected one of 3, 4, 5, 6, retrieval,"),
        (["--plots"], "--plots needs --output"),
    ],
)
def test_wrong_options(results, arguments, message):
    done = run(results, *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr


def test_folders_without_results(tmp_path):
    assert "has no results: expected JSON files" in run(tmp_path).stderr
    (tmp_path / "broken.json").write_text("{")
    done = run(tmp_path)
    assert done.exit_code == 1
    assert "skipped broken.json" in done.stderr
    assert "has no file that can be used" in done.stderr


def test_writes_all_formats_and_plots(results, tmp_path):
    store(results, "efficiency", "scene", "trajvit", {"tokens@16": 129, "tokens@32": 129, "gflop@16": 138.5})
    output = tmp_path / "new" / "tables"
    done = run(results, "--output", output, "--table", "3", "--table", "efficiency", "--plots")
    assert done.exit_code == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "cost_over_frames.png",
        "data_scaling.png",
        "table_3.tex",
        "table_efficiency.tex",
        "tables.csv",
        "tables.md",
        "tables.tex",
    ]
    assert "\\input{table_3}\n\n\\input{table_efficiency}" in (output / "tables.tex").read_text()
    assert (output / "table_3.tex").read_text().count("\\begin{table}") == 1
    for name in ("cost_over_frames.png", "data_scaling.png"):
        with Image.open(output / name) as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    assert done.stdout == ""


def test_writes_one_format_and_says_that_no_costs_were_measured(results, tmp_path):
    output = tmp_path / "tables"
    done = run(results, "--output", output, "--format", "markdown", "--plots")
    assert sorted(path.name for path in output.iterdir()) == ["data_scaling.png", "tables.md"]
    assert "no plot of costs" in done.stderr


def test_mean_recall_over_data(tmp_path):
    store_retrieval(tmp_path, "trajvit", "panda-2m", 30.0, VIDEO_SETS)
    store_retrieval(tmp_path, "trajvit", "panda-8m", 40.0, VIDEO_SETS)
    store_retrieval(tmp_path, "vit3d", "panda-2m", 30.0, VIDEO_SETS[:3])
    ours, published = mean_recalls(fill_table(all_layouts()["4"], read_results(tmp_path).results.values()))
    # Half of the columns are 10 higher; ViT3D lacks a data set, so that its mean would be another quantity.
    assert ours == {"trajvit": [(2, 35.0), (8, 45.0)]}
    # By hand: (26.33 + 27.33 + 24.74 + 44.80 + 23.75 + 48.30 + 7.11 + 7.29) / 8.
    assert published["vit3d"][0] == (2, pytest.approx(26.20625))
    assert [size for size, _ in published["trajvit"]] == [2, 4, 8]
    assert published["trajvit"][2][1] == pytest.approx(326.69 / 8)


def test_costs_that_nobody_measured_are_not_drawn(results, tmp_path):
    table = fill_table(all_layouts()["efficiency"], read_results(results).results.values())
    with pytest.raises(ValueError, match="there are no costs to draw"):
        plot_cost_over_frames(table, tmp_path / "costs.png")
