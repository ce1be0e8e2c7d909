"""`trajvit info` and `trajvit doctor`, as a user types them."""

import configparser
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import noise, result, trajvit
from evaluated_models import make_contrastive
from numbered_videos import write_video
from PIL import Image

from trajvit import installation_checks
from trajvit.modeling_trajvit import (
    TrajViTConfig,
    TrajViTForContrastive,
    TrajViTForVideoClassification,
    TrajViTModel,
    TrajViTVideoClassificationConfig,
)
from trajvit.processing.trajectories import Trajectories
from trajvit.search_demo import CHECKPOINT


def test_the_shipped_checkpoint():
    told = result("info", CHECKPOINT)
    model = TrajViTForContrastive.from_pretrained(CHECKPOINT)
    assert (told["kind"], told["model_type"], told["tower"]) == ("checkpoint", "trajvit_contrastive", "trajvit")
    assert told["parameters"] == model.num_parameters() == sum(told["parameters_by_part"].values())
    for part, count in told["parameters_by_part"].items():
        own = [each.numel() for name, each in model.named_parameters() if name == part or name.startswith(f"{part}.")]
        assert count == sum(own)
    assert told["sizes"]["num_frames"] == model.config.vision_config.num_frames
    assert told["processor"]["max_trajectories"] == 16
    assert told["classes"] is None
    done = trajvit("info", CHECKPOINT)
    assert f"parameters\t{model.num_parameters():,}" in done.stdout


@pytest.mark.parametrize("tower", ["trajvit", "vit3d"])
def test_the_pipelines_are_those_that_the_model_registers(tower, tmp_path):
    model = make_contrastive(tower)
    model.save_pretrained(tmp_path)
    assert set(result("info", tmp_path)["pipelines"]) == set(model.config.pipeline_tasks())


def test_towers_classifiers_and_weights_in_several_files(tmp_path):
    tower = TrajViTModel(TrajViTConfig.from_name("tiny"))
    tower.save_pretrained(tmp_path / "tower", max_shard_size="1MB")
    told = result("info", tmp_path / "tower")
    assert told["model_type"] == told["tower"] == "trajvit"
    assert told["parameters"] == tower.num_parameters()
    assert not told["weights"].startswith("1 ")
    assert told["processor"] is None
    config = TrajViTVideoClassificationConfig.from_name("tiny", num_labels=7)
    TrajViTForVideoClassification(config).save_pretrained(tmp_path / "classifier")
    told = result("info", tmp_path / "classifier")
    assert (told["classes"], told["pipelines"][0]) == (7, "video-classification")


def test_a_checkpoints_code_and_pickles_are_left_alone(tmp_path):
    shutil.copytree(CHECKPOINT, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "model" / "modeling_trajvit.py").write_text("raise SystemExit('run')")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    told = result("info", tmp_path / "model")
    assert told["parameters"] is None
    assert "pytorch_model.bin, which is a pickle" in told["weights"]
    assert told["carries_code"] == ["modeling_trajvit.py"]


def test_a_trajectories_file(tmp_path):
    ids = np.zeros((4, 8, 10), np.int32)
    ids[:, :4] = 1
    ids[2, 6:] = 2
    file = tmp_path / "clip.traj.png"
    Trajectories(ids, [3, 5, 7, 9], [0.1, 0.2, 0.3, 0.4], (0, 2)).save(file)
    told = result("info", file)
    assert told["kind"] == "trajectories"
    assert (told["frames"], told["height"], told["width"], told["trajectories"]) == (4, 8, 10, 2)
    assert (told["frame_indices"], told["timestamps"]) == ([3, 5, 7, 9], [0.1, 0.2, 0.3, 0.4])
    assert told["key_frames"] == [0, 2]
    assert told["coverage"] == pytest.approx(0.5 + 0.25 / 4)
    assert told["trajectories_per_frame"] == {"least": 1, "mean": 1.25, "most": 2}
    assert told["lifetimes"] == {"median": 2.5, "mean": 2.5, "whole_video": 1, "one_frame": 1}
    assert "key frames\t0 (0.10 s), 2 (0.30 s)" in trajvit("info", file).stdout
    file.write_bytes(file.read_bytes()[:-20])
    assert "is not a valid trajectories file" in trajvit("info", file).stderr


