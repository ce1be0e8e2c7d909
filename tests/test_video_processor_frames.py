"""The video processor for towers without trajectories: frames alone, and no more decoded than they need."""

import string

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from numbered_videos import number_of, write_numbered
from PIL import Image
from transformers import AutoVideoProcessor, BertTokenizerFast

from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor

# Asked for a single trajectory, it would say that it is not there.
NO_BACKEND = {"backend": "not installed"}


@pytest.fixture
def processor():
    return TrajViTVideoProcessor(generator=NO_BACKEND, generate_trajectories=False, num_frames=4)


def noise(num_frames: int, height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def whole(num_frames: int, height: int = 40, width: int = 56) -> Trajectories:
    return Trajectories(np.ones((num_frames, height, width), dtype=np.int32))


def test_frames_alone(processor):
    inputs = processor(noise(9))
    assert list(inputs) == ["pixel_values_videos"]
    assert inputs["pixel_values_videos"].shape == (1, 4, 3, 224, 224)
    small = processor(noise(9), size={"height": 32, "width": 48}, return_tensors="np")
    assert list(small) == ["pixel_values_videos"]
    assert small["pixel_values_videos"].shape == (1, 4, 3, 32, 48)


def test_shorter_videos_are_padded_at_the_end(processor):
    inputs = processor([noise(9), noise(2)])
    assert list(inputs) == ["pixel_values_videos", "frame_attention_mask"]
    assert inputs["frame_attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert torch.equal(inputs["pixel_values_videos"][1, :2], processor(noise(2))["pixel_values_videos"][0])
    assert not inputs["pixel_values_videos"][1, 2:].any()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_is_a_video_whatever_its_kind(processor, tmp_path, suffix):
    path = tmp_path / f"animation.{suffix}"
    first, *others = (Image.fromarray(frame) for frame in noise(6))
    first.save(path, save_all=True, append_images=others, duration=100, lossless=True)
    for source in (path, [path], [[str(path)]]):
        assert processor(source)["pixel_values_videos"].shape[1] == 4


def test_the_frames_are_those_that_trajectories_would_be_generated_for(tmp_path):
    """Frames no larger than the generator's are not scaled before they are resized, so the pixels are the same too."""
    path = write_numbered(tmp_path / "numbered.mp4", 41)
    processor = TrajViTVideoProcessor(num_frames=4)
    alone = processor(path, generate_trajectories=False)["pixel_values_videos"]
    assert torch.equal(alone, processor(path)["pixel_values_videos"])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    shown = ((alone[0] * std + mean) * 255).permute(0, 2, 3, 1).numpy()
    assert [number_of(frame) for frame in shown] == [5, 15, 25, 35]


def test_large_frames_are_scaled_to_what_the_input_needs(processor, monkeypatch):
    """A frame of 480 x 640 is scaled to a short side of 224, not to the generator's, before it is resized."""
    decoded = []
    normalized = TrajViTVideoProcessor._normalized

    def watched(self, frames, settings):
        decoded.append(frames.shape[1:3])
        return normalized(self, frames, settings)

    monkeypatch.setattr(TrajViTVideoProcessor, "_normalized", watched)
    frames = noise(2, 480, 640)
    processor(frames)
    processor(frames, size=96)
    processor(frames, size={"shortest_edge": 60, "longest_edge": 120})
    processor(frames, do_resize=False)
    processor(frames, trajectories=whole(2, 480, 640))
    assert decoded == [(224, 299), (96, 128), (120, 160), (480, 640), (processor.generator["short_side"], 341)]


def test_given_trajectories_are_used(processor):
    given = processor([noise(9), noise(9)], trajectories=[whole(4), whole(4)], return_trajectories=True)
    assert given["trajectory_maps"].unique().tolist() == [1]
    assert given["trajectory_attention_mask"].tolist() == [[1], [1]]
    assert given["trajectories"] == [whole(4), whole(4)]
    assert list(processor([noise(9), noise(9)], trajectories=[None, None])) == ["pixel_values_videos"]
    with pytest.raises(ValueError, match="have 3 frames, but 4 frames of it are used"):
        processor(noise(9), trajectories=whole(3))


def test_what_is_missing_is_said(processor):
    with pytest.raises(ValueError, match="None for video 1 of 3, and generate_trajectories=False"):
        processor([noise(9)] * 3, trajectories=[whole(4), None, whole(4)])
    with pytest.raises(ValueError, match="return_trajectories=True with generate_trajectories=False"):
        processor(noise(9), return_trajectories=True)
    with pytest.raises(ValueError, match="generate_trajectories"):
        TrajViTVideoProcessor(generate_trajectories="no")
    with pytest.raises(StrictDataclassFieldValidationError, match="generate_trajectories"):
        processor(noise(9), generate_trajectories="no")


def test_it_is_saved_and_a_call_overrides_it(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    restored = AutoVideoProcessor.from_pretrained(tmp_path)
    assert restored.generate_trajectories is False
    assert list(restored(noise(9))) == ["pixel_values_videos"]
    with pytest.raises(ValueError, match="not installed"):
        restored(noise(9), generate_trajectories=True)
    assert restored.generate_trajectories is False
    assert TrajViTVideoProcessor().generate_trajectories is True


def test_through_the_processor_of_texts_and_videos(processor, tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]))
    both = TrajViTProcessor(BertTokenizerFast(str(vocabulary)), processor)
    image = Image.fromarray(noise(1)[0])
    inputs = both(videos=noise(9), images=image, text=["a", "b"])
    assert {"pixel_values_videos", "frame_attention_mask", "input_ids"} <= set(inputs)
    assert not any(name.startswith("trajectory") for name in inputs)
    assert inputs["frame_attention_mask"].sum(1).tolist() == [4, 1]
    given = both(videos=noise(9), trajectories=whole(4))
    assert given["trajectory_maps"].shape == (1, 4, 56, 56)
    both.save_pretrained(tmp_path / "saved")
    restored = TrajViTProcessor.from_pretrained(tmp_path / "saved")
    assert restored.video_processor.generate_trajectories is False
    generating = TrajViTProcessor(both.tokenizer, TrajViTVideoProcessor(num_frames=4))
    assert list(generating(videos=noise(9), generate_trajectories=False)) == ["pixel_values_videos"]
    assert list(generating(videos=noise(9), videos_kwargs={"generate_trajectories": False})) == ["pixel_values_videos"]
