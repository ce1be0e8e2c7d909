"""The parameter page says what the models have, and the models have what the paper's table implies."""

import re
from pathlib import Path

import pytest
import torch

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel

PAGE = Path(__file__).resolve().parent.parent / "docs" / "parameters.md"


def page_rows():
    lines = [line.strip("| ").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return [name.strip("`") for name in header[2:]], {row[0]: row[1:] for row in rows}


def make_model(name):
    with torch.device("meta"):
        return TrajViTModel(TrajViTConfig.from_name(name))


def count(model, *prefixes):
    return sum(p.numel() for name, p in model.named_parameters() if name.startswith(prefixes))


@pytest.mark.parametrize("name", ["tiny", "small", "base", "large", "large-wide"])
def test_the_page_holds_the_computed_numbers(name):
    names, rows = page_rows()
    column = 1 + names.index(name)
    model = make_model(name)
    expected = {
        "Per-frame Feature Extractor": count(model, "tokenizer.frame_features."),
        "Mask Pooling": 0,
        "Sinusoidal Encoder": 0,
        "Perceiver Resampler x 2": count(model, "tokenizer.appearance_resampler.", "tokenizer.position_resampler."),
        "MLP x 2": count(model, "tokenizer.appearance_mlp.", "tokenizer.position_mlp."),
        "Main Transformer": count(model, "encoder."),
        "all": count(model, ""),
    }
    assert {row: int(cells[column].replace(",", "")) for row, cells in rows.items()} == expected


def test_the_page_prints_the_papers_column():
    _, rows = page_rows()
    assert [cells[0] for cells in rows.values()] == ["11.6M", "0", "0", "8.4M", "0.13M", "304M", ""]


def test_widths_of_table_2_give_the_counts_written_out():
    model = make_model("large")
    resampler = 4 * (64 * 64 + 64) + 64 + 3 * 2 * 64  # attention, query, three norms
    assert count(model, "tokenizer.appearance_resampler.") == resampler
    assert count(model, "tokenizer.appearance_mlp.", "tokenizer.position_mlp.") == 2 * (64 * 1024 + 1024)
    layer = 4 * (1024 * 1024 + 1024) + 2 * 4096 * 1024 + 4096 + 1024 + 4 * 1024
    assert count(model, "encoder.") == 24 * layer + 1024 + 2 * 1024  # layers, CLS, final norm
    projections = (64 + 128 + 256 + 512) * 64 + 4 * 64
    assert count(model, "tokenizer.frame_features.") == 11_176_512 + projections


def test_the_wide_configuration_matches_the_papers_two_odd_numbers():
    model = make_model("large-wide")
    assert round(count(model, "tokenizer.frame_features.") / 1e6, 2) == 11.67
    assert round(count(model, "tokenizer.appearance_resampler.", "tokenizer.position_resampler.") / 1e6, 1) == 8.4


def test_numbers_in_the_text_are_those_of_the_table():
    text = PAGE.read_text().split("<!-- table: end -->")[1]
    model = make_model("large")
    for number in (
        count(model, "tokenizer.frame_features.backbone."),
        count(model, "tokenizer.frame_features.projections."),
    ):
        assert re.search(rf"\b{number:,}\b", text), number
    assert f"{count(model, 'encoder.') / 1e6:.1f}M" in text


def test_tiny_is_small():
    assert count(make_model("tiny"), "") < 2e6
