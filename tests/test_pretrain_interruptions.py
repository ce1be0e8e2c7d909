"""Runs that are killed, or told to stop, go on to the same losses, bit for bit, also with other workers."""

import signal
import sys
import time

import pytest
from accelerate.state import AcceleratorState
from pretraining_runs import folder_of, log_lines, losses, run_script, start_script, write_config
from safetensors.torch import load_file
from typer.testing import CliRunner

from trajvit.training import pretrain

STEPS = {"max_steps": 9}


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def wait_for_step(process, folder, step):
    """Until the log has it."""
    for _ in range(6000):
        lines = [line["step"] for line in log_lines(folder) if "loss" in line]
        if lines and lines[-1] >= step:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise AssertionError(f"no step {step} in {folder}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    config = write_config(tmp_path_factory.mktemp("uninterrupted"), optimizer=STEPS)
    run_script(config)
    return folder_of(config)


def test_killed_at_several_steps_and_resumed_with_other_workers(uninterrupted, tmp_path):
    config = write_config(tmp_path, optimizer=STEPS)
    folder = folder_of(config)
    for step, workers in ((1, 1), (4, 2), (7, 0)):
        process = start_script(config, f"loader.num_workers={workers}")
        wait_for_step(process, folder, step)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    output = run_script(config, "loader.num_workers=1")
    assert "Going on behind step 6" in output
    assert losses(folder) == losses(uninterrupted)
    ended, whole = weights(folder), weights(uninterrupted)
    assert all((value == ended[name]).all() for name, value in whole.items())


def test_told_to_stop_it_saves_and_ends_well(uninterrupted, tmp_path):
    config = write_config(tmp_path, optimizer=STEPS, checkpoints={"every": 100})
    folder = folder_of(config)
    process = start_script(config, "loader.num_workers=1")
    wait_for_step(process, folder, 3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    stopped_at = max(losses(folder))
    assert 3 <= stopped_at < 9, "it was done before the signal came"
    assert f"Told to stop: saved behind step {stopped_at}." in output
    assert not (folder / "model").exists()
    assert f"Going on behind step {stopped_at}" in run_script(config)
    assert losses(folder) == losses(uninterrupted)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not hear of its launcher's end")
def test_the_end_of_its_launcher_is_a_signal_too(tmp_path):
    config = write_config(tmp_path, optimizer={"max_steps": 10_000}, checkpoints={"every": 10_000})
    launcher = start_script(config, launcher="cpu_one.yaml")
    wait_for_step(launcher, folder_of(config), 2)
    launcher.terminate()
    # The training process holds the other end of the pipe until it ends.
    output, _ = launcher.communicate(timeout=120)
    stopped_at = max(losses(folder_of(config)))
    assert f"Told to stop: saved behind step {stopped_at}." in output
    assert (folder_of(config) / "checkpoints" / f"checkpoint-{stopped_at:08d}").is_dir()


def test_another_configuration_does_not_go_on(uninterrupted):
    AcceleratorState._reset_state(reset_partial_state=True)
    arguments = ["--config", str(uninterrupted / "config.yaml"), "optimizer.learning_rate=0.5"]
    result = CliRunner().invoke(pretrain.app, arguments)
    assert result.exit_code == 2, result.output
    assert "optimizer.learning_rate: 0.001 there, 0.5 here" in result.output
    assert "Traceback" not in result.output
