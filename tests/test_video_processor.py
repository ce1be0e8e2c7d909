"""The video processor against plain computations of the same inputs, with a backend whose trajectories are known."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoVideoProcessor, pipeline
from transformers.modeling_outputs import ImageClassifierOutput

from trajvit.modeling_trajvit.configuration_trajvit import TrajViTConfig
from trajvit.modeling_trajvit.modeling_trajvit import TrajViTModel, TrajViTPreTrainedModel
from trajvit.processing.backends import register_backend
from trajvit.processing.decoding import decode_video
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.sampling import uniform_sample_indices
from trajvit.processing.trajectories import Trajectories
from trajvit.processing.video_frames import VideoDecodingError
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class StripesBackend:
    """Vertical stripes of equal width, the same in every frame: the simplest trajectories that cover everything."""

    name = "stripes"
    num_calls = 0
    last_stack = 0

    def __init__(self, num_stripes: int = 4, frame_interval: float | None = None):
        self.num_stripes = num_stripes
        self.frame_interval = frame_interval

    def track(self, clips, max_trajectories, progress=None):
        type(self).num_calls += 1
        type(self).last_stack = sum(len(clip.frames) - clip.has_boundary for clip in clips)
        volumes = []
        for clip in clips:
            _, height, width, _ = clip.frames.shape
            stripes = np.arange(width) * self.num_stripes // width + 1
            volumes.append(np.broadcast_to(stripes, (len(clip.sampled), height, width)).astype(np.int32))
        return volumes


register_backend("stripes", f"{__name__}:StripesBackend")
# Nothing is ever a cut, so that every stripe is one trajectory.
STRIPES = {"backend": "stripes", "short_side": 32, "key_frame_detector": {"min_votes": 3, "hsv_threshold": 255.0}}


@pytest.fixture
def processor():
    return TrajViTVideoProcessor(generator=STRIPES, num_frames=4)


def moving_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth frames that all differ a little."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + y * channel + 2 * t) / 9) for t in range(count) for channel in range(3)]
    frames = np.stack(waves).reshape(count, 3, height, width).transpose(0, 2, 3, 1)
    return np.rint(frames * 100 + 128).astype(np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """20 frames at 10 per second, without loss."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        for frame in moving_frames(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


