"""The vision towers whose cost is measured: those of checkpoints, and new ones of a named configuration."""

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from trajvit.modeling_trajvit.configuration_vision_tower import VisionTowerConfig
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS, named_tower
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS, load_vision_tower
from trajvit.processing.video_processing_trajvit import DEFAULT_GENERATOR, TrajViTVideoProcessor

from .checkpoint_loading import CheckpointError, model_name

_PROCESSOR_FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, eq=False)
class MeasuredTower:
    """A vision tower, where it comes from, and how trajectories are generated for it.

    Attributes:
        name: Folder's name or Hub id of the checkpoint; tower and size of a new one.
        model: The tower, in evaluation mode on the CPU.
        source: The folder or Hub id as it was given; None for a new tower.
        generator: Settings of its `TrajectoryGenerator`; used by towers that need trajectories.
    """

    name: str
    model: Any
    source: str | None = None
    generator: dict[str, Any] = field(default_factory=lambda: DEFAULT_GENERATOR)

    @property
    def config(self) -> VisionTowerConfig:
        return self.model.config

    @property
    def num_parameters(self) -> int:
        """All parameters of the tower, a text tower or a head beside it not counted."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @contextmanager
    def on(self, device: torch.device) -> Iterator[Any]:
        """The model on a device, which it leaves again, so that no other tower has to share the memory with it."""
        try:
            yield self.model.to(device)
        finally:
            self.model.to("cpu")
            if device.type == "cuda":
                gc.collect()
                torch.cuda.empty_cache()


def tower_of_checkpoint(checkpoint: str, dtype: torch.dtype = torch.float32) -> MeasuredTower:
    """The tower that a folder or Hub id holds, alone or in a contrastive model, classifier or detector.

    Trajectories are generated as its processor says, or as by default where the checkpoint has none. Raises
    `CheckpointError` for a checkpoint that does not exist, holds no vision tower, or lacks weights of it.
    """
    try:
        model, missing = load_vision_tower(checkpoint)
    except OSError as error:
        raise CheckpointError(
            f"{checkpoint} cannot be loaded ({str(error).splitlines()[0]}); expected a folder with a checkpoint, or "
            "the id of a model on the Hub"
        ) from error
    if not isinstance(model.config, VisionTowerConfig):
        raise CheckpointError(
            f"{checkpoint} is a checkpoint of model_type={model.config.model_type!r}; expected a vision tower, one of "
            f"{[*VISION_TOWER_CONFIGS]}, or a model on one"
        )
    if missing:
        raise CheckpointError(f"{checkpoint} lacks the weights {missing[:3]} ({len(missing)} in all); expected them")
    generator = _generator_settings(checkpoint) if model.config.needs_trajectories else DEFAULT_GENERATOR
    return MeasuredTower(model_name(checkpoint), model.to(dtype).eval(), checkpoint, generator)


def new_tower(tower: str, size: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> MeasuredTower:
    """A tower with random weights, the same in every call.

    Args:
        tower: Its `model_type`.
        size: "tiny", "small", "base", "large", or another named configuration.
        dtype: Of its weights.
        device: Where they are drawn, which a GPU does faster.

    Raises `ValueError` for an unknown tower or size.
    """
    config = named_tower(tower, size)
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        model: Any = VISION_TOWERS[tower](config)
    return MeasuredTower(f"{tower}-{size}", model.to("cpu", dtype).eval())


def told_apart(towers: Sequence[MeasuredTower]) -> list[MeasuredTower]:
    """The towers with names that differ: folders of one name get their parent's name in front.

    Raises `ValueError` where the names are then still the same.
    """
    count = Counter(tower.name for tower in towers)
    named = [tower if count[tower.name] == 1 else replace(tower, name=_longer_name(tower)) for tower in towers]
    (name, most) = Counter(tower.name for tower in named).most_common(1)[0]
    if most > 1:
        raise ValueError(f"{most} of the models to be compared are called {name!r}: expected names that differ.")
    return named


def _longer_name(tower: MeasuredTower) -> str:
    if tower.source is None or not Path(tower.source).is_dir():
        return tower.name
    folder = Path(tower.source).resolve()
    return f"{folder.parent.name}/{folder.name}"


def _generator_settings(checkpoint: str) -> dict[str, Any]:
    """Settings of the trajectory generator that a checkpoint's processor carries; the default where it has none."""
    found = (cached_file(checkpoint, name, _raise_exceptions_for_missing_entries=False) for name in _PROCESSOR_FILES)
    if not any(found):
        return DEFAULT_GENERATOR
    return TrajViTVideoProcessor.from_pretrained(checkpoint).generator
