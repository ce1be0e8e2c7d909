"""Compilation and export without graph breaks at fixed shapes, attention back ends, adapters."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTContrastiveConfig, TrajViTForContrastive, TrajViTModel

SMALL = {"image_size": 64, "feature_size": 16, "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 128}


def make_model(attention="sdpa", **options):
    torch.manual_seed(0)
    config = TrajViTConfig.from_name("tiny", **{**SMALL, **options})
    return TrajViTModel._from_config(config, attn_implementation=attention).eval()


def make_inputs(seed=0):
    """Two videos of four trajectories: one trajectory is absent in some frames, one everywhere, one is padding."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(2, 3, 3, 64, 64, generator=generator)
    maps = torch.randint(0, 4, (2, 3, 4, 4), generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)
    maps[0][maps[0] == 2] = 0
    maps[1, 1:][maps[1, 1:] == 1] = 0
    return frames, maps, torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def test_one_graph_for_fixed_shapes_gives_the_same_output():
    model = make_model()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        for seed in range(3):
            inputs = make_inputs(seed)
            expected, output = model(*inputs), compiled(*inputs)
            torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state, rtol=0, atol=1e-5)
            assert torch.equal(output.token_mask, expected.token_mask)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
        frames, maps, mask = make_inputs()
        maps[0, 0, 0, 0] = 5
        with pytest.raises(RuntimeError, match="trajectory_maps: expected ids from 0 to"):
            compiled(frames, maps, mask)


def test_gradients_through_the_compiled_model_are_the_same():
    gradients = []
    for compiling in (False, True):
        model = make_model().train()
        run = torch.compile(model, backend="aot_eager", fullgraph=True) if compiling else model
        run(*make_inputs()).pooler_output.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_export_gives_a_program_with_the_same_output():
    model = make_model()
    program = torch.export.export(model, make_inputs(0), strict=False)
    with torch.no_grad():
        for seed in (0, 1):
            output = program.module()(*make_inputs(seed))
            expected = model(*make_inputs(seed)).last_hidden_state
            torch.testing.assert_close(output.last_hidden_state, expected, rtol=0, atol=1e-5)


def test_the_model_offers_every_attention_of_transformers():
    for model_class in (TrajViTModel, TrajViTForContrastive):
        assert model_class._supports_sdpa
        assert model_class._supports_flash_attn
        assert model_class._supports_flex_attn
        assert model_class._supports_attention_backend
        assert model_class.supports_gradient_checkpointing


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["flex_attention", "sdpa"])
def test_attention_on_a_gpu_agrees_with_eager(attention):
    inputs = [value.cuda() for value in make_inputs()]
    with torch.no_grad():
        expected = make_model("eager").cuda()(*inputs).last_hidden_state
        output = make_model(attention).cuda()(*inputs).last_hidden_state
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-3)


def test_low_rank_adapters_train_alone():
    model = make_model()
    before = model(*make_inputs()).pooler_output.detach()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    torch.testing.assert_close(adapted(*make_inputs()).pooler_output.detach(), before, rtol=0, atol=1e-5)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(*make_inputs()).pooler_output[:, 0].sum().backward()
        optimizer.step()
    assert not torch.allclose(adapted(*make_inputs()).pooler_output.detach(), before, atol=1e-4)


def test_adapters_of_the_contrastive_model_survive_a_round_trip(tmp_path):
    text = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
    config = TrajViTContrastiveConfig(vision_config=TrajViTConfig.from_name("tiny", **SMALL), text_config=text)
    torch.manual_seed(0)
    model = TrajViTForContrastive(config).eval()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "query"], init_lora_weights=False)).eval()
    frames, maps, mask = make_inputs()
    inputs = {"pixel_values_videos": frames, "trajectory_maps": maps, "trajectory_attention_mask": mask}
    inputs["input_ids"] = torch.tensor([[1, 2, 3], [4, 5, 6]])
    with torch.no_grad():
        expected = adapted(**inputs).logits_per_video
    adapted.save_pretrained(tmp_path)
    again = TrajViTForContrastive(config).eval()
    again.load_state_dict(weights)
    again.load_adapter(str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits_per_video, expected)
