"""Loading SAM 2.1 and the process around it: the Hub and its cache, hydra's global state, the package left out.

What counts here is read when libraries are imported, so every check runs in a process of its own.
"""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("sam2")

from random_sam2 import save_random_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"

LOAD = """
import json, sys
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from trajvit.processing.sam2_loading import load_sam2
version_base = VersionBase.instance().version_base
assert "sam2" not in sys.modules
found = []
for arguments in json.loads(sys.argv[1]):
    try:
        model = load_sam2(image_size=32, **arguments)
        found.append(len(model.image_encoder.trunk.blocks))
    except (OSError, ValueError) as error:
        found.append(f"{type(error).__name__}: {error}")
assert "sam2" in sys.modules
assert not GlobalHydra.instance().is_initialized()
assert VersionBase.instance().version_base is version_base
print(json.dumps(found))
"""


def run(code: str, *arguments: str, **environment: str) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-X", "trajvit_lazy", "-c", code, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(*arguments: dict, **environment: str) -> list:
    return json.loads(run(LOAD, json.dumps(arguments), **environment))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_random_checkpoint(tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny.pt")


def test_without_a_connection_the_cache_serves(tmp_path, checkpoint):
    repository = tmp_path / "models--facebook--sam2.1-hiera-tiny"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / checkpoint.name).symlink_to(checkpoint)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)

    default, by_id, sizeless, small, base_plus = load(
        {"model": "tiny"},
        {"model": "tiny", "checkpoint": "facebook/sam2.1-hiera-tiny"},
        {"model": None, "checkpoint": "facebook/sam2.1-hiera-tiny"},
        {"model": "small", "checkpoint": "facebook/sam2.1-hiera-tiny"},
        {"model": "base_plus"},
        HF_HUB_OFFLINE="1",
        HF_HUB_CACHE=str(tmp_path),
    )
    assert default == by_id == sizeless == 12
    assert small.startswith("OSError: sam2.1_hiera_small.pt of the Hub repository 'facebook/sam2.1-hiera-tiny' is not")
    assert "hf download facebook/sam2.1-hiera-base-plus sam2.1_hiera_base_plus.pt" in base_plus
    assert "HF_HUB_OFFLINE" in base_plus
    assert "checkpoint= a local file" in base_plus


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hub does: one repository with one file, and nothing else."""

    file: Path

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool):
        if self.path == f"/someone/sam2/resolve/main/{self.file.name}" or COMMIT in self.path:
            content = self.file.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", '"1"')
        else:
            content = b""
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if "/someone/sam2/" in self.path else "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, format, *arguments):
        """Keep quiet."""


def test_with_a_connection_the_hub_serves(tmp_path, checkpoint):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubWithFile", (Hub,), {"file": checkpoint}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        tiny, small, nowhere, sizeless = load(
            {"model": "tiny", "checkpoint": "someone/sam2"},
            {"model": "small", "checkpoint": "someone/sam2"},
            {"model": "small", "checkpoint": "nobody/sam2"},
            {"model": None, "checkpoint": "someone/sam2"},
            HF_HUB_OFFLINE="0",
            HF_HUB_CACHE=str(tmp_path),
            HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
            NO_PROXY="127.0.0.1",
        )
    finally:
        server.shutdown()
        server.server_close()
    assert tiny == sizeless == 12
    assert small == "FileNotFoundError: The Hub repository 'someone/sam2' holds none of sam2.1_hiera_small.pt."
    assert nowhere.startswith("OSError: The Hub gives no sam2.1_hiera_small.pt of repository 'nobody/sam2': ")


def test_a_callers_hydra_stays_as_it_is(tmp_path):
    (tmp_path / "mine.yaml").write_text("answer: 42\n", encoding="utf-8")
    code = """
import sys
from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.version import getbase
from trajvit.processing.sam2_loading import build_sam2
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    build_sam2("tiny", 32)
    assert compose("mine").answer == 42
    assert str(getbase()) == "1.3"
assert not GlobalHydra.instance().is_initialized()

# What docs/sam2.md tells to do before the package's own builders.
from sam2.build_sam import build_sam2 as build_by_package
initialize_config_module("sam2", version_base="1.2")
build_by_package("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
build_sam2("tiny", 32)
assert GlobalHydra.instance().is_initialized()
"""
    run(code, str(tmp_path))


def test_without_the_package_everything_else_works():
    code = """
import importlib, pkgutil, sys
absent = ("sam2", "hydra", "omegaconf")
sys.modules.update(dict.fromkeys(absent))
import trajvit.processing
for module in pkgutil.iter_modules(trajvit.processing.__path__):
    importlib.import_module(f"trajvit.processing.{module.name}")
from trajvit.processing.sam2_loading import load_sam2
for name in ("omegaconf", "hydra", "sam2"):
    try:
        load_sam2("tiny", "weights.pt")
    except ImportError as error:
        print(error)
    del sys.modules[name]
"""
    assert run(code).splitlines() == [
        f"SAM 2 needs '{name}', which is not installed: pip install 'trajvit[sam2]'"
        for name in ("hydra.core", "hydra.core", "sam2.modeling")
    ]
