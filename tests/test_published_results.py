"""The published values are those that the supplement prints, and none is missing."""

import pytest

from trajvit.evaluation.published_results import all_layouts, published_layouts, published_results

LAYOUTS = {layout.name: layout for layout in published_layouts()}


def published(table, trained_on, tower, dataset, metric):
    (row,) = [row for row in LAYOUTS[table].rows if (row.tower, row.trained_on) == (tower, trained_on)]
    columns = [(column.dataset, column.metric) for column in LAYOUTS[table].columns]
    return row.published[columns.index((dataset, metric))]


@pytest.mark.parametrize(
    ("table", "trained_on", "tower", "dataset", "metric", "value"),
    [
        ("3", None, "vit3d", "kinetics400", "top_5", 42.0),
        ("3", None, "vivit_factorised", "ucf101", "top_5", 34.8),
        ("3", None, "token_merge", "ssv2", "top_5", 10.3),
        ("3", None, "tome", "ssv2", "top_5", 9.9),
        ("3", None, "trajvit", "ucf101", "top_5", 42.1),
        ("4", "panda-2m", "vit3d", "activitynet", "txt2vid_R@5", 26.33),
        ("4", "panda-2m", "trajvit", "charades", "vid2txt_R@5", 10.47),
        ("4", "panda-4m", "vit3d", "msrvtt", "vid2txt_R@5", 56.61),
        ("4", "panda-8m", "trajvit", "vatex", "vid2txt_R@5", 65.35),
        ("4", "panda-8m", "vit3d", "charades", "txt2vid_R@5", 17.45),
        ("5", "panda-8m", "vit3d", "charades", "txt2vid_R@5", 15.35),
        ("5", "panda-8m", "trajvit", "msrvtt", "vid2txt_R@5", 61.00),
        ("5", "panda-8m+datacomp-50m", "trajvit", "msrvtt", "vid2txt_R@5", 79.96),
        ("5", "panda-8m+datacomp-50m", "vit3d", "activitynet", "vid2txt_R@5", 44.65),
        ("6", "datacomp-50m", "image_vit", "imagenet", "top_5", 77.7),
        ("6", "datacomp-50m", "trajvit", "coco", "vid2txt_R@5", 71.1),
        ("6", "datacomp-50m", "trajvit", "coco", "txt2vid_R@5", 55.5),
    ],
)
def test_cells_of_the_supplement(table, trained_on, tower, dataset, metric, value):
    assert published(table, trained_on, tower, dataset, metric) == value


@pytest.mark.parametrize(
    ("table", "rows", "columns", "total"),
    # The totals were added up from the printed tables, so that a wrong digit anywhere shows.
    [("3", 7, 3, 621.2), ("4", 6, 8, 1661.9), ("5", 4, 8, 1363.15), ("6", 2, 3, 411.1)],
)
def test_every_table_is_complete(table, rows, columns, total):
    layout = LAYOUTS[table]
    assert [len(layout.rows), len(layout.columns)] == [rows, columns]
    assert all(len(row.published) == columns for row in layout.rows)
    assert sum(sum(row.published) for row in layout.rows) == pytest.approx(total, abs=1e-6)
    assert layout.source == f"arXiv 2505.23617, supplement, Table {table}"


def test_what_the_notes_say_of_the_8m_rows_of_tables_4_and_5():
    differing = []
    for column in LAYOUTS["5"].columns:
        for tower in ("vit3d", "trajvit"):
            case = (tower, column.dataset, column.metric)
            value = published("5", "panda-8m", *case)
            if column.metric == "txt2vid_R@5":
                lower = 2.10 if case[:2] == ("vit3d", "charades") else 1.00
                assert published("4", "panda-8m", *case) - value == pytest.approx(lower)
            elif value != published("4", "panda-4m", *case):
                differing.append(column.dataset)
    assert differing == ["msrvtt", "msrvtt"]


def test_caption_of_table_4_names_no_k_and_that_of_table_5_does():
    captions = {table["name"]: table["caption"] for table in published_results()["tables"]}
    assert "R@" not in captions["4"]
    assert "R@5" in captions["5"]


def test_tables_without_published_values_say_so_by_having_none():
    layouts = all_layouts()
    assert [*layouts] == ["3", "4", "5", "6", "retrieval", "attentive_probing", "action_detection", "efficiency"]
    for name in ("retrieval", "attentive_probing", "action_detection", "efficiency"):
        assert not layouts[name].source
        assert not any(row.published for row in layouts[name].rows)
    assert "6 points of R@5" in layouts["retrieval"].notes[0]
    assert "10 times fewer tokens" in layouts["efficiency"].notes[0]
