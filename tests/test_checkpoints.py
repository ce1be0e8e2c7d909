"""Checkpoints: exact resuming, whole files whenever a process dies, and refusal of what does not fit."""

import json
import shutil

import pytest
import torch
from tiny_run import TinyRun, make_model

from trajvit.training import checkpoints as checkpoints_module
from trajvit.training.checkpoints import CheckpointFolder
from trajvit.training.record_stream import Position
from trajvit.training.run_state import CheckpointError, RunState, gather_positions


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with checkpoints behind steps 2 and 3, and the losses, weights and average of six steps."""
    folder = tmp_path_factory.mktemp("run")
    run = TinyRun.start(folder, average=True)
    checkpoints = CheckpointFolder(folder / "checkpoints", keep=3)
    losses = run.take_steps(2)
    checkpoints.save(run.accelerator, run.state, run.average)
    losses += run.take_steps(1)
    checkpoints.save(run.accelerator, run.state, run.average)
    losses += run.take_steps(3)
    weights = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    return checkpoints.folder, losses, weights, run.average.state_dict()


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of its checkpoints."""
    return shutil.copytree(trained[0], tmp_path / "checkpoints")


def test_a_run_goes_on_bit_for_bit(trained, tmp_path):
    folder, losses, weights, average = trained
    assert len({*losses}) == 6
    for step in (2, 3):
        again = TinyRun.start(tmp_path, average=True, model=make_model(seed=9))
        torch.rand(7)
        again.state = CheckpointFolder(folder, 3).load(
            again.accelerator, folder / f"checkpoint-{step:08d}", again.average
        )
        assert again.state.step == step
        assert again.state.streams == {"videos": [{"epoch": 0, "index": 3 * step, "shard": 0, "row": 0}]}
        # Dropout, so the random states count; AdamW and warm-up, so do its moments and the schedule.
        assert again.take_steps(6 - step) == losses[step:]
        for name, tensor in again.model.state_dict().items():
            assert torch.equal(tensor, weights[name]), name
        for name, tensor in again.average.state_dict().items():
            assert torch.equal(tensor, average[name]), name


def test_the_newest_stay_and_the_pointer_names_the_last(tmp_path):
    run = TinyRun.start(tmp_path)
    checkpoints = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    assert checkpoints.latest() is None
    for step in (5, 8, 13):
        run.state.step = step
        path = checkpoints.save(run.accelerator, run.state)
        assert checkpoints.latest() == path
    assert {path.name for path in checkpoints.folder.iterdir()} == {
        "checkpoint-00000008",
        "checkpoint-00000013",
        "latest",
    }
    before = (path / "run_state.json").stat().st_ino
    assert checkpoints.save(run.accelerator, run.state) == path
    assert (path / "run_state.json").stat().st_ino == before


class Killed(BaseException):
    """Stands for the end of a process: no handler of `Exception` runs."""


def dying_at(number, function):
    """`function`, which ends the process at its call of this number."""
    calls = iter(range(number))

    def call(*arguments, **options):
        if next(calls, None) is None:
            raise Killed
        return function(*arguments, **options)

    return call


@pytest.mark.parametrize("name", ["rename", "replace", "write_text", "mkdir"])
def test_whenever_a_process_dies_one_of_two_checkpoints_is_whole(folder, tmp_path, monkeypatch, name):
    run = TinyRun.start(tmp_path, average=True)
    checkpoints = CheckpointFolder(folder, keep=1)
    died = 0
    for number in range(10):
        if number:
            shutil.rmtree(folder)
            checkpoints.folder = folder = shutil.copytree(tmp_path / "before", folder)
        else:
            shutil.copytree(folder, tmp_path / "before")
        run.state = RunState(step=7, streams={"videos": [{"epoch": 0, "index": 0}]})
        with monkeypatch.context() as patch:
            path_class = type(folder)
            patch.setattr(path_class, name, dying_at(number, getattr(path_class, name)))
            try:
                checkpoints.save(run.accelerator, run.state, run.average)
            except Killed:
                died += 1
            else:
                break
        found = checkpoints.latest()
        assert found.name in ("checkpoint-00000003", "checkpoint-00000007")
        assert checkpoints.load(run.accelerator, found, run.average).step == int(found.name[-1])
        # And the next process can save the same step.
        checkpoints.remove_unfinished()
        run.state.step = 7
        assert checkpoints.save(run.accelerator, run.state, run.average) == checkpoints.latest()
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert died == number > 0


def test_dying_while_files_go_to_the_disk_or_old_ones_are_removed(folder, tmp_path, monkeypatch):
    run = TinyRun.start(tmp_path, average=True)
    checkpoints = CheckpointFolder(folder, keep=1)
    for module, name in ((checkpoints_module.os, "fsync"), (checkpoints_module.shutil, "rmtree")):
        run.state.step += 5
        with monkeypatch.context() as patch:
            patch.setattr(module, name, dying_at(0, getattr(module, name)))
            with pytest.raises(Killed):
                checkpoints.save(run.accelerator, run.state, run.average)
        assert checkpoints.load(run.accelerator, checkpoints.latest(), run.average).step in (3, run.state.step)


def test_files_are_on_the_disk_before_the_name_is_there(tmp_path, monkeypatch):
    run = TinyRun.start(tmp_path)
    order = []
    synced = checkpoints_module._sync
    monkeypatch.setattr(checkpoints_module, "_sync", lambda path: (order.append(path.name), synced(path)))
    path = CheckpointFolder(tmp_path, 1).save(run.accelerator, run.state)
    for file in path.iterdir():
        assert order.count(file.name) == 1
        # The folder's own entry comes behind its files.
        assert order.index(file.name) < order.index(".unfinished-checkpoint-00000000")
    assert order[-2:] == [".unfinished-latest", tmp_path.name]


