"""Trajectories of the synthetic world are exact, and its data sets hold what its source makes."""

import io
import json
import tarfile
from itertools import pairwise

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image
from torch.utils.data import DataLoader

from trajvit.processing.decoding import decode_video
from trajvit.processing.scene_textures import color_name
from trajvit.processing.trajectories import Trajectories
from trajvit.training.synthetic import SyntheticSource, describe, load_synthetic
from trajvit.training.synthetic_rendering import FPS, render_sample
from trajvit.training.synthetic_shards import write_shards
from trajvit.training.synthetic_world import WorldOptions


def test_trajectories_are_the_things_and_each_shots_background():
    cut = 0
    for index in range(25):
        rendered = render_sample(index, "train", "video", 12, WorldOptions(cut_share=0.5))
        trajectories = rendered.trajectories()
        assert trajectories.coverage == 1
        assert trajectories.key_frames == (0, *rendered.cuts)
        np.testing.assert_allclose(trajectories.timestamps, np.arange(12) / FPS)
        ids = trajectories.ids
        bounds = [0, *rendered.cuts, 12]
        used = [set(np.unique(ids[start:stop])) for start, stop in pairwise(bounds)]
        assert [len(ids_of_shot) for ids_of_shot in used] == [len(shot.things) + 1 for shot in rendered.story.shots]
        if len(used) == 2:
            assert not used[0] & used[1]
            cut += 1
        # Each thing's pixels are one trajectory and nothing else is in it.
        for thing in describe(rendered)["things"]:
            mask = ids == thing["trajectory"]
            assert color_name(rendered.frames[mask].mean(0)) == thing["color"]
            assert len(np.unique(rendered.masks[mask])) == 1
            assert np.count_nonzero(rendered.masks == rendered.masks[mask][0]) == mask.sum()
    assert cut > 5


def test_masks_and_colours_have_the_same_outlines():
    """On grey photos a thing is found again by having a colour."""
    checked = 0
    for index in range(150):
        rendered = render_sample(index, "train", "image", 1, WorldOptions(image_size=64, num_objects=(1, 1)))
        (shot,) = rendered.story.shots
        is_on_grey = shot.background in ("grass.png", "gravel.png", "brick.png", "coins.png")
        if shot.things[0].material != "plain" or not is_on_grey:
            continue
        found, mask = np.ptp(rendered.frames[0], axis=2) > 50, rendered.masks[0] > 0
        assert np.count_nonzero(found & mask) / np.count_nonzero(found | mask) > 0.8
        checked += 1
    assert checked > 3


def test_hub_style_data_set_streams_the_same_samples():
    options = {"image_size": 48, "cut_share": 0.5}
    data = load_synthetic("test", num_samples=70, num_frames=12, **options)
    assert data.num_shards == 64
    examples = {example["key"]: example for example in data}
    assert len(examples) == 70
    source = SyntheticSource("synthetic", "test", "video", 70, 12, options)
    for row in [*source.rows(0), *source.rows(3)]:
        clip, example = source.read(row), examples[row["key"]]
        assert example["frames"].dtype == np.uint8
        np.testing.assert_array_equal(example["frames"], clip.frames)
        assert Trajectories.from_bytes(example["trajectories"]) == clip.trajectories
        assert tuple(example["captions"]) == clip.captions
        assert set(example["negatives"]) == {"motion", "color", "order", "role"}
        assert example["negatives"]["color"] not in (None, *clip.captions)
        assert {thing["trajectory"] for thing in example["things"]} <= set(
            range(1, clip.trajectories.num_trajectories + 1)
        )
    loader = DataLoader(data.remove_columns(["frames", "trajectories"]), num_workers=2, batch_size=5, collate_fn=list)
    assert sorted(example["key"] for batch in loader for example in batch) == sorted(examples)


@pytest.mark.parametrize("media", ["video", "image"])
def test_shards_hold_the_samples_as_video2dataset_writes_them(media, tmp_path):
    source = SyntheticSource("world", "train", media, 5, 6, {"image_size": 64})
    paths = write_shards(tmp_path / "new", source, samples_per_shard=3)
    assert [path.name for path in paths] == ["00000.tar", "00001.tar"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["00000.tar", "00001.tar"]
    suffix = "mp4" if media == "video" else "png"
    with tarfile.open(paths[1]) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    parts = (suffix, "txt", "json", "traj.png")
    assert list(members) == [f"00001000{number}.{part}" for number in (0, 1) for part in parts]
    clip, facts = source.read({"key": "", "index": 4}), json.loads(members["000010001.json"])
    assert Trajectories.from_bytes(members["000010001.traj.png"]) == clip.trajectories
    assert tuple(facts["captions"]) == clip.captions
    assert facts["caption"] == members["000010001.txt"].decode() == clip.captions[0]
    assert (facts["key"], facts["status"]) == ("000010001", "success")
    assert facts["things"] == describe(source.render(4))["things"]
    data = members[f"000010001.{suffix}"]
    if media == "image":
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), clip.frames[0])
    else:
        (tmp_path / "clip.mp4").write_bytes(data)
        decoded = decode_video(tmp_path / "clip.mp4", num_frames=6)
        assert np.abs(decoded.frames.astype(int) - clip.frames).mean() < 8
    again = write_shards(tmp_path / "again", source, samples_per_shard=3)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    stream = load_dataset("webdataset", data_files=str(tmp_path / "new" / "*.tar"), split="train", streaming=True)
    assert [row["__key__"] for row in stream.select_columns(["__key__"])][-1].endswith("000010001")


def test_samples_per_shard_has_a_range(tmp_path):
    source = SyntheticSource("world", num_samples=2)
    for number in (0, 10_001):
        with pytest.raises(ValueError, match=f"samples_per_shard is {number}; expected 1 to 10000"):
            write_shards(tmp_path, source, samples_per_shard=number)
