"""What the study in the small compares, and how large it is."""

from dataclasses import dataclass
from typing import Any

from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.training.rendered_world import EXACT

TRACKED = "tracked"
"""Trajectories that the weights-free backend finds; `exact` are those of the world itself."""

GENERATOR: dict[str, Any] = {"backend": "classic", "max_trajectories": 16}


@dataclass(frozen=True)
class System:
    """A vision tower with where its trajectories come from.

    Attributes:
        tower: Its `model_type`.
        trajectories: `exact` or `tracked`; towers that need none ignore them.
    """

    tower: str
    trajectories: str = EXACT


SYSTEMS: dict[str, System] = {
    "trajvit": System("trajvit"),
    "trajvit-tracked": System("trajvit", TRACKED),
    **{tower: System(tower) for tower in VISION_TOWER_CONFIGS if tower != "trajvit"},
}
"""All that is compared, by name. `trajvit` is told each object's pixels; `trajvit-tracked` has to find them."""


@dataclass(frozen=True)
class StudySettings:
    """The size of a study; all systems have the same.

    Attributes:
        image_size, num_frames, patch_size: Of the clips, in pixels and frames, and of the towers with patches.
        hidden_size, num_layers, num_heads: Of every tower's transformer; MLPs are four times as wide.
        train_clips, test_clips: Of the world of pretraining and retrieval.
        detection_clips: The first of the training clips, whose boxes train the probe of detection.
        probe_train_clips, probe_test_clips: Of a world with one thing in each clip, for classification.
        steps, batch_size, learning_rate: Of pretraining.
        probe_epochs, probe_learning_rate: Of the probes. The supplement's 12 epochs at 1e-4 are meant for 240,000
            clips; with a thousand they would leave a probe where it started.
        seeds: Of a system's runs.
    """

    image_size: int = 64
    num_frames: int = 8
    patch_size: int = 16
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    train_clips: int = 2048
    test_clips: int = 320
    detection_clips: int = 512
    probe_train_clips: int = 640
    probe_test_clips: int = 320
    steps: int = 320
    batch_size: int = 32
    learning_rate: float = 5e-4
    probe_epochs: int = 30
    probe_learning_rate: float = 1e-3
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def feature_size(self) -> int:
        """Side of the feature grid: a quarter of the frames', as in the paper."""
        return self.image_size // 4


PRESETS: dict[str, StudySettings] = {
    "default": StudySettings(),
    "large": StudySettings(
        image_size=112,
        train_clips=8192,
        test_clips=1024,
        detection_clips=2048,
        probe_train_clips=2048,
        probe_test_clips=1024,
        steps=3072,
        batch_size=64,
    ),
    "smoke": StudySettings(
        image_size=48,
        num_frames=4,
        hidden_size=32,
        num_layers=2,
        train_clips=32,
        test_clips=16,
        detection_clips=16,
        probe_train_clips=32,
        probe_test_clips=16,
        steps=4,
        batch_size=8,
        probe_epochs=2,
        seeds=(0,),
    ),
}
"""`default` is meant for two cores, `large` for a GPU, and `smoke` tells in a minute that everything runs."""