def test_a_lost_pointer_is_no_loss(folder):
    (folder / "latest").unlink()
    assert CheckpointFolder(folder, 1).latest().name == "checkpoint-00000003"
    (folder / "latest").write_text("checkpoint-00000099\n")
    assert CheckpointFolder(folder, 1).latest().name == "checkpoint-00000003"
    (folder / "latest").write_text("checkpoint-00000002\n")
    assert CheckpointFolder(folder, 1).latest().name == "checkpoint-00000002"


def test_a_run_that_fell_back_writes_over_what_it_had(folder, tmp_path):
    (folder / "latest").write_text("checkpoint-00000002\n")
    run = TinyRun.start(tmp_path, average=True)
    checkpoints = CheckpointFolder(folder, 3)
    run.state = checkpoints.load(run.accelerator, checkpoints.latest(), run.average)
    run.state.step, run.state.nonfinite_steps = 3, 1
    (folder / "checkpoint-00000003").rename(folder / "checkpoint-00000009")
    shutil.copytree(folder / "checkpoint-00000009", folder / "checkpoint-00000003")
    checkpoints.keep = 1
    path = checkpoints.save(run.accelerator, run.state, run.average)
    assert checkpoints.latest() == path
    assert RunState.from_json((path / "run_state.json").read_text()).nonfinite_steps == 1
    # What lies ahead does not push out where the run is.
    assert {path.name for path in folder.glob("check*")} == {"checkpoint-00000003", "checkpoint-00000009"}


def change_state(path, **changes):
    state = json.loads((path / "run_state.json").read_text())
    (path / "run_state.json").write_text(json.dumps({**state, **changes}))


def test_another_number_of_processes_is_refused(folder, tmp_path):
    run = TinyRun.start(tmp_path, average=True)
    path = folder / "checkpoint-00000003"
    state = json.loads((path / "run_state.json").read_text())
    change_state(path, num_ranks=2, streams={"videos": state["streams"]["videos"] * 2})
    with pytest.raises(CheckpointError, match=r"checkpoint-00000003 was written by 2 processes.*not 1"):
        CheckpointFolder(folder, 1).load(run.accelerator, path, run.average)
    change_state(path, num_ranks=1)
    with pytest.raises(CheckpointError, match=r"2 positions of 'videos': expected one for each of the 1"):
        CheckpointFolder(folder, 1).load(run.accelerator, path, run.average)


def test_another_model_is_refused_by_its_differences(folder, tmp_path):
    path = folder / "checkpoint-00000003"
    run = TinyRun.start(tmp_path, model=make_model(hidden_size=48))
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"cls_token has shape \[1, 1, 32\] there, \[1, 1, 48\] in the run"):
        CheckpointFolder(folder, 1).load(run.accelerator, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
    run = TinyRun.start(tmp_path, model=make_model("trajvit"))
    with pytest.raises(CheckpointError, match=r"is missing there(.|\n)*and \d+ more"):
        CheckpointFolder(folder, 1).load(run.accelerator, path)


@pytest.mark.parametrize(
    "name",
    ["random_states_0.pkl", "optimizer.bin", "scheduler.bin", "model.safetensors", "contents.json", "run_state.json"],
)
def test_a_checkpoint_that_lacks_a_file_is_refused(folder, tmp_path, name):
    run = TinyRun.start(tmp_path, average=True)
    path = folder / "checkpoint-00000003"
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"checkpoint-00000003 has no .*{name}"):
        CheckpointFolder(folder, 1).load(run.accelerator, path, run.average)


def test_another_layout_precision_or_average_is_refused(folder, tmp_path):
    run = TinyRun.start(tmp_path, average=True)
    path = folder / "checkpoint-00000003"
    checkpoints = CheckpointFolder(folder, 1)
    with pytest.raises(CheckpointError, match="a moving average of the weights: the run has none"):
        checkpoints.load(run.accelerator, path)
    contents = json.loads((path / "contents.json").read_text())
    for name, value in (("layout", "DeepSpeed ZeRO-2"), ("precision", "bf16")):
        (path / "contents.json").write_text(json.dumps({**contents, name: value}))
        with pytest.raises(CheckpointError, match=f"has {name} '{value}': the run expects '(whole|no)'"):
            checkpoints.load(run.accelerator, path, run.average)
    (path / "contents.json").write_text(json.dumps(contents))
    (path / "moving_average.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no moving average of the weights: the run has one"):
        checkpoints.load(run.accelerator, path, run.average)


def test_a_state_survives_its_text():
    state = RunState(
        step=7,
        streams=gather_positions({"videos": Position(2, 5, 1, 3), "images": Position()}),
        samples={"videos": 70},
        skipped={"videos": 2},
        nonfinite_steps=1,
    )
    again = RunState.from_json(state.to_json())
    assert again == state
    assert Position(**again.streams["videos"][0]) == Position(2, 5, 1, 3)
    with pytest.raises(CheckpointError, match=r"some\.json is no JSON"):
        RunState.from_json("{", "some.json")
    with pytest.raises(CheckpointError, match=r"some\.json has \['step'\]: expected \['metrics', 'nonfinite_steps', "):
        RunState.from_json('{"step": 3}', "some.json")
