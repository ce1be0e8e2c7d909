"""The paper's comparison in the small: all towers, of one width and depth, on the same synthetic clips and steps.

    python evaluation/small_scale.py runs/small_scale                    # two cores, under 90 minutes
    python evaluation/small_scale.py runs/large --preset large --device cuda --jobs 8

Each run is a process of its own: a system is pretrained from a seed and evaluated by retrieval, attentive probing and
action detection. The same command again does what is missing. docs/results.md is written from what it finds.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from trajvit.evaluation.study_report import ReportError, page_around, write_report
from trajvit.evaluation.study_run import RUNS, WORLDS, record_path
from trajvit.evaluation.study_settings import PRESETS, SYSTEMS, TRACKED, StudySettings
from trajvit.evaluation.study_worlds import make_worlds
from trajvit.processing.atomic_files import write_json

_SETTINGS = "settings.json"
_SHOWN = 12


class StudyError(RuntimeError):
    """A study that cannot be run as asked, or a run of it that failed; the message says which and why."""


def small_scale(
    study: Path,
    settings: StudySettings,
    systems: list[str],
    seeds: list[int],
    jobs: int,
    device: str = "cpu",
) -> None:
    """Do all runs that are missing.

    Args:
        study: Folder of the study.
        settings: Its size; a folder that was begun with another is refused.
        systems, seeds: Which runs.
        jobs: Runs at a time; each has its share of the cores.
        device: cpu or cuda.

    Raises:
        StudyError: The folder holds another study, or a run failed, after all others were done.
    """
    begin_study(study, settings)
    missing = [(name, seed) for seed in seeds for name in systems if not record_path(study, name, seed).exists()]
    is_tracked = any(SYSTEMS[name].trajectories == TRACKED for name, _ in missing)
    if missing:
        began = time.perf_counter()
        make_worlds(study / WORLDS, settings, os.cpu_count() or 1, is_tracked)
        print(f"The worlds are there after {time.perf_counter() - began:.0f} s.", flush=True)
    failed: dict[str, str] = {}

    def do(run: tuple[str, int]) -> None:
        name, seed = run
        began = time.perf_counter()
        reason = _run(study, name, seed, device, jobs)
        if reason is not None:
            failed[f"{name}, seed {seed}"] = reason
        done = "failed" if reason is not None else "done"
        print(f"{name}, seed {seed}: {done} after {time.perf_counter() - began:.0f} s.", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(do, missing))
    if failed:
        raise StudyError("\n".join(f"{run} failed: {reason}" for run, reason in failed.items()))


def begin_study(study: Path, settings: StudySettings) -> None:
    """Note the settings of a new folder; raises `StudyError` for a folder with others."""
    path = study / _SETTINGS
    if path.exists() and read_settings(study) != settings:
        raise StudyError(f"{study} holds a study of other settings, see {path}; expected another folder")
    study.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(settings), parts=study)


def read_settings(study: Path) -> StudySettings:
    content = json.loads((study / _SETTINGS).read_text(encoding="utf-8"))
    return StudySettings(**{**content, "seeds": tuple(content["seeds"])})


def changed(settings: StudySettings, overrides: list[str]) -> StudySettings:
    """Settings with some of them replaced by `KEY=VALUE`. Raises `StudyError` for one that does not exist."""
    kinds = {name: type(value) for name, value in asdict(settings).items() if name != "seeds"}
    values = {}
    for text in overrides:
        name, _, value = text.partition("=")
        if name not in kinds:
            raise StudyError(f"{text!r} sets no setting; expected KEY=VALUE with one of {', '.join(kinds)}")
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise StudyError(f"{text!r}: expected {kinds[name].__name__} for {name}") from None
    return replace(settings, **values)


def _run(study: Path, name: str, seed: int, device: str, jobs: int) -> str | None:
    """Do a run in a process; returns the end of its log where it fails."""
    log = study / RUNS / f"{name}-{seed}" / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    command = [sys.executable, "-m", "trajvit.evaluation.study_run", str(study), name, str(seed), device]
    with open(log, "a", encoding="utf-8") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code == 0:
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return f"exit status {code}; {log} ends with\n" + "\n".join(f"  {line}" for line in lines[-_SHOWN:])


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    study: Annotated[Path, typer.Argument(help="Folder of the study.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Replace its settings.")
    ] = None,
    preset: Annotated[str, typer.Option(help=f"Its size: {', '.join(PRESETS)}.")] = "default",
    system: Annotated[list[str] | None, typer.Option(help=f"Some of {', '.join(SYSTEMS)}; all.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds; by default the preset's.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    report: Annotated[
        Path | None, typer.Option(help="Page to write the results into, such as docs/results.md.")
    ] = None,
) -> None:
    try:
        _require("--preset", [preset], list(PRESETS))
        _require("--system", system or [], list(SYSTEMS))
        _require("--device", [device], ["cpu", "cuda"])
        if device == "cuda" and not torch.cuda.is_available():
            raise StudyError("--device is 'cuda', and PyTorch finds no CUDA device; expected cpu")
        settings = changed(PRESETS[preset], overrides or [])
        if report is not None:
            page_around(report)
        began = time.perf_counter()
        small_scale(study, settings, system or list(SYSTEMS), seed or list(settings.seeds), jobs, device)
        print(f"All runs are done, after {(time.perf_counter() - began) / 60:.1f} minutes.")
        page = write_report(study, settings, report)
        print(f"Written to {page}")
    except (StudyError, ReportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _require(option: str, given: list[str], known: list[str]) -> None:
    for value in given:
        if value not in known:
            raise StudyError(f"{option} is {value!r}; expected one of {', '.join(known)}")


if __name__ == "__main__":
    app()
