"""The tasks from annotation files to result files, on videos on disk and small models."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluated_models import make_model, moving_square, save_checkpoint, write_squares
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from trajvit.evaluation import small_scale, zero_shot_classification
from trajvit.evaluation.action_detection import evaluate_action_detection
from trajvit.evaluation.attentive_probing import evaluate_attentive_probing
from trajvit.evaluation.checkpoint_loading import CheckpointError, load_contrastive, load_tower, with_regions
from trajvit.evaluation.data_registry import open_classification_set, open_retrieval_set
from trajvit.evaluation.evaluation_data import (
    ActionDetectionSet,
    ActionKeyFrame,
    ClassificationSet,
    MediaItem,
    MissingMediaError,
    RetrievalSet,
)
from trajvit.evaluation.feature_extraction import Extraction
from trajvit.evaluation.probe_training import ProbeRecipe
from trajvit.evaluation.result_files import load_result
from trajvit.evaluation.retrieval import evaluate_retrieval, retrieval_metrics
from trajvit.evaluation.task_command import run_task
from trajvit.evaluation.zero_shot_classification import evaluate_zero_shot_classification
from trajvit.training.validation import retrieval_metrics as ranked_in_training

ROOT = Path(__file__).resolve().parent.parent
CAPTIONS = ["a red star", "a blue circle moves left", "a large green heart", "a yellow cross", "a pink ring turns"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_squares(folder, 5)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small")


@pytest.fixture
def extraction(tmp_path):
    return Extraction(tmp_path / "cache", batch_size=2, show_progress=False)


def write_msrvtt(path, numbers, captions_of_each=2):
    """The JSON file of MSR-VTT with these videos, `video0` being the file 0.mp4 renamed."""
    sentences = [
        {"caption": f"{CAPTIONS[number % 5]} {'again ' * turn}", "video_id": str(number), "sen_id": 0}
        for number in numbers
        for turn in range(captions_of_each)
    ]
    videos = [{"video_id": str(number), "category": 0, "split": "test", "id": number} for number in numbers]
    path.write_text(json.dumps({"info": {}, "videos": videos, "sentences": sentences}))
    return path


def embeddings(model, paths, texts):
    with torch.no_grad():
        inputs = model.video_processor(paths, return_tensors="pt")
        videos = model.model.get_video_features(**inputs).pooler_output
        rows = [
            model.model.get_text_features(**model.tokenizer(text, return_tensors="pt")).pooler_output for text in texts
        ]
    return tuple(torch.nn.functional.normalize(side, dim=-1) for side in (videos, torch.cat(rows)))


def test_retrieval_is_what_the_models_embeddings_give(videos, extraction, tmp_path):
    model = make_model()
    data = open_retrieval_set("msrvtt", write_msrvtt(tmp_path / "msrvtt.json", range(5)), videos)
    result = evaluate_retrieval(model, data, extraction, trained_on="panda-2m")
    expected = ranked_in_training(*embeddings(model, [str(videos / f"{n}.mp4") for n in range(5)], data.texts))
    for name, value in expected.items():
        if name != "num_videos":
            assert result.metrics[name] == pytest.approx(value)
    assert (result.num_items, result.trained_on, result.tower, result.missing) == (5, "panda-2m", "vit3d", {})
    assert result.settings["fingerprint"] == model.fingerprint


def test_equal_embeddings_find_nothing():
    vectors = torch.nn.functional.normalize(torch.ones(4, 8), dim=-1)
    found = retrieval_metrics(vectors, vectors, np.arange(4), np.arange(4))
    assert (found["txt2vid_R@1"], found["txt2vid_median_rank"], found["vid2txt_median_rank"]) == (0, 4, 4)


def test_no_number_is_reported_on_less_than_all_media(videos, extraction, tmp_path):
    (tmp_path / "some").mkdir()
    for number in range(3):
        (tmp_path / "some" / f"{number}.mp4").write_bytes((videos / f"{number}.mp4").read_bytes())
    (tmp_path / "some" / "3.mp4").write_bytes(b"no video at all")
    data = open_retrieval_set("msrvtt", write_msrvtt(tmp_path / "msrvtt.json", range(5)), tmp_path / "some")
    with pytest.raises(MissingMediaError, match=r"1 of 5 items cannot be used; expected all.*\n  4: there is no"):
        evaluate_retrieval(make_model(), data, extraction)
    present = replace(data, items=data.items[:4], texts=data.texts[:8], item_of_text=data.item_of_text[:8])
    with pytest.raises(MissingMediaError, match=r"msrvtt: 1 of 4 items cannot be used.*\n  3: its media cannot be"):
        evaluate_retrieval(make_model(), present, extraction)
    result = evaluate_retrieval(make_model(), data, extraction, allow_missing=True)
    assert sorted(result.missing) == ["3", "4"]
    assert (result.num_items, result.metrics["num_texts"]) == (3, 6)
    alone = open_retrieval_set("msrvtt", write_msrvtt(tmp_path / "three.json", range(3)), videos)
    assert evaluate_retrieval(make_model(), alone, extraction).metrics == pytest.approx(result.metrics)


def test_a_set_without_any_usable_media_is_an_error_whatever_is_allowed(extraction):
    data = RetrievalSet("none", (MediaItem("a", None, expected="a.mp4"),), ("a star",), (0,))
    with pytest.raises(MissingMediaError, match="1 of 1 items cannot be used; expected at least one"):
        evaluate_retrieval(make_model(), data, extraction, allow_missing=True)


def test_zero_shot_ranks_classes_by_the_mean_of_their_prompts(videos, extraction):
    model = make_model()
    names = ("red star", "blue circle", "green heart", "yellow cross", "pink ring", "cyan disc")
    items = tuple(MediaItem(str(number), str(videos / f"{number}.mp4")) for number in range(5))
    data = ClassificationSet("actions", items, (0, 1, 2, 3, 5), names)
    templates = ("{}", "we see a {}")
    result = evaluate_zero_shot_classification(model, data, extraction, templates)
    prompts = [template.replace("{}", name) for name in names for template in templates]
    encoded, texts = embeddings(model, [item.media for item in items], prompts)
    classes = torch.nn.functional.normalize(texts.view(6, 2, -1).mean(1), dim=-1)
    ranks = [1 + sum(row > row[label]).item() for row, label in zip(encoded @ classes.T, data.labels, strict=True)]
    for k in (1, 5):
        assert result.metrics[f"top_{k}"] == pytest.approx(100 * np.mean([rank <= k for rank in ranks]))
    assert result.settings["templates"] == list(templates)


def test_classes_are_named_as_they_are_spoken(videos, extraction, tmp_path, monkeypatch):
    (tmp_path / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 YoYo\n")
    (tmp_path / "testlist01.txt").write_text("ApplyEyeMakeup/0.mp4\n")
    data = open_classification_set("ucf101", tmp_path, videos)
    asked = []
    embed = zero_shot_classification.embed_classes

    def listen(model, names, *rest):
        asked.extend(names)
        return embed(model, names, *rest)

    monkeypatch.setattr(zero_shot_classification, "embed_classes", listen)
    evaluate_zero_shot_classification(make_model(), data, extraction, ("{}",))
    assert asked == ["apply eye makeup", "yo yo"]


def bright_and_dark(folder, count):
    """Videos of two classes that any features tell apart."""
    from numbered_videos import write_video

    folder.mkdir()
    items = []
    for number in range(count):
        frames = np.full((4, 32, 32, 3), 200 if number % 2 else 40, np.uint8) + moving_square(number, 4) // 12
        items.append(MediaItem(str(number), write_video(str(folder / f"{number}.mp4"), frames)))
    return ClassificationSet("light", tuple(items), tuple(n % 2 for n in range(count)), ("dark", "bright"))


def test_a_probe_learns_what_features_tell(extraction, tmp_path):
    model = make_model("rlt")
    tower = replace(model, model=model.model.vision_model, tokenizer=None)
    train, test = bright_and_dark(tmp_path / "train", 12), bright_and_dark(tmp_path / "test", 6)
    recipe = ProbeRecipe(learning_rate=1e-3, epochs=20, batch_size=6)
    result = evaluate_attentive_probing(tower, train, test, extraction, recipe)
    assert result.metrics == {"top_1": 100}
    assert (result.settings["num_train_items"], result.num_items, result.settings["epochs"]) == (12, 6, 20)
    shuffled = replace(test, labels=tuple(1 - label for label in test.labels))
    assert evaluate_attentive_probing(tower, train, shuffled, extraction, recipe).metrics == {"top_1": 0}
    other = replace(train, class_names=("dark", "light"))
    with pytest.raises(ValueError, match="light has other classes for training"):
        evaluate_attentive_probing(tower, other, test, extraction, recipe)


def test_detection_scores_boxes_by_their_own_features(extraction, tmp_path):
    """Every video has a bright half and a dark one; actions are bright (1), dark (2), and one that is never done."""
    from numbered_videos import write_video

    halves = (np.array([0, 0, 0.5, 1], np.float32), np.array([0.5, 0, 1, 1], np.float32))

    def make_set(count, first):
        key_frames = []
        for number in range(first, first + count):
            frames = moving_square(number, 4) // 8 + 30
            frames[:, :, 16 * (number % 2) : 16 * (number % 2) + 16] += 170
            item = MediaItem(str(number), write_video(str(tmp_path / f"{number}.mp4"), frames))
            actions = ((1,), (2,)) if number % 2 == 0 else ((2,), (1,))
            wrong = np.array([[0.1, 0.1, 0.2, 0.2]], np.float32)
            detected = np.concatenate([np.stack(halves), wrong])
            key_frames.append(ActionKeyFrame(item, 0.05, np.stack(halves), actions, detected, np.ones(3, np.float32)))
        return ActionDetectionSet("halves", tuple(key_frames), {1: "bright", 2: "dark", 7: "none"})

    model = make_model("vit3d")
    tower = replace(model, model=with_regions(model.model.vision_model), tokenizer=None)
    recipe = ProbeRecipe(learning_rate=2e-3, epochs=30, batch_size=8)
    train, test = make_set(8, 0), make_set(4, 20)
    result = evaluate_action_detection(tower, train, test, extraction, recipe)
    assert result.metrics["mAP_ground_truth_boxes"] == pytest.approx(100)
    # The boxes of the ground truth are found among the detected ones, beside wrong ones that cost precision.
    assert 50 < result.metrics["mAP_detected_boxes"] <= 100
    assert set(result.settings["AP"]["ground_truth_boxes"]) == {"bright", "dark"}
    assert result.num_items == 4


def test_average_precision_of_ground_truth_boxes_is_that_of_their_scores():
    """Where boxes match for certain, frame AP is the average precision of scores, but for its interpolation."""
    from trajvit.evaluation.metric_modules import load_metric

    rng = np.random.default_rng(0)
    truth, scores = rng.random(400) < 0.3, rng.random(400)
    metric = load_metric("ava_frame_map")
    box = [0.0, 0.0, 1.0, 1.0]
    for done, score in zip(truth, scores, strict=True):
        metric.add(
            prediction={"boxes": [box], "labels": [1], "scores": [score]},
            reference={"boxes": [box] * int(done), "labels": [1] * int(done)},
        )
    found = metric.compute()["mAP"]
    exact = 100 * average_precision_score(truth, scores)
    assert exact - 0.5 < found < exact + 5


def test_a_tower_that_cannot_localise_says_so(tmp_path):
    folder = save_checkpoint(tmp_path / "merge", "token_merge")
    with pytest.raises(CheckpointError, match=r"token_merge.* cannot localise"):
        load_tower(str(folder), for_regions=True)


def test_checkpoints_open_whole_or_as_their_tower(checkpoint, tmp_path):
    whole = load_contrastive(str(checkpoint))
    assert (whole.name, whole.tower, whole.is_contrastive) == ("small", "vit3d", True)
    tower = load_tower(str(checkpoint), for_regions=True)
    assert not tower.is_contrastive
    weights = whole.model.vision_model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in tower.model.state_dict().items())
    tower.model.save_pretrained(tmp_path / "tower")
    with pytest.raises(CheckpointError, match="model_type='vit3d'; expected 'trajvit_contrastive'"):
        load_contrastive(str(tmp_path / "tower"))
    with pytest.raises(CheckpointError, match="has no processor"):
        load_tower(str(tmp_path / "tower"))
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        load_tower(str(tmp_path / "nothing"))


def only_result(folder):
    (path,) = folder.glob("*.json")
    return load_result(path)


def run_script(task, *arguments, expect=0, capfd=None):
    """Run a task's script in this process; returns what it wrote."""
    from importlib import import_module

    module = import_module(f"trajvit.evaluation.{task}")
    with pytest.raises(SystemExit) as ended:
        run_task(module.main, module.__doc__, [str(argument) for argument in arguments])
    assert ended.value.code == expect
    return capfd.readouterr() if capfd else None


