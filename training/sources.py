"""From the settings of a stream to its `Source`."""

from .clip_reading import Reading
from .run_config import StreamSettings
from .samples import Source

__all__ = ["Reading", "build_source"]


def build_source(settings: StreamSettings, reading: Reading) -> Source:
    """The source of a stream.

    Args:
        settings: The stream's.
        reading: What the run needs of every sample.

    Raises:
        ValueError: There is no such data set, or it does not have what it needs; the message names the stream.
    """
    if settings.source == "synthetic":
        if settings.subset is not None:
            raise ValueError(f"stream {settings.name}: subset={settings.subset} needs stored data: use num_samples")
        from .synthetic import SyntheticSource

        return SyntheticSource(
            name=settings.name,
            split=settings.split,
            media=settings.media,
            num_samples=settings.num_samples,
            num_frames=settings.num_frames,
            options=settings.options,
        )
    from .dataset_source import DatasetSource

    if settings.path is None:
        raise ValueError(f"{settings.name}: source={settings.source!r} needs a path")
    try:
        return DatasetSource(
            settings.name,
            settings.path,
            reading,
            split=settings.split,
            media=settings.media,
            columns=dict(settings.columns),
            num_frames=settings.num_frames,
            num_samples=settings.num_samples,
            subset=settings.subset,
            options=settings.options,
        )
    except ValueError as error:
        raise ValueError(f"stream {settings.name}: {error}") from error
