"""The file that an evaluation leaves: one JSON object, which `tables.py` reads."""

import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trajvit.processing.atomic_files import write_json

FORMAT = 1
_LIBRARIES = ("torch", "transformers", "numpy", "av")


@dataclass(frozen=True)
class Result:
    """What one task found for one model on one data set.

    Attributes:
        task: `retrieval`, `zero_shot_classification`, `attentive_probing`, `action_detection` or `efficiency`.
        dataset: Name of the data set, as the tables call it: `activitynet`, `vatex`, `msrvtt`, `charades`, `coco`,
            `kinetics400`, `ssv2`, `ucf101`, `imagenet`, `ava`, or any other.
        model: Folder's name or Hub id of the checkpoint.
        tower: `model_type` of its vision tower.
        trained_on: What it was pretrained on, as the tables call it: `panda-2m`, `panda-8m+datacomp-50m`, ...; None
            where that is not known.
        metrics: By name; recalls, accuracies and average precisions in percent.
        num_items: Videos, images or key frames that count.
        missing: Those that do not, by key, with the reason.
        settings: What else the numbers depend on.
        versions: Of Python and the libraries.
    """

    task: str
    dataset: str
    model: str
    tower: str
    metrics: dict[str, float]
    num_items: int
    trained_on: str | None = None
    missing: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: library_versions())

    @property
    def file_name(self) -> str:
        """A name of its own for each task, data set, model, what it was trained on, and the settings.

        Of a cost the device is named; what else a figure depends on is told apart by a hash of its settings.
        """
        parts = (self.task, self.dataset, self.model, self.trained_on, self.settings.get("device"))
        name = "_".join(str(part).replace("/", "--").replace(" ", "-") for part in parts if part)
        if "fingerprint" not in self.settings:
            return f"{name}.json"
        text = json.dumps({key: value for key, value in self.settings.items() if key != "AP"}, sort_keys=True)
        return f"{name}_{blake2b(text.encode(), digest_size=4).hexdigest()}.json"


def library_versions() -> dict[str, str]:
    """Versions of Python and of those libraries that are installed: not every evaluation decodes videos."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def save_result(folder: str | os.PathLike, result: Result) -> Path:
    """Write a result into a folder of results, in place of an earlier one of the same name. Returns the file."""
    path = Path(folder) / result.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"format": FORMAT, **asdict(result)}, parts=path.parent)
    return path


def load_result(path: str | os.PathLike) -> Result:
    """Read a file of `save_result`. Raises `ValueError` that names the file where it is none."""
    expected = f"expected a JSON object of format {FORMAT} as `save_result` writes it"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        return Result(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no result of an evaluation ({error}): {expected}") from None