def test_a_script_writes_the_result_that_the_function_gives(checkpoint, videos, tmp_path, capfd):
    annotations = write_msrvtt(tmp_path / "msrvtt.json", range(5))
    common = (checkpoint, "--data", "msrvtt", "--annotations", annotations, "--media", videos, "--num-workers", 0)
    said = run_script("retrieval", *common, "--output", tmp_path / "results", "--device", "cpu", capfd=capfd)
    assert "retrieval of small (vit3d) on msrvtt: 5 items" in said.out
    result = only_result(tmp_path / "results")
    assert result.settings["data"] == {"annotations": "msrvtt.json"}
    data = open_retrieval_set("msrvtt", annotations, videos)
    expected = evaluate_retrieval(load_contrastive(str(checkpoint)), data, Extraction(tmp_path / "again", 32))
    assert result.metrics == pytest.approx(expected.metrics)
    said = run_script("retrieval", *common, "--media", tmp_path, "--output", tmp_path / "r", expect=2, capfd=capfd)
    assert "MissingMediaError: msrvtt: 5 of 5 items cannot be used" in said.err
    said = run_script("retrieval", *common, "--option", "split=train", expect=2, capfd=capfd)
    assert "split" in said.err
    said = run_script("retrieval", *common, "--option", "nothing=1", expect=2, capfd=capfd)
    assert "nothing" in said.err
    said = run_script("attentive_probing", *common, expect=2, capfd=capfd)
    assert "--train-option is missing" in said.err
    said = run_script("zero_shot_classification", *common, "--dtype", "float8", expect=2, capfd=capfd)
    assert "--dtype is 'float8'; expected one of float32, bfloat16, float16" in said.err


