"""The synthetic clips of a study as the tasks of evaluation take them: captions, classes, action boxes.

Shape letters: T frames, S pixels, R boxes.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from trajvit.processing.video_frames import VideoFrames
from trajvit.training.rendered_world import (
    EXACT,
    RenderedWorld,
    create_world,
    num_chunks,
    render_chunk,
    track_chunk,
)
from trajvit.training.synthetic import SyntheticSource
from trajvit.training.synthetic_rendering import FPS
from trajvit.training.synthetic_world import CAPTION_STYLES, MOTIONS

from .evaluation_data import ActionDetectionSet, ActionKeyFrame, ClassificationSet, LazyItems, MediaItem, RetrievalSet
from .study_settings import GENERATOR, TRACKED, StudySettings

CLASSES = ("motion", "shape")
"""What a probe tells of a clip with one thing: what it does first, or what it is."""

_LEAST_PIXELS = 16
_CAPTION = CAPTION_STYLES.index("full")
_ONE_THING = {"num_objects": [1, 1], "cut_share": 0.0}


def world_sources(settings: StudySettings) -> dict[str, SyntheticSource]:
    """The worlds of a study: `train` and `test`, and with one thing in each clip `probe_train` and `probe_test`."""
    parts = {
        "train": ("train", settings.train_clips, {}),
        "test": ("test", settings.test_clips, {}),
        "probe_train": ("train", settings.probe_train_clips, {**_ONE_THING, "seed": 1}),
        "probe_test": ("test", settings.probe_test_clips, {**_ONE_THING, "seed": 1}),
    }
    return {
        name: SyntheticSource(
            name, split, "video", count, settings.num_frames, {"image_size": settings.image_size, **options}
        )
        for name, (split, count, options) in parts.items()
    }


def make_worlds(folder: Path, settings: StudySettings, jobs: int, tracked: bool) -> None:
    """Render what is missing of the worlds in `folder`, and where `tracked`, find trajectories; `jobs` at a time."""
    sources = world_sources(settings)
    for name, source in sources.items():
        create_world(folder / name, source)
    chunks = [(folder / name, chunk) for name in sources for chunk in range(num_chunks(sources[name].num_samples))]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for done in [pool.submit(render_chunk, *chunk) for chunk in chunks]:
            done.result()
        if tracked:
            for done in [pool.submit(track_chunk, *chunk, TRACKED, GENERATOR) for chunk in chunks]:
                done.result()


class WorldItems(LazyItems):
    """The clips of a rendered world as media, read when they are asked for."""

    unit = "clips"

    def __init__(self, world: RenderedWorld, count: int | None = None):
        self._world = world
        self._count = world.num_samples if count is None else count

    def __len__(self) -> int:
        return self._count

    def item(self, number: int) -> MediaItem:
        clip = self._world.read({"key": f"{number:06d}", "index": number})
        numbers = np.arange(len(clip.frames))
        video = VideoFrames(clip.frames, numbers, numbers, numbers / FPS, FPS)
        return MediaItem(clip.key, video, trajectories=clip.trajectories)


def retrieval_set(folder: Path, trajectories: str) -> RetrievalSet:
    """The test clips, each with its full caption."""
    world = RenderedWorld("test", folder / "test", trajectories)
    texts = tuple(world.facts(index)["captions"][_CAPTION] for index in range(world.num_samples))
    return RetrievalSet("synthetic", WorldItems(world), texts, tuple(range(world.num_samples)))


def classification_sets(folder: Path, trajectories: str, what: str) -> tuple[ClassificationSet, ClassificationSet]:
    """The clips with one thing, for training and testing, by what its `motion` is at first, or its `shape`."""
    worlds = [RenderedWorld(name, folder / name, trajectories) for name in ("probe_train", "probe_test")]
    found = [[_class_of(world.facts(index), what) for index in range(world.num_samples)] for world in worlds]
    names = tuple(sorted({*found[0], *found[1]}))
    train, test = (
        ClassificationSet(f"synthetic-{what}", WorldItems(world), tuple(map(names.index, own)), names)
        for world, own in zip(worlds, found, strict=True)
    )
    return train, test


def detection_sets(
    folder: Path, trajectories: str, settings: StudySettings
) -> tuple[ActionDetectionSet, ActionDetectionSet]:
    """What the things in the middle frame of a clip do: training clips, and the test clips."""
    return (
        _detection_set(folder / "train", trajectories, settings.detection_clips),
        _detection_set(folder / "test", trajectories, settings.test_clips),
    )


def _class_of(facts: dict[str, Any], what: str) -> str:
    thing = facts["things"][0]
    return thing["motions"][0] if what == "motion" else thing[what]


def _detection_set(folder: Path, trajectories: str, count: int) -> ActionDetectionSet:
    items = WorldItems(RenderedWorld(folder.name, folder, trajectories), count)
    # Where things are is known exactly, whatever trajectories the tower is given.
    exact = RenderedWorld(folder.name, folder, EXACT)
    key_frames = []
    for position in range(count):
        truth = exact.read({"key": str(position), "index": position}).trajectories
        assert truth is not None
        frame = truth.num_frames // 2
        boxes, actions = [], []
        for thing in exact.facts(position)["things"]:
            own = thing["trajectory"] - 1
            if own >= 0 and thing["motions"] and truth.areas[own, frame] >= _LEAST_PIXELS:
                boxes.append(truth.boxes[own, frame])
                actions.append(tuple(sorted({MOTIONS.index(motion) for motion in thing["motions"]})))
        stacked = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        key_frames.append(ActionKeyFrame(items[position], frame / FPS, stacked, tuple(actions)))
    return ActionDetectionSet("synthetic", tuple(key_frames), dict(enumerate(MOTIONS)))
