"""The processor of texts, videos and images."""

import json
import string
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, BertTokenizerFast

from trajvit.modeling_trajvit.configuration_trajvit import TrajViTConfig
from trajvit.modeling_trajvit.configuration_trajvit_contrastive import TrajViTContrastiveConfig
from trajvit.modeling_trajvit.modeling_trajvit_contrastive import TrajViTForContrastive
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.video_frames import VideoDecodingError
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor


@pytest.fixture
def tokenizer(tmp_path):
    """Words of one letter, and their pieces."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]
    vocabulary += [f"##{letter}" for letter in string.ascii_lowercase]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(vocabulary))
    return BertTokenizerFast(str(path))


@pytest.fixture
def processor(tokenizer):
    return TrajViTProcessor(tokenizer, TrajViTVideoProcessor(num_frames=4))


def quarters(num_frames: int, height: int = 40, width: int = 56) -> Trajectories:
    ids = np.ones((num_frames, height, width), dtype=np.int32)
    ids[:, : height // 2] = 2
    ids[:, :, width // 2 :] += 2
    return Trajectories(ids)


def video(num_frames: int, seed: int = 0, height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


class TestText:
    def test_texts_are_cut_to_77_tokens_and_padded_to_the_longest(self, processor):
        inputs = processor(text=["a b c", "d " * 200])
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (2, 77)
        assert inputs["attention_mask"].sum(dim=1).tolist() == [5, 77]
        assert processor(text=["a b c", "d"])["input_ids"].shape == (2, 5)

    def test_the_tokenizers_settings_can_be_given(self, processor):
        assert processor(text="a", text_kwargs={"padding": "max_length"})["input_ids"].shape == (1, 77)
        assert processor(text="a b c d", max_length=4)["input_ids"].shape == (1, 4)

    def test_text_alone_has_no_video_inputs(self, processor):
        assert "pixel_values_videos" not in processor(text="a")


class TestVideosAndImages:
    def test_everything_together(self, processor):
        image = Image.fromarray(video(1)[0])
        inputs = processor(
            images=[image, np.asarray(image)],
            videos=[video(9), video(4)],
            text=["a", "b", "c", "d e f"],
            trajectories=[quarters(4), quarters(4), quarters(1), quarters(1)],
        )
        assert inputs["pixel_values_videos"].shape == (4, 4, 3, 224, 224)
        assert inputs["trajectory_attention_mask"].tolist() == [[1] * 4] * 4
        assert inputs["input_ids"].shape[0] == 4
        has_map = inputs["trajectory_maps"].flatten(2).any(dim=2)
        assert has_map.sum(dim=1).tolist() == [4, 4, 1, 1]

    def test_an_image_is_a_video_of_one_frame(self, processor, tmp_path):
        frames = video(3)
        Image.fromarray(frames[0]).save(tmp_path / "image.png")
        expected = processor(videos=frames[:1], trajectories=quarters(1))
        sources = [
            frames[0],
            Image.fromarray(frames[0]),
            torch.from_numpy(frames[0]).permute(2, 0, 1),
            tmp_path / "image.png",
            str(tmp_path / "image.png"),
            (tmp_path / "image.png").read_bytes(),
            [[frames[0]]],
        ]
        for source in sources:
            inputs = processor(images=source, trajectories=quarters(1))
            assert torch.equal(inputs["pixel_values_videos"], expected["pixel_values_videos"])
        batch = processor(images=frames, trajectories=[quarters(1)] * 3)
        assert batch["pixel_values_videos"].shape[:2] == (3, 1)

    def test_settings_and_trajectories_reach_the_video_processor(self, processor):
        told = []
        lock = threading.Lock()

        class Teller:
            """What it holds cannot be copied, like the handle of a progress bar."""

            handle = lock

            def __call__(self, *report):
                told.append(report)

        inputs = processor(
            videos=video(8), trajectories=quarters(2), num_frames=2, return_trajectories=True, progress=Teller()
        )
        assert inputs["pixel_values_videos"].shape[1] == 2
        assert inputs["trajectories"] == [quarters(2)]
        assert told == [("videos", 0, 1), ("videos", 1, 1)]
        inputs = processor(videos=video(8), trajectories=quarters(3), videos_kwargs={"num_frames": 3})
        assert inputs["pixel_values_videos"].shape[1] == 3

    def test_trajectories_are_generated_when_none_are_given(self, processor):
        frames = np.zeros((2, 40, 56, 3), dtype=np.uint8)
        frames[:, :, 28:] = 200
        inputs = processor(videos=frames, return_trajectories=True)
        left, right = inputs["trajectory_maps"][0, 0, 28, 10], inputs["trajectory_maps"][0, 0, 28, 45]
        assert left != right
        assert inputs["trajectories"][0].num_frames == 2

    def test_numpy_arrays(self, processor):
        inputs = processor(videos=video(4), text="a", trajectories=quarters(4), return_tensors="np")
        assert all(isinstance(value, np.ndarray) for value in inputs.values())

    def test_what_is_missing_or_wrong_is_said(self, processor):
        with pytest.raises(ValueError, match="nothing to process"):
            processor()
        with pytest.raises(ValueError, match="without videos or images"):
            processor(text="a", trajectories=quarters(4))
        with pytest.raises(ValueError, match="1 entries for 2 videos"):
            processor(videos=[video(4), video(4)], trajectories=quarters(4))
        with pytest.raises(VideoDecodingError, match=r"image 1 of 2 cannot be used: none\.png does not exist"):
            processor(images=[video(1)[0], "none.png"])
        with pytest.raises(VideoDecodingError, match="empty list"):
            processor(images=[])


class TestSaving:
    def test_it_comes_back_as_it_was(self, processor, tmp_path):
        processor.video_processor.generator["max_trajectories"] = 9
        processor.save_pretrained(tmp_path / "saved")
        restored = TrajViTProcessor.from_pretrained(tmp_path / "saved")
        assert restored.video_processor.to_dict() == processor.video_processor.to_dict()
        assert restored.video_processor.generator["max_trajectories"] == 9
        assert torch.equal(restored(text="a b c")["input_ids"], processor(text="a b c")["input_ids"])
        assert (
            json.loads((tmp_path / "saved" / "processor_config.json").read_text())["video_processor"]["num_frames"] == 4
        )

    def test_auto_class(self, processor, tmp_path):
        processor.save_pretrained(tmp_path / "saved")
        restored = AutoProcessor.from_pretrained(tmp_path / "saved")
        assert type(restored).__name__ == "TrajViTProcessor"
        assert restored.video_processor.num_frames == 4

    def test_names_of_the_inputs(self, processor):
        videos = ["pixel_values_videos", "trajectory_maps", "trajectory_attention_mask"]
        assert set(videos) < set(processor.model_input_names)
        assert "input_ids" in processor.model_input_names


def test_the_contrastive_model_takes_what_the_processor_gives(processor, tokenizer):
    text_config = {
        "model_type": "bert",
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    config = TrajViTContrastiveConfig(
        vision_config=TrajViTConfig.from_name("tiny").to_dict(), text_config=text_config, projection_dim=16
    )
    model = TrajViTForContrastive(config).eval()
    inputs = processor(videos=[video(4, seed) for seed in (1, 2)], text=["a b", "c"], trajectories=[quarters(4)] * 2)
    with torch.no_grad():
        outputs = model(**inputs)
    assert outputs.logits_per_video.shape == (2, 2)
    assert torch.isfinite(outputs.logits_per_video).all()
