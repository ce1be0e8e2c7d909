"""The site builds without a complaint, and its pages fetch nothing from other machines."""

import re

from doc_blocks import ROOT
from mkdocs.commands.build import build
from mkdocs.config import load_config

_FETCHED = re.compile(r"<(?:script|img|source|iframe|link(?=[^>]*rel=\"?(?:stylesheet|preload|icon)))[^>]*")
_ROOMS = ("modeling_trajvit", "processing", "training", "evaluation")


def test_the_site_builds_and_asks_no_other_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    # As `make docs` does: the rooms inside the package.
    linked = tmp_path / "linked" / "trajvit"
    linked.mkdir(parents=True)
    for path in [*(ROOT / "trajvit").glob("*.py"), *(ROOT / room for room in _ROOMS)]:
        (linked / path.name).symlink_to(path)
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(linked.parent)]
    config.plugins.on_startup(command="build", dirty=False)
    build(config)

    built = sorted((tmp_path / "site").rglob("*.html"))
    assert len(built) > len(list((ROOT / "docs").glob("*.md")))
    for page in built:
        for tag in _FETCHED.findall(page.read_text(encoding="utf-8")):
            assert not re.search(r"(?:src|href)=\"?(?:https?:)?//", tag), f"{page.name}: {tag}"
    models = (tmp_path / "site/api/models.html").read_text(encoding="utf-8")
    assert "trajvit.modeling_trajvit.modeling_trajvit.TrajViTModel" in models
