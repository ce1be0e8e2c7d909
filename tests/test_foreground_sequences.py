"""Folders of frames and masks: both layouts, what may be missing, and which file an error names."""

import numpy as np
import pytest
from PIL import Image

from trajvit.evaluation.foreground_sequences import find_sequences

SIZE = (12, 16)


def write_sequence(frames, masks, num_frames=3, mode="L"):
    frames.mkdir(parents=True)
    masks.mkdir(parents=True)
    for index in range(num_frames):
        Image.new("RGB", SIZE[::-1], (40 * index, 0, 0)).save(frames / f"{index:05d}.jpg", quality=100)
        mask = np.zeros(SIZE, np.uint8)
        mask[: index + 1, :5] = 255 if mode == "L" else 1
        image = Image.fromarray(mask)
        if mode == "P":
            # Index 1 is painted black here: the number counts, not its colour.
            image.putpalette([255, 255, 255, 0, 0, 0])
        image.save(masks / f"{index:05d}.png")


@pytest.fixture
def plain(tmp_path):
    for name in ("walk", "jump"):
        write_sequence(tmp_path / name / "frames", tmp_path / name / "masks")
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_plain_folders(plain):
    sequences = find_sequences(plain)
    assert [sequence.name for sequence in sequences] == ["jump", "walk"]
    frames = sequences[0].read_frames([0, 2])
    assert frames.shape == (2, *SIZE, 3)
    np.testing.assert_allclose(frames[:, 0, 0, 0], [0, 80], atol=3)
    masks = sequences[0].read_masks([0, 2])
    assert masks.dtype == bool
    assert masks.sum((1, 2)).tolist() == [5, 15]


@pytest.mark.parametrize("mode", ["L", "P"])
def test_davis_layout(tmp_path, mode):
    write_sequence(tmp_path / "JPEGImages/480p/bear", tmp_path / "Annotations/480p/bear", mode=mode)
    (tmp_path / "JPEGImages/480p/unlabelled").mkdir()
    (sequence,) = find_sequences(tmp_path)
    assert sequence.name == "bear"
    assert sequence.num_frames == 3
    assert sequence.read_masks([1]).sum() == 10


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "I;16"])
def test_masks_of_other_kinds_mean_the_same(plain, mode):
    path = plain / "jump/masks/00001.png"
    with Image.open(path) as image:
        converted = image.convert(mode)
    converted.save(path)
    assert find_sequences(plain)[0].read_masks([1]).sum() == 10


def test_frames_that_are_not_asked_for_need_no_mask(plain):
    (plain / "jump/masks/00001.png").unlink()
    sequence = find_sequences(plain)[0]
    assert len(sequence.read_masks([0, 2])) == 2
    with pytest.raises(FileNotFoundError, match=r"jump.masks.00001\.png"):
        sequence.read_masks([0, 1])


def test_wrong_folders_say_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder.*JPEGImages/480p"):
        find_sequences(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no sequence"):
        find_sequences(tmp_path)
    (tmp_path / "empty/frames").mkdir(parents=True)
    (tmp_path / "empty/masks").mkdir()
    with pytest.raises(ValueError, match=r"empty.frames holds no frame"):
        find_sequences(tmp_path)


def test_unequal_sizes_and_broken_files_are_named(plain):
    sequence = find_sequences(plain)[0]
    Image.new("RGB", (9, 9)).save(plain / "jump/frames/00001.jpg")
    with pytest.raises(ValueError, match=r"00001\.jpg has shape \(9, 9, 3\); expected \(12, 16, 3\)"):
        sequence.read_frames([0, 1])
    (plain / "jump/masks/00002.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"00002\.png cannot be read"):
        sequence.read_masks([0, 2])
