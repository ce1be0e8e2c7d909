"""The benchmarks of generation run, and count what they say they count."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stored_resolution import compare, moved_by_a_row, with_original_ids

from trajvit.processing.trajectories import Trajectories
from trajvit.training.augmentation import Draw

DRIVER = Path(__file__).parents[1] / "benchmarks" / "generation_driver.py"


def blocks(height=96, width=128, cells=8):
    """(2, H, W): blocks in a grid, and one of 2 x 2 pixels."""
    rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
    ids = np.broadcast_to(rows[:, None] * cells + columns + 1, (2, height, width)).copy()
    ids[:, :2, :2] = cells * cells + 1
    return Trajectories(ids)


def test_the_driver_is_measured_over_all_clips(tmp_path):
    command = [sys.executable, "-X", "trajvit_lazy", DRIVER, "--clips", "2000", "--output", tmp_path / "result.json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = (tmp_path / "result.json").read_text()
    assert done.stdout == result
    assert '"clips": 2000' in result
    assert '"shards": 8' in result


def test_equal_resolutions_do_not_differ():
    found = compare(blocks(), 96, crops=3)
    assert (found["cells"], found["pairs"]) == (0, 0)
    assert found["bytes"] == len(blocks().to_bytes())
    assert 0 < found["cells_moved"] < 0.3


def test_small_trajectories_get_lost_at_small_resolutions():
    trajectories = blocks()
    small = trajectories.resize(24, 32)
    assert small.num_trajectories == 64
    ids = with_original_ids(trajectories, small)
    # Every fourth pixel from the third on, so none of the small block's.
    assert np.array_equal(ids, trajectories.ids[:, 2::4, 2::4])
    assert set(np.unique(ids)) == set(range(1, 65))


@pytest.mark.parametrize(("top", "moved"), [(0, 1), (39, 40), (40, 39)])
def test_a_crop_moves_by_a_row(top, moved):
    draw = Draw((top, 5, 56, 70), True, (), None, False)
    assert moved_by_a_row(draw, 96).crop == (moved, 5, 56, 70)
