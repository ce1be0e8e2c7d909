"""Every code block of README.md, CONTRIBUTING.md and docs runs, or could be run as it is written.

Python, and commands of this package, run page by page in a folder of small files (`doc_folder.py`). What installs,
needs a cluster or measures for minutes is parsed by its own parser; so is what a page marks as `checked`, with why.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from doc_blocks import LANGUAGES, ROOT, Block, blocks_of, commands_of, pages
from doc_commands import check_command
from doc_folder import make_folder
from typer.testing import CliRunner

from trajvit.cli import app
from trajvit.training.config_file import load_config

PAGES = {page: blocks_of(page) for page in pages()}
RUN = {page: blocks for page, blocks in PAGES.items() if any(block.language != "text" for block in blocks)}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    make_folder(folder)
    return folder


def is_run(words: list[str]) -> bool:
    """Whether a command is run here: those of this package are, what they call besides is only checked."""
    program = Path(words[0]).name
    return program == "trajvit" or (program == "python" and words[1:2] == ["-m"] and words[2].startswith("trajvit."))


def run_command(words: list[str]) -> None:
    if Path(words[0]).name != "trajvit":
        from trajvit.evaluation import tables

        assert words[2] == "trajvit.evaluation.tables", f"{words[2]} is not known here: mark the block as checked"
        program, arguments = tables.app, words[3:]
    else:
        program, arguments = app, words[1:]
    result = CliRunner().invoke(program, arguments)
    if result.exit_code:
        raise AssertionError(f"exit code {result.exit_code}:\n{result.output}") from result.exception


def run_python(block: Block, names: dict) -> None:
    # As many empty lines before it as the page has: a traceback then names the page and the line.
    code = compile("\n" * block.line + block.text, str(ROOT / block.page), "exec")
    if block.reason is None:
        exec(code, names)


def read_yaml(block: Block, folder: Path) -> None:
    """The settings of a run, whole or in parts: those that are left out are the tiny run's."""
    values = yaml.safe_load(block.text)
    (folder / "mine.yaml").write_text(block.text, encoding="utf-8")
    if "extends" not in values:
        values["extends"] = str(ROOT / "training/configs/tiny_synthetic.yaml")
        (folder / "mine.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    load_config(folder / "mine.yaml")


def run_block(block: Block, folder: Path, names: dict) -> None:
    if block.language == "python":
        run_python(block, names)
    elif block.language == "yaml":
        read_yaml(block, folder)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "bash":
        for line, words in commands_of(block):
            try:
                run_command(words) if block.reason is None and is_run(words) else check_command(words)
            except BaseException as error:
                raise AssertionError(f"{block.page}:{line}: {' '.join(words)}: {error}") from error


def told(page: str) -> str:
    """The name of a page's test: how many of its blocks are run, and how many only checked."""
    blocks = [block for block in RUN[page] if block.language != "text"]
    run = [
        block.language != "bash" or any(is_run(words) for _, words in commands_of(block))
        for block in blocks
        if block.reason is None
    ]
    return f"{page}: {sum(run)} run, {len(blocks) - sum(run)} checked"


@pytest.mark.parametrize("page", RUN, ids=told)
def test_the_blocks_of_a_page(page, files, tmp_path, monkeypatch):
    shutil.copytree(files, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    # For the module of an example that stands beside the page's scripts; what it imports is forgotten again.
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "work")])
    torch.manual_seed(0)
    names: dict = {"__name__": "__main__"}
    for block in RUN[page]:
        try:
            run_block(block, tmp_path / "work", names)
        except Exception as error:
            raise AssertionError(f"{block.place}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("page", [page for page in PAGES if PAGES[page]])
def test_blocks_say_what_they_are(page):
    for block in PAGES[page]:
        assert block.language in LANGUAGES, f"{block.place}: ```{block.language}; expected one of {LANGUAGES}"
        assert block.reason is None or re.search(r"\w+ \w+", block.reason), f"{block.place}: why is it not run?"


def test_nearly_all_python_is_run(record_property):
    python = [block for blocks in PAGES.values() for block in blocks if block.language == "python"]
    checked = [block.place for block in python if block.reason is not None]
    record_property("python blocks", len(python))
    record_property("python blocks that are only compiled", checked)
    assert len(checked) <= 0.1 * len(python), checked


@pytest.mark.parametrize(
    "command",
    [
        "trajvit tokenise video.mp4",
        "trajvit info --jsn",
        "trajvit draw video.mp4 --frames many",
        "make tset",
        "pip install 'trajvit[evl]'",
        "python benchmarks/tower.py",
        "python benchmarks/towers.py --towrs rlt",
        "python evaluation/retrieval.py CHECKPOINT --dta msrvtt",
        "accelerate launch --config_file none.yaml training/pretrain.py --config a.yaml",
        "accelerate launch training/pretrain.py --confg a.yaml",
        "accelerate lunch training/pretrain.py --config a.yaml",
        "curl https://example.org",
    ],
)
def test_commands_that_could_not_be_started_are_found(command):
    block = Block("page", 1, "bash", command, None)
    ((_, words),) = commands_of(block)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - each parser has errors of its own
        check_command(words)
