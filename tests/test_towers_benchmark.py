"""The benchmarks of the vision towers count what closed formulas say, go on where they were, and write the page."""

import gc
import json

import packing
import pytest
import torch
import tower_report
import towers
from numbered_videos import write_numbered

from trajvit.evaluation.cost_measuring import is_out_of_memory
from trajvit.evaluation.scene_clips import NOISE, SCENE, clip_frames, scene, trajectory_inputs
from trajvit.modeling_trajvit.configuration_vit3d import ViT3DConfig


@pytest.fixture(autouse=True, scope="module")
def _same_threads():
    """The scripts set the process's threads, and search it for garbage: quickly, without what is there."""
    threads = torch.get_num_threads()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


def layers_flops(config, length: int) -> int:
    """A transformer's layers over `length` tokens, a multiply-add as two: projections, MLP, scores, weighted sum."""
    width, hidden = config.hidden_size, config.intermediate_size
    linear = 2 * length * (4 * width * width + 2 * width * hidden)
    return config.num_hidden_layers * (linear + 2 * 2 * length * length * width)


RUN = ["--size", "tiny", "--frames", "2", "3", "--towers", "trajvit", "vit3d", "rlt", "--trajectories", "8"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The result file of a run with one round."""
    path = tmp_path_factory.mktemp("results") / "towers_tiny_cpu.json"
    towers.main([*RUN, "--repeats", "1", "--threads", "1", "--output", str(path)])
    return path


def record_of(path, tower: str, frames: int, clip: str = SCENE):
    found = [r for r in json.loads(path.read_text()) if (r["tower"], r["frames"], r["clip"]) == (tower, frames, clip)]
    (record,) = found
    return record


class TestMeasuring:
    @pytest.mark.parametrize(("frames", "tubelets"), [(2, 196), (3, 392)])
    def test_flops_and_tokens_of_vit3d(self, measured, frames, tubelets):
        record = record_of(measured, "vit3d", frames)
        assert record["tokens"] == 1 + tubelets
        assert record["tubelets"] == tubelets
        config = ViT3DConfig.from_name("tiny")
        embedding = 2 * tubelets * (2 * 3 * 16 * 16) * config.hidden_size
        assert record["gflop"] * 1e9 == pytest.approx(embedding + layers_flops(config, 1 + tubelets), rel=1e-9)

    def test_the_orders_of_size_at_vit_large(self):
        """The numbers that docs/tower_benchmarks.md gives, by the formula that the count above was held against."""
        config = ViT3DConfig.from_name("large")
        for frames, gflop in ((16, 1195), (32, 2872), (64, 7677)):
            tubelets = frames // 2 * 196
            embedding = 2 * tubelets * (2 * 3 * 16 * 16) * config.hidden_size
            assert (embedding + layers_flops(config, 1 + tubelets)) / 1e9 == pytest.approx(gflop, abs=0.5)

    def test_tokens_of_the_others(self, measured):
        assert record_of(measured, "trajvit", 2)["tokens"] == record_of(measured, "trajvit", 3)["tokens"] == 9
        assert record_of(measured, "rlt", 3, NOISE)["tokens"] == record_of(measured, "vit3d", 3)["tokens"]
        assert record_of(measured, "rlt", 3)["tokens"] < record_of(measured, "vit3d", 3)["tokens"]

    def test_times_and_memory(self, measured):
        for record in json.loads(measured.read_text()):
            assert len(record["forward_s"]) == len(record["training_s"]) == 1
            assert record["forward_s"][0] > 0
            # A step holds at least the gradient of every weight.
            assert record["training_mb"] > 4 * record["parameters"] / 1e6
            assert record["training_mb"] > record["forward_mb"] > 0

    def test_it_goes_on_where_it_was(self, measured, tmp_path, capsys):
        path = tmp_path / "again.json"
        before = json.loads(measured.read_text())
        path.write_text(json.dumps([record for record in before if record["frames"] == 2]))
        run = [*RUN[:3], "2", *RUN[5:], "--threads", "1", "--output", str(path)]
        towers.main([*run, "--repeats", "1"])
        assert "round" not in capsys.readouterr().out
        towers.main([*run, "--repeats", "2", "--no-training"])
        for old in json.loads(path.read_text()):
            once = record_of(measured, old["tower"], 2, old["clip"])
            assert old["forward_s"][:1] == once["forward_s"]
            assert len(old["forward_s"]) == 2
            assert {**old, "forward_s": once["forward_s"]} == once

    def test_a_step_without_memory_is_told_from_other_errors(self):
        with pytest.raises(RuntimeError) as too_large:
            torch.empty(2**45)
        assert is_out_of_memory(too_large.value)
        with pytest.raises(RuntimeError) as other:
            torch.ones(2, 3) @ torch.ones(2, 3)
        assert not is_out_of_memory(other.value)

    def test_a_step_without_memory_is_noted(self, tmp_path):
        """Noise of a thousand million videos does not fit anywhere."""
        path = tmp_path / "results.json"
        case = towers.Case("tiny", "vit3d", 16, NOISE, 128, 10**9, "cpu", "float32", 1)
        results = towers.Results(path)
        towers.measure_round(case, results, 1, training=True)
        record = record_of(path, "vit3d", 16, NOISE)
        assert record["forward_failed"] == record["training_failed"] == "out of memory"
        assert towers.is_complete(case, results, 1, training=True)
        assert "out of memory" in tower_report.table(json.loads(path.read_text()))


class TestInputs:
    def test_scenes_are_seen_by_a_still_camera(self):
        frames = scene(seed=7, num_frames=4, size=64).astype(int)
        assert frames.shape == (4, 64, 64, 3)
        changes = abs(frames[1] - frames[0]).mean(-1)
        assert (changes < 12).mean() > 0.25
        assert (changes > 40).mean() > 0.02

    def test_clips_of_a_batch(self):
        frames = clip_frames(SCENE, 3, 32, 2)
        assert frames.shape == (2, 3, 3, 32, 32)
        assert (frames[0] - frames[1]).abs().mean() > 0.1
        assert clip_frames(NOISE, 3, 32).std() == pytest.approx(1, abs=0.05)

    def test_a_video_is_sampled(self, tmp_path):
        path = write_numbered(tmp_path / "numbered.mp4", 8)
        frames = clip_frames(path, 4, 32, 2)
        assert frames.shape == (2, 4, 3, 32, 32)
        assert torch.equal(frames[0], frames[1])
        with pytest.raises(ValueError, match=r"numbered\.mp4 has 8 frames: expected at least 9"):
            clip_frames(path, 9, 32)

    def test_every_trajectory_has_pixels(self):
        inputs = trajectory_inputs(16, [5, 128], 56)
        assert inputs["trajectory_attention_mask"].sum(1).tolist() == [5, 128]
        for maps, count in zip(inputs["trajectory_maps"], (5, 128), strict=True):
            assert set(range(1, count + 1)) <= set(maps.unique().tolist())


def test_packed_sequences_cost_what_each_costs_alone(tmp_path, capsys):
    output = tmp_path / "packing.json"
    run = ["--size", "tiny", "--frames", "2", "--trajectories", "3", "9", "--repeats", "1", "--threads", "1"]
    packing.main([*run, "--output", str(output)])
    ours, rlt = json.loads(output.read_text())
    assert ours["tokens"] == [4, 10]
    config = ViT3DConfig.from_name("tiny")
    for record in (ours, rlt):
        lengths, flops = record["tokens"], record["gflop"]
        assert flops["packed"] * 1e9 == sum(layers_flops(config, length) for length in lengths)
        assert flops["alone"] == flops["packed"]
        assert flops["padded"] * 1e9 == len(lengths) * layers_flops(config, max(lengths))
    assert "| `trajvit` | 4, 10 |" in capsys.readouterr().out


def record(tower: str, frames: int = 16, **fields):
    settings = {"size": "large", "clip": "scene", "trajectories": 128, "batch": 1, "device": "cpu", "dtype": "float32"}
    return {"tower": tower, "frames": frames, **settings, "threads": 2, **fields}


class TestReport:
    def records(self):
        known = {"parameters": 303_000_000, "tubelets": 1568}
        return [
            record("trajvit", **known, tokens=129.0, gflop=138.0, forward_s=[1.0, 0.5], forward_mb=200.0),
            record("vit3d", **known, tokens=1569.0, gflop=1194.4, forward_s=[3.0, 4.0], forward_mb=300.0),
            record("rlt", clip="noise", forward_s=[], forward_failed="out of memory"),
        ]

    def test_table(self):
        rows = tower_report.table(self.records()).splitlines()
        assert rows[2] == "| 16 | `trajvit` | 303.0 M | 129 | 8.2% | 138.0 | 0.500 | 200 |"
        assert rows[3] == "| 16 | `vit3d` | 303.0 M | 1,569 | 100.0% | 1,194.4 | 3.000 | 300 |"
        assert rows[4] == "| 16 | `rlt, noise` | - | - | - | - | out of memory | - |"

    def test_sentences(self):
        (sentence,) = tower_report.findings(self.records())
        assert sentence == (
            "- T = 16: 138.0 GFLOP against 1,194.4. "
            "ViT3D has 12.2 times the tokens, 8.7 times the FLOPs, 6.0 times the time, 1.5 times the memory of TrajViT."
        )
        assert tower_report.findings(self.records()[1:]) == []

    def test_the_page(self, measured, tmp_path):
        page = tmp_path / "page.md"
        places = "".join(f"<!-- {name}: begin -->\nold\n<!-- {name}: end -->\n" for name in ("towers", "packing"))
        page.write_text(f"# Towers\n\n{places}after\n")
        for _ in range(2):
            tower_report.main([str(measured), "--page", str(page)])
        text = page.read_text()
        assert text.count("old") == 1
        assert text.startswith("# Towers\n\n<!-- towers: begin -->\n### `tiny`, cpu, float32\n")
        assert text.endswith("<!-- packing: begin -->\nold\n<!-- packing: end -->\nafter\n")
        assert "![costs over T](images/towers_tiny_cpu.png)" in text
        image = tmp_path / "images/towers_tiny_cpu.png"
        assert image.read_bytes().startswith(b"\x89PNG")
        assert image.stat().st_size < 150_000

    def test_a_page_without_a_place(self, measured, tmp_path):
        page = tmp_path / "page.md"
        page.write_text("# Towers\n")
        with pytest.raises(ValueError, match=r"page\.md has no place for 'towers'"):
            tower_report.main([str(measured), "--page", str(page)])
