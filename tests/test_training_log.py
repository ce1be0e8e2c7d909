"""What a run reports: means, files that go on after a checkpoint, trackers, and skipped samples."""

import json
import math
import time

import pytest
import torch
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import make_run_config

from trajvit.training.acceleration import build_accelerator
from trajvit.training.config_file import ConfigError
from trajvit.training.contrastive_step import StepResult
from trajvit.training.log_lines import console_line, peak_memory, tracked_values
from trajvit.training.run_config import LoggingSettings
from trajvit.training.training_log import TrainingLog, keep_lines_up_to


def make_log(folder, every=2, num_steps=6, **options):
    return TrainingLog(Accelerator(cpu=True), LoggingSettings(every, []), folder, num_steps, **options)


def result(loss, accuracy=0.5, samples=4, tokens=40):
    return StepResult(loss, math.isfinite(loss), samples, tokens, accuracy)


def take(log, step, loss, stream="videos", **options):
    values = {"learning_rate": 0.1 * step, "gradient_norm": 1.0 * step, "waited": 0.0, **options}
    log.step(step, stream, result(loss, tokens=40 if stream == "videos" else 8), **values)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_the_means_since_the_last(tmp_path, capsys):
    log = make_log(tmp_path, every=3, num_steps=7, steps_per_epoch=2.0)
    losses = [4.0, 1.0, 2.0, 5.0, 5.0, 8.0, 0.5]
    streams = ["videos", "images", "videos", "videos", "videos", "images", "images"]
    for step, (loss, stream) in enumerate(zip(losses, streams, strict=True), start=1):
        take(log, step, loss, stream, nonfinite_steps=step // 5)
    log.close()
    first, second, last = lines_of(tmp_path / "log.jsonl")
    assert [line["step"] for line in (first, second, last)] == [3, 6, 7]
    assert first["loss"] == pytest.approx(7 / 3)
    assert first["streams"]["videos"] == {"steps": 2, "loss": 3.0, "accuracy": 0.5, "tokens_per_sample": 10.0}
    assert first["streams"]["images"] == {"steps": 1, "loss": 1.0, "accuracy": 0.5, "tokens_per_sample": 2.0}
    assert (first["epoch"], first["learning_rate"], first["gradient_norm"]) == (1.5, pytest.approx(0.3), 2.0)
    assert first["tokens_per_sample"] == pytest.approx((40 + 8 + 40) / 12)
    assert second["loss"] == 6.0
    assert second["nonfinite_steps"] == 1
    assert last["loss"] == 0.5
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert printed[0].startswith("step 3/7  epoch 1.50  videos: loss 3.0000 acc 50.0%  images: loss 1.0000 acc 50.0%")
    assert "left 0:00:00" in printed[2]


def test_rates_are_those_of_the_clock(tmp_path):
    log = make_log(tmp_path, every=2, num_steps=10)
    began = time.perf_counter()
    take(log, 1, 1.0)
    with log.paused():
        time.sleep(0.3)
    time.sleep(0.05)
    take(log, 2, 1.0, waited=0.01, flops=3e12)
    most = time.perf_counter() - began
    (line,) = lines_of(tmp_path / "log.jsonl")
    # Sleeping never takes less than asked for, and what the pause took is not in it.
    assert 0.05 / 2 <= line["seconds_per_step"] <= (most - 0.3) / 2
    seconds = 2 * line["seconds_per_step"]
    assert line["samples_per_second"] == pytest.approx(8 / seconds)
    assert line["tokens_per_second"] == pytest.approx(80 / seconds)
    assert line["waiting_share"] == pytest.approx(0.01 / seconds)
    assert line["seconds_left"] == pytest.approx(8 * seconds / 2)
    assert line["tflops_per_device"] == pytest.approx(3 / seconds)
    assert line["mfu"] is None


def test_utilisation_is_of_the_peak(tmp_path):
    log = TrainingLog(Accelerator(cpu=True), LoggingSettings(1, [], peak_tflops=50.0), tmp_path, 1)
    take(log, 1, 1.0, flops=3e12)
    (line,) = lines_of(tmp_path / "log.jsonl")
    assert line["mfu"] == pytest.approx(line["tflops_per_device"] / 50)
    assert f"MFU {line['mfu']:.1%}" in console_line(line, 1)


def test_losses_that_are_no_numbers_are_left_out_of_means(tmp_path, capsys):
    log = make_log(tmp_path, num_steps=4)
    take(log, 1, float("nan"), nonfinite_steps=1, gradient_norm=float("nan"))
    take(log, 2, 3.0, nonfinite_steps=1)
    take(log, 3, float("nan"), nonfinite_steps=2, gradient_norm=float("inf"))
    take(log, 4, float("inf"), nonfinite_steps=3, gradient_norm=float("nan"))
    first, second = lines_of(tmp_path / "log.jsonl")
    assert (first["loss"], first["gradient_norm"], first["nonfinite_steps"]) == (3.0, 2.0, 1)
    assert (second["loss"], second["gradient_norm"], second["nonfinite_steps"]) == (None, None, 3)
    assert "loss - acc" in capsys.readouterr().out


def test_a_run_that_goes_on_takes_back_what_comes_again(tmp_path):
    log = make_log(tmp_path, every=1)
    for step in range(1, 6):
        take(log, step, float(step))
        log.skipped(step, "videos", f"sample {step}", "is broken")
    log.evaluation(4, {"txt2vid_R@1": 12.5})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    log = make_log(tmp_path, every=1, start_step=3)
    assert [line["step"] for line in lines_of(tmp_path / "log.jsonl")] == [1, 2, 3]
    take(log, 4, 40.0)
    log.skipped(5, "videos", "sample 5", "is broken")
    take(log, 5, 50.0)
    log.evaluation(5, {"txt2vid_R@1": 25.0})
    lines = lines_of(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 5]
    assert [line["loss"] for line in lines[:5]] == [1, 2, 3, 40, 50]
    assert lines[-1]["evaluation"] == {"txt2vid_R@1": 25.0}
    assert [line["key"] for line in lines_of(tmp_path / "skipped.jsonl")] == [f"sample {n}" for n in (1, 2, 3, 5)]
    # The count goes on too: three of before, and one.
    assert lines[4]["skipped"] == 4
    make_log(tmp_path)
    assert lines_of(tmp_path / "log.jsonl") == lines_of(tmp_path / "skipped.jsonl") == []


def test_skipped_samples_are_named_and_counted_by_reason(tmp_path, capsys):
    log = make_log(tmp_path, num_steps=2)
    log.skipped(1, "videos", "a/1.mp4", "has no frames")
    log.skipped(1, "images", "b/2.jpg", "is no image")
    log.skipped(2, "videos", "a/3.mp4", "has no frames")
    take(log, 2, 1.0)
    log.close()
    assert lines_of(tmp_path / "skipped.jsonl")[1] == {
        "step": 1,
        "stream": "images",
        "key": "b/2.jpg",
        "reason": "is no image",
    }
    printed = capsys.readouterr().out
    assert "skipped 3" in printed.splitlines()[0]
    assert "skipped 3 samples" in printed
    assert printed.index("2 x has no frames") < printed.index("1 x is no image")


def test_a_file_that_is_not_there_has_no_lines(tmp_path):
    assert keep_lines_up_to(tmp_path / "none.jsonl", 3) == []
    assert not (tmp_path / "none.jsonl").exists()


def test_tensorboard_gets_the_same_numbers(tmp_path):
    config = make_run_config(tmp_path, logging={"trackers": ["tensorboard"], "every": 1})
    for start, losses in ((0, [5.0, 4.0, 3.0]), (2, [2.0])):
        accelerator = build_accelerator(config)
        settings = {"seed": 0, "nested": {"name": "x", "empty": None, "list": [1]}}
        log = TrainingLog(accelerator, config.logging, tmp_path, 4, start_step=start, run_settings=settings)
        for step, loss in enumerate(losses, start=start + 1):
            take(log, step, loss)
        log.evaluation(start + len(losses), {"txt2vid_R@1": 10.0})
        log.close()
    events = EventAccumulator(str(tmp_path / "trackers" / "trajvit")).Reload()
    # The third step came twice.
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 5.0), (2, 4.0), (3, 2.0)]
    assert events.Scalars("train/streams/videos/accuracy")[0].value == 0.5
    assert events.Scalars("evaluation/txt2vid_R@1")[-1].value == 10.0


