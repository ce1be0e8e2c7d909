"""The demo writes what the README promises and says plainly what is wrong with a bad file."""

import re

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from trajvit.demo import main
from trajvit.demo_report import DemoRun, VideoCost, encoder_gflop
from trajvit.processing.drawing import write_video
from trajvit.processing.trajectories import Trajectories

app = typer.Typer()
app.command()(main)


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory):
    """A square that crosses two backgrounds with a cut between them."""
    frames = np.zeros((24, 96, 128, 3), dtype=np.uint8)
    frames[:12] = (200, 60, 40)
    frames[12:] = (30, 90, 220)
    for time in range(24):
        frames[time, 30:60, 3 * time : 3 * time + 30] = (240, 240, 90)
    path = tmp_path_factory.mktemp("clip") / "<square> & cut.mp4"
    write_video(path, frames, fps=12)
    return path


def test_the_demo_writes_every_file_of_the_readme(small_clip, tmp_path):
    done = CliRunner().invoke(app, ["--video", str(small_clip), "--output", str(tmp_path), "--num-frames", "8"])
    assert done.exit_code == 0, done.output
    trajectories = Trajectories.load(tmp_path / "trajectories.png")
    assert trajectories.num_frames == 8
    # The cut lies in the middle of the clip, so at the fifth of eight samples.
    assert list(trajectories.key_frames) == [0, 4]
    assert not set(np.unique(trajectories.ids[:4])) & set(np.unique(trajectories.ids[4:]))
    for name in ("trajectories.mp4", "contact_sheet.png", "timeline.png"):
        assert (tmp_path / name).stat().st_size > 500
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;square&gt; &amp; cut.mp4" in page
    assert f"{trajectories.num_trajectories} trajectories over 8 frames" in page
    assert set(re.findall(r'(?:src|href)="(.{5})', page)) == {"data:"}, "the report must not need another file"


def test_the_demo_names_a_file_it_cannot_read(tmp_path):
    bad = tmp_path / "notes.mp4"
    bad.write_text("not a video")
    done = CliRunner().invoke(app, ["--video", str(bad), "--output", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "notes.mp4" in done.output.replace("\n", "")
    assert "Traceback" not in done.output
    missing = CliRunner().invoke(app, ["--video", str(tmp_path / "missing.mp4"), "--output", str(tmp_path / "out")])
    assert missing.exit_code == 1
    assert "missing.mp4" in missing.output.replace("\n", "")


def test_the_cost_agrees_with_published_counts():
    # ViT-Large over 197 tokens (224 x 224, CLS) is 61.6 GMAC in torchvision's table, patch embedding (0.15) included.
    assert encoder_gflop(197) == pytest.approx(2 * (61.6 - 0.15), rel=0.01)
    run = DemoRun("clip", Trajectories(np.ones((16, 4, 4), dtype=np.int32)), np.zeros((16, 4, 4, 3), np.uint8), {}, {})
    # ResNet-18 is 1.81 GMAC a frame in the same table, its classifier negligible.
    assert VideoCost.of_trajectories(run).tokenizer_gflop == pytest.approx(2 * 1.81 * 16, rel=0.01)
    assert VideoCost.of_trajectories(run).tokens == 2
    assert VideoCost.of_tubelets(run).tokens == 1568
