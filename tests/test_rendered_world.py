"""A rendered world holds the samples of its source, and goes on where it was broken off."""

import json

import numpy as np
import pytest

from trajvit.training import rendered_world
from trajvit.training.config_file import ConfigError, build_config
from trajvit.training.rendered_world import RenderedWorld, create_world, num_chunks, render_chunk, track_chunk
from trajvit.training.sources import Reading, build_source
from trajvit.training.synthetic import SyntheticSource

GENERATOR = {"backend": "classic", "max_trajectories": 9}


def make_source(num_samples=5, **options):
    return SyntheticSource("videos", "test", "video", num_samples, 4, {"image_size": 48, **options})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five samples in chunks of two, and what the backend finds in the last."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendered_world, "CHUNK_SIZE", 2)
        create_world(folder, make_source())
        for chunk in range(num_chunks(5)):
            render_chunk(folder, chunk)
            track_chunk(folder, chunk, "tracked", GENERATOR)
    return folder


@pytest.fixture(autouse=True)
def _chunks_of_two(monkeypatch):
    monkeypatch.setattr(rendered_world, "CHUNK_SIZE", 2)


def test_samples_are_those_of_the_source(world):
    source, rendered = make_source(), RenderedWorld("videos", world)
    rows = [row for shard in range(rendered.num_shards) for row in rendered.rows(shard)]
    assert [row["index"] for row in rows] == list(range(5))
    for row in rows:
        expected, found = source.read(row), rendered.read(row)
        assert np.array_equal(found.frames, expected.frames)
        assert np.array_equal(found.trajectories.ids, expected.trajectories.ids)
        assert found.trajectories.key_frames == expected.trajectories.key_frames
        assert np.array_equal(found.trajectories.timestamps, expected.trajectories.timestamps)
        assert found.captions == expected.captions
    things = rendered.facts(3)["things"]
    assert [thing["shape"] for thing in things] == [thing.shape for _, thing, _ in source.render(3).things]


def test_tracked_trajectories_are_those_of_the_generator(world):
    from trajvit.processing.generator import TrajectoryGenerator

    rendered = RenderedWorld("videos", world, "tracked")
    clip = rendered.read({"key": "k", "index": 4})
    expected = TrajectoryGenerator.from_dict(GENERATOR)(clip.frames, timestamps=np.arange(4) / 8)
    assert 1 < clip.trajectories.num_trajectories <= 9
    assert np.array_equal(clip.trajectories.ids, expected.resize(48, 48).ids)


def test_what_is_there_is_not_rendered_again(world, tmp_path, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in world.iterdir()}
    create_world(world, make_source())
    for chunk in range(3):
        render_chunk(world, chunk)
        track_chunk(world, chunk, "tracked", GENERATOR)
    assert {path: path.stat().st_mtime_ns for path in world.iterdir()} == before


def test_a_world_that_lacks_a_chunk_is_no_source(tmp_path):
    create_world(tmp_path, make_source())
    render_chunk(tmp_path, 0)
    render_chunk(tmp_path, 2)
    with pytest.raises(ValueError, match=r"frames-00001.npy is missing, one of 2; expected a complete world"):
        RenderedWorld("videos", tmp_path)
    assert RenderedWorld("videos", tmp_path, num_samples=2).num_shards == 1
    with pytest.raises(ValueError, match=r"tracked-00000.npy is missing"):
        RenderedWorld("videos", tmp_path, "tracked", num_samples=2)


def test_wrong_worlds_are_named(world, tmp_path):
    with pytest.raises(ValueError, match="holds another world, of other num_samples; expected a new folder"):
        create_world(world, make_source(6))
    with pytest.raises(ValueError, match="is no rendered world"):
        RenderedWorld("videos", tmp_path)
    with pytest.raises(ValueError, match="num_samples is 6; expected 1 to the 5"):
        RenderedWorld("videos", world, num_samples=6)
    with pytest.raises(ValueError, match=r"shard is 3; expected 0\.\.2"):
        list(RenderedWorld("videos", world).rows(3))
    with pytest.raises(ValueError, match="max_trajectories is 300; expected 255 or fewer"):
        track_chunk(world, 0, "many", {"max_trajectories": 300})


def test_a_stream_of_a_run_reads_it(world):
    def stream(**changes):
        settings = {"name": "videos", "source": "synthetic", "path": str(world), "split": "test", "num_frames": 4}
        settings |= changes
        config = build_config({"output_dir": "run", "data": [settings]})
        return build_source(config.data[0], Reading(needs_trajectories=True))

    source = stream(columns={"trajectories": "tracked"})
    assert isinstance(source, RenderedWorld)
    assert (source.num_samples, source.trajectories) == (5, "tracked")
    assert stream(num_samples=3).num_samples == 3
    with pytest.raises(ConfigError, match="expected for a rendered world its folder, no options"):
        stream(options={"image_size": 48})
    with pytest.raises(ConfigError, match="no column but trajectories"):
        stream(columns={"captions": "txt"})
    with pytest.raises(ConfigError, match="split is 'train'; expected 'test', which the world"):
        stream(split="train")
    with pytest.raises(ConfigError, match="num_frames is 16; expected 4"):
        stream(num_frames=16)


def test_facts_are_plain_json(world):
    facts = json.loads((world / "facts-00000.json").read_text())
    assert len(facts) == 2
    assert set(facts[0]) == {"captions", "key_frames", "negatives", "things"}
