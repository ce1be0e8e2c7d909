"""`TrajectoryGenerator("sam2")` and processors configured with it, with a small SAM 2 of random weights."""

import copy
import json
import pickle
import string
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("sam2")

from random_sam2 import save_random_checkpoint
from transformers import (
    AutoProcessor,
    BertTokenizerFast,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

from trajvit.processing.backends import TrackingBackend
from trajvit.processing.decoding import decode_video
from trajvit.processing.edge_segmenter import EdgeSegmenter
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.key_frames import KeyFrameDetector
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.sam2_backend import Sam2Backend
from trajvit.processing.synthetic_scenes import make_scene
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor

SHARED_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"
# With random weights SAM 2 is sure of nothing, so nothing is filtered.
ANY_MASK = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
NO_CUTS = {"hsv_threshold": 255.0, "min_votes": 3}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Of a generator that can be used: a tiny model at 64 x 64 pixels."""
    checkpoint = save_random_checkpoint(tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny.pt")
    return {
        "backend": "sam2",
        "model": "tiny",
        "checkpoint": str(checkpoint),
        "image_size": 64,
        "device": "cpu",
        "short_side": 48,
        "max_segments": 6,
        "segmenter_options": ANY_MASK,
        "key_frame_detector": NO_CUTS,
    }


@pytest.fixture(scope="module")
def generator(settings):
    return TrajectoryGenerator.from_dict(settings)


@pytest.fixture(scope="module")
def frames():
    return make_scene(3).frames[::10][:5]


@pytest.fixture(scope="module")
def trajectories(generator, frames):
    return generator(frames)


def test_a_video_becomes_trajectories(trajectories):
    assert trajectories.shape == (5, 48, 72)
    assert 2 <= trajectories.num_trajectories <= 6
    # The key frame is cut into segments without a gap; what lives on was followed.
    assert (trajectories.ids[0] > 0).all()
    assert trajectories.lifetimes.max() == 5
    assert (trajectories.ids[1] != trajectories.ids[0]).any()


def test_equal_calls_give_equal_trajectories(generator, settings, frames, trajectories):
    assert generator(frames) == trajectories
    assert TrajectoryGenerator.from_dict(settings)(frames) == trajectories


def test_a_cut_starts_new_trajectories(settings, frames):
    generator = TrajectoryGenerator.from_dict({**settings, "key_frame_detector": {}})
    video = np.concatenate([frames[:2], 255 - frames[2:4] // 4])
    trajectories = generator(video)
    assert trajectories.key_frames == (0, 2)
    assert (trajectories.ids[[0, 2]] > 0).all()


def test_an_image(generator, frames, trajectories):
    np.testing.assert_array_equal(generator(frames[:1]).ids[0] > 0, trajectories.ids[0] > 0)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_frames(generator, value):
    trajectories = generator(np.full((3, 48, 64, 3), value, np.uint8))
    assert trajectories.shape == (3, 48, 64)
    assert (trajectories.ids[0] > 0).all()


def test_4k_frames(generator, frames):
    large = np.repeat(np.repeat(frames[:2], 9, axis=1), 10, axis=2)[:, :2160, :3840]
    assert large.shape == (2, 2160, 3840, 3)
    assert generator(large).shape == (2, 48, 85)


def test_frames_smaller_than_the_model_sees(generator):
    noise = np.random.default_rng(0).integers(0, 256, (2, 9, 17, 3), dtype=np.uint8)
    assert generator(noise).shape == (2, 9, 17)


def test_a_device_that_is_not_there(settings, frames):
    generator = TrajectoryGenerator.from_dict({**settings, "device": "cuda:63"})
    assert generator.to_dict()["device"] == "cuda:63"
    with pytest.raises(ValueError, match=r"device 'cuda:63' is not there: PyTorch sees \d+ CUDA devices here"):
        generator(frames[:1])


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the shared clips are not here")
def test_a_real_clip(generator):
    video = decode_video(SHARED_VIDEOS / "02_cups.mp4", num_frames=4, short_side=generator.frame_short_side)
    trajectories = generator(video.frames, video.sample_indices)
    assert trajectories.num_frames == 4
    assert (trajectories.ids[0] > 0).all()
    assert trajectories.num_trajectories <= 6


@pytest.mark.parametrize(
    "options",
    [{"dtype": "bfloat16"}, pytest.param({"device": "cuda"}, marks=pytest.mark.gpu)],
    ids=["bfloat16", "cuda"],
)
def test_other_arithmetic_gives_nearly_the_same(settings, frames, options):
    # One segment, the whole frame, so that both follow the same object.
    whole = {**settings, "segmenter_options": {**ANY_MASK, "pred_iou_thresh": 1.0}}
    exact = TrajectoryGenerator.from_dict(whole)(frames[:2])
    other = TrajectoryGenerator.from_dict({**whole, **options})(frames[:2])
    np.testing.assert_array_equal(other.ids[0], exact.ids[0])
    assert 0.05 < np.mean(exact.ids[1] > 0) < 0.95
    assert np.mean(other.ids[1] != exact.ids[1]) < 0.02


@pytest.fixture(scope="module")
def edge_model(tmp_path_factory):
    """A small Segformer of random weights, saved with its image processor."""
    folder = tmp_path_factory.mktemp("edges")
    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=1, hidden_sizes=[8] * 4, depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return str(folder)


def test_key_frames_may_be_cut_at_edges(settings, frames, edge_model):
    options = {"model": edge_model, "edge_threshold": 0.5}
    generator = TrajectoryGenerator.from_dict({**settings, "segmenter": "edges", "segmenter_options": options})
    trajectories = generator(frames[:3])
    (segments,) = EdgeSegmenter(edge_model, edge_threshold=0.5, max_segments=6)(
        np.stack([cv2.resize(frames[0], (96, 64), interpolation=cv2.INTER_AREA)]), None, (48, 72)
    )
    assert trajectories.shape == (3, 48, 72)
    assert len(np.unique(segments)) > 1
    # Numbered by area in the key frame, as the segments are.
    np.testing.assert_array_equal(trajectories.ids[0], segments)
    assert (trajectories.ids[1:] > 0).any()


def test_approximations_run(settings, frames):
    for option in ({"memory_pooling": 2}, {"attention_window": 1.5}, {"drop_after": 2, "new_objects_interval": 2}):
        trajectories = TrajectoryGenerator.from_dict({**settings, **option})(frames[:4])
        assert trajectories.shape == (4, 48, 72)
        assert trajectories.num_trajectories >= 1


def test_no_more_segments_than_the_video_may_have_trajectories(settings, frames):
    generator = TrajectoryGenerator.from_dict({**settings, "max_trajectories": 2})
    trajectories = generator(frames[:1])
    assert trajectories.num_trajectories <= 2
    # The pixels of what is left out go to the others instead of to none.
    assert trajectories.coverage == 1
    generator.max_trajectories = 4
    assert 2 < generator(frames[:1]).num_trajectories <= 4


def test_progress_reaches_the_end_of_every_stage(settings, frames):
    calls = []
    TrajectoryGenerator.from_dict(settings)(frames[:2], progress=lambda *call: calls.append(call))
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages == ["scale", "key frames", "load", "segment", "track", "join"]
    for name in stages:
        done = [(d, total) for stage, d, total in calls if stage == name]
        assert done[-1][0] == done[-1][1]


def test_frames_are_wanted_as_large_as_the_model_sees_them(settings):
    generator = TrajectoryGenerator.from_dict({**settings, "image_size": 512, "short_side": 256})
    assert isinstance(generator.backend, TrackingBackend)
    assert generator.frame_short_side == 512
    assert generator.frame_interval is None


def test_copies_and_pickles_carry_no_weights(generator, frames, trajectories):
    # Loaded by now, since trajectories have been made with it.
    assert len(pickle.dumps(generator)) < 10_000
    again = pickle.loads(pickle.dumps(generator))
    assert again.to_dict() == generator.to_dict()
    twin = copy.deepcopy(generator)
    weight = generator.backend._networks.tracker.model.maskmem_tpos_enc
    assert twin.backend._networks is None
    assert twin(frames) == trajectories
    assert twin.backend._networks.tracker.model.maskmem_tpos_enc is not weight


def test_settings_survive_json(settings):
    everything = {
        **settings,
        "dtype": "bfloat16",
        "objects_per_chunk": 3,
        "memory_budget_gb": 1.5,
        "new_objects_interval": 4,
        "drop_after": 6,
        "memory_pooling": 2,
    }
    generator = TrajectoryGenerator.from_dict(json.loads(json.dumps(everything)))
    saved = json.loads(json.dumps(generator.to_dict()))
    assert {name: saved[name] for name in everything if name != "key_frame_detector"} == {
        name: value for name, value in everything.items() if name != "key_frame_detector"
    }
    assert TrajectoryGenerator.from_dict(saved).to_dict() == saved


def test_building_one_loads_nothing():
    code = (
        "import sys; from trajvit.processing.generator import TrajectoryGenerator;"
        "g = TrajectoryGenerator('sam2', checkpoint='no/such/file.pt', segmenter_options={'points_per_side': 8});"
        "g.to_dict();"
        "print([m for m in ('sam2', 'hydra', 'omegaconf') if m in sys.modules])"
    )
    command = [sys.executable, "-X", "trajvit_lazy", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "huge"}, ValueError, "model must be one of tiny, small, base_plus, large, or None, got 'huge'"),
        ({"model": None}, ValueError, "model=None .* checkpoint must be given"),
        ({"checkpoint": 3}, TypeError, "checkpoint must be a Hub id or the path of a file, got 3"),
        ({"image_size": 500}, ValueError, "image_size must be a multiple of 32 pixels, got 500"),
        ({"image_size": 0}, ValueError, "image_size must be at least 32, got 0"),
        ({"image_size": "512"}, TypeError, "image_size must be an integer, got '512'"),
        ({"device": 0}, TypeError, "device must be a name .* got 0"),
        ({"device": "gpu"}, ValueError, "device must be .* got 'gpu'"),
        ({"dtype": "half"}, ValueError, "dtype must be one of 'float32', 'bfloat16', 'float16', got 'half'"),
        ({"dtype": torch.bfloat16}, ValueError, "dtype must be one of .* got torch.bfloat16"),
        ({"dtype": "float16", "device": "cpu"}, ValueError, "'float16' needs a GPU; on the device 'cpu'"),
        ({"segmenter": "magic"}, ValueError, "segmenter must be one of 'automatic', 'edges', got 'magic'"),
        ({"segmenter_options": [1]}, TypeError, "segmenter_options must be a dict, got list"),
        (
            {"segmenter_options": {"points": 8}},
            ValueError,
            "'automatic' has no option 'points'; it has: points_per_side",
        ),
        ({"segmenter_options": {"max_segments": 8}}, ValueError, "has no option 'max_segments'"),
        ({"segmenter_options": {"model": "x"}}, ValueError, "has no option 'model'"),
        (
            {"segmenter": "edges", "segmenter_options": {"points_per_side": 8}},
            ValueError,
            "'edges' has no option 'points_",
        ),
        ({"segmenter_options": {"pred_iou_thresh": 2}}, ValueError, "pred_iou_thresh must lie in 0..1, got 2"),
        ({"segmenter_options": {"points_per_side": "8"}}, TypeError, "segmenter_options has a value of another type"),
        ({"max_segments": 0}, ValueError, "max_segments must be at least 1, got 0"),
        ({"max_segments": True}, TypeError, "max_segments must be an integer, got True"),
        ({"objects_per_chunk": 0}, ValueError, "objects_per_chunk must be at least 1, got 0"),
        ({"objects_per_chunk": 2.5}, TypeError, "objects_per_chunk must be an integer, got 2.5"),
        ({"memory_budget_gb": 0}, ValueError, "memory_budget_gb must be more than 0, got 0"),
        ({"memory_budget_gb": "8"}, TypeError, "memory_budget_gb must be a number or None, got '8'"),
        ({"memory_budget_gb": float("nan")}, ValueError, "memory_budget_gb must be more than 0, got nan"),
        ({"new_objects_interval": 0}, ValueError, "new_objects_interval must be at least 1, got 0"),
        ({"drop_after": -1}, ValueError, "drop_after must be at least 1, got -1"),
        ({"memory_pooling": 3}, ValueError, "memory_pooling must divide the 32 tokens of a frame's side, got 3"),
        ({"attention_window": 0.5}, ValueError, "attention_window must be at least 1, got 0.5"),
        ({"attention_window": 2, "memory_pooling": 2}, ValueError, "exclude each other, got 2 and 2"),
        ({"checkpoints": "x"}, ValueError, "Backend 'sam2' has no option 'checkpoints'; it has: model, checkpoint"),
    ],
)
def test_a_bad_option_is_named_when_the_generator_is_made(options, error, message):
    with pytest.raises(error, match=message):
        TrajectoryGenerator("sam2", **options)


def test_float16_is_refused_where_auto_finds_no_gpu(settings, frames, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    generator = TrajectoryGenerator.from_dict({**settings, "device": "auto", "dtype": "float16"})
    with pytest.raises(ValueError, match="'float16' needs a GPU; on the device 'cpu'"):
        generator(frames[:1])


def test_a_missing_checkpoint_is_named_when_it_is_needed(settings, frames):
    generator = TrajectoryGenerator.from_dict({**settings, "checkpoint": "/no/such/file.pt"})
    with pytest.raises(FileNotFoundError, match=r"/no/such/file\.pt"):
        generator(frames[:1])


def test_no_clips_need_no_weights():
    assert Sam2Backend(checkpoint="/no/such/file.pt").track([], 8) == []


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]))
    return BertTokenizerFast(str(path))


def test_a_processor_saves_and_loads_its_settings_without_a_model(tokenizer, tmp_path):
    options = {"backend": "sam2", "checkpoint": "/no/such/file.pt", "image_size": 256, "new_objects_interval": 5}
    TrajViTProcessor(tokenizer, TrajViTVideoProcessor(generator=options)).save_pretrained(tmp_path / "processor")
    processor = AutoProcessor.from_pretrained(tmp_path / "processor")
    saved = processor.video_processor.generator
    assert {name: saved[name] for name in options} == options
    assert saved["key_frame_detector"] == TrajectoryGenerator().to_dict()["key_frame_detector"]
    assert "num_superpixels" not in saved


def test_a_processor_tracks_with_it(settings, tokenizer, tmp_path, frames):
    processor = TrajViTProcessor(tokenizer, TrajViTVideoProcessor(generator=settings, num_frames=3))
    processor.save_pretrained(tmp_path / "processor")
    processor = AutoProcessor.from_pretrained(tmp_path / "processor")
    inputs = processor(videos=[frames], images=[frames[0]], text=["a", "b"], return_trajectories=True)
    assert inputs["pixel_values_videos"].shape == (2, 3, 3, 224, 224)
    assert inputs["trajectory_maps"].shape == (2, 3, 56, 56)
    video, image = inputs["trajectories"]
    assert video.shape == (3, 48, 72)
    assert image.shape == (1, 48, 72)
    assert inputs["trajectory_attention_mask"].sum(dim=1).tolist() == [video.num_trajectories, image.num_trajectories]


def test_pixels_are_the_same_whether_trajectories_are_given_or_made(settings):
    tall = make_scene(1).frames[:3]
    processor = TrajViTVideoProcessor(
        generator={**settings, "image_size": 128, "short_side": 32}, size={"height": 48, "width": 48}
    )
    made = processor(tall, return_trajectories=True)
    given = processor(tall, trajectories=made["trajectories"])
    assert torch.equal(made["pixel_values_videos"], given["pixel_values_videos"])


def test_key_frame_settings_are_those_of_any_backend(settings):
    generator = TrajectoryGenerator.from_dict(settings)
    assert generator.key_frame_detector == KeyFrameDetector(**NO_CUTS)
