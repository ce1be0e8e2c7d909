"""Backends by name, their settings, and the page that shows how to write one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flat_colors import Blocks, moving_square, with_a_cut

from trajvit.processing import backends
from trajvit.processing.backends import TrackingBackend, backend_names, get_backend, register_backend
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.key_frames import KeyFrameDetector

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def registry(monkeypatch):
    """The registry of backends, restored afterwards."""
    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))


@pytest.fixture
def grid_module(tmp_path, monkeypatch):
    """A module of a user's own with a backend in it."""
    (tmp_path / "my_grid.py").write_text(
        "import numpy as np\n\n\nclass Grid:\n    name = 'grid'\n    frame_interval = None\n\n"
        "    def __init__(self, cells=2, *, offset=0):\n        self.cells, self.offset = cells, offset\n\n"
        "    def track(self, clips, max_trajectories, progress=None):\n"
        "        cell = np.arange(clips[0].frames.shape[2]) * self.cells // clips[0].frames.shape[2] + 1\n"
        "        return [np.zeros(c.frames[c.sampled].shape[:3], int) + cell + self.offset for c in clips]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_grid", raising=False)
    yield "my_grid:Grid"
    sys.modules.pop("my_grid", None)


@pytest.mark.usefixtures("registry")
def test_a_registered_backend_is_found_by_name_and_survives_json(grid_module):
    register_backend("grid", grid_module)
    register_backend("grid", grid_module)
    assert "my_grid" not in sys.modules
    assert backend_names() == sorted({"grid", *backend_names()})
    generator = TrajectoryGenerator(
        "grid",
        max_trajectories=9,
        short_side=20,
        join_iou=0.25,
        key_frame_detector=KeyFrameDetector(30, min_votes=1),
        cells=3,
    )
    assert isinstance(generator.backend, TrackingBackend)
    assert generator.frame_interval is None
    settings = json.loads(json.dumps(generator.to_dict()))
    again = TrajectoryGenerator.from_dict(settings)
    assert again.to_dict() == settings == generator.to_dict()
    assert again.backend.cells == 3
    assert repr(again) == repr(generator)
    assert again(with_a_cut()) == generator(with_a_cut())
    assert again(with_a_cut()).num_trajectories == 3
    assert TrajectoryGenerator.from_dict({"backend": "grid"}).to_dict() == TrajectoryGenerator("grid").to_dict()


@pytest.mark.usefixtures("registry")
def test_settings_of_numpy_types_can_be_saved(grid_module):
    register_backend("grid", grid_module)
    detector = KeyFrameDetector(hsv_threshold=np.float32(20), min_votes=np.int64(1))
    generator = TrajectoryGenerator(
        "grid", np.int64(5), np.int32(64), detector, join_iou=np.float64(0.5), cells=np.int64(3)
    )
    assert json.loads(json.dumps(generator.to_dict())) == generator.to_dict()


@pytest.mark.usefixtures("registry")
def test_saved_options_are_copies_and_paths_become_text(grid_module, tmp_path):
    register_backend("grid", grid_module)
    cells: dict = {"columns": [3]}
    generator = TrajectoryGenerator("grid", cells=cells, offset=tmp_path)
    cells["columns"].append(4)
    generator.to_dict()["cells"]["columns"].append(5)
    assert generator.to_dict()["cells"] == {"columns": [3]}
    assert json.loads(json.dumps(generator.to_dict()))["offset"] == str(tmp_path)


@pytest.mark.usefixtures("registry")
def test_a_wrong_option_or_registration_is_named(grid_module):
    register_backend("grid", grid_module)
    with pytest.raises(ValueError, match=r"Backend 'grid' has no option 'cell'; it has: cells, offset"):
        get_backend("grid", cell=2)
    with pytest.raises(ValueError, match=r"Backend 'grid' has no option 'cell'"):
        TrajectoryGenerator.from_dict({"backend": "grid", "cell": 2})
    with pytest.raises(ValueError, match=r"'grid' is already taken by my_grid:Grid"):
        register_backend("grid", "my_grid:Other")
    for location in ("my_grid", "my_grid:", ":Grid", "my grid:Grid", "my_grid:Grid()"):
        with pytest.raises(ValueError, match="needs a name and a location"):
            register_backend("other", location)


def test_a_backend_given_as_an_object_cannot_be_saved_and_says_so():
    with pytest.raises(ValueError, match="'blocks' was given as an object and cannot be saved"):
        TrajectoryGenerator(Blocks()).to_dict()


def test_the_default_backend():
    generator = TrajectoryGenerator()
    assert generator.backend.name == "classic"
    assert generator.frame_interval == 0.125
    assert generator.to_dict()["backend"] == "classic"
    assert TrajectoryGenerator.from_dict(generator.to_dict()).to_dict() == generator.to_dict()
    with pytest.raises(ValueError, match=r"Backend 'classic' has no option 'superpixels'; it has: .*num_superpixels"):
        TrajectoryGenerator(superpixels=3)


def test_the_documented_backend_works():
    page = (DOCS / "backends.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 3
    namespace: dict = {}
    for block in blocks[:2]:
        exec(block, namespace)
    assert namespace["trajectories"].shape == (4, 64, 96)
    assert namespace["trajectories"].coverage == 1
    assert isinstance(namespace["LinkedSuperpixels"](), TrackingBackend)
    # On pictures that move little its regions live through the whole video.
    trajectories = TrajectoryGenerator(namespace["LinkedSuperpixels"](num_regions=12))(moving_square(4))
    assert trajectories.lifetimes.max() == 4
    assert trajectories.num_trajectories < 4 * 12


def test_importing_the_generator_imports_nothing_heavy():
    code = (
        "import sys, trajvit.processing.generator;"
        "print([m for m in ('torch', 'cv2', 'scenedetect', 'av', 'skimage', 'matplotlib') if m in sys.modules])"
    )
    command = [sys.executable, "-X", "trajvit_lazy", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
