"""The efficiency evaluation counts what closed formulas say, on scenes, noise and videos, and refuses bad input."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from numbered_videos import write_numbered
from tower_models import TEXT, make_config, make_tower
from typer.testing import CliRunner

from trajvit.evaluation.efficiency import (
    EfficiencySettings,
    app,
    comparison_table,
    efficiency_so_far,
    measure_efficiency,
)
from trajvit.evaluation.efficiency_clips import ClipBatch
from trajvit.evaluation.measured_towers import MeasuredTower, new_tower, told_apart, tower_of_checkpoint
from trajvit.evaluation.result_files import load_result, save_result
from trajvit.evaluation.scene_clips import FIRST_SEED, scene_video
from trajvit.modeling_trajvit import TrajViTContrastiveConfig, TrajViTForContrastive, TrajViTForVideoClassification
from trajvit.modeling_trajvit.configuration_trajvit_video_classification import TrajViTVideoClassificationConfig
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.video_processing_trajvit import TrajViTVideoProcessor
from trajvit.processing.video_writing import write_video

ROOT = Path(__file__).resolve().parent.parent
# ViT3D's tiny configuration, as docs/towers.md gives it: 2 x 16 x 16 tubelets of 224 x 224 frames.
WIDTH, HIDDEN, LAYERS, PLACES = 128, 512, 4, 14 * 14
# Big enough that a scene's objects show, small enough for a fast test.
SMALL_VIDEO = {"image_size": 64, "feature_size": 16}


@pytest.fixture(autouse=True, scope="module")
def _quick_collection():
    """Measuring memory searches the process for garbage: quickly, without what is there already."""
    gc.freeze()
    yield
    gc.unfreeze()


def vit3d_gflop(num_frames: int) -> float:
    """By hand: the tubelets' linear layer, then in each layer four projections, two products of attention, the MLP."""
    tubelets = -(-num_frames // 2) * PLACES
    tokens = 1 + tubelets
    embedding = tubelets * (3 * 2 * 16 * 16) * WIDTH
    projections = 4 * tokens * WIDTH * WIDTH
    attention = 2 * tokens * tokens * WIDTH
    mlp = 2 * tokens * WIDTH * HIDDEN
    return 2 * (embedding + LAYERS * (projections + attention + mlp)) / 1e9


def small_tower(kind: str, **options) -> MeasuredTower:
    return MeasuredTower(kind, make_tower(kind, **options))


def untimed(result) -> dict[str, float]:
    return {name: value for name, value in result.metrics.items() if not name.startswith(("latency", "generation"))}


@pytest.fixture(scope="module")
def vit3d_result():
    settings = EfficiencySettings(frames=(2, 4, 5), clips=("noise",), batch=2, repeats=1)
    (result,) = measure_efficiency(new_tower("vit3d", "tiny"), settings)
    return result


class TestCounts:
    @pytest.mark.parametrize(("frames", "tokens"), [(2, 197), (4, 393), (5, 589)])
    def test_tokens_and_flops_of_vit3d(self, vit3d_result, frames, tokens):
        assert vit3d_result.metrics[f"tokens@{frames}"] == tokens
        assert vit3d_result.metrics[f"gflop@{frames}"] == pytest.approx(vit3d_gflop(frames), rel=1e-9)

    def test_flops_grow_faster_than_the_frames(self, vit3d_result):
        metrics = vit3d_result.metrics
        # Attention's two products are all that is not linear in the tokens.
        squares = 2 * 2 * LAYERS * WIDTH * (393**2 - 2 * 197**2) / 1e9
        linear = 2 * LAYERS * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) / 1e9  # of the one CLS token that is not doubled
        assert metrics["gflop@4"] - 2 * metrics["gflop@2"] == pytest.approx(squares - linear, rel=1e-6)

    @pytest.mark.parametrize("kind", [*VISION_TOWER_CONFIGS])
    def test_parameters_of_every_tower(self, kind):
        tower = small_tower(kind)
        settings = EfficiencySettings(frames=(4,), clips=("noise",), trajectories=5, repeats=1)
        (result,) = measure_efficiency(tower, settings)
        assert result.metrics["parameters"] == sum(weights.numel() for weights in tower.model.parameters())
        assert result.tower == kind
        assert result.metrics["gflop@4"] > 0
        assert result.metrics["latency_ms@4"] > 0
        assert result.metrics["memory_mb@4"] > 0
        assert "generation_s@4" not in result.metrics
        assert all(weights.requires_grad for weights in tower.model.parameters())

    def test_memory_holds_at_least_what_one_layer_makes(self, vit3d_result):
        """Beyond weights and frames there are at once, for two clips, the MLP's inner activations in float32."""
        for frames, tokens in ((2, 197), (4, 393)):
            inner = 2 * tokens * HIDDEN * 4 / 1e6
            assert inner < vit3d_result.metrics[f"memory_mb@{frames}"] < 20 * inner

    def test_trajvit_has_as_many_tokens_as_trajectories_at_any_length(self):
        settings = EfficiencySettings(frames=(4, 8), clips=("noise",), trajectories=6, batch=2, repeats=1)
        ours, dense = measure_efficiency([small_tower("trajvit"), small_tower("vit3d")], settings)
        assert ours.metrics["tokens@4"] == ours.metrics["tokens@8"] == 7
        assert dense.metrics["tokens@8"] - 1 == 2 * (dense.metrics["tokens@4"] - 1) == 4 * 16
        assert ours.settings["trajectories"] == 6
        assert dense.settings["trajectories"] is None

    def test_repeats_change_nothing_but_times(self):
        towers = [small_tower("trajvit"), small_tower("rlt")]
        once, twice = (
            measure_efficiency(
                towers, EfficiencySettings(frames=(3,), clips=("noise",), trajectories=4, repeats=repeats)
            )
            for repeats in (1, 2)
        )
        for first, second in zip(once, twice, strict=True):
            assert untimed(first) == untimed(second)

    def test_half_precision_costs_the_same_operations_and_less_memory(self):
        full, half = (
            measure_efficiency(
                MeasuredTower("vit3d", make_tower("vit3d").to(getattr(torch, dtype))),
                EfficiencySettings(frames=(4,), clips=("noise",), dtype=dtype, repeats=1),
            )[0].metrics
            for dtype in ("float32", "bfloat16")
        )
        assert half["gflop@4"] == full["gflop@4"]
        assert half["memory_mb@4"] < full["memory_mb@4"]