class TestInputs:
    def test_shapes_types_and_names(self, processor, clip):
        inputs = processor(clip)
        assert list(inputs) == ["pixel_values_videos", "trajectory_maps", "trajectory_attention_mask"]
        assert set(inputs) < set(processor.model_input_names)
        assert inputs["pixel_values_videos"].shape == (1, 4, 3, 224, 224)
        assert inputs["pixel_values_videos"].dtype == torch.float32
        assert inputs["trajectory_maps"].shape == (1, 4, 56, 56)
        assert inputs["trajectory_maps"].dtype == torch.int64
        assert inputs["trajectory_attention_mask"].tolist() == [[1, 1, 1, 1]]
        assert inputs["trajectory_attention_mask"].dtype == torch.int64

    def test_pixels_are_the_sampled_frames_resized_and_normalised(self, processor, clip):
        frames = moving_frames(20)[uniform_sample_indices(20, 4)]
        tensor = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
        resized = nn.functional.interpolate(tensor, (224, 224), mode="bilinear", antialias=True)
        expected = (resized - MEAN) / STD
        pixels = processor(clip)["pixel_values_videos"][0]
        # Frames are resized as bytes, whose steps are 1 / 255 before normalisation.
        assert (pixels - expected).abs().max() < 1.01 / 255 / STD.min()

    def test_maps_are_the_pixels_under_the_centres_of_the_grid(self, processor, clip):
        inputs = processor(clip, generator={"num_stripes": 5}, return_trajectories=True)
        ids = inputs["trajectories"][0].ids
        for i in range(56):
            for j in range(56):
                under = ids[:, int((i + 0.5) / 56 * ids.shape[1]), int((j + 0.5) / 56 * ids.shape[2])]
                assert inputs["trajectory_maps"][0, :, i, j].tolist() == under.tolist()
        assert inputs["trajectory_maps"].unique().tolist() == [1, 2, 3, 4, 5]

    def test_trajectories_without_a_pixel_left_are_closed_up(self, processor, clip):
        ids = np.ones((4, 480, 640), dtype=np.int32)
        ids[:, :, 320:] = 2
        ids[:, 0, 0] = 3
        ids[:, :, 500:] = 4
        inputs = processor(clip, trajectories=Trajectories(ids))
        assert inputs["trajectory_maps"].unique().tolist() == [1, 2, 3]
        assert inputs["trajectory_attention_mask"].tolist() == [[1, 1, 1]]

    def test_a_video_without_any_trajectory(self, processor, clip):
        none = Trajectories(np.zeros((4, 48, 64), dtype=np.int32))
        inputs = processor(clip, trajectories=none)
        assert inputs["trajectory_attention_mask"].shape == (1, 0)
        model = TrajViTModel(TrajViTConfig.from_name("tiny")).eval()
        assert torch.isfinite(model(**inputs).pooler_output).all()
        both = processor([clip, clip], trajectories=[none, None])
        assert both["trajectory_attention_mask"].tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]

    def test_given_and_generated_trajectories_make_the_same_inputs(self, processor, clip):
        generated = processor(clip, return_trajectories=True)
        calls = StripesBackend.num_calls
        given = processor(clip, trajectories=generated["trajectories"], return_trajectories=True)
        assert StripesBackend.num_calls == calls
        assert given["trajectories"] == generated["trajectories"]
        for name in set(generated) - {"trajectories"}:
            assert torch.equal(given[name], generated[name])

    def test_given_trajectories_need_no_backend(self, clip):
        processor = TrajViTVideoProcessor(generator={"backend": "not installed"}, num_frames=4)
        ids = np.ones((4, 48, 64), dtype=np.int32)
        assert processor(clip, trajectories=Trajectories(ids))["trajectory_maps"].unique().tolist() == [1]
        with pytest.raises(ValueError, match="not installed"):
            processor(clip)

    def test_returned_trajectories_tell_where_their_frames_come_from(self, processor, clip):
        (trajectories,) = processor(clip, return_trajectories=True)["trajectories"]
        assert trajectories.shape == (4, 32, 43)
        assert trajectories.frame_indices.tolist() == [2, 7, 12, 17]
        assert np.allclose(trajectories.timestamps, [0.2, 0.7, 1.2, 1.7])

    def test_the_backend_sees_the_dense_frames_that_it_wants(self, processor, clip):
        processor(clip)
        assert StripesBackend.last_stack == 4
        processor(clip, generator={"frame_interval": 0.1})
        assert StripesBackend.last_stack == 16

    def test_numpy_arrays_and_devices(self, processor, clip):
        arrays, tensors = processor(clip, return_tensors="np"), processor(clip, device="cpu")
        for name in tensors:
            assert isinstance(arrays[name], np.ndarray)
            assert np.array_equal(arrays[name], tensors[name].numpy())

    def test_progress_is_told(self, processor, clip):
        told = []
        processor([clip, clip], progress=lambda *report: told.append(report))
        assert [report for report in told if report[0] == "videos"] == [("videos", i, 2) for i in range(3)]
        assert {"key frames", "join"} <= {stage for stage, _, _ in told}
        assert all(0 <= done <= total for _, done, total in told)

    def test_the_weights_free_backend_is_the_default(self):
        frames = moving_frames(3, 40, 56)
        inputs = TrajViTVideoProcessor()(frames)
        count = int(inputs["trajectory_maps"].max())
        assert inputs["trajectory_attention_mask"].sum() == count > 1


class TestFit:
    @pytest.mark.parametrize(
        ("trajectories", "message"),
        [
            (Trajectories(np.ones((3, 48, 64), int)), "have 3 frames, but 4 frames of it are used"),
            (Trajectories(np.ones((4, 64, 48), int)), "expected the same aspect, a width of about 85"),
            (Trajectories(np.ones((4, 48, 64), int), [0, 5, 10, 15]), r"frames \[0, 5, 10, 15\].*\[2, 7, 12, 17\]"),
            ([Trajectories(np.ones((4, 48, 64), int))] * 2, "2 entries for 1 videos"),
        ],
    )
    def test_trajectories_of_another_video_are_refused(self, processor, clip, trajectories, message):
        with pytest.raises(ValueError, match=message):
            processor(clip, trajectories=trajectories)

    def test_arrays_of_ids_are_no_trajectories(self, processor, clip):
        with pytest.raises(TypeError, match="ndarray; expected Trajectories"):
            processor(clip, trajectories=np.ones((1, 4, 48, 64), int))

    def test_trajectories_at_another_resolution_fit(self, processor, clip):
        for height, width in ((480, 640), (12, 16), (32, 43)):
            processor(clip, trajectories=Trajectories(np.ones((4, height, width), int)))


