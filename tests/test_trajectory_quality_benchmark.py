"""The benchmark's command line, on sequences small enough for a test, and the baseline it prints beside ours."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from trajvit.evaluation.supervoxels import supervoxels

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location(
        "trajectory_quality_script", ROOT / "benchmarks/trajectory_quality.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """Two sequences of a bright textured square that moves over a dark textured ground."""
    rng = np.random.default_rng(0)
    ground = rng.integers(20, 90, (64, 96, 3)).astype(np.uint8)
    square = rng.integers(150, 255, (24, 24, 3)).astype(np.uint8)
    for name, step in (("slow", 1), ("fast", 3)):
        (tmp_path / name / "frames").mkdir(parents=True)
        (tmp_path / name / "masks").mkdir()
        for index in range(12):
            frame, mask = ground.copy(), np.zeros((64, 96), np.uint8)
            left = 10 + step * index
            frame[20:44, left : left + 24], mask[20:44, left : left + 24] = square, 255
            Image.fromarray(frame).save(tmp_path / name / "frames" / f"{index:03d}.png")
            Image.fromarray(mask).save(tmp_path / name / "masks" / f"{index:03d}.png")
    return tmp_path


def invoke(benchmark, *arguments):
    return CliRunner().invoke(benchmark.app, [str(argument) for argument in arguments])


def test_folder_is_scored_by_every_method_and_resumed(benchmark, folder, tmp_path, monkeypatch):
    output = tmp_path / "results" / "r.json"
    arguments = ("folder", folder, "--num-frames", 6, "--max-trajectories", 24, "--output", output)
    result = invoke(benchmark, *arguments, "--sequences", "slow")
    assert result.exit_code == 0, result.output
    assert list(json.loads(output.read_text())["videos"]) == ["slow"]
    result = invoke(benchmark, *arguments)
    assert result.exit_code == 0, result.output
    data = json.loads(output.read_text())
    assert set(data["videos"]) == {"slow", "fast"}
    for scores in data["videos"].values():
        assert set(scores) == {"classic", "3-D SLIC"}
        assert scores["classic"]["num_trajectories"] <= 24
        assert scores["classic"]["oracle_iou"] > 0.8
        assert scores["classic"]["coverage"] == 1
    ours = [scores["classic"]["oracle_iou"] for scores in data["videos"].values()]
    assert data["mean"]["classic"]["oracle_iou"] == pytest.approx(np.mean(ours), abs=1e-4)
    assert f"{data['mean']['3-D SLIC']['persistence']:.3f}" in result.output

    def refuse(*_arguments, **_keywords):
        raise AssertionError("a finished sequence was computed again")

    monkeypatch.setattr(benchmark, "timed", refuse)
    assert invoke(benchmark, *arguments).exit_code == 0


def test_other_settings_do_not_mix(benchmark, folder, tmp_path):
    output = tmp_path / "r.json"
    output.write_text(json.dumps({"settings": {"set": "folder"}, "videos": {}}))
    result = invoke(benchmark, "folder", folder, "--output", output)
    assert result.exit_code == 1
    assert "--output" in result.output
    output.write_text("{")
    result = invoke(benchmark, "folder", folder, "--output", output)
    assert "is not a file of results" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("folder", "{}/nowhere"), "is not a folder"),
        (("folder", "{}", "--sequences", "slow,ghost"), "no sequence ghost"),
        (("folder", "{}", "--backend", "telepathy"), "telepathy"),
        (("synthetic", "--seeds", "9-3"), "9-3"),
        (("synthetic", "--seeds", "one"), "one"),
    ],
)
def test_errors_are_one_line_and_not_a_traceback(benchmark, folder, tmp_path, arguments, message):
    arguments = [argument.format(folder) for argument in arguments]
    result = invoke(benchmark, *arguments, "--output", tmp_path / "r.json")
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_seeds(benchmark):
    assert benchmark.parse_seeds("100-103") == [100, 101, 102, 103]
    assert benchmark.parse_seeds("7, 3,5-6,3") == [7, 3, 5, 6]


def test_a_scene_is_scored_at_the_resolution_and_rate_of_the_dense_stack(benchmark, tmp_path, monkeypatch):
    """What reaches the generator: the sampled frames at their positions in a stack of denser ones."""
    seen = {}

    class Recorder(benchmark.TrajectoryGenerator):
        frame_interval = 1 / 12

        def __call__(self, frames, sample_indices, **where):
            seen.update(frames=frames, sample_indices=sample_indices, **where)
            return super().__call__(frames[sample_indices])

    video = benchmark.scene_video(100)
    sampled = np.array([2, 10, 18])
    ids, seconds = benchmark.generate(Recorder(max_trajectories=16), video, sampled)
    assert ids.shape == (3, 256, 384)
    assert seconds > 0
    # 24 frames a second: eight frames hold four intervals of two frames.
    np.testing.assert_array_equal(seen["sample_indices"], [0, 4, 8])
    np.testing.assert_array_equal(seen["frames"], video.read(np.arange(2, 19, 2)))
    np.testing.assert_allclose(seen["timestamps"], sampled / 24)


def test_supervoxels_are_volumes_within_the_limit():
    colors = np.random.default_rng(0).integers(0, 255, (1, 4, 6, 3)).astype(np.uint8)
    still = colors.repeat(20, axis=1).repeat(20, axis=2).repeat(4, axis=0)
    labels = supervoxels(still, max_labels=20, short_side=40)
    assert labels.shape == (4, 40, 60)
    assert labels.min() == 1
    assert 10 <= labels.max() <= 20
    assert len(np.unique(labels)) == labels.max()


def test_davis_sequence_if_present(benchmark, tmp_path):
    root = Path(os.environ.get("TRAJVIT_DAVIS", ROOT.parent / "shared" / "davis"))
    if not root.is_dir():
        pytest.skip(f"no DAVIS sequences at {root}; TRAJVIT_DAVIS names a folder of them")
    output = tmp_path / "r.json"
    result = invoke(benchmark, "folder", root, "--sequences", "blackswan", "--output", output)
    assert result.exit_code == 0, result.output
    scores = json.loads(output.read_text())["videos"]["blackswan"]
    assert scores["classic"]["oracle_iou"] > scores["3-D SLIC"]["oracle_iou"]
    assert scores["classic"]["coverage"] == 1
