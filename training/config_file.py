"""From a YAML file and `key=value` overrides to a validated `RunConfig`, and back to a file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from .run_config import RunConfig

EXTENDS = "extends"
"""The key by which a file names another, relative to itself, whose values it changes."""


class ConfigError(ValueError):
    """A configuration that is not legal; the message has a line for each fault, with its key and the legal values."""


def load_config(path: str | os.PathLike, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's configuration.

    Args:
        path: YAML file. Its `extends` names a file that it changes: mappings are merged, all else is replaced.
        overrides: `key=value`, with dots between the keys of nested values, the position or the name of an element of a
            list, and a value in YAML: `optimizer.learning_rate=3e-4`, `data.videos.batch_size=8`, `lora={rank: 8}`.

    Raises:
        ConfigError: A file is missing or no YAML mapping, a key is unknown, or a value is not legal.
    """
    values = _read(Path(path), ())
    for override in overrides:
        _apply(values, override)
    return build_config(values, str(path))


def build_config(values: Mapping[str, Any], name: str = "the configuration") -> RunConfig:
    """Validate nested mappings. Raises `ConfigError`."""
    try:
        return TypeAdapter(RunConfig).validate_python(dict(values))
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors(include_url=False)]
        raise ConfigError(f"{name} is not legal:\n" + "\n".join(f"  {line}" for line in faults)) from None


def to_mapping(config: RunConfig) -> dict[str, Any]:
    """Plain nested values, as YAML and JSON hold them."""
    return _plain(asdict(config))


def save_config(config: RunConfig, path: str | os.PathLike) -> None:
    """Write every value, defaults included, to a file that `load_config` reads."""
    text = yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")


def _read(path: Path, extended_by: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in extended_by:
        raise ConfigError(f"{path} extends itself: expected a file that does not")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); expected a YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}: expected a mapping of a run's settings")
    base = values.pop(EXTENDS, None)
    if base is None:
        return values
    return _merged(_read(path.parent / str(base), (*extended_by, path.resolve())), values)


def _merged(base: Any, changes: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


def _apply(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"{override!r} is no override: expected key=value, such as optimizer.learning_rate=3e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r} has a value that is no YAML: {error}") from None
    *parents, last = path.split(".")
    place: Any = values
    for depth, key in enumerate(parents):
        where = ".".join(parents[: depth + 1])
        if isinstance(place, list):
            place = place[_position(place, key, where)]
        else:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"{override!r}: {where} is {place!r}, expected a mapping or a list there")
    place[_position(place, last, path) if isinstance(place, list) else last] = value


def _position(elements: list[Any], key: str, where: str) -> int:
    names = [element.get("name") if isinstance(element, dict) else None for element in elements]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(elements):
        return int(key)
    legal = [name for name in names if name is not None] or list(range(len(elements)))
    raise ConfigError(f"{where}: there is no element {key!r}, expected one of {legal}")


def _fault(fault: Any) -> str:
    """One line of an error: the key, the value, what was expected."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key}: there is no such key{_legal_keys(fault['loc'])}"
    if fault["type"] in ("missing", "missing_argument"):
        return f"{key}: is missing"
    message = fault["msg"].removeprefix("Value error, ")
    value = fault["input"]
    if isinstance(value, (Mapping, list)) or fault["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}={value!r}: {message}"


def _legal_keys(location: tuple[Any, ...]) -> str:
    place: Any = TypeAdapter(RunConfig).json_schema()
    definitions = place.get("$defs", {})
    for part in location[:-1]:
        place = _resolved(place, definitions)
        place = place.get("items", {}) if isinstance(part, int) else place.get("properties", {}).get(part, {})
    keys = list(_resolved(place, definitions).get("properties", {}))
    return f", expected one of {keys}" if keys else ""


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A part of a JSON schema with its reference, and the option of null, taken away."""
    for option in schema.get("anyOf", []):
        if "$ref" in option:
            schema = option
    return definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(element) for key, element in value.items()}
    return [_plain(element) for element in value] if isinstance(value, (list, tuple)) else value
