"""The pictures of the pages: small enough, none that no page shows, and the script that makes those of the concepts."""

import re
import runpy

import numpy as np
import pytest
from doc_blocks import ROOT, pages
from PIL import Image
from typer.testing import CliRunner

from trajvit.processing.synthetic_scenes import make_scene

IMAGES = ROOT / "docs/images"


def test_the_animation_of_the_readme_is_light_and_fits_any_background():
    path = IMAGES / "trajectories.webp"
    assert path.stat().st_size < 1.5e6
    with Image.open(path) as animation:
        assert animation.n_frames > 30
        animation.seek(10)
        frame = np.asarray(animation.convert("RGBA"))
    assert frame[0, 0, 3] == 0  # rounded corners, so that no page shows a box
    assert (frame[..., 3] == 255).mean() > 0.5


def test_every_picture_is_shown():
    texts = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages())
    shown = set(re.findall(r"images/([\w.-]+)", texts + (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert {path.name for path in IMAGES.iterdir()} == shown


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "docs/make_pictures.py"))


def test_a_scene_has_a_token_for_each_thing_and_one_for_its_background(script):
    scene = make_scene(2, num_frames=8, height=64, width=96, cut=True)
    trajectories = script["exact_trajectories"](scene.masks, scene.shot_of_frame)
    assert trajectories.coverage == 1
    assert trajectories.num_trajectories == len(np.unique(scene.masks[scene.masks > 0])) + 2


def test_a_picture_that_there_is_not_is_refused(script, tmp_path):
    import typer

    app = typer.Typer()
    app.command()(script["main"])
    result = CliRunner().invoke(app, ["--output", str(tmp_path), "--only", "nothing"])
    assert result.exit_code == 2
    assert "nothing" in result.output
