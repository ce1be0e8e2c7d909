"""From the settings of a stream to its `Source`."""

from .clip_reading import Reading
from .config_file import ConfigError
from .run_config import StreamSettings
from .samples import Source

__all__ = ["Reading", "build_source"]


def build_source(settings: StreamSettings, reading: Reading) -> Source:
    """The source of a stream.

    Args:
        settings: The stream's.
        reading: What the run needs of every sample.

    Raises:
        ConfigError: There is no such data set, or it does not have what it needs; the message names the stream.
    """
    try:
        if settings.source == "synthetic":
            return _synthetic(settings)
        return _stored(settings, settings.path or "", reading)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"stream {settings.name}: {error}") from error


def _synthetic(settings: StreamSettings) -> Source:
    from .synthetic import SyntheticSource

    if settings.subset is not None:
        raise ValueError(f"subset={settings.subset} needs stored data; expected num_samples alone")
    if settings.path is not None:
        return _rendered(settings)
    return SyntheticSource(
        name=settings.name,
        split=settings.split,
        media=settings.media,
        num_samples=settings.num_samples,
        num_frames=settings.num_frames,
        options=settings.options,
    )


def _rendered(settings: StreamSettings) -> Source:
    from .rendered_world import EXACT, RenderedWorld, read_description

    if not isinstance(settings.path, str) or settings.options or set(settings.columns) - {"trajectories"}:
        raise ValueError(
            f"path={settings.path!r}, options={settings.options}, columns={settings.columns}: expected for a rendered "
            "world its folder, no options, and no column but trajectories"
        )
    trajectories = settings.columns.get("trajectories", EXACT)
    world = RenderedWorld(settings.name, settings.path, trajectories, settings.num_samples)
    asked: dict[str, object] = {"split": settings.split, "media": settings.media}
    if settings.media == "video":
        asked["num_frames"] = settings.num_frames
    found = read_description(settings.path)
    for name, value in asked.items():
        if found[name] != value:
            raise ValueError(f"{name} is {value!r}; expected {found[name]!r}, which the world of {settings.path} has")
    return world


def _stored(settings: StreamSettings, path: str | list[str], reading: Reading) -> Source:
    from .dataset_source import DatasetSource

    return DatasetSource(
        settings.name,
        path,
        reading,
        split=settings.split,
        media="image" if settings.source == "datacomp" else settings.media,
        columns=dict(settings.columns),
        num_frames=settings.num_frames,
        num_samples=settings.num_samples,
        subset=settings.subset,
        options=settings.options,
    )
