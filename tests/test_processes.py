"""Two processes on a CPU, as `accelerate launch` starts them, against one that does their work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from processes_check import SIZES, held_out
from safetensors.torch import load_file
from tiny_run import STEPS, TinyRun, make_inputs, make_model, make_run_config

from trajvit.training.acceleration import LaunchError, apply_gradients, build_accelerator, input_dtype
from trajvit.training.collation import to_model_inputs
from trajvit.training.flops import StepFlops
from trajvit.training.optimizer import build_optimizer, build_schedule
from trajvit.training.validation import retrieval_metrics

LAUNCHERS = Path(__file__).parents[1] / "training" / "configs" / "accelerate"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What both processes found, and the folder of their run."""
    folder = tmp_path_factory.mktemp("run")
    launcher = Path(sys.executable).parent / "accelerate"
    command = ["launch", "--config_file", LAUNCHERS / "cpu_two_processes.yaml"]
    program = Path(__file__).parent / "processes_check.py"
    result = subprocess.run(
        [launcher, *command, program, folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)], folder, result.stdout


def test_two_processes_are_one_run(found):
    (first, second), folder, printed = found
    assert first["processes"] == second["processes"] == 2
    assert first["losses"] == second["losses"]
    assert len({*first["losses"]}) == 4
    # Each has its own place in the data.
    places = [[12, 13], [position["index"] for position in first["streams"]["videos"]]]
    assert places[0] == places[1] == [position["index"] for position in second["streams"]["videos"]]
    assert (folder / "skipped.jsonl").read_text().count("sample of 0") == 1
    assert (folder / "skipped-00001.jsonl").read_text().count("sample of 1") == 1
    assert "2 x is broken" in printed


def test_they_resume_bit_for_bit(found):
    for process in found[0]:
        assert process["after"] == process["losses"][2:]
    assert [path.name for path in (found[1] / "checkpoints").glob("check*")] == ["checkpoint-00000002"]


def test_the_learning_rate_moves_one_step_a_step(found):
    config = make_run_config("nowhere")
    optimizer = build_optimizer(make_model(), config.optimizer)
    schedule = build_schedule(optimizer, STEPS, 2, config.optimizer)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    for process in found[0]:
        assert process["steps"] == 4
        assert process["learning_rates"] == pytest.approx(schedule.get_last_lr())


def test_a_signal_to_one_stops_both(found):
    assert [process["requested"] for process in found[0]] == [[False, True]] * 2


@pytest.fixture(scope="module")
def trained(found):
    model = make_model(seed=4).eval()
    model.load_state_dict(load_file(found[1] / "weights.safetensors"))
    return model


def test_all_held_out_samples_are_compared_once(found, trained):
    videos, texts = [], []
    with torch.no_grad():
        for rank in (0, 1):
            for batch in held_out(rank):
                output = trained(**to_model_inputs(batch.inputs, "cpu"))
                videos.append(output.video_embeds)
                texts.append(output.text_embeds)
    expected = retrieval_metrics(torch.cat(videos), torch.cat(texts))
    assert expected["num_videos"] == sum(map(sum, SIZES)) == 11
    assert found[0][0]["metrics"] == found[0][1]["metrics"] == pytest.approx(expected)


def test_flops_are_of_one_process(found, trained):
    alone = StepFlops(Accelerator(cpu=True), trained, 1).of_step("videos", make_inputs(0), 3 * 33)
    assert [process["flops"] for process in found[0]] == [alone, alone]


def test_whole_weights_are_the_first_processs(found):
    assert found[0][1]["weights"] == {}
    shapes = {name: list(tensor.shape) for name, tensor in make_model().state_dict().items()}
    assert found[0][0]["weights"] == shapes


def test_processes_that_do_not_find_each_other_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "false")
    # An Accelerator of this process has been made already, for one process.
    Accelerator(cpu=True)
    with pytest.raises(LaunchError, match="the launcher started 2 processes, of which this one finds 1"):
        build_accelerator(make_run_config(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes fp16")
def test_half_precision_with_scaled_gradients_needs_a_gpu(tmp_path):
    with pytest.raises(LaunchError, match="mixed_precision='fp16' needs a GPU"):
        build_accelerator(make_run_config(tmp_path, mixed_precision="fp16"))


def test_gradients_that_are_not_finite_are_not_applied(tmp_path):
    run = TinyRun.start(tmp_path)
    assert input_dtype(run.accelerator) == torch.float32
    run.take_step()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    rate = run.schedule.get_last_lr()
    for parameter in run.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.model.temperature.grad.fill_(float("inf"))
    norm = apply_gradients(run.accelerator, run.model, run.optimizer, run.schedule, 1.0)
    assert norm == float("inf")
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert run.schedule.get_last_lr() != rate


@pytest.mark.parametrize(("clip_norm", "expected"), [(None, 6.0), (2.0, 2.0)])
def test_gradients_are_clipped_to_a_norm(tmp_path, clip_norm, expected):
    run = TinyRun.start(tmp_path)
    for group in run.optimizer.param_groups:
        group["lr"] = 1.0
    seen = []
    run.optimizer.optimizer.register_step_pre_hook(lambda *_: seen.append(run.model.temperature.grad.item()))
    for parameter in run.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.model.temperature.grad.fill_(6.0)
    assert apply_gradients(run.accelerator, run.model, run.optimizer, run.schedule, clip_norm) == 6.0
    assert seen == [pytest.approx(expected, rel=1e-4)]


@pytest.mark.parametrize("path", sorted(LAUNCHERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_launcher_files_start_what_their_names_say(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    values = yaml.safe_load(path.read_text())
    kind = str(config.distributed_type).rsplit(".", 1)[-1]
    assert kind == {"cpu_one": "NO", "gpu_one": "NO"}.get(
        path.stem, "DEEPSPEED" if path.stem.startswith("deepspeed") else "MULTI_GPU"
    )
    assert (config.num_processes == 1) == path.stem.endswith("_one")
    if kind == "DEEPSPEED":
        assert values["deepspeed_config"]["zero_stage"] == int(path.stem[len("deepspeed_zero")])
        offloads = [name for name in values["deepspeed_config"] if name.startswith("offload")]
        assert bool(offloads) == path.stem.endswith("offload")