class TestClips:
    def test_trajectories_are_those_of_the_processor(self, tmp_path):
        """Tokens follow the scene: what is measured is what the processor gives for the same video."""
        path = write_video(tmp_path / "scene.mp4", scene_video(FIRST_SEED, 24, 64)[:24], 24)
        tower = MeasuredTower("trajvit", make_tower("trajvit", **SMALL_VIDEO))
        processor = TrajViTVideoProcessor(num_frames=3, size={"height": 64, "width": 64}, feature_size=16)
        expected = processor(str(path))
        batch = ClipBatch((str(path),), 3, 2, print)
        inputs = batch.inputs(tower, None)
        for row in range(2):
            assert torch.equal(inputs["trajectory_maps"][row], expected["trajectory_maps"][0])
        found, seconds = batch.generated(tower)
        assert len(found) == 1
        assert seconds > 0
        (result,) = measure_efficiency(tower, EfficiencySettings(frames=(3,), clips=(str(path),), batch=2, repeats=1))
        maps = expected["trajectory_maps"]
        assert result.metrics["tokens@3"] == 1 + len(maps[maps > 0].unique())
        assert result.metrics["generation_s@3"] > 0
        assert result.settings["trajectories"] == {"3": [found[0].num_trajectories]}
        assert result.settings["generator"] == TrajectoryGenerator().to_dict()
        assert result.num_items == 1
        assert result.dataset == "scene"

    def test_the_scene_has_trajectories(self):
        tower = MeasuredTower("trajvit", make_tower("trajvit", **SMALL_VIDEO))
        (result,) = measure_efficiency(tower, EfficiencySettings(frames=(2,), repeats=1))
        assert result.dataset == "scene"
        assert 2 < result.metrics["tokens@2"] <= 129
        assert result.metrics["generation_s@2"] > 0

    def test_videos_fill_a_batch_in_turns(self, tmp_path):
        videos = [write_numbered(tmp_path / f"{name}.mp4", count) for name, count in (("a", 6), ("b", 9))]
        frames = ClipBatch(tuple(videos), 4, 3, print).frames(32)
        assert torch.equal(frames[0], frames[2])
        assert not torch.equal(frames[0], frames[1])
        (result,) = measure_efficiency(
            small_tower("vit3d"), EfficiencySettings(frames=(4,), clips=tuple(videos), repeats=1)
        )
        assert (result.dataset, result.num_items, result.settings["batch"]) == ("2_videos", 2, 2)

    def test_a_video_that_is_too_short_ends_the_call_at_once(self, tmp_path):
        said = []
        settings = EfficiencySettings(frames=(4, 12), clips=(write_numbered(tmp_path / "short.mp4", 8),))
        with pytest.raises(ValueError, match=r"short\.mp4 has 8 frames: expected at least 12"):
            measure_efficiency(small_tower("vit3d"), settings, said.append)
        assert said == []

    def test_too_many_trajectories_for_the_frames(self):
        settings = EfficiencySettings(frames=(4,), clips=("noise",), trajectories=300)
        with pytest.raises(ValueError, match=r"trajectories=300: only \d+ of them have a pixel in 4 frames of 8 x 8"):
            measure_efficiency(small_tower("trajvit"), settings)


