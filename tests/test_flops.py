"""FLOPs of a step against arithmetic, and that counting them changes nothing."""

import pytest
import torch
from accelerate import Accelerator
from tiny_run import TinyRun, make_inputs, make_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trajvit.training.flops import OperationCounter, StepFlops, peak_tflops
from trajvit.training.lora import add_lora
from trajvit.training.run_config import LoraSettings

WIDTH, MLP, TEXT_LENGTH = 32, 48, 5


def transformer_flops(tokens, layers):
    """A forward pass: two for each multiplication in projections, attention and MLP."""
    projections = 4 * 2 * tokens * WIDTH * WIDTH
    attention = 2 * 2 * tokens * tokens * WIDTH
    return layers * (projections + attention + 2 * 2 * tokens * WIDTH * MLP)


def linear_flops(tokens, width, out):
    return 2 * tokens * width * out


def forward_flops(vision_tokens):
    """One sample through the space-time ViT, with its text and both projections."""
    embedding = linear_flops(vision_tokens - 1, 3 * 2 * 8 * 8, WIDTH)
    heads = 2 * linear_flops(1, WIDTH, 16)
    return embedding + transformer_flops(vision_tokens, 2) + transformer_flops(TEXT_LENGTH, 1) + heads


def test_a_step_is_three_forward_passes_less_what_no_weight_needs():
    flops = StepFlops(Accelerator(cpu=True), make_model(), 1)
    tokens = 1 + 2 * 4 * 4
    counted = flops.of_step("videos", make_inputs(0), 3 * tokens)
    # Nobody asks for the gradient of the frames; the rest is two products backward for each one forward.
    unneeded = linear_flops(tokens - 1, 3 * 2 * 8 * 8, WIDTH)
    assert counted == pytest.approx(3 * (3 * forward_flops(tokens) - unneeded), rel=1e-3)
    # From then on as many as there are tokens.
    assert flops.of_step("videos", {}, 6 * tokens) == pytest.approx(2 * counted)


@pytest.mark.parametrize("tower", ["trajvit", "vit3d", "tome"])
def test_operations_are_counted_as_pytorch_counts_them(tower):
    model, inputs = make_model(tower).eval(), make_inputs(0)
    maps = torch.randint(0, 4, (3, 4, 8, 8))
    inputs |= {"trajectory_maps": maps, "trajectory_attention_mask": torch.ones(3, 3, dtype=torch.long)}
    with FlopCounterMode(display=False) as expected:
        model(**inputs)
    with torch.no_grad(), OperationCounter() as forward:
        model(**inputs)
    assert forward.flops == expected.get_total_flops() > 0


def test_each_stream_is_counted_for_itself():
    flops = StepFlops(Accelerator(cpu=True), make_model(), 1)
    videos = flops.of_step("videos", make_inputs(0), 3)
    images = make_inputs(0)
    images["pixel_values_videos"] = images["pixel_values_videos"][:, :1]
    assert flops.of_step("images", images, 3) != pytest.approx(videos, rel=0.01)
    assert flops.of_step("videos", images, 3) == videos


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_neither_recomputation_nor_the_kind_of_attention_counts(attention):
    model = make_model()
    model.set_attn_implementation(attention)
    expected = StepFlops(Accelerator(cpu=True), make_model(), 1).of_step("videos", make_inputs(0), 99)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    assert StepFlops(Accelerator(cpu=True), model, 1).of_step("videos", make_inputs(0), 99) == expected
    assert model.config._attn_implementation == model.vision_model.config._attn_implementation == attention
    assert model.training
    assert model.vision_model.encoder.layers[0].gradient_checkpointing


def test_padding_does_not_count():
    model = make_model("trajvit")
    inputs = make_inputs(0, num_samples=2)
    inputs["trajectory_maps"] = torch.randint(0, 4, (2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    inputs["trajectory_attention_mask"] = torch.ones(2, 3, dtype=torch.long)
    expected = StepFlops(Accelerator(cpu=True), model, 1).of_step("videos", inputs, 8)
    # Longer padding of trajectories: a sample alone has none.
    padded = {**inputs, "trajectory_attention_mask": nn.functional.pad(inputs["trajectory_attention_mask"], (0, 9))}
    assert StepFlops(Accelerator(cpu=True), model, 1).of_step("videos", padded, 8) == pytest.approx(expected)


def test_frozen_weights_cost_less():
    whole = StepFlops(Accelerator(cpu=True), make_model(), 1).of_step("videos", make_inputs(0), 99)
    model = add_lora(make_model(), LoraSettings(rank=2))
    adapted = StepFlops(Accelerator(cpu=True), model, 1).of_step("videos", make_inputs(0), 99)
    assert whole / 2 < adapted < 0.85 * whole


def test_counting_changes_nothing(tmp_path):
    plain, counted = TinyRun.start(tmp_path), None
    expected = plain.take_steps(3)
    counted = TinyRun.start(tmp_path)
    flops = StepFlops(counted.accelerator, counted.model, 1)
    losses = []
    for number in range(3):
        inputs = make_inputs(number)
        assert flops.of_step(f"stream {number}", inputs, 99) > 0
        losses.append(counted.take_step())
    assert losses == expected
    for one, other in zip(plain.model.parameters(), counted.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_peaks_are_those_of_known_devices_in_half_precision():
    assert peak_tflops("NVIDIA H100 80GB HBM3", "bf16") == 989
    assert peak_tflops("NVIDIA H100 PCIe", "bf16") == 756
    assert peak_tflops("NVIDIA A100-SXM4-80GB", "fp16") == 312
    assert peak_tflops("NVIDIA L40S", "bf16") == 362
    assert peak_tflops("NVIDIA L4", "bf16") == 121
    assert peak_tflops("NVIDIA H100 80GB HBM3", "no") is None
    assert peak_tflops("NVIDIA GeForce GTX 1080", "bf16") is None
    assert peak_tflops("cpu", "bf16") is None
