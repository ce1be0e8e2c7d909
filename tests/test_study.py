"""The study in the small: its worlds, one run of it from pretraining to the record, and its page."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from trajvit.evaluation import study_run
from trajvit.evaluation.small_scale import StudyError, app, begin_study, changed, read_settings, small_scale
from trajvit.evaluation.study_checkpoint import make_checkpoint
from trajvit.evaluation.study_report import BEGIN, END, ReportError, chance_of, read_records, write_report
from trajvit.evaluation.study_run import record_path
from trajvit.evaluation.study_settings import PRESETS, SYSTEMS, StudySettings
from trajvit.evaluation.study_worlds import classification_sets, detection_sets, make_worlds, retrieval_set
from trajvit.modeling_trajvit import TrajViTForContrastive
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.training.rendered_world import create_world, num_chunks, render_chunk
from trajvit.training.synthetic_world import MOTIONS

SETTINGS = replace(PRESETS["smoke"], train_clips=16, test_clips=12, detection_clips=8, probe_train_clips=16, steps=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    begin_study(folder, SETTINGS)
    from trajvit.evaluation.study_worlds import world_sources

    for name, source in world_sources(SETTINGS).items():
        create_world(folder / "worlds" / name, source)
        for chunk in range(num_chunks(source.num_samples)):
            render_chunk(folder / "worlds" / name, chunk)
    return folder


def test_all_towers_take_part():
    assert {system.tower for system in SYSTEMS.values()} == set(VISION_TOWER_CONFIGS)


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_systems_differ_in_their_tower_alone(name, tmp_path):
    configs = [
        study_run.pretraining_config(tmp_path, tmp_path / "run", SETTINGS, SYSTEMS[system], 3)
        for system in (name, "vit3d")
    ]
    for config in configs:
        width = config.model.vision["hidden_size"], config.model.vision["num_hidden_layers"]
        assert width == (SETTINGS.hidden_size, SETTINGS.num_layers)
        config.model.tower = config.model.vision = None
        config.data[0].columns = {}
    assert configs[0] == configs[1]


def test_sets_tell_what_the_world_shows(study):
    worlds = study / "worlds"
    data = retrieval_set(worlds, "exact")
    assert len(data.items) == len(data.texts) == 12
    item = data.items[3]
    assert item.media.frames.shape == (4, 48, 48, 3)
    assert item.trajectories.shape == (4, 48, 48)
    assert [media.key for media in data.items[2:4]] == ["000002", "000003"]
    for what in ("motion", "shape"):
        train, test = classification_sets(worlds, "exact", what)
        assert train.class_names == test.class_names
        assert (len(train.labels), len(test.labels)) == (16, 16)
        assert len(set(train.labels)) > 1
    train_boxes, test_boxes = detection_sets(worlds, "exact", SETTINGS)
    assert (len(train_boxes.key_frames), len(test_boxes.key_frames)) == (8, 12)
    boxes = np.concatenate([key_frame.boxes for key_frame in test_boxes.key_frames])
    assert len(boxes) > 5
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for key_frame in test_boxes.key_frames:
        ids = key_frame.item.trajectories.ids[2]
        for box in key_frame.boxes:
            x1, y1, x2, y2 = np.rint(box * 48).astype(int)
            inside = np.bincount(ids[y1:y2, x1:x2].ravel())[1:]
            # Some trajectory other than the background lies in the box with all its pixels.
            assert any(count == (ids == number + 1).sum() > 0 for number, count in enumerate(inside))
        assert all(0 <= action < len(MOTIONS) for actions in key_frame.actions for action in actions)


def test_a_run_leaves_a_record_and_is_not_done_again(study, monkeypatch):
    record = study_run.run(study, SETTINGS, "trajvit", 0, "cpu")
    metrics = record["metrics"]
    assert 1 < metrics["tokens"] < 8
    assert metrics["gflop"] > 0
    for name in ("txt2vid_R@10", "vid2txt_R@1", "motion_top_1", "shape_top_1", "mAP_ground_truth_boxes"):
        assert 0 <= metrics[name] <= 100
    assert record["pretraining_cpu_s"] > 0
    assert read_records(study) == [json.loads((study / "records" / "trajvit-0.json").read_text())]
    # Every run is done: no process starts, and no world is rendered.
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a run was started"))
    small_scale(study, SETTINGS, ["trajvit"], [0], jobs=1)

    (study / "records" / "trajvit-0.json").unlink()
    monkeypatch.setattr("trajvit.training.pretrain.Pretraining.run", lambda *_: pytest.fail("it was trained again"))
    again = study_run.run(study, SETTINGS, "trajvit", 0, "cpu")
    assert again["metrics"] == pytest.approx(metrics)


def test_a_run_becomes_a_checkpoint_that_says_how_to_make_it(study, tmp_path):
    if not record_path(study, "trajvit", 0).exists():
        study_run.run(study, SETTINGS, "trajvit", 0, "cpu")
    folder = make_checkpoint(study, "trajvit", 0, tmp_path / "checkpoint")
    trained = study / "runs" / "trajvit-0" / "pretraining" / "model"
    model, expected = (TrajViTForContrastive.from_pretrained(path).state_dict() for path in (folder, trained))
    assert all(torch.equal(model[name], expected[name]) for name in expected)
    assert TrajViTProcessor.from_pretrained(folder).video_processor.num_frames == 4
    assert not list(folder.glob("*.py"))
    card = (folder / "README.md").read_text()
    command = re.search(r"python evaluation/small_scale.py runs/small_scale (.*) --system trajvit --seed 0\n", card)
    assert changed(replace(PRESETS["default"], seeds=(0,)), command.group(1).split()) == SETTINGS
    assert f"| motion, top-1 | {read_records(study)[0]['metrics']['motion_top_1']:.1f} |" in card
    with pytest.raises(ValueError, match="has no finished run of 'vit3d' with seed 0"):
        make_checkpoint(study, "vit3d", 0, tmp_path / "other")


def test_worlds_are_made_by_several_processes(tmp_path):
    settings = replace(
        SETTINGS, train_clips=2, test_clips=2, detection_clips=1, probe_train_clips=2, probe_test_clips=2
    )
    make_worlds(tmp_path, settings, jobs=2, tracked=True)
    data = retrieval_set(tmp_path, "tracked")
    assert 1 < data.items[0].trajectories.num_trajectories <= 16


def test_a_failed_run_is_told_after_the_others(study, monkeypatch):
    # A system that its process does not know stands for any run that fails there.
    monkeypatch.setitem(SYSTEMS, "nothing", SYSTEMS["vit3d"])
    with pytest.raises(StudyError, match=r"nothing, seed 0 failed: exit status 1; .*log.txt ends with[\s\S]*KeyError"):
        small_scale(study, SETTINGS, ["nothing"], [0], jobs=1)


def make_records(folder):
    values = {"trajvit": (20.0, 24.0), "vit3d": (10.0, 12.0), "token_merge": (11.0, 11.0)}
    for system, recalls in values.items():
        for seed, recall in enumerate(recalls):
            metrics = {"txt2vid_R@10": recall, "txt2vid_median_rank": 50 - recall, "tokens": 4.0, "gflop": 0.5}
            metrics |= {"parameters": 1.5e6} | ({"mAP_ground_truth_boxes": 30.0} if system == "trajvit" else {})
            record = {"system": system, "seed": seed, "device": "cpu", "metrics": metrics, "pretraining_s": 60.0}
            (folder / "records").mkdir(exist_ok=True)
            (folder / "records" / f"{system}-{seed}.json").write_text(json.dumps(record))


def test_the_page_has_means_deviations_and_the_best(tmp_path):
    make_records(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# Results\n\n{BEGIN}\nold\n{END}\n\nWhat people wrote.\n")
    assert write_report(tmp_path, StudySettings(), page) == page
    text = page.read_text()
    assert text.startswith("# Results\n\n")
    assert text.endswith("What people wrote.\n")
    assert "old" not in text
    row = next(line for line in text.splitlines() if line.startswith("| `trajvit`"))
    # Two values 20 and 24: their deviation is the root of 8.
    assert "**22.0 ± 2.8**" in row
    assert "**28.0 ± 2.8**" in row
    assert "| `vit3d` | n/a | n/a | 11.0 ± 1.4 | 39.0 ± 1.4 | n/a" in text
    assert "6 runs on cpu: 320 steps of 32 clips out of 2,048" in text
    image = re.search(r"\((images/.*?)\)", text).group(1)
    assert (tmp_path / image).stat().st_size > 5000
    assert write_report(tmp_path, StudySettings()).name == "results.md"


def test_chance_is_that_of_random_ranks():
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, StudySettings().test_clips + 1, 200_000)
    chance = chance_of(StudySettings())
    assert chance["txt2vid_R@10"] == pytest.approx(100 * (ranks <= 10).mean(), abs=0.2)
    assert chance["txt2vid_median_rank"] == pytest.approx(np.median(ranks), abs=2)


def test_wrong_pages_folders_and_options_are_named(tmp_path):
    with pytest.raises(ReportError, match="has no finished run"):
        write_report(tmp_path, StudySettings())
    make_records(tmp_path)
    (tmp_path / "page.md").write_text("# Nothing\n")
    with pytest.raises(ReportError, match="has no place for the study"):
        write_report(tmp_path, StudySettings(), tmp_path / "page.md")
    begin_study(tmp_path, StudySettings())
    assert read_settings(tmp_path) == StudySettings()
    with pytest.raises(StudyError, match="holds a study of other settings"):
        begin_study(tmp_path, StudySettings(steps=7))
    assert changed(StudySettings(), ["steps=7", "learning_rate=1e-3"]) == StudySettings(steps=7, learning_rate=1e-3)
    with pytest.raises(StudyError, match="'stepz=7' sets no setting"):
        changed(StudySettings(), ["stepz=7"])
    with pytest.raises(StudyError, match="expected int for steps"):
        changed(StudySettings(), ["steps=many"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "huge"], "--preset is 'huge'; expected one of default, large, smoke"),
        (["--system", "vjepa"], "--system is 'vjepa'; expected one of trajvit, trajvit-tracked"),
        (["--device", "tpu"], "--device is 'tpu'; expected one of cpu, cuda"),
        (["epochs=3"], "'epochs=3' sets no setting"),
    ],
)
def test_the_command_names_a_wrong_option(arguments, said, tmp_path):
    done = CliRunner().invoke(app, [str(tmp_path / "study"), *arguments])
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "study").exists()
