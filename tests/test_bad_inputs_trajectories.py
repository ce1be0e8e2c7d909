"""Bad trajectories, files of them and checkpoints are refused by one clear error; nothing of a pickle ever runs."""

import os
import re
import tracemalloc

import numpy as np
import pytest
from bad_inputs import in_time
from bad_trajectories import CHECKPOINTS, TRAJECTORIES_FILES, TRAJECTORIES_VALUES, WHOLE, header
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModel

from trajvit import Trajectories, TrajViTForContrastive, TrajViTModel, TrajViTVideoProcessor


def named(inputs):
    return pytest.mark.parametrize("bad", inputs, ids=[each.name for each in inputs])


@named(TRAJECTORIES_FILES)
def test_files(bad, tmp_path):
    path = bad.make(tmp_path)
    tracemalloc.start()
    try:
        with in_time(10), pytest.raises(ValueError, match=bad.error) as caught:
            Trajectories.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))
    assert peak < 20_000_000 + 50 * path.stat().st_size


def test_errors_are_short_whatever_the_file_says():
    for changes in ({"shape": [0] * 100_000}, {"version": "x" * 10**6}, {"key_frames": [5] * 10_000}):
        with pytest.raises(ValueError, match="is not a valid trajectories file") as caught:
            Trajectories.from_bytes(header(**changes))
        assert len(str(caught.value)) < 500


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.traj.png")
    with in_time(5), pytest.raises(ValueError, match=r"pipe\.traj\.png .* it is no regular file"):
        Trajectories.load(tmp_path / "pipe.traj.png")
    with in_time(5), pytest.raises(ValueError, match=r"/dev/zero .* it is no regular file"):
        Trajectories.load("/dev/zero")
    with pytest.raises(IsADirectoryError):
        Trajectories.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Trajectories.load(tmp_path / "missing.traj.png")


def test_the_file_that_the_others_were_made_of_is_good():
    assert Trajectories.from_bytes(WHOLE).num_trajectories == 8


@named(TRAJECTORIES_VALUES)
def test_values(bad, tmp_path):
    given = bad.make(tmp_path)
    with pytest.raises((TypeError, ValueError), match=bad.error) as caught:
        Trajectories(*given)
    assert "\n" not in str(caught.value)


@named(CHECKPOINTS)
def test_checkpoints(bad, tmp_path):
    folder = bad.make(tmp_path)
    with in_time(30), pytest.raises((OSError, ValueError, StrictDataclassError)) as caught:
        AutoModel.from_pretrained(folder)
    assert re.search(bad.error, str(caught.value)), str(caught.value)
    assert not (folder / "intruder").exists()


@pytest.mark.parametrize("model_class", [TrajViTForContrastive, TrajViTModel])
def test_pickles_are_not_opened_on_request_either(model_class, tmp_path):
    pickled = next(bad for bad in CHECKPOINTS if bad.name == "weights in a pickle alone").make(tmp_path)
    with pytest.raises(ValueError, match="use_safetensors=False: expected weights in safetensors"):
        model_class.from_pretrained(pickled, use_safetensors=False)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        model_class.from_pretrained(pickled)


class TestTrajectoriesOfAnotherVideo:
    frames = np.zeros((4, 12, 20, 3), np.uint8)

    def refused(self, trajectories, message, **settings):
        with pytest.raises((TypeError, ValueError), match=message):
            TrajViTVideoProcessor()(self.frames, trajectories=trajectories, **settings)

    def test_another_number_of_frames(self):
        self.refused(Trajectories(np.ones((5, 12, 20), int)), "have 5 frames, but 4 frames of it are used")

    def test_another_aspect(self):
        self.refused(Trajectories(np.ones((4, 20, 12), int)), "are 20 x 12, its frames 12 x 20")

    def test_other_frames(self):
        self.refused(Trajectories(np.ones((2, 12, 20), int), [7, 9]), r"frames \[7, 9\].*\[1, 3\]", num_frames=2)

    def test_no_trajectories(self):
        self.refused("video.traj.png", "trajectories")
        self.refused([], "0 entries for 1 videos")
        self.refused(np.ones((4, 12, 20), int), "trajectories")
