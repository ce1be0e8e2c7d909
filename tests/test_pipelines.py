"""Pipelines: every kind of input, batches, what they answer, and how they travel with a checkpoint."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from numbered_videos import write_video
from PIL import Image
from tower_models import TOWERS, make_config, make_tower
from transformers import AutoConfig, AutoModel, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from trajvit import (
    Trajectories,
    TrajViTForContrastive,
    TrajViTForVideoClassification,
    TrajViTProcessor,
    TrajViTVideoClassificationConfig,
    TrajViTVideoProcessor,
)
from trajvit.modeling_trajvit import carried_pipelines
from trajvit.modeling_trajvit.video_pipelines import PIPELINES, collate_videos
from trajvit.search_demo import CHECKPOINT
from trajvit.training.synthetic import SyntheticSource

TEXTS = ["a red star moves left", "a blue ring", "a green square turns"]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Not on the console."""


@pytest.fixture(scope="module")
def clips():
    """Three clips of 8 frames of 80 x 80, of which the second is cut to 5."""
    source = SyntheticSource("pipelines", "test", "video", 3, 8, {"image_size": 80, "seed": 3})
    frames = [source.read({"key": str(index), "index": index}).frames for index in range(3)]
    return [frames[0], frames[1][:5], frames[2]]


@pytest.fixture(scope="module")
def shipped():
    return TrajViTForContrastive.from_pretrained(CHECKPOINT).eval(), TrajViTProcessor.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def features(shipped):
    return pipeline("video-feature-extraction", model=shipped[0], video_processor=shipped[1].video_processor)


@pytest.fixture(scope="module")
def searcher(shipped):
    return pipeline("text-to-trajectory-search", model=shipped[0], processor=shipped[1])


@pytest.fixture(scope="module")
def expected(shipped, clips):
    """What the model answers to each clip alone and all texts."""
    model, processor = shipped
    with torch.no_grad():
        return [model(**processor(videos=[clip], text=TEXTS)) for clip in clips]


class TestFeatures:
    def test_every_kind_of_input_gives_what_the_model_gives(self, features, expected, clips, tmp_path):
        wanted = expected[0].video_embeds[0]
        lossless = {"codec": "libx264rgb", "pix_fmt": "rgb24", "options": {"crf": "0"}}
        # A server without ranges can only be read from the front.
        file = write_video(tmp_path / "clip.mp4", list(clips[0]), **lossless, muxing={"movflags": "+faststart"})
        handler = partial(QuietHandler, directory=str(tmp_path))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_address[1]}/clip.mp4"
            sources = [
                str(file),
                file,
                url,
                file.read_bytes(),
                clips[0],
                torch.from_numpy(clips[0]).permute(0, 3, 1, 2),
                [Image.fromarray(frame) for frame in clips[0]],
            ]
            answers = features(sources)
            server.shutdown()
        for source, answer in zip(sources, answers, strict=True):
            torch.testing.assert_close(torch.tensor(answer), wanted, rtol=0, atol=2e-5, msg=str(type(source)))
        assert features(str(file), return_tensors=True).shape == wanted.shape

    def test_a_batch_gives_what_its_videos_give_alone(self, features, expected, clips):
        batched = features(list(clips), batch_size=3)
        streamed = list(features((clip for clip in clips), batch_size=2))
        for answer, again, wanted in zip(batched, streamed, expected, strict=True):
            torch.testing.assert_close(torch.tensor(answer), wanted.video_embeds[0], rtol=0, atol=1e-5)
            torch.testing.assert_close(torch.tensor(again), wanted.video_embeds[0], rtol=0, atol=1e-5)

    def test_without_pooling_it_gives_the_tokens_that_are_there(self, features, expected, clips):
        for tokens, wanted in zip(
            features(list(clips), batch_size=3, pool=False, return_tensors=True), expected, strict=True
        ):
            own = wanted.vision_model_output
            torch.testing.assert_close(tokens, own.last_hidden_state[0][own.token_mask[0]], rtol=1e-4, atol=1e-4)

    def test_settings_of_the_processor_are_taken(self, features, clips):
        inputs = features.preprocess(clips[0], num_frames=3)
        assert inputs["pixel_values_videos"].shape[1] == 3
        with pytest.raises(ValueError, match="has no setting num_frame"):
            features(clips[0], num_frame=3)

    def test_no_video_gives_no_result(self, features):
        assert features([]) == []

    def test_a_video_that_is_none_is_named(self, features, tmp_path):
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        with pytest.raises(ValueError, match=r"broken\.mp4"):
            features(str(tmp_path / "broken.mp4"))

    @pytest.mark.parametrize("tower", TOWERS)
    def test_every_tower_has_it(self, tower, clips):
        model = make_tower(tower)
        settings = {"height": 32, "width": 32}
        processor = TrajViTVideoProcessor(
            num_frames=4, size=settings, feature_size=8, generate_trajectories=model.config.needs_trajectories
        )
        extract = pipeline("video-feature-extraction", model=model, video_processor=processor)
        with torch.no_grad():
            wanted = model(**processor([clips[0]], return_tensors="pt")).pooler_output[0]
        torch.testing.assert_close(extract(clips[0], return_tensors=True), wanted)

    def test_it_loads_in_half_precision_on_a_device(self, clips, expected):
        half = pipeline("video-feature-extraction", model=str(CHECKPOINT), dtype=torch.bfloat16, device="cpu")
        assert half.model.dtype == torch.bfloat16
        answer = half(clips[0], return_tensors=True)
        assert torch.nn.functional.cosine_similarity(answer, expected[0].video_embeds[0], dim=0) > 0.99