@pytest.mark.parametrize("name", ["nothing", "all", "wandb_"])
def test_an_unknown_tracker_is_an_error_before_the_run(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"logging\.trackers='{name}' does not exist.*'tensorboard'"):
        build_accelerator(make_run_config(tmp_path, logging={"trackers": ["tensorboard", name]}))


def test_a_tracker_that_is_not_installed_is_an_error_before_the_run(tmp_path):
    with pytest.raises(ConfigError, match=r"logging\.trackers='dvclive' is not installed: expected some of"):
        build_accelerator(make_run_config(tmp_path, logging={"trackers": ["dvclive"]}))


def test_trackers_get_one_level_of_numbers_and_texts():
    nested = {"a": {"b": 1, "c": {"d": "x"}}, "e": None, "f": [1, 2], "g": True}
    assert tracked_values(nested) == {"a/b": 1, "a/c/d": "x", "f": "[1, 2]", "g": True}


def test_memory_is_the_processs():
    assert 0.05 < peak_memory(torch.device("cpu")) < 64


@pytest.mark.gpu
def test_memory_is_the_gpus():
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats()
    before = peak_memory(device)
    held = torch.empty(2**28, dtype=torch.uint8, device=device)
    assert peak_memory(device) - before == pytest.approx(0.25, abs=0.01)
    del held
