"""The folder of a run: its resolved configuration, and the refusal to go on with another one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .config_file import ConfigError, load_config, save_config, to_mapping
from .run_config import RunConfig

CONFIG_FILE = "config.yaml"

# What a run may be continued with in another form: nothing here changes what it learns.
_MAY_CHANGE = (
    "output_dir",
    "loader.num_workers",
    "loader.prefetch",
    "checkpoints.",
    "logging.",
    "evaluation.",
    "hub",
)


def open_run_folder(config: RunConfig, is_main_process: bool = True) -> Path:
    """The run's folder, made where it is missing, with `config.yaml` in it that the main process alone writes.

    Raises:
        ConfigError: The folder holds a run with another configuration, of which each difference is named.
    """
    folder = Path(config.output_dir)
    path = folder / CONFIG_FILE
    if path.exists():
        before = dict(_leaves(to_mapping(load_config(path))))
        now = dict(_leaves(to_mapping(config)))
        changed = [
            f"  {key}: {before.get(key)!r} there, {now.get(key)!r} here"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(_MAY_CHANGE)
        ]
        if changed:
            raise ConfigError(
                f"{folder} holds a run with another configuration; expected the same one to go on, another output_dir "
                "to begin anew, or model.checkpoint to start from its weights:\n" + "\n".join(changed)
            )
    if is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        save_config(config, path)
    return folder


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; an empty mapping or list is a value."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, list) and any(isinstance(value, dict) for value in values):
        for position, value in enumerate(values):
            yield from _leaves(value, f"{prefix}.{value.get('name', position)}")
    else:
        yield prefix, values
