"""The wheel installs one namespace and works in an environment of its own; so does the editable install."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("modeling_trajvit", "processing", "training", "evaluation")

ROUND_TRIP = """
import sys
from pathlib import Path

import torch
import trajvit
from transformers import AutoModel
from trajvit import TrajViTConfig, TrajViTModel

import trajvit.evaluation, trajvit.modeling_trajvit, trajvit.processing, trajvit.training

torch.manual_seed(0)
model = TrajViTModel(TrajViTConfig.from_name("tiny")).eval()
maps = torch.zeros(1, 2, 56, 56, dtype=torch.long)
maps[:, :, :28] = 1
maps[:, :, 28:] = 2
inputs = {"pixel_values_videos": torch.rand(1, 2, 3, 224, 224), "trajectory_maps": maps}
with torch.no_grad():
    expected = model(**inputs).pooler_output
    model.save_pretrained("checkpoint")
    loaded = AutoModel.from_pretrained("checkpoint").eval()
    torch.testing.assert_close(loaded(**inputs).pooler_output, expected, rtol=1e-5, atol=1e-5)
assert type(loaded) is TrajViTModel
# Not to stdout, where DeepSpeed says at import which accelerator it found.
print(Path(trajvit.__file__).resolve(), Path(trajvit.processing.__file__).resolve(), sep="\\n", file=open("found", "w"))
"""


def run(*command: object, cwd: Path) -> str:
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # Building in a copy keeps the build folder of the checkout out of the wheel, and the checkout clean.
    source = out / "source"
    files = (
        run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
        if (ROOT / ".git").exists()
        else []
    )
    if not files:
        pytest.skip("not a git checkout")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    return next(out.glob("*.whl"))


@pytest.mark.packaging
def test_the_wheel_holds_one_top_level_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"trajvit"}
    for room in ROOMS:
        sources = {path.name for path in (ROOT / room).glob("*.py")}
        packed = {Path(name).name for name in names if str(Path(name).parent) == f"trajvit/{room}"}
        assert {name for name in packed if name.endswith(".py")} == sources
    # What is read beside the code.
    assert "trajvit/evaluation/published_results.json" in names
    assert "trajvit/evaluation/metrics/ava_frame_map/ava_frame_map.py" in names
    assert "trajvit/checkpoints/tiny_synthetic/model.safetensors" in names
    assert "trajvit/py.typed" in names


@pytest.mark.packaging
def test_the_wheel_asks_for_sam2_only_as_an_extra(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist")

    def required(extra: str) -> set[str]:
        requirements = map(Requirement, lines)
        return {r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})}

    assert "torch" in required("")
    assert required("sam2") - required("") == {"sam2", "hydra-core", "omegaconf"}


@pytest.mark.packaging
def test_the_wheel_works_in_a_clean_environment(wheel, tmp_path):
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    # The dependencies are gigabytes: lend those of this environment. A path line does not run the .pth files that lie
    # there, so this environment's own (editable) trajvit stays out of reach.
    (purelib / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    run(python, "-c", ROUND_TRIP, cwd=work)
    for line in (work / "found").read_text().split():
        assert purelib.resolve() in Path(line).parents, f"{line} is not the wheel's"
    # By their folders: among the lent packages there is a top-level `training`, which SAM 2's wheel has.
    for room in ROOMS:
        assert not (purelib / room).exists(), f"the wheel installed a top-level package {room}"


def test_the_editable_install_finds_the_rooms_of_the_checkout(tmp_path):
    run(sys.executable, "-c", ROUND_TRIP, cwd=tmp_path)
    lines = (tmp_path / "found").read_text().split()
    assert [Path(line) for line in lines] == [ROOT / "trajvit" / "__init__.py", ROOT / "processing" / "__init__.py"]
