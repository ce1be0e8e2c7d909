"""Reads a folder of results, of which a bad file costs itself alone."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from .result_files import Result, load_result

_PERCENT = ("txt2vid_R@", "vid2txt_R@", "top_", "mAP_")


@dataclass(frozen=True)
class StoredResults:
    """What a folder of results holds.

    Attributes:
        results: By name of their file, sorted.
        bad_files: Why a file is left out, by its name.
    """

    results: dict[str, Result]
    bad_files: dict[str, str]


def read_results(folder: Path) -> StoredResults:
    """Read all `*.json` files of a folder; those that cannot be used are named, not raised.

    Raises `ValueError` for a folder that is not there or holds no such file.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected one with the JSON files of evaluations")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise ValueError(f"{folder} has no results: expected JSON files that evaluations wrote")
    results: dict[str, Result] = {}
    bad_files: dict[str, str] = {}
    first_file: dict[Hashable, str] = {}
    for path in paths:
        try:
            result = load_result(path)
            _check(result)
        except ValueError as error:
            bad_files[path.name] = str(error).removeprefix(f"{path} ")
            continue
        case = (result.task, result.dataset, result.model, result.trained_on, str(result.settings.get("device")))
        if case in first_file:
            bad_files[path.name] = f"has the task, data set, model, training data and device of {first_file[case]}"
            continue
        first_file[case] = path.name
        results[path.name] = result
    return StoredResults(results, bad_files)


def _check(result: Result) -> None:
    for field in ("task", "dataset", "model", "tower"):
        value = getattr(result, field)
        if not isinstance(value, str) or not value:
            raise ValueError(f"has {field}={value!r}: expected a name")
    if result.trained_on is not None and not isinstance(result.trained_on, str):
        raise ValueError(f"has trained_on={result.trained_on!r}: expected a name or null")
    if not isinstance(result.num_items, int) or isinstance(result.num_items, bool) or result.num_items < 0:
        raise ValueError(f"has num_items={result.num_items!r}: expected a count")
    for field in ("metrics", "missing", "settings"):
        if not isinstance(getattr(result, field), dict):
            raise ValueError(f"has {field}={getattr(result, field)!r}: expected a JSON object")
    for name, value in result.metrics.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"has {name}={value!r}: expected a finite number")
        if name.startswith(_PERCENT) and not 0 <= value <= 100:
            raise ValueError(f"has {name}={value!r}: expected a percentage in [0, 100]")
