"""docs/towers.md: its table of tokens is what the towers give. (`test_docs_code.py` runs its examples.)"""

from pathlib import Path

import pytest
import torch

from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS

PAGE = (Path(__file__).parents[1] / "docs/towers.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """The table's cells, head first, of the table that begins with `heading`."""
    lines = PAGE[PAGE.index(heading) :].split("\n\n")[0].splitlines()
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_every_tower_has_a_section_and_a_row():
    named = [row[0] for row in rows_of("| `model_type`")[1:]]
    assert named == list(VISION_TOWER_CONFIGS)
    assert {tower for row in rows_of("| | eager")[1:] for tower in row[0].split("`, `")} == set(named)
    assert PAGE[PAGE.index("## The systems") :].count("\n### ") == len(named)
    for name, row in zip(named, rows_of("| `model_type`")[1:], strict=True):
        assert row[1] == f"{VISION_TOWER_CONFIGS[name].__name__}`, `{VISION_TOWERS[name].__name__}"


@pytest.mark.parametrize("num_frames", [1, 16])
def test_the_tokens_of_the_table(num_frames):
    """Every tower as deep as ViT-Large, but narrow, on noise: none of it repeats."""
    head, *rows = rows_of("| frames | ")
    (row,) = (row for row in rows if row[0] == str(num_frames))
    frames = torch.randn(1, num_frames, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    maps = torch.arange(1, 57).expand(1, num_frames, 56, 56)
    narrow = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    for tower, cell in zip(head[1:], row[1:], strict=True):
        model = VISION_TOWERS[tower](VISION_TOWER_CONFIGS[tower](**narrow)).eval()
        with torch.no_grad():
            outputs = model(frames, trajectory_maps=maps)
        expected = 56 if cell == "M" else int(cell.rpartition(" ")[2].replace(",", ""))
        assert outputs.token_mask[0, 1:].sum() == expected
