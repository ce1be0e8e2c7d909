"""Which result fills which cell, what is marked, and how tables read as markdown, CSV and LaTeX."""

import csv
import io
import re

import pytest
from result_folders import store, store_retrieval, store_zero_shot

from trajvit.evaluation.published_results import all_layouts
from trajvit.evaluation.result_tables import fill_table, fills_a_cell
from trajvit.evaluation.stored_results import read_results
from trajvit.evaluation.table_latex import latex_document, latex_table, latex_text
from trajvit.evaluation.table_rendering import csv_document, markdown_document, markdown_table

VIDEO_SETS = ("activitynet", "vatex", "msrvtt", "charades")


def table(folder, name):
    return fill_table(all_layouts()[name], read_results(folder).results.values())


def markdown_rows(text):
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.fixture
def zero_shot(tmp_path):
    store_zero_shot(tmp_path)
    return table(tmp_path, "3")


def test_markdown_of_table_3(zero_shot):
    assert markdown_table(zero_shot) == (
        "## Supplement, Table 3: Zero-shot action classification performance (top-5 accuracy, %)\n"
        "\n"
        "| Model | K400 | SSv2 | UCF-101 |\n"
        "|---|--:|--:|--:|\n"
        "| ViT3D | <u>41.3</u> (42.0, -0.7) | **12.3** (12.3, 0.0) | **38.0** (40.4, -2.4) |\n"
        "| TokenLearner | — (40.9) | — (11.0) | — (37.8) |\n"
        "| ViViT | — (39.9) | — (11.5) | — (34.8) |\n"
        "| AutoMerge | — (38.4) | — (10.3) | — (35.4) |\n"
        "| RLT | 40.0 (41.0, -1.0) | 11.5 (10.3, +1.2) | 34.0† (33.7, +0.3) |\n"
        "| ToMe | — (38.2) | — (9.9) | — (37.1) |\n"
        "| TrajViT (ours) | **44.0** (42.4, +1.6) | <u>11.8</u> (11.8, 0.0) | — (42.1) |\n"
        "\n"
        "- The table names no training data; results of a model count whatever it was trained on.\n"
        "- AutoMerge is what the supplement's text calls TokenMerge. The column UCF-101 is printed as UFC-101.\n"
        "- † Media are missing: RLT, UCF-101: 2, beside 1,000 that count.\n"
        "- Models of our values: ViT3D: lab/vit3d, panda-8m; RLT: lab/rlt, panda-8m; "
        "TrajViT (ours): lab/trajvit, panda-8m."
    )


def test_csv_has_a_line_for_each_cell_with_numbers_that_are_not_rounded(zero_shot):
    lines = [*csv.DictReader(io.StringIO(csv_document([zero_shot])))]
    assert len(lines) == 7 * 3
    cells = {(line["row"], line["column"]): line for line in lines}
    assert cells["TrajViT (ours)", "K400"] == {
        "table": "3",
        "row": "TrajViT (ours)",
        "column": "K400",
        "ours": "43.96",
        "published": "42.4",
        "difference": "1.56",
        "source": "arXiv 2505.23617, supplement, Table 3",
        "num_items": "1000",
        "num_missing": "0",
    }
    assert [cells["ViT3D", "K400"]["difference"], cells["RLT", "UCF-101"]["num_missing"]] == ["-0.73", "2"]
    without = cells["ToMe", "SSv2"]
    assert [without[field] for field in ("ours", "published", "difference", "num_items", "num_missing")] == [
        "",
        "9.9",
        "",
        "",
        "",
    ]


def test_latex_of_table_3(zero_shot):
    lines = latex_table(zero_shot).splitlines()
    assert lines[0] == (
        "% Models of our values: ViT3D: lab/vit3d, panda-8m; RLT: lab/rlt, panda-8m; "
        "TrajViT (ours): lab/trajvit, panda-8m."
    )
    assert r"\begin{tabular}{lrrr}" in lines
    assert r"ToMe & --- (38.2) & --- (9.9) & --- (37.1) \\" in lines
    assert r"RLT & 40.0 (41.0, $-1.0$) & 11.5 (10.3, $+1.2$) & 34.0$^\dagger$ (33.7, $+0.3$) \\" in lines
    assert r"TrajViT (ours) & \textbf{44.0} (42.4, $+1.6$) & \underline{11.8} (11.8, $0.0$) & --- (42.1) \\" in lines
    assert any("top-5 accuracy, \\%" in line for line in lines)