class TestZeroShot:
    def test_scores_are_those_of_the_contrastive_model(self, shipped, expected, clips):
        classify = pipeline("zero-shot-video-classification", model=shipped[0], processor=shipped[1])
        for batch_size in (1, 3):
            answers = classify(list(clips), candidate_labels=TEXTS, batch_size=batch_size)
            for answer, wanted in zip(answers, expected, strict=True):
                scores = wanted.logits_per_video[0].softmax(-1)
                assert [row["label"] for row in answer] == [TEXTS[i] for i in scores.argsort(descending=True)]
                assert [row["score"] for row in answer] == pytest.approx(
                    scores.sort(descending=True).values.tolist(), abs=1e-5
                )

    def test_labels_go_into_the_template(self, shipped, clips):
        classify = pipeline("zero-shot-video-classification", model=shipped[0], processor=shipped[1])
        given = classify(clips[0], candidate_labels="star, ring", hypothesis_template="a red {} moves left")
        whole = classify(clips[0], candidate_labels=["a red star moves left", "a red ring moves left"])
        assert [row["score"] for row in given] == [row["score"] for row in whole]
        assert {row["label"] for row in given} == {"star", "ring"}

    def test_what_is_wrong_is_told(self, shipped, clips):
        classify = pipeline("zero-shot-video-classification", model=shipped[0], processor=shipped[1])
        with pytest.raises(ValueError, match="candidate_labels are missing"):
            classify(clips[0])
        with pytest.raises(ValueError, match=r"candidate_labels is \[\]"):
            classify(clips[0], candidate_labels=[])
        with pytest.raises(ValueError, match="hypothesis_template is 'a video'"):
            classify(clips[0], candidate_labels=TEXTS, hypothesis_template="a video")


class TestTrajectorySearch:
    def test_each_trajectory_is_scored_as_if_it_were_alone(self, shipped, searcher, clips):
        model, processor = shipped
        result = searcher(clips[0], text=TEXTS[0], top_k=None, return_trajectories=True)
        trajectories = result["trajectories"]
        assert sorted(match["trajectory"] for match in result["matches"]) == list(
            range(1, trajectories.num_trajectories + 1)
        )
        scores = [match["score"] for match in result["matches"]]
        assert scores == sorted(scores, reverse=True)
        for match in result["matches"][:3]:
            alone = trajectories.select([match["trajectory"]])
            inputs = processor(videos=[clips[0]], trajectories=[alone], text=[TEXTS[0]])
            with torch.no_grad():
                outputs = model(**inputs)
            assert match["score"] == pytest.approx(float(outputs.video_embeds[0] @ outputs.text_embeds[0]), abs=1e-4)

    def test_boxes_hold_the_pixels_of_their_trajectory(self, searcher, clips):
        result = searcher(clips[1], text=TEXTS[0], top_k=4, return_trajectories=True, video_metadata={"fps": 10.0})
        ids = result["trajectories"].ids
        assert len(result["matches"]) == 4
        for match in result["matches"]:
            frames = [t for t in range(len(ids)) if (ids[t] == match["trajectory"]).any()]
            assert [box["frame"] for box in match["boxes"]] == frames
            assert [box["timestamp"] for box in match["boxes"]] == pytest.approx([t / 10 for t in frames])
            for box in match["boxes"]:
                rows, columns = np.nonzero(ids[box["frame"]] == match["trajectory"])
                height, width = ids.shape[1:]
                assert box["box"] == pytest.approx(
                    {
                        "xmin": columns.min() / width,
                        "ymin": rows.min() / height,
                        "xmax": (columns.max() + 1) / width,
                        "ymax": (rows.max() + 1) / height,
                    }
                )

    def test_texts_and_batches(self, searcher, clips):
        alone = [searcher(clip, text=TEXTS) for clip in clips]
        batched = searcher(list(clips), text=TEXTS, batch_size=3)
        assert [len(each) for each in batched] == [3, 3, 3]
        for one, other in zip(alone, batched, strict=True):
            for matches, again in zip(one, other, strict=True):
                assert [row["trajectory"] for row in matches] == [row["trajectory"] for row in again]
                assert [row["score"] for row in matches] == pytest.approx([row["score"] for row in again], abs=1e-5)
        single = searcher(clips[0], text=TEXTS[1])
        assert [row["boxes"] for row in single] == [row["boxes"] for row in alone[0][1]]

    def test_numbers_are_those_that_the_model_sees(self, shipped, searcher):
        """A trajectory too small for the feature grid must not shift the numbers of those after it."""
        frames = np.full((4, 80, 80, 3), 90, dtype=np.uint8)
        ids = np.zeros((4, 80, 80), dtype=np.int64)
        ids[:, :40] = 1
        ids[:, 44:45, 44:45] = 2
        ids[:, 50:, 20:60] = 3
        given = Trajectories(ids)
        assert given.ids_at(20, 20).tolist() == [1, 3]
        result = searcher(frames, text=TEXTS[0], trajectories=[given], return_trajectories=True)
        assert result["trajectories"] == given.select([1, 3])
        box = {match["trajectory"]: match["boxes"][0]["box"] for match in result["matches"]}
        assert sorted(box) == [1, 2]
        assert box[2] == {"xmin": 0.25, "ymin": 0.625, "xmax": 0.75, "ymax": 1.0}

    def test_what_is_wrong_is_told(self, shipped, searcher, clips):
        with pytest.raises(ValueError, match="text is missing"):
            searcher(clips[0])
        with pytest.raises(ValueError, match=r"text is \[''\]"):
            searcher(clips[0], text=[""])
        with pytest.raises(ValueError, match="top_k is 0"):
            searcher(clips[0], text="a", top_k=0)
        with pytest.raises(ValueError, match="TrajViTModel has no text tower"):
            pipeline("text-to-trajectory-search", model=shipped[0].vision_model, processor=shipped[1])


