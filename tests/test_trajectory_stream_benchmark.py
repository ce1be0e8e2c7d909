"""The benchmark of streaming's memory runs, counts what was streamed, and fits the line it says."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from trajvit.processing.generator import TrajectoryGenerator

SCRIPT = Path(__file__).parents[1] / "benchmarks/trajectory_stream.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("trajectory_stream_script", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_it_counts_what_was_streamed(script, tmp_path, capsys):
    output = tmp_path / "results/stream.json"
    settings = ["--frames", "14", "--short-side", "32", "--clip-frames", "4", "--warm-up", "4"]
    script.main([*settings, "--output", str(output)])
    result = json.loads(output.read_text())
    frames = [next_frame for next_frame, _ in zip(script.endless_video(32, 57), range(14), strict=False)]
    generator = TrajectoryGenerator(max_trajectories=64, short_side=32)
    pieces = list(generator.stream(frames, clip_frames=4))
    assert result["frames"] == 14
    assert result["trajectories"] == result["pieces"] == len(pieces)
    assert result["trajectory_frames"] == sum(len(piece) for piece in pieces)
    assert [done for done, _, _ in result["samples"]] == [4, 8, 12, 14]
    assert all(resident > traced > 0 for _, resident, traced in result["samples"])
    assert "MB per 1,000 frames" in capsys.readouterr().out


def test_the_line(script):
    frames = np.arange(0, 5000, 250)
    values = script.describe(frames, 80 + 0.003 * frames)
    assert values == {"first": 80.0, "least": 80.0, "most": 94.25, "last": 94.25, "per_1000_frames": 3.0}
    assert script.describe(frames[:2], frames[:2] * 1.0) is None


def test_the_video_goes_on_with_a_cut(script):
    video = script.endless_video(16, 28)
    frames = np.stack([next(video) for _ in range(script.SHOT_FRAMES + 3)])
    steps = np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert steps.argmax() == script.SHOT_FRAMES - 1
    assert steps.min() > 0