class TestBatches:
    def test_videos_of_unequal_sizes_and_trajectories(self, processor):
        wide, tall = moving_frames(4, 40, 80), moving_frames(4, 80, 40)
        few = Trajectories(np.ones((4, 80, 40), int))
        inputs = processor([wide, tall], trajectories=[None, few])
        assert inputs["pixel_values_videos"].shape == (2, 4, 3, 224, 224)
        assert inputs["trajectory_attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
        for row, alone in enumerate([processor(wide), processor(tall, trajectories=few)]):
            assert torch.equal(inputs["pixel_values_videos"][row], alone["pixel_values_videos"][0])
            assert torch.equal(inputs["trajectory_maps"][row], alone["trajectory_maps"][0])

    def test_shorter_videos_are_padded_at_the_end(self, processor):
        long, short = moving_frames(16), moving_frames(3)
        inputs = processor([long, short], num_frames=16)
        assert inputs["frame_attention_mask"].tolist() == [[1] * 16, [1] * 3 + [0] * 13]
        assert inputs["frame_attention_mask"].dtype == torch.int64
        alone = processor(short)
        assert torch.equal(inputs["pixel_values_videos"][1, :3], alone["pixel_values_videos"][0])
        assert torch.equal(inputs["trajectory_maps"][1, :3], alone["trajectory_maps"][0])
        assert not inputs["pixel_values_videos"][1, 3:].any()
        assert not inputs["trajectory_maps"][1, 3:].any()

    @pytest.mark.parametrize("num_frames", [1, 4, 5])
    def test_a_padded_video_has_the_tokens_that_it_has_alone(self, processor, num_frames):
        torch.manual_seed(0)
        model = TrajViTModel(TrajViTConfig.from_name("tiny")).eval()
        long, short = moving_frames(15), moving_frames(num_frames)
        with torch.no_grad():
            together = model(**processor([long, short], num_frames=15)).last_hidden_state[1]
            alone = model(**processor(short, num_frames=15)).last_hidden_state[0]
        assert (together - alone).abs().max() < 1e-5

    def test_what_is_one_video_and_what_is_a_batch(self, processor, clip, tmp_path):
        frames = moving_frames(4)
        image = Image.fromarray(frames[0])
        paths = []
        for position, frame in enumerate(frames):
            paths.append(str(tmp_path / f"{position}.png"))
            Image.fromarray(frame).save(paths[-1])
        video = decode_video(frames)
        data = Path(clip).read_bytes()
        expected = [
            (clip, 1, 4),
            (data, 1, 4),
            (frames, 1, 4),
            (torch.from_numpy(frames).permute(0, 3, 1, 2), 1, 4),
            (video, 1, 4),
            (image, 1, 1),
            (paths[0], 1, 1),
            (list(frames), 1, 4),
            ([image] * 3, 1, 3),
            (paths, 1, 4),
            ([clip], 1, 4),
            ([clip, data, frames, video], 4, 4),
            ([list(frames), [image] * 2], 2, 4),
            ([[clip, frames], [clip]], 3, 4),
            ([[image], clip], 2, 4),
            (np.stack([frames, frames]), 2, 4),
            (torch.from_numpy(np.stack([frames, frames])), 2, 4),
        ]
        for source, batch_size, num_frames in expected:
            assert processor(source)["pixel_values_videos"].shape[:2] == (batch_size, num_frames)

    def test_frames_and_videos_in_one_list_are_refused(self, processor, clip):
        with pytest.raises(VideoDecodingError, match="item 1 of the list of videos is a single image"):
            processor([clip, Image.fromarray(moving_frames(1)[0])])
        with pytest.raises(VideoDecodingError, match="empty list"):
            processor([])

    def test_a_bad_video_of_a_batch_is_named(self, processor, clip, tmp_path):
        missing = str(tmp_path / "missing.mp4")
        with pytest.raises(VideoDecodingError, match=r"^video 1 of 3 cannot be used: .*missing\.mp4 does not exist"):
            processor([clip, missing, clip])
        with pytest.raises(VideoDecodingError, match=r"^\S*missing\.mp4 does not exist"):
            processor(missing)
        with pytest.raises(ValueError, match="trajectories of video 1 of 2 have 2 frames"):
            processor([clip, clip], trajectories=[None, Trajectories(np.ones((2, 48, 64), int))])

    def test_sizes_must_agree_when_nothing_is_resized(self, processor):
        inputs = processor(moving_frames(4, 40, 72), do_resize=False)
        assert inputs["pixel_values_videos"].shape == (1, 4, 3, 40, 72)
        with pytest.raises(ValueError, match="differ in height and width"):
            processor([moving_frames(4, 40, 72), moving_frames(4, 40, 64)], do_resize=False)


class TestSettings:
    def test_defaults_are_the_papers(self):
        processor = TrajViTVideoProcessor()
        assert processor.num_frames == 16
        assert dict(processor.size) == {"height": 224, "width": 224}
        assert processor.generator == TrajectoryGenerator().to_dict()

    def test_settings_survive_saving(self, tmp_path, clip):
        detector = {"hsv_threshold": 20.0}
        generator = {"backend": "stripes", "num_stripes": 3, "max_trajectories": 2, "key_frame_detector": detector}
        processor = TrajViTVideoProcessor(num_frames=6, feature_size=28, size=112, generator=generator)
        processor.save_pretrained(tmp_path)
        restored = TrajViTVideoProcessor.from_pretrained(tmp_path)
        assert restored.to_dict() == processor.to_dict()
        assert restored.generator["key_frame_detector"]["hsv_threshold"] == 20.0
        assert restored.generator["key_frame_detector"]["rgb_threshold"] == 12.0
        assert restored.generator["num_stripes"] == 3
        inputs = restored(clip)
        assert inputs["pixel_values_videos"].shape == (1, 6, 3, 112, 112)
        assert inputs["trajectory_maps"].shape == (1, 6, 28, 28)
        assert inputs["trajectory_attention_mask"].shape == (1, 2)
        assert TrajViTVideoProcessor.from_pretrained(tmp_path, num_frames=3).num_frames == 3

    def test_auto_class(self, tmp_path):
        TrajViTVideoProcessor(num_frames=5).save_pretrained(tmp_path)
        processor = AutoVideoProcessor.from_pretrained(tmp_path)
        assert type(processor).__name__ == "TrajViTVideoProcessor"
        assert processor.num_frames == 5

    def test_a_generator_gives_its_settings(self, clip):
        generator = TrajectoryGenerator("stripes", num_stripes=2, max_trajectories=7)
        processor = TrajViTVideoProcessor(generator=generator)
        assert processor.generator == generator.to_dict()
        assert json.loads(processor.to_json_string())["generator"] == generator.to_dict()
        assert processor(clip, num_frames=2)["trajectory_attention_mask"].shape == (1, 2)

    def test_options_belong_to_their_backend(self, clip):
        processor = TrajViTVideoProcessor(generator={**STRIPES, "num_stripes": 3})
        processor(clip, generator={"max_trajectories": 2})
        processor(moving_frames(2, 40, 56), generator={"backend": "classic"})

    def test_a_call_changes_nothing(self, processor, clip):
        before = processor.to_dict()
        processor(clip, num_frames=2, generator={"num_stripes": 2, "key_frame_detector": {"min_votes": 1}}, size=64)
        assert processor.to_dict() == before

    def test_already_sampled_frames_are_all_taken(self, processor):
        frames = moving_frames(10)
        inputs = processor(frames, do_sample_frames=False)
        assert inputs["pixel_values_videos"].shape[1] == 10
        assert processor(frames)["pixel_values_videos"].shape[1] == 4

    def test_frames_of_arrays_are_timed_by_their_metadata(self, processor):
        frames = moving_frames(8)
        inputs = processor(frames, return_trajectories=True, video_metadata={"fps": 2.0, "total_num_frames": 8})
        assert inputs["trajectories"][0].timestamps.tolist() == [0.5, 1.5, 2.5, 3.5]

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"feature_size": 0}, "feature_size"),
            ({"num_frames": 0}, "num_frames"),
            ({"generator": {"max_trajectories": 0}}, "max_trajectories"),
            ({"generator": {"short_side": "large"}}, "short_side"),
            ({"do_center_crop": True}, "do_center_crop"),
            ({"fps": 2}, "fps"),
        ],
    )
    def test_settings_are_checked(self, processor, clip, setting, message):
        with pytest.raises(ValueError, match=message):
            TrajViTVideoProcessor(**setting)
        with pytest.raises(ValueError, match=message):
            processor(clip, **setting)

    def test_unknown_settings_are_refused(self, processor, clip):
        with pytest.raises(ValueError, match="no setting colour"):
            processor(clip, colour="blue")
        with pytest.raises(ValueError, match="no option 'hue'"):
            processor(clip, generator={"hue": 3})
        with pytest.raises(TypeError, match="generator must be a dict"):
            TrajViTVideoProcessor(generator="classic")


class TrajViTForVideoClassification(TrajViTPreTrainedModel):
    """A linear classifier on the vision tower, as the pipeline needs one."""

    def __init__(self, config):
        super().__init__(config)
        self.vision_model = TrajViTModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, pixel_values_videos, trajectory_maps, trajectory_attention_mask, **kwargs):
        outputs = self.vision_model(pixel_values_videos, trajectory_maps, trajectory_attention_mask)
        return ImageClassifierOutput(logits=self.classifier(outputs.pooler_output))


def test_the_video_classification_pipeline(processor, clip):
    model = TrajViTForVideoClassification(TrajViTConfig.from_name("tiny", num_frames=4, num_labels=3)).eval()
    classify = pipeline("video-classification", model=model, video_processor=processor)
    single, batch = classify(clip, top_k=3), classify([clip, clip])
    assert {answer["label"] for answer in single} == {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert sum(answer["score"] for answer in single) == pytest.approx(1, abs=1e-4)
    assert len(batch) == 2
    with torch.no_grad():
        expected = model(**processor(clip)).logits.softmax(-1).max().item()
    assert single[0]["score"] == pytest.approx(expected, abs=1e-5)