def test_videos_images_and_several_things(tmp_path):
    video, image = tmp_path / "v.mp4", tmp_path / "i.png"
    write_video(str(video), noise(6), rate=12)
    Image.fromarray(noise()[0, :20]).save(image)
    told = result("info", video)
    assert (told["kind"], told["width"], told["height"], told["frames"]) == ("video", 64, 64, 6)
    assert (told["fps"], told["seconds"], told["codec"]) == (12, 0.5, "h264")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    told = result("info", video, image, tmp_path / "bad.mp4", "nowhere", code=1)
    assert [each["kind"] for each in told["found"]] == ["video", "image"]
    assert (told["found"][1]["width"], told["found"][1]["height"]) == (64, 20)
    assert [each["input"] for each in told["failures"]] == [str(tmp_path / "bad.mp4"), "nowhere"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no config.json"),
        ({"config.json": "{"}, "config.json cannot be read"),
        ({"config.json": "[1]"}, "it holds a list"),
        ({"config.json": '{"model_type": "bert"}'}, "model_type='bert'; expected a vision tower"),
        ({"config.json": '{"model_type": "trajvit"}', "model.safetensors": "xxxxxxxxxx"}, "is no safetensors file"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = trajvit("info", tmp_path)
    assert done.exit_code == 1
    assert message in done.stderr


def test_the_doctor_finds_this_installation_well():
    told = result("doctor")
    assert told["works"] is True
    by_name = {check["name"]: check for check in told["checks"]}
    assert by_name["shipped model"]["status"] == "ok"
    assert "H.264" in by_name["video decoders"]["found"]
    assert all((check["mend"] is None) == (check["status"] == "ok") for check in told["checks"])


def test_the_doctor_names_the_command_that_mends_a_lack(monkeypatch):
    needed = ["numpy>=99", "av>=14.1", 'sam2>=1.1.0; extra == "sam2"', 'datasets>=99; extra == "scale"']
    plain = installation_checks._version
    monkeypatch.setattr(installation_checks, "requires", lambda name: needed)
    monkeypatch.setattr(installation_checks, "_version", lambda name: None if name == "sam2" else plain(name))
    monkeypatch.setattr(installation_checks, "_shipped_model", lambda: 1 / 0)
    told = result("doctor", code=1)
    by_name = {check["name"]: check for check in told["checks"]}
    assert told["works"] is False
    assert by_name["numpy"]["status"] == "broken"
    assert by_name["numpy"]["mend"].endswith("-m pip install 'numpy>=99'")
    assert by_name["av"]["status"] == "ok"
    assert by_name["extra sam2"]["status"] == by_name["extra scale"]["status"] == "missing"
    assert by_name["extra sam2"]["mend"].startswith("SAM2_BUILD_CUDA=0 ")
    assert by_name["extra sam2"]["mend"].endswith("--no-build-isolation 'sam2>=1.1.0'")
    assert by_name["extra scale"]["mend"].endswith("'datasets>=99'")
    assert by_name["shipped model"]["found"].startswith("ZeroDivisionError")


def test_the_doctor_knows_the_extras_that_the_package_has():
    content = configparser.ConfigParser()
    content.read(Path(__file__).resolve().parent.parent / "setup.cfg")
    assert {*installation_checks.EXTRAS, "dev", "docs"} == set(content["options.extras_require"])


def test_facts_are_json_that_other_programs_read(tmp_path):
    write_video(str(tmp_path / "v.mp4"), noise(4))
    done = trajvit("info", tmp_path / "v.mp4", "--json")
    assert done.stdout.endswith("}\n")
    assert json.loads(done.stdout)["path"] == str(tmp_path / "v.mp4")
