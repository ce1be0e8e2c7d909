"""The benchmark of file sizes runs on trajectories files and on videos."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from trajvit.processing.trajectories import Trajectories

SCRIPT = Path(__file__).parents[1] / "benchmarks/trajectory_files.py"


@pytest.fixture(scope="module")
def app():
    specification = importlib.util.spec_from_file_location("trajectory_files_script", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.app


def test_it_prints_true_sizes(app, tmp_path):
    path = tmp_path / "blocks.png"
    labels = np.random.default_rng(0).integers(0, 9, (3, 8, 12)).repeat(8, axis=1).repeat(8, axis=2)
    Trajectories.from_labels(labels).save(path)
    result = CliRunner().invoke(app, [str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    (row,) = [line for line in result.output.splitlines() if "blocks" in line]
    cells = [cell.strip() for cell in row.strip("| \n").split("|")]
    assert cells[:4] == ["blocks", "8", "3 x 64 x 96", f"{path.stat().st_size / 1024:.1f}"]
    assert all(float(cell) > 0 for cell in cells[4:9])