def test_retrieval_goes_to_the_row_of_its_training_data(tmp_path):
    store_retrieval(tmp_path, "trajvit", "panda-4m", 40.0, VIDEO_SETS)
    store_retrieval(tmp_path, "vit3d", "panda-4m", 41.0, ("vatex",))
    store_retrieval(tmp_path, "rlt", "panda-8m", 30.0, ("charades",))
    store_retrieval(tmp_path, "trajvit", None, 20.0, VIDEO_SETS)
    rows = markdown_rows(markdown_table(table(tmp_path, "4")))
    assert rows[0].startswith("| Training data | Model | ActivityNet txt2vid | ActivityNet vid2txt | VATEX txt2vid |")
    assert [row.split(" | ")[0:2] for row in rows[2:]] == [
        ["| panda-2m", "ViT3D"],
        ["| ", "TrajViT (ours)"],
        ["| panda-4m", "ViT3D"],
        ["| ", "TrajViT (ours)"],
        ["| panda-8m", "ViT3D"],
        ["| ", "TrajViT (ours)"],
        ["| ", "RLT"],
    ]
    assert rows[4].endswith(
        "| — (35.34) | — (34.54) | **41.00** (35.00, +6.00) | **51.00** (59.11, -8.11) "
        "| — (30.90) | — (56.61) | — (12.61) | — (12.61) |"
    )
    assert rows[5].endswith(
        "| 40.00 (38.62, +1.38) | 50.00 (38.41, +11.59) | 40.00 (36.19, +3.81) | 50.00 (61.02, -11.02) "
        "| 40.00 (31.71, +8.29) | 50.00 (60.52, -10.52) | 40.00 (14.81, +25.19) | 50.00 (14.81, +35.19) |"
    )
    assert rows[8].endswith("| — | — | — | — | — | — | 30.00 | 40.00 |")
    # Table 5 has other published values for 8m, and the table of all models takes what was trained on anything.
    assert "(41.35)" in markdown_rows(markdown_table(table(tmp_path, "5")))[3]
    everything = markdown_rows(markdown_table(table(tmp_path, "retrieval")))
    assert [row.split(" | ")[0] for row in everything if "TrajViT" in row] == [
        "| TrajViT (ours), lab/trajvit-None, unknown training data",
        "| TrajViT (ours), lab/trajvit-panda-4m, panda-4m",
    ]


def test_latex_of_a_wide_table_has_published_values_on_a_line_of_their_own(tmp_path):
    store_retrieval(tmp_path, "trajvit", "panda-2m", 30.0, ("vatex",))
    store_retrieval(tmp_path, "rlt", "panda-2m", 30.5, ("vatex",))
    lines = latex_table(table(tmp_path, "4")).splitlines()
    assert r"\cmidrule(lr){3-4} \cmidrule(lr){5-6} \cmidrule(lr){7-8} \cmidrule(lr){9-10}" in lines
    first = lines.index(r" & TrajViT (ours) & --- & --- & 30.00 & 40.00 & --- & --- & --- & --- \\")
    assert lines[first + 1] == (
        r" & \quad published (difference) & 31.97 & 31.97 & 28.94 ($+1.06$) & 51.40 ($-11.40$) "
        r"& 26.94 & 50.60 & 10.14 & 10.47 \\"
    )
    assert lines[first + 2].startswith(r" & RLT & --- & --- & \textbf{30.50}")
    assert lines[first + 3] == r"\midrule"


def test_images_trained_on_other_data_are_not_compared(tmp_path):
    for trained_on, value in {"datacomp-50m": 70.0, "panda-8m+datacomp-50m": 72.0}.items():
        store(tmp_path, "zero_shot_classification", "imagenet", "trajvit", {"top_5": value}, trained_on=trained_on)
    recalls = {"txt2vid_R@5": 50.0, "vid2txt_R@5": 75.0}
    store(tmp_path, "retrieval", "coco", "image_vit", recalls, trained_on="datacomp-50m")
    rows = markdown_rows(markdown_table(table(tmp_path, "6")))
    assert rows[0] == "| Model | ImageNet Top-5 Acc | COCO img2txt R@5 | COCO txt2img R@5 |"
    assert rows[2:] == [
        "| ViT | — (77.7) | 75.0 (73.6, +1.4) | 50.0 (58.3, -8.3) |",
        "| TrajViT (ours) | 70.0 (74.9, -4.9) | — (71.1) | — (55.5) |",
        "| TrajViT (ours), panda-8m+datacomp-50m | **72.0** | — | — |",
    ]


def test_models_of_one_tower_are_told_apart_by_what_differs(tmp_path):
    for model, trained_on, value in (("lab/a|b", "panda-2m", 20.0), ("lab/c", "panda-2m", 21.0)):
        metrics = {"top_1": value, "top_5": 2 * value}
        store(tmp_path, "attentive_probing", "ssv2", "tome", metrics, trained_on=trained_on, model=model)
    rows = markdown_rows(markdown_table(table(tmp_path, "attentive_probing")))
    assert rows[7] == "| ToMe, lab/a\\|b | — | — | 20.0 | 40.0 |"
    assert rows[8] == "| ToMe, lab/c | — | — | **21.0** | **42.0** |"


def test_towers_without_places_cannot_detect(tmp_path):
    metrics = {"mAP_ground_truth_boxes": 21.04, "mAP_detected_boxes": 17.5}
    store(tmp_path, "action_detection", "ava", "trajvit", metrics)
    filled = table(tmp_path, "action_detection")
    text = markdown_table(filled)
    assert "| AutoMerge | n/a | n/a |" in text
    assert "| TrajViT (ours) | 21.0 | 17.5 |" in text
    assert "AutoMerge: n/a, its tokens have no places" in text
    assert r"AutoMerge & n/a & n/a \\" in latex_table(filled)