def test_the_pipeline_of_transformers_takes_our_classifiers(clips, tmp_path):
    torch.manual_seed(2)
    labels = {0: "run", 1: "jump", 2: "eat"}
    config = TrajViTVideoClassificationConfig(vision_config=make_config("trajvit"), id2label=labels)
    model = TrajViTForVideoClassification(config).eval()
    processor = TrajViTVideoProcessor(num_frames=4, size={"height": 32, "width": 32}, feature_size=8)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    classify = pipeline("video-classification", model=str(tmp_path))
    file = write_video(tmp_path / "clip.mp4", list(clips[0]))
    for source in (str(file), clips[2]):
        with torch.no_grad():
            scores = model(**processor([source], return_tensors="pt")).logits[0].softmax(-1)
        answer = classify([source], top_k=2)[0]
        assert [row["label"] for row in answer] == [labels[i] for i in scores.argsort(descending=True)[:2].tolist()]
        assert [row["score"] for row in answer] == pytest.approx(sorted(scores.tolist(), reverse=True)[:2], abs=1e-5)
    assert "video-feature-extraction" in json.loads((tmp_path / "config.json").read_text())["custom_pipelines"]


class TestTravelling:
    def test_two_pipelines_on_one_checkpoint(self, shipped, searcher, tmp_path, clips):
        searcher.save_pretrained(tmp_path)
        pipeline("zero-shot-video-classification", model=shipped[0], processor=shipped[1]).save_pretrained(tmp_path)
        named = json.loads((tmp_path / "config.json").read_text())["custom_pipelines"]
        assert named.keys() == PIPELINES.keys()
        for task, entry in named.items():
            assert entry["impl"] == f"video_pipelines.{PIPELINES[task].__name__}"
        assert not getattr(shipped[0].config, "custom_pipelines", None)
        # Here trajvit is installed, and its own pipelines serve the tasks.
        again = pipeline("text-to-trajectory-search", model=str(tmp_path))
        assert type(again) is PIPELINES["text-to-trajectory-search"]
        assert again(clips[0], text=TEXTS[0]) == searcher(clips[0], text=TEXTS[0])

    def test_the_pipelines_of_others_stay(self, tmp_path):
        shutil.copytree(CHECKPOINT, tmp_path, dirs_exist_ok=True)
        path = tmp_path / "config.json"
        theirs = {"count-dogs": {"impl": "dogs.DogPipeline", "pt": ["AutoModel"]}}
        path.write_text(json.dumps({**json.loads(path.read_text()), "custom_pipelines": theirs}))
        config = AutoConfig.from_pretrained(tmp_path)
        assert config.custom_pipelines == theirs
        config.save_pretrained(tmp_path / "again")
        named = json.loads((tmp_path / "again" / "config.json").read_text())["custom_pipelines"]
        assert named.keys() == {*PIPELINES, "count-dogs"}
        assert config.custom_pipelines == theirs

    def test_configurations_name_the_pipelines_that_there_are(self):
        names = {task: pipeline_class.__name__ for task, pipeline_class in PIPELINES.items()}
        assert names == carried_pipelines._IMPLEMENTATIONS
        for task in PIPELINES:
            assert PIPELINE_REGISTRY.check_task(task)[1]["pt"] == (AutoModel,)


def test_a_batch_of_frames_of_other_sizes_is_refused():
    items = [{"pixel_values_videos": torch.zeros(1, 2, 3, side, side)} for side in (8, 16)]
    with pytest.raises(ValueError, match="differ in pixel_values_videos"):
        collate_videos(items)
