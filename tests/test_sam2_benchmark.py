"""The SAM 2 benchmark: its references agree, its FLOPs equal a hand count, and its command measures each thing once."""

import dataclasses
import json

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("sam2")

from random_sam2 import randomise_
from sam2_flops import OTHER, PARTS, FlopsByPart
from sam2_systems import (
    EXACT,
    ONE_BATCH,
    OURS,
    PREDICTOR,
    TRANSFORMERS,
    Scenario,
    build_system,
    make_task,
    track_with_ours,
)
from sam2_tracking import app, disagreement

from trajvit.processing.sam2_loading import build_sam2
from trajvit.processing.sam2_tracker import NO_OBJECT, Sam2Tracker

SCENARIO = Scenario(
    model="tiny",
    image_size=64,
    clip_lengths=(2, 4),
    objects=2,
    chunk=3,
    device="cpu",
    dtype="float32",
    threads=1,
    object_score_bias=6.0,
)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return make_task(SCENARIO, tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def runs(task):
    """What each exact system finds, and its FLOPs."""
    results = {}
    for name in EXACT:
        system = build_system(name, SCENARIO)
        with FlopsByPart() as flops:
            system(task)
        # Counting takes operations apart, which rounds a little differently.
        results[name] = (system(task), flops)
    return results


def test_task(task):
    assert task.frames.shape == (6, 64, 64, 3)
    assert task.clip_lengths == (2, 4)
    assert [(clip.index, clip.first, clip.length) for clip in task.clips] == [(0, 0, 2), (1, 2, 4)]
    # Voronoi cells: every pixel belongs to one object.
    assert all((masks.sum(0) == 1).all() and masks.flatten(1).any(1).all() for masks in task.masks)
    assert (task.frames[2] != task.frames[3]).any()


@pytest.mark.parametrize("name", [ONE_BATCH, OURS])
def test_equal_to_predictor(runs, name):
    difference = disagreement(runs[name][0], runs[PREDICTOR][0])
    assert difference["logit_difference"] <= 1e-3
    assert difference["pixels_differing"] <= 1e-4


def test_results_are_not_degenerate(runs):
    for logits, masks in zip(runs[PREDICTOR][0].logits, runs[PREDICTOR][0].masks, strict=True):
        assert (logits > NO_OBJECT).all()
        assert 0.05 < masks[1:].float().mean() < 0.95
        # The objects' own masks and memories matter, not the frame alone.
        assert (logits[1:, 0] - logits[1:, 1]).abs().max() > 0.01


def test_disagreement_sees_a_changed_pixel(runs):
    tracked = runs[PREDICTOR][0]
    changed = dataclasses.replace(
        tracked, logits=[part.clone() for part in tracked.logits], masks=[part.clone() for part in tracked.masks]
    )
    changed.logits[1][2, 1, 3, 4] += 0.5
    changed.masks[1][2, 1, 7, 8] ^= True
    found = disagreement(tracked, changed)
    assert found["logit_difference"] == pytest.approx(0.5, rel=1e-4)
    assert found["pixels_differing"] == pytest.approx(1 / ((1 + 3) * 2 * 64 * 64))


def test_flops_of_memory_attention_by_hand():
    model = build_sam2("tiny", 64)
    tokens, objects, channels, memory_channels, hidden = 16, 3, 256, 64, 2048
    memory = 2 * tokens + 2 * 4
    linear = 2 * tokens * channels**2
    own = 4 * linear + 4 * tokens**2 * channels
    cross = 2 * linear + 2 * (2 * memory * memory_channels * channels) + 4 * tokens * memory * channels
    feed_forward = 2 * (2 * tokens * channels * hidden)
    with torch.inference_mode(), FlopsByPart() as flops:
        model.memory_attention(
            curr=[torch.zeros(tokens, objects, channels)],
            curr_pos=[torch.zeros(tokens, objects, channels)],
            memory=torch.zeros(memory, objects, memory_channels),
            memory_pos=torch.zeros(memory, objects, memory_channels),
            num_obj_ptr_tokens=8,
        )
    assert flops.total == 4 * objects * (own + cross + feed_forward)


def test_flops_by_part(runs):
    for name, (_, flops) in runs.items():
        assert sum(flops.by_part.values()) == flops.total, name
        assert flops.by_part[OTHER] == 0, name
        assert all(flops.by_part[part] > 0 for part in PARTS), name
    batched, predictor, transformers = (runs[name][1].by_part for name in (ONE_BATCH, PREDICTOR, TRANSFORMERS))
    for part in PARTS:
        # The predictor encodes no prompt and no position more than once for one object, a batch for all of them.
        assert batched[part] == pytest.approx(predictor[part], rel=1e-2), part
        assert transformers[part] == pytest.approx(predictor[part], rel=2e-2), part
    ours = runs[OURS][1].by_part
    assert ours["image encoder"] == batched["image encoder"]
    assert all(ours[part] < batched[part] for part in PARTS[1:])


def test_flops_do_not_depend_on_precision(task, runs):
    half = dataclasses.replace(SCENARIO, dtype="bfloat16")
    for name in (OURS, ONE_BATCH):
        with FlopsByPart() as flops:
            build_system(name, half)(task)
        # On a CPU ours has another, fused form of the attention in reduced precision.
        assert flops.total == pytest.approx(runs[name][1].total, rel=0.02 if name == OURS else 1e-9)


def test_dropping_absent_objects(task):
    # Without the bias random weights find most objects absent.
    tracker = Sam2Tracker(randomise_(build_sam2("tiny", 64), object_score_bias=0.0))
    exact = track_with_ours(tracker, task, chunk=4)
    dropped = track_with_ours(tracker, task, chunk=4, drop_after=1)
    vanished = 0
    for expected, found in zip(exact.logits, dropped.logits, strict=True):
        is_absent = (expected == NO_OBJECT).all(-1).all(-1).long().cumsum(0) > 0
        assert (found[is_absent] == NO_OBJECT).all()
        torch.testing.assert_close(found[~is_absent], expected[~is_absent], atol=1e-4, rtol=0)
        vanished += int(is_absent.sum())
    assert vanished > 0


def test_command(tmp_path):
    options = ["--model", "tiny", "--image-size", "64", "--clips", "2", "--clip-frames", "2,3", "--objects", "2"]
    options += ["--systems", OURS, "--systems", ONE_BATCH, "--repeats", "1", "--no-approximate"]
    options += ["--output", str(tmp_path / "results"), "--json", str(tmp_path / "rows.json")]
    first = CliRunner().invoke(app, options, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    content = json.loads((tmp_path / "rows.json").read_text())
    ours, batched = content["systems"]
    assert (ours["system"], batched["system"]) == (OURS, ONE_BATCH)
    assert ours["flops"] < batched["flops"]
    assert batched["logit_difference"] <= 1e-3
    assert ours["peak_bytes"] > ours["bytes_before"] > 0
    assert ours["seconds_per_object_frame"] == pytest.approx(ours["seconds"] / 10)
    assert f"| {OURS} |" in first.output

    (tmp_path / "rows.json").unlink()
    again = CliRunner().invoke(app, options, catch_exceptions=False)
    assert "counting" in first.output
    assert "counting" not in again.output
    assert "timing" not in again.output
    assert json.loads((tmp_path / "rows.json").read_text()) == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clip-frames", "3,4,5"], "3,4,5"),
        (["--systems", "theirs"], "theirs"),
        (["--model", "huge"], "huge"),
        (["--dtype", "int8"], "int8"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_bad_options(tmp_path, options, message):
    result = CliRunner().invoke(app, ["--clips", "2", "--output", str(tmp_path), *options])
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.gpu
def test_command_on_cuda(tmp_path):
    options = ["--model", "tiny", "--image-size", "128", "--clips", "2", "--objects", "4", "--chunk", "8"]
    options += ["--device", "cuda", "--dtype", "bfloat16", "--repeats", "1"]
    options += ["--output", str(tmp_path / "results"), "--json", str(tmp_path / "rows.json")]
    result = CliRunner().invoke(app, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "rows.json").read_text())
    assert [row["system"] for row in content["systems"]] == list(EXACT)
    for row in [*content["systems"], *content["approximate"]]:
        assert row["videos_per_second"] == pytest.approx(1 / row["seconds"])
        assert 0 < row["share_of_ceiling"] < 1
        assert row["peak_bytes"] > row["bytes_before"] > 0