class TestOutOfMemory:
    def test_it_is_noted_and_the_rest_goes_on(self):
        """Noise of so many frames does not fit anywhere."""
        settings = EfficiencySettings(frames=(10**10, 4), clips=("noise",), repeats=2)
        *_, (result,) = efficiency_so_far([small_tower("vit3d")], settings)
        assert result.settings["out_of_memory"] == [10**10]
        assert not [name for name in result.metrics if name.endswith(f"@{10**10}")]
        assert result.metrics["tokens@4"] == 33
        table = comparison_table([result]).splitlines()
        assert table[2].endswith("| out of memory | out of memory | out of memory | out of memory |")
        assert "out of memory" not in table[3]

    def test_other_errors_are_not_taken_for_it(self):
        tower = small_tower("vit3d")
        tower.model.embedding = torch.nn.Linear(5, 5)
        with pytest.raises((RuntimeError, AttributeError, TypeError)):
            measure_efficiency(tower, EfficiencySettings(frames=(4,), clips=("noise",), repeats=1))


class TestCheckpoints:
    def test_of_a_contrastive_model(self, tmp_path):
        model = TrajViTForContrastive(
            TrajViTContrastiveConfig(vision_config=make_config("trajvit"), text_config=TEXT, projection_dim=16)
        )
        model.save_pretrained(tmp_path / "run")
        generator = {"max_trajectories": 3, "short_side": 48}
        TrajViTVideoProcessor(generator=generator).save_pretrained(tmp_path / "run")
        tower = tower_of_checkpoint(str(tmp_path / "run"))
        assert tower.name == "run"
        assert (tower.generator["max_trajectories"], tower.generator["short_side"]) == (3, 48)
        (result,) = measure_efficiency(
            tower, EfficiencySettings(frames=(4,), clips=("noise",), trajectories=5, repeats=1)
        )
        # The text tower and the projections are no part of it.
        assert result.metrics["parameters"] == sum(weights.numel() for weights in model.vision_model.parameters())
        assert result.settings["checkpoint"] == str(tmp_path / "run")

    def test_of_a_classifier_and_of_a_tower_without_processors(self, tmp_path):
        config = TrajViTVideoClassificationConfig(vision_config=make_config("rlt"), num_labels=3)
        TrajViTForVideoClassification(config).save_pretrained(tmp_path / "classifier")
        make_tower("trajvit").save_pretrained(tmp_path / "tower")
        classifier, tower = (tower_of_checkpoint(str(tmp_path / name)) for name in ("classifier", "tower"))
        assert classifier.config.model_type == "rlt"
        assert classifier.num_parameters == small_tower("rlt").num_parameters
        assert tower.generator == TrajectoryGenerator().to_dict()

    def test_that_are_not_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"nowhere cannot be loaded .* expected a folder with a checkpoint"):
            tower_of_checkpoint(str(tmp_path / "nowhere"))

    def test_of_another_model(self, tmp_path):
        from transformers import BertConfig, BertModel

        BertModel(BertConfig(**{name: value for name, value in TEXT.items() if name != "model_type"})).save_pretrained(
            tmp_path / "bert"
        )
        with pytest.raises(ValueError, match=r"bert is a checkpoint of model_type='bert'; expected a vision tower"):
            tower_of_checkpoint(str(tmp_path / "bert"))

    def test_names(self, tmp_path):
        for run in ("first", "second"):
            make_tower("rlt").save_pretrained(tmp_path / run / "weights")
        towers = [tower_of_checkpoint(str(tmp_path / run / "weights")) for run in ("first", "second")]
        assert [tower.name for tower in told_apart(towers)] == ["first/weights", "second/weights"]
        assert [tower.name for tower in told_apart(towers[:1])] == ["weights"]
        with pytest.raises(ValueError, match=r"2 of the models to be compared are called 'first/weights'"):
            told_apart([towers[0], towers[0]])


