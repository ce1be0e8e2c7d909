"""Samples to batches, and batches to what the model takes: against the processor, which people use at testing."""

import numpy as np
import pytest
import torch
from array_source import ArraySource, word_tokenizer

from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor
from trajvit.training.augmentation import ClipTransform
from trajvit.training.collation import collate, to_model_inputs
from trajvit.training.run_config import AugmentationSettings
from trajvit.training.samples import Sample

OFF = AugmentationSettings(enabled=False)


def samples_of(clips, image_size=32, feature_size=8, num_captions=1):
    transform = ClipTransform(image_size, feature_size, OFF, 128, num_captions)
    return [transform(clip, seed) for seed, clip in enumerate(clips)]


# Larger frames without trajectories the processor first scales to the size it needs by area averages, as decoders do.
@pytest.mark.parametrize(
    ("size", "has_trajectories"),
    [((24, 32), True), ((48, 40), True), ((100, 76), True), ((24, 32), False), ((32, 48), False)],
)
@pytest.mark.parametrize("frames", [(4,), (4, 1, 3)])
def test_without_augmentation_inputs_are_the_processors(frames, size, has_trajectories):
    source = ArraySource(frames=frames, height=size[0], width=size[1])
    clips = [source.clip(number) for number in range(3)]
    samples = samples_of(clips, feature_size=8 if has_trajectories else None)
    inputs = to_model_inputs(collate(samples, word_tokenizer()), "cpu")

    video_processor = TrajViTVideoProcessor(
        size={"height": 32, "width": 32}, feature_size=8, do_sample_frames=False, generate_trajectories=False
    )
    expected = TrajViTProcessor(word_tokenizer(), video_processor)(
        text=[sample.captions[0] for sample in samples],
        videos=[clip.frames for clip in clips],
        trajectories=[clip.trajectories for clip in clips] if has_trajectories else None,
        input_data_format="channels_last",
    )
    assert set(expected) - {"token_type_ids"} == set(inputs)
    for name, tensor in inputs.items():
        if name == "pixel_values_videos":
            # A quarter of what a level of a byte is after normalisation.
            torch.testing.assert_close(tensor, expected[name], atol=0.25 / 255, rtol=0)
        else:
            assert torch.equal(tensor.long(), expected[name]), name


def test_bytes_and_texts_of_a_batch():
    source = ArraySource(frames=(2, 5))
    samples = samples_of([source.clip(number) for number in range(4)], num_captions=3)
    batch = collate(samples, word_tokenizer())
    assert batch["pixel_values_videos"].dtype == torch.uint8
    assert batch["trajectory_maps"].dtype == torch.int16
    assert batch["frame_attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1] * 5] * 2
    assert not batch["pixel_values_videos"][0, 2:].any()
    assert not batch["trajectory_maps"][0, 2:].any()
    for row, sample in enumerate(samples):
        assert torch.equal(batch["pixel_values_videos"][row, : len(sample.pixels)], sample.pixels)
        assert batch["trajectory_attention_mask"][row].sum() == sample.num_trajectories
    decoded = word_tokenizer().batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert decoded == [caption for sample in samples for caption in sample.captions]


def test_texts_are_cut_to_77_tokens():
    long = Sample("a", torch.zeros(1, 3, 4, 4, dtype=torch.uint8), None, 0, ("caption " * 200, "one"))
    batch = collate([long], word_tokenizer())
    assert batch["input_ids"].shape == (2, 77)
    assert batch["attention_mask"].sum(1).tolist() == [77, 3]


def test_samples_without_trajectories_left():
    empty = Sample(
        "a", torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 2, 2, dtype=torch.int16), 0, ("one",)
    )
    batch = collate([empty, empty], word_tokenizer())
    assert batch["trajectory_attention_mask"].shape == (2, 0)


def test_batches_with_maps_for_some_are_refused():
    with_maps, without = samples_of([ArraySource().clip(0)])[0], samples_of([ArraySource().clip(1)], 32, None)[0]
    with pytest.raises(ValueError, match="2 samples, 1 with trajectory maps"):
        collate([with_maps, without], word_tokenizer())
    with pytest.raises(ValueError, match="0 samples"):
        collate([], word_tokenizer())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalisation(dtype):
    pixels = torch.randint(0, 256, (2, 3, 3, 4, 4), dtype=torch.uint8)
    frame_mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    inputs = to_model_inputs({"pixel_values_videos": pixels, "frame_attention_mask": frame_mask}, "cpu", dtype)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (pixels.numpy() / 255 - mean[:, None, None]) / deviation[:, None, None]
    expected[1, 1:] = 0
    assert inputs["pixel_values_videos"].dtype == dtype
    torch.testing.assert_close(inputs["pixel_values_videos"], torch.from_numpy(expected).to(dtype))
    assert pixels.dtype == torch.uint8


@pytest.mark.gpu
def test_normalisation_on_a_gpu_is_that_on_the_cpu():
    batch = collate(samples_of([ArraySource(frames=(3, 2)).clip(number) for number in range(4)]), word_tokenizer())
    on_cpu = to_model_inputs(batch, "cpu")
    on_gpu = to_model_inputs({name: tensor.pin_memory() for name, tensor in batch.items()}, "cuda")
    for name, tensor in on_cpu.items():
        assert on_gpu[name].is_cuda
        torch.testing.assert_close(on_gpu[name].cpu(), tensor)
