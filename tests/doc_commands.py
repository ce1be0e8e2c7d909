"""Checks the commands of the documentation without running them: programs, scripts, sub-commands and options exist.

Scripts parse their own command lines: each is started up to the point at which its parser has read them.
"""

import argparse
import configparser
import contextlib
import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import typer
from doc_blocks import ROOT

_SETUP = configparser.ConfigParser()
_SETUP.read(ROOT / "setup.cfg")
EXTRAS = dict(_SETUP["options.extras_require"])
_NAME = re.compile(r"[\w.-]+")
# Files of the repository; what benchmarks leave is not among them.
_PATH = re.compile(r"(?:training|evaluation|benchmarks(?!/results)|docs|tests|examples)/")


class _ParsedError(BaseException):
    """Raised in place of what a script would do after its command line is read."""


def check_command(words: list[str]) -> None:
    """Raise unless a command could be started as it is written."""
    # What the shell would put in stands for itself, or is a number.
    words = [re.sub(r"\$[A-Z_]+", "1", word) for word in words]
    for word in words:
        if _PATH.match(word) and "*" not in word:
            assert (ROOT / word).exists(), f"there is no {word}"
    program, arguments = Path(words[0]).name.replace("python3", "python"), words[1:]
    if program == "taskset":
        check_command(words[3:])
    elif program in _CHECKS:
        _CHECKS[program](arguments)
    else:
        raise AssertionError(f"{program!r} is no program that the documentation may use: {sorted(_CHECKS)}")


@contextlib.contextmanager
def _stopping_after_parsing() -> Iterator[None]:
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise _ParsedError

    def call_and_stop(app, args=None, **_):
        _check_click(typer.main.get_command(app), sys.argv[1:] if args is None else list(args))
        raise _ParsedError

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop),
        mock.patch.object(typer.Typer, "__call__", call_and_stop),
    ):
        yield


def _check_click(command, arguments: list[str]) -> None:
    """Raise unless a click command takes the arguments."""
    while hasattr(command, "commands"):
        assert arguments, f"{command.name}: a sub-command is missing"
        assert arguments[0] in command.commands, f"there is no {arguments[0]!r} in {sorted(command.commands)}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
        if hasattr(command, "materialize"):  # how `hf` puts off its imports
            command = command.materialize()
    command.make_context(command.name or "", list(arguments))


def _check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m" and arguments[1] == "pip":
        return _check_pip(arguments[2:])
    if arguments[0] == "-m" and not arguments[1].startswith("trajvit"):
        assert importlib.util.find_spec(arguments[1]), f"there is no module {arguments[1]}"
        return None
    start, rest = (
        (lambda: runpy.run_module(arguments[1], run_name="__main__"), arguments[2:])
        if arguments[0] == "-m"
        else (lambda: runpy.run_path(str(ROOT / arguments[0]), run_name="__main__"), arguments[1:])
    )
    before = sys.argv
    sys.argv = [arguments[0], *rest]
    try:
        with _stopping_after_parsing():
            start()
    except _ParsedError:
        return _check_settings(rest) if arguments[0].endswith("pretrain.py") else None
    except SystemExit as error:
        raise AssertionError(f"{arguments[0]} does not take {rest}") from error
    finally:
        sys.argv = before
    raise AssertionError(f"{arguments[0]} read no command line")


def _check_settings(arguments: list[str]) -> None:
    """The file of a run, where it is one of the repository, takes the settings that the command line replaces."""
    from trajvit.training.config_file import load_config

    path = ROOT / arguments[arguments.index("--config") + 1]
    if path.is_file():
        load_config(path, [word for word in arguments if re.match(r"[a-z_.0-9]+=", word)])


def _check_accelerate(arguments: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert arguments[0] == "launch", arguments
    options = launch_command_parser().parse_args(arguments[1:])
    if options.config_file is not None:
        assert (ROOT / options.config_file).is_file(), f"there is no {options.config_file}"
    as_module = ["-m"] if options.module else []
    _check_python([*as_module, options.training_script, *options.training_script_args])


def _check_pip(arguments: list[str]) -> None:
    """What is installed is this project with extras that it has, or a package that it names itself."""
    assert arguments[0] == "install", arguments
    known = {_NAME.match(line).group() for lines in EXTRAS.values() for line in lines.split("\n") if line.strip()}
    for what in (word for word in arguments[1:] if not word.startswith("-")):
        package, _, extras = what.partition("[")
        for extra in filter(None, extras.rstrip("]").split(",")):
            assert extra in EXTRAS, f"there is no extra {extra!r}: {sorted(EXTRAS)}"
        assert package in (".", "trajvit") or _NAME.match(package).group() in known, f"{package} is none of {known}"


def _check_make(arguments: list[str]) -> None:
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _check_trajvit(arguments: list[str]) -> None:
    from trajvit.cli import app

    _check_click(typer.main.get_command(app), arguments)


def _check_hf(arguments: list[str]) -> None:
    from huggingface_hub.cli.hf import app

    # Of one release a Typer, of another the group that it makes.
    _check_click(app if hasattr(app, "commands") else typer.main.get_command(app), arguments)


def _check_ray(arguments: list[str]) -> None:
    from ray.scripts.scripts import cli

    _check_click(cli, arguments)


def _check_mkdocs(arguments: list[str]) -> None:
    from mkdocs.__main__ import cli

    _check_click(cli, arguments)


def _check_installed(program: str) -> Callable[[list[str]], None]:
    """A program of the environment, whose arguments that look like files of the repository exist."""

    def check(arguments: list[str]) -> None:
        assert shutil.which(program, path=sysconfig.get_path("scripts")), f"{program} is not installed"
        for word in arguments:
            if "/" in word and not word.startswith("-"):
                assert (ROOT / word).exists(), f"there is no {word}"

    return check


def _check_apt(arguments: list[str]) -> None:
    assert arguments[0] == "install", arguments


_CHECKS: dict[str, Callable[[list[str]], None]] = {
    "accelerate": _check_accelerate,
    "apt-get": _check_apt,
    "cut": lambda _: None,  # of every Unix
    "hf": _check_hf,
    "make": _check_make,
    "mkdocs": _check_mkdocs,
    "pip": _check_pip,
    "pre-commit": _check_installed("pre-commit"),
    "pytest": _check_installed("pytest"),
    "python": _check_python,
    "ray": _check_ray,
    "trajvit": _check_trajvit,
}