class TestResults:
    def test_the_file(self, vit3d_result, tmp_path):
        path = save_result(tmp_path, vit3d_result)
        assert path.name == "efficiency_noise_vit3d-tiny_cpu.json"
        assert load_result(path) == vit3d_result
        settings = json.loads(path.read_text())["settings"]
        assert settings["frames"] == [2, 4, 5]
        assert settings["attention"] == "sdpa"
        assert (settings["device"], settings["dtype"], settings["batch"]) == ("cpu", "float32", 2)
        assert (settings["image_size"], settings["repeats"]) == (224, 1)
        assert settings["threads"] == torch.get_num_threads()

    def test_results_come_after_each_length(self):
        settings = EfficiencySettings(frames=(4, 8), clips=("noise",), repeats=1)
        first, second = efficiency_so_far([small_tower("vit3d")], settings)
        assert first[0].settings["frames"] == [4]
        assert "tokens@8" not in first[0].metrics
        assert second[0].settings["frames"] == [4, 8]
        assert second[0].metrics["tokens@8"] == 65

    def test_the_script(self, tmp_path):
        run = ["--tower", "vit3d", "--tower", "image_vit", "--size", "tiny", "--frames", "1", "--noise"]
        done = CliRunner().invoke(app, [*run, "--repeats", "1", "--output", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        results = {path.name: load_result(path) for path in tmp_path.iterdir()}
        assert sorted(results) == ["efficiency_noise_image_vit-tiny_cpu.json", "efficiency_noise_vit3d-tiny_cpu.json"]
        assert "| 1 | `vit3d-tiny` | 1.2 M | 197 | 0.5 |" in done.output
        # Of one frame both have the same tokens; a tubelet has it twice.
        assert "| 1 | `image_vit-tiny` | 0.9 M | 197 (1.0x) | 0.4 (0.92x) |" in done.output

    def test_launched_processes_beside_the_first_do_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        done = CliRunner().invoke(app, ["--tower", "vit3d", "--output", str(tmp_path)], catch_exceptions=False)
        assert (done.exit_code, done.output) == (0, "")
        assert list(tmp_path.iterdir()) == []


BAD_CALLS = [
    (["--tower", "vit3d", "--frames", "0"], "frames=[0]: expected different numbers of frames, each at least 1"),
    (["--tower", "vit3d", "--frames", "4", "--frames", "4"], "frames=[4, 4]: expected different numbers"),
    (["--tower", "vit3d", "--trajectories", "0"], "trajectories=0 is out of range: expected at least 1"),
    (["--tower", "vit3d", "--repeats", "0"], "repeats=0 is out of range"),
    (["--tower", "vit3d", "--threads", "0"], "threads=0 is out of range"),
    (["--tower", "vit3d", "--dtype", "int8"], "dtype='int8': expected one of ['float32'"),
    (["--tower", "vit3d", "--device", "tpu"], "device='tpu': expected 'cpu' or a CUDA device"),
    (["--tower", "vit4d"], "tower='vit4d' is not a vision tower: expected one of"),
    (["--tower", "vit3d", "--size", "huge"], "name='huge' is not a ViT3D configuration: expected one of"),
    (["--model", "nowhere/at-all"], "nowhere/at-all cannot be loaded"),
    (["--tower", "vit3d", "--size", "tiny", "--video", "no.mp4"], "no.mp4 does not exist; expected a video"),
    (["--tower", "vit3d", "--noise", "--video", "a.mp4"], "--noise and --video a.mp4: expected one of them"),
    (["--tower", "vit3d", "--video", "a.mp4", "--video", "b.mp4", "--batch", "1"], "batch=1 is too small for 2 videos"),
    (["--tower", "trajvit", "--size", "tiny", "--noise"], "trajvit-tiny needs trajectories, and noise has none"),
    ([], "There is nothing to measure: expected at least one model or tower"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_CALLS, ids=[message[:30] for _, message in BAD_CALLS])
def test_bad_calls(arguments, message, tmp_path):
    done = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "results")], catch_exceptions=False)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "results").exists()


def test_weights_of_another_dtype_than_that_to_be_measured():
    with pytest.raises(ValueError, match=r"vit3d has weights of float32: expected bfloat16, as in the settings"):
        measure_efficiency(small_tower("vit3d"), EfficiencySettings(clips=("noise",), dtype="bfloat16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there():
    with pytest.raises(ValueError, match=r"device='cuda', but PyTorch finds no CUDA device: expected 'cpu'"):
        EfficiencySettings(device="cuda")


def test_it_runs_without_what_only_videos_or_training_need(tmp_path):
    code = f"""
import importlib.abc, importlib.util, sys

def is_absent(name):
    return name.partition(".")[0] in {{"av", "scenedetect", "pydantic", "datasets", "evaluate"}}

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if is_absent(name):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

# Who asks first, as transformers does, is told that they are not there.
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if is_absent(name) else find_spec(name, package)
sys.meta_path.insert(0, Absent())
from trajvit.evaluation.efficiency import EfficiencySettings, measure_efficiency, new_tower, save_result
settings = EfficiencySettings(frames=(2,), clips=("noise",), trajectories=5, repeats=1)
(result,) = measure_efficiency(new_tower("trajvit", "tiny"), settings)
print(save_result({str(tmp_path)!r}, result))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert load_result(done.stdout.strip()).metrics["tokens@2"] == 6
