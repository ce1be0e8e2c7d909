"""From a run's configuration to the batches of one of its processes."""

from trajvit.processing.processing_trajvit import TrajViTProcessor

from .augmentation import ClipTransform
from .clip_loader import ClipLoader
from .config_file import ConfigError
from .mixed_batches import MixedBatches
from .record_stream import Position, RecordStream
from .run_config import AugmentationSettings, RunConfig, StreamSettings
from .run_plan import batch_size_of_rank
from .run_state import RunState
from .samples import Source
from .sources import Reading, build_source


def open_sources(config: RunConfig, processor: TrajViTProcessor) -> dict[str, Source]:
    """The sources of all streams, by name; no more than their first records are read before they are asked for rows.

    Raises `ConfigError` where there is no such data set, or it does not have what it needs.
    """
    return {stream.name: _open(stream, config, processor) for stream in config.data}


def training_batches(
    config: RunConfig,
    sources: dict[str, Source],
    processor: TrajViTProcessor,
    shares: dict[str, float],
    state: RunState,
    rank: int,
) -> MixedBatches:
    """The endless batches of this rank, from where `state` stands. Close it at the end: it owns worker processes."""
    loaders = {}
    for stream in config.data:
        positions = state.streams.get(stream.name)
        loaders[stream.name] = ClipLoader(
            RecordStream(
                sources[stream.name],
                seed=config.seed,
                rank=rank,
                num_ranks=state.num_ranks,
                shuffle_block=config.loader.shuffle_block,
                position=Position() if positions is None else Position(**positions[rank]),
            ),
            sources[stream.name],
            _transform(config, processor, config.augmentation, config.loss.captions_per_sample),
            processor.tokenizer,
            name=stream.name,
            batch_size=batch_size_of_rank(stream, state.num_ranks),
            num_workers=config.loader.num_workers,
            prefetch=config.loader.prefetch,
        )
    return MixedBatches(loaders, shares, config.seed, state.step)


def held_out_batches(
    config: RunConfig, stream: StreamSettings, processor: TrajViTProcessor, rank: int, num_ranks: int
) -> ClipLoader:
    """This rank's part of the held-out samples, in order and only resized. Close it at the end."""
    source = _open(stream, config, processor)
    return ClipLoader(
        RecordStream(
            source,
            seed=config.seed,
            rank=rank,
            num_ranks=num_ranks,
            num_epochs=1,
            num_rows=stream.num_samples,
        ),
        source,
        _transform(config, processor, AugmentationSettings(enabled=False), num_captions=1),
        processor.tokenizer,
        name=stream.name,
        batch_size=batch_size_of_rank(stream, num_ranks),
        num_workers=config.loader.num_workers,
        prefetch=config.loader.prefetch,
    )


def _open(stream: StreamSettings, config: RunConfig, processor: TrajViTProcessor) -> Source:
    reading = Reading(
        needs_trajectories=processor.video_processor.generate_trajectories,
        generator=config.loader.trajectory_generator,
        max_trajectories=config.loader.max_trajectories,
    )
    try:
        return build_source(stream, reading)
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error


def _transform(
    config: RunConfig, processor: TrajViTProcessor, augmentation: AugmentationSettings, num_captions: int
) -> ClipTransform:
    video_processor = processor.video_processor
    return ClipTransform(
        image_size=video_processor.size["height"],
        feature_size=video_processor.feature_size if video_processor.generate_trajectories else None,
        augmentation=augmentation,
        max_trajectories=config.loader.max_trajectories,
        num_captions=num_captions,
    )