def test_a_probe_by_its_script(checkpoint, videos, tmp_path, capfd):
    for part, numbers in (("train", (0, 1, 2, 3)), ("val", (4, 1))):
        with open(tmp_path / f"{part}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
            writer.writerows([["jumping" if n % 2 else "running", f"v{n}", 0, 10, part] for n in numbers])
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(5):
        (clips / f"v{number}_000000_000010.mp4").write_bytes((videos / f"{number}.mp4").read_bytes())
    run_script(
        "attentive_probing",
        *(checkpoint, "--data", "kinetics400", "--annotations", tmp_path / "val.csv", "--media", clips),
        *("--train-option", f"annotations={tmp_path / 'train.csv'}", "--epochs", 2, "--num-workers", 0),
        *("--output", tmp_path / "results", "--device", "cpu"),
    )
    result = only_result(tmp_path / "results")
    assert (result.num_items, result.settings["num_train_items"], result.settings["epochs"]) == (2, 4, 2)


def test_two_processes_give_the_figures_of_one(checkpoint, videos, tmp_path):
    annotations = write_msrvtt(tmp_path / "msrvtt.json", [*range(5)], captions_of_each=3)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    script = [str(ROOT / "evaluation" / "retrieval.py"), str(checkpoint), "--data", "msrvtt"]
    options = ["--annotations", str(annotations), "--media", str(videos), "--batch-size", "2", "--num-workers", "0"]
    command = [*launch, "--main_process_port", "0", *script, *options, "--output", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    two = only_result(tmp_path / "two")
    data = open_retrieval_set("msrvtt", annotations, videos)
    alone = Extraction(tmp_path / "alone", 2, show_progress=False)
    assert two.metrics == evaluate_retrieval(load_contrastive(str(checkpoint)), data, alone).metrics


def test_help_says_what_a_script_does():
    assert "--preset" in CliRunner().invoke(small_scale.app, ["--help"]).output
