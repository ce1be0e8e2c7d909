"""`trajvit generate`, as a user types it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from generation_runs import heed_interrupts, outputs, write_folder, write_shards
from typer.testing import CliRunner
from waiting import wait_for

from trajvit.cli import app
from trajvit.command_conventions import pairs
from trajvit.generate_command import _line
from trajvit.processing.dataset_generation import GenerationProgress
from trajvit.processing.generation_folder import GenerationFolder
from trajvit.processing.trajectories import Trajectories

QUICK = ["--frames", "3", "--short-side", "32", "--max-trajectories", "4", "--backend-option", "num_superpixels=12"]
SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"


# Without PyTorch, which the command does not need and would import for seconds; `test_the_documented_call` has it.
COMMAND = [sys.executable, "-X", "trajvit_lazy", "-m", "trajvit.cli", "generate"]


def run(*args):
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=300)


def test_a_folder_gets_trajectories_beside_its_videos(tmp_path):
    folder = write_folder(tmp_path / "clips", [10, 20])
    (folder / "broken.mp4").write_bytes(b"no video")
    done = run(folder, folder, *QUICK, "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["clips"], summary["failures"], summary["new_clips"]) == (2, 1, 3)
    loaded = Trajectories.load(folder / "00.traj.png")
    assert loaded.shape == (3, 32, 53)
    assert 1 <= loaded.num_trajectories <= 4

    page = (folder / "__generation__" / "statistics.html").read_text()
    assert "<b>2</b>clips with trajectories" in page
    assert page.count("<svg") == 4
    assert "<tr><td>decode</td><td>1</td></tr>" in page

    again = run(folder, folder, *QUICK)
    assert again.returncode == 0
    assert "2 clips with trajectories in 1 shards; 0 clips in this run" in again.stderr
    assert "1 failed" in again.stderr
    assert again.stdout == ""


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["{nowhere}", "{out}"], 1, "error: path='{nowhere}': found no file there"),
        (["{in}", "{out}", "--backend", "magic"], 1, "error: Unknown backend 'magic'; known backends: classic"),
        (["{in}", "{out}", "--backend-option", "spam=1"], 1, "has no option 'spam'"),
        (["{in}", "{out}", "--backend-option", "spam"], 2, "expected NAME=VALUE"),
        (["{in}", "{out}", "--media", "audio"], 1, "media must be one of video, image, any, got 'audio'"),
        (["{in}", "{out}", "--workers", "0"], 2, "--workers"),
        (["{in}", "{out}", "--gpus-per-worker", "1.5"], 1, "must be in 0..1 or a whole number, got 1.5"),
        (["{in}", "{in}"], 1, "lies in the input"),
        (["{in}", "{in}/0.tar"], 1, "is a file; expected a folder"),
    ],
)
def test_wrong_arguments(tmp_path, args, code, message):
    write_shards(tmp_path / "in", [10])
    places = {"{in}": tmp_path / "in", "{out}": tmp_path / "out", "{nowhere}": tmp_path / "nowhere"}
    for name, place in places.items():
        args = [arg.replace(name, str(place)) for arg in args]
        message = message.replace(name, str(place))
    done = CliRunner().invoke(app, ["generate", *args])
    assert done.exit_code == code
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_in_order(tmp_path):
    write_shards(tmp_path / "in", *[range(10, 200, 10)] * 3)
    command = [*COMMAND, str(tmp_path / "in"), str(tmp_path / "out"), *QUICK]
    started = subprocess.Popen(
        [*command, "--shard-size", "4"], stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    wait_for("an output", lambda: list((tmp_path / "out").glob("*.tar")))
    os.kill(started.pid, signal.SIGINT)
    _, told = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "the same command goes on from there" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "out" / "__generation__" / "parts").iterdir())
    assert GenerationFolder(tmp_path / "out").running() == []
    names = set(outputs(tmp_path / "out"))
    assert names
    assert names < {f"{shard}-{part:05d}.tar" for shard in range(3) for part in range(5)}


def test_the_progress_line():
    values = {"clips": 1234, "num_clips": 8000, "failures": 3, "shards": 5, "num_shards": 32, "workers": 2}
    line = _line(GenerationProgress(**values, clips_per_second=3.217, seconds_left=2103.4))
    assert line == "1,234 of 8,000 clips  3.22 clips/s  0:35:03 left  5 of 32 shards  3 failed"
    line = _line(GenerationProgress(**{**values, "num_clips": None, "failures": 0, "workers": 0}))
    assert line == "1,234 clips  starting workers  5 of 32 shards"


def test_options_are_json_or_text():
    given = ["a=1", "b=true", "c=small", 'd={"x": [2]}', "e=a=b"]
    assert pairs(given, "--x") == {"a": 1, "b": True, "c": "small", "d": {"x": [2]}, "e": "a=b"}
    assert pairs(["key=1"], "--x", as_text=True) == {"key": "1"}
    assert pairs(None, "--x") == {}


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="example clips are not there")
def test_a_real_clip(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "clip.mp4").write_bytes((SHARED_VIDEOS / "trajvit_example.mp4").read_bytes())
    done = run(tmp_path / "in", tmp_path / "out", "--pack", "--store-frames")
    assert done.returncode == 0, done.stderr
    stored = GenerationFolder(tmp_path / "out").record("00000.tar").statistics
    assert (stored.clips, stored.frames) == (1, 16)
    assert stored.trajectory_bytes < 8_000
    assert stored.frame_bytes < 150_000


def test_the_documented_call(tmp_path):
    page = (Path(__file__).resolve().parent.parent / "docs" / "generation.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    write_folder(tmp_path / "videos", [10])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 0 ")
    assert set(outputs(tmp_path / "shards")) == {"00000.tar"}


def test_the_documentation_names_every_file_and_option(tmp_path):
    page = (Path(__file__).resolve().parent.parent / "docs" / "generation.md").read_text()
    told = set(re.findall(r"(?<![-\w])--[a-z][-a-z]+", page))
    options = {name for parameter in typer.main.get_command(app).commands["generate"].params for name in parameter.opts}
    # Those of Ray's own command, and of this one in general.
    assert told - {"--head", "--address", "--help"} <= options