def test_costs_are_grouped_by_frames_and_the_lowest_is_best(tmp_path):
    costs = {
        "vit3d": {"parameters": 305_500_000, "tokens@16": 1569, "gflop@16": 1194.6, "tokens@8": 785, "gflop@8": 550.04},
        "trajvit": {"parameters": 313_700_000, "tokens@16": 129, "gflop@16": 138.5, "generation_s@16": 3.456},
        "videomae": {"parameters": 300_000_000, "tokens@16": 1568, "latency_ms@16": 12.34, "memory_mb@16": 99.6},
    }
    for tower, metrics in costs.items():
        store(tmp_path, "efficiency", "scene", tower, metrics, settings={"device": "cpu"})
    text = markdown_table(table(tmp_path, "efficiency"))
    assert markdown_rows(text)[2:] == [
        "| 8 | ViT3D | 305.5 | 785 | 550.0 | — | — | — |",
        "| 16 | ViT3D | 305.5 | 1,569 | 1,194.6 | — | — | — |",
        "|  | TrajViT (ours) | 313.7 | **129** | **138.5** | — | — | 3.46 |",
        "|  | videomae | 300.0 | <u>1,568</u> | — | 12.3 | 100 | — |",
    ]
    assert "ViT3D: lab/vit3d, cpu;" in text


def test_costs_of_two_devices_have_a_row_each(tmp_path):
    for device, latency in {"cpu": 900.0, "cuda": 9.04}.items():
        path = store(
            tmp_path, "efficiency", "scene", "trajvit", {"latency_ms@16": latency}, settings={"device": device}
        )
        path.rename(tmp_path / f"{device}.json")
    assert markdown_rows(markdown_table(table(tmp_path, "efficiency")))[2:] == [
        "| 16 | TrajViT (ours), cpu | — | — | — | 900.0 | — | — |",
        "|  | TrajViT (ours), cuda | — | — | — | **9.0** | — | — |",
    ]


def test_equal_printed_values_share_a_mark(tmp_path):
    for tower, value in {"vit3d": 42.04, "rlt": 41.96, "tome": 41.0, "trajvit": 40.0}.items():
        store(tmp_path, "zero_shot_classification", "ssv2", tower, {"top_5": value})
    marks = {row.tower: row.cells[1].mark for row in table(tmp_path, "3").rows if row.contribution}
    assert marks == {"vit3d": "best", "rlt": "best", "tome": "second", "trajvit": ""}


def test_results_without_a_place_are_known(tmp_path):
    store(tmp_path, "retrieval", "msvd", "trajvit", {"txt2vid_R@5": 10.0})
    store(tmp_path, "retrieval", "vatex", "trajvit", {"txt2vid_R@1": 10.0})
    store(tmp_path, "retrieval", "coco", "trajvit", {"txt2vid_R@5": 10.0})
    results = read_results(tmp_path).results
    assert {result.dataset: fills_a_cell(result, all_layouts().values()) for result in results.values()} == {
        "msvd": False,
        "vatex": False,
        "coco": True,
    }


def test_latex_text_is_printed_as_it_is():
    assert latex_text("a_b & 50% {x} #1 $2 ~^\\\nz") == (
        r"a\_b \& 50\% \{x\} \#1 \$2 \textasciitilde{}\textasciicircum{}\textbackslash{} z"
    )
    assert latex_text("模 † — < [*") == r"{[}U+6A21] $^\dagger$ --- $<$ {[}{*}"


def test_latex_is_well_formed_whatever_a_model_is_called(tmp_path):
    for model in ("x_{y}&z%", "50% #1 $ ~ ^ \\end{table}"):
        store_zero_shot(tmp_path)
        store(tmp_path, "zero_shot_classification", "ssv2", "tome", {"top_5": 10.0}, model=model)
        store(tmp_path, "retrieval", "vatex", "tome", {"txt2vid_R@5": 10.0}, model=model, trained_on="panda-2m")
        store(tmp_path, "efficiency", "scene", "[x_*", {"tokens@16": 10}, model=model)
    tables = [table(tmp_path, name) for name in all_layouts()]
    text = latex_document(map(latex_table, tables))
    code = "\n".join(re.split(r"(?<!\\)%", line)[0] for line in text.splitlines())
    plain = re.sub(r"\\[{}&%#$_\\]", "", code)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert "#" not in plain
    for begin, end in (("table", "table"), ("tabular", "tabular"), ("document", "document")):
        assert len(re.findall(rf"\\begin{{{begin}}}", code)) == len(re.findall(rf"\\end{{{end}}}", code)) > 0
    for columns, body in re.findall(r"\\begin{tabular}{(\w+)}(.+?)\\end{tabular}", code, flags=re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 1
        for line in lines:
            spanned = sum(int(width) - 1 for width in re.findall(r"\\multicolumn{(\d+)}", line))
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + spanned == len(columns)


def test_document_says_how_to_read_it(zero_shot):
    text = markdown_document([zero_shot])
    assert text.startswith("# Results\n\nA cell is our value")
    assert text.endswith("panda-8m.\n")
