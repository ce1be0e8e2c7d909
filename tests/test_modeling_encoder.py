"""The vision tower as a whole: padding, permutation, pooling, attention forms, recorded outputs, checkpointing."""

import pytest
import torch

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel
from trajvit.modeling_trajvit.video_transformer import VideoTransformerAttention, VideoTransformerLayer

SMALL = {"image_size": 64, "feature_size": 16, "num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 128}


def make_model(attention="sdpa", **options):
    torch.manual_seed(0)
    config = TrajViTConfig.from_name("tiny", **{**SMALL, **options})
    return TrajViTModel._from_config(config, attn_implementation=attention).eval()


def make_videos(num_trajectories=(5, 9), num_frames=4, size=64, grid=16):
    generator = torch.Generator().manual_seed(3)
    frames = torch.randn(len(num_trajectories), num_frames, 3, size, size, generator=generator)
    labels = []
    for count in num_trajectories:
        blocks = torch.randint(0, count + 1, (num_frames, grid // 2, grid // 2), generator=generator)
        labels.append(blocks.repeat_interleave(2, 1).repeat_interleave(2, 2))
    mask = torch.arange(max(num_trajectories)) < torch.tensor(num_trajectories)[:, None]
    return frames, torch.stack(labels), mask.long()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padding", [1, 64, 384])
def test_padding_never_touches_a_real_token(attention, padding):
    model = make_model(attention)
    frames, labels, mask = make_videos()
    with torch.no_grad():
        alone = model(frames[:1], labels[:1], mask[:1, :5])
        padded = model(frames, labels, torch.nn.functional.pad(mask, (0, padding)))
    torch.testing.assert_close(padded.pooler_output[0], alone.pooler_output[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(padded.last_hidden_state[0, :6], alone.last_hidden_state[0], rtol=0, atol=1e-5)
    assert (padded.last_hidden_state[0, 6:] == 0).all()
    assert padded.token_mask.sum(1).tolist() == [6, 10]


@pytest.mark.parametrize("num_frames", [1, 3])
@pytest.mark.parametrize("front", [False, True])
def test_padding_frames_change_nothing(num_frames, front):
    model = make_model()
    frames, labels, mask = make_videos(num_frames=4)
    kept = slice(4 - num_frames, None) if front else slice(num_frames)
    frame_mask = torch.ones(2, 4, dtype=torch.long)
    frame_mask[0] = 0
    frame_mask[0, kept] = 1
    with torch.no_grad():
        alone = model(frames[:1, kept], labels[:1, kept], mask[:1])
        whole = model(frames[1:], labels[1:], mask[1:])
        batch = model(frames, labels, mask, frame_mask)
        compiled_listing = torch.compile(model, backend="eager", fullgraph=True)(frames, labels, mask, frame_mask)
    for row, single in enumerate((alone, whole)):
        torch.testing.assert_close(batch.pooler_output[row], single.pooler_output[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(batch.last_hidden_state[row], single.last_hidden_state[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(compiled_listing.pooler_output, batch.pooler_output, rtol=0, atol=1e-5)
    assert not torch.allclose(batch.pooler_output[0], model(frames, labels, mask).pooler_output[0], atol=1e-3)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_permuting_ids_permutes_tokens_and_leaves_the_pooled_output(pooling):
    model = make_model(pooling=pooling)
    frames, labels, mask = make_videos((8,))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    renamed = torch.cat([torch.zeros(1, dtype=torch.long), order + 1])[labels]
    with torch.no_grad():
        before, after = model(frames, labels, mask), model(frames, renamed, mask)
    torch.testing.assert_close(
        after.last_hidden_state[:, 1 + order], before.last_hidden_state[:, 1:], rtol=0, atol=1e-5
    )
    torch.testing.assert_close(after.pooler_output, before.pooler_output, rtol=0, atol=1e-5)


def test_eager_and_sdpa_agree():
    frames, labels, mask = make_videos()
    outputs = []
    for attention in ("eager", "sdpa"):
        model = make_model(attention)
        assert model.config._attn_implementation == attention
        with torch.no_grad():
            outputs.append(model(frames, labels, mask).last_hidden_state)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)


def test_attention_can_be_changed_afterwards():
    model = make_model("sdpa")
    inputs = make_videos()
    with torch.no_grad():
        before = model(*inputs).pooler_output
        model.set_attn_implementation("eager")
        assert len(model(*inputs, output_attentions=True).attentions) == 3
        torch.testing.assert_close(model(*inputs).pooler_output, before, rtol=0, atol=1e-5)


def test_gradients_of_eager_and_sdpa_agree():
    frames, labels, mask = make_videos()
    gradients = []
    for attention in ("eager", "sdpa"):
        model = make_model(attention)
        model(frames, labels, mask).pooler_output.square().sum().backward()
        gradients.append(model.tokenizer.appearance_mlp.weight.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_a_sample_without_trajectory_is_the_cls_token_alone():
    model = make_model()
    frames, labels, mask = make_videos()
    mask[0], labels[0] = 0, 0
    with torch.no_grad():
        batch = model(frames, labels, mask)
        empty = model(frames[:1], labels[:1], mask[:1, :0])
        other = model(frames[1:], labels[:1], mask[:1, :0])
    assert empty.last_hidden_state.shape == (1, 1, 64)
    assert batch.token_mask[0].tolist() == [True] + 9 * [False]
    torch.testing.assert_close(batch.pooler_output[0], empty.pooler_output[0], rtol=0, atol=1e-5)
    # Nothing of the frames reaches the CLS token when no trajectory carries it there.
    torch.testing.assert_close(other.pooler_output, empty.pooler_output)


def test_mean_pooling_is_the_mean_of_the_tokens_that_are_there():
    model = make_model(pooling="mean")
    frames, labels, mask = make_videos((5, 9, 3))
    labels[2] = 0
    with torch.no_grad():
        output = model(frames, labels, mask)
    for sample, count in ((0, 5), (1, 9)):
        expected = output.last_hidden_state[sample, 1 : 1 + count].mean(0)
        torch.testing.assert_close(output.pooler_output[sample], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(output.pooler_output[2], output.last_hidden_state[2, 0])


def test_an_image_is_a_video_of_one_frame():
    model = make_model()
    frames, labels, mask = make_videos(num_frames=1)
    with torch.no_grad():
        output = model(frames, labels, mask)
    assert output.last_hidden_state.shape == (2, 10, 64)
    assert torch.isfinite(output.last_hidden_state).all()


@pytest.mark.parametrize("num_frames", [1, 2, 16, 33])
def test_any_number_of_frames(num_frames):
    frames, labels, mask = make_videos(num_frames=num_frames)
    with torch.no_grad():
        assert make_model()(frames, labels, mask).pooler_output.shape == (2, 64)


def test_recorded_outputs_have_one_entry_a_layer_and_the_right_mask():
    model = make_model("eager")
    frames, labels, mask = make_videos()
    with torch.no_grad():
        plain = model(frames, labels, mask)
        output = model(frames, labels, mask, output_attentions=True, output_hidden_states=True)
    assert len(output.attentions) == 3
    assert len(output.hidden_states) == 4
    assert output.attentions[0].shape == (2, 4, 10, 10)
    torch.testing.assert_close(output.last_hidden_state, plain.last_hidden_state)
    for weights in output.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 10))
        assert (weights[0, :, :, 6:] == 0).all()
    last = model.encoder.norm(output.hidden_states[-1]) * output.token_mask.unsqueeze(-1)
    torch.testing.assert_close(last, output.last_hidden_state)


@pytest.mark.parametrize("recorded", [False, True])
def test_every_layer_runs_once_a_forward(recorded):
    model = make_model("eager")
    calls = []
    for module in model.modules():
        if isinstance(module, (VideoTransformerLayer, VideoTransformerAttention)):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    with torch.no_grad():
        model(*make_videos(), output_attentions=recorded, output_hidden_states=recorded)
    assert len(calls) == len(set(calls)) == 6


def test_hidden_states_pass_a_final_norm():
    model = make_model()
    with torch.no_grad():
        hidden = model(*make_videos()).last_hidden_state[1]
    torch.testing.assert_close(hidden.mean(-1), torch.zeros(10), rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden.var(-1, unbiased=False), torch.ones(10), rtol=0, atol=1e-2)


def test_tuple_output():
    model = make_model()
    inputs = make_videos()
    with torch.no_grad():
        output, values = model(*inputs), model(*inputs, return_dict=False)
    assert len(values) == 4
    torch.testing.assert_close(values[1], output.pooler_output)


def gradients_of(model, inputs):
    torch.manual_seed(0)
    model.zero_grad()
    model(*inputs).pooler_output.square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_gradient_checkpointing_gives_the_same_gradients():
    inputs = make_videos()
    plain = gradients_of(make_model(hidden_dropout_prob=0.1).train(), inputs)
    model = make_model(hidden_dropout_prob=0.1).train()
    model.gradient_checkpointing_enable()
    runs = []
    model.encoder.layers[0].mlp.register_forward_hook(lambda *_: runs.append(1))
    checkpointed = gradients_of(model, inputs)
    assert len(runs) == 2
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-4, atol=1e-6)


def test_dropout_acts_in_training_only():
    model = make_model(hidden_dropout_prob=0.5)
    inputs = make_videos()
    with torch.no_grad():
        assert torch.equal(model(*inputs).pooler_output, model(*inputs).pooler_output)
        model.train()
        assert not torch.equal(model(*inputs).pooler_output, model(*inputs).pooler_output)


def test_bfloat16_stays_close_to_float32():
    frames, labels, mask = make_videos(num_frames=8)
    model = make_model()
    with torch.no_grad():
        exact = model(frames, labels, mask)
        half = model.to(torch.bfloat16)(frames, labels, mask)
    assert half.last_hidden_state.dtype == torch.bfloat16
    similarity = torch.nn.functional.cosine_similarity(exact.last_hidden_state, half.last_hidden_state.float(), dim=-1)
    assert similarity[exact.token_mask].min() > 0.995
    assert torch.equal(exact.token_mask, half.token_mask)


def test_autocast_stays_close_to_float32():
    inputs = make_videos()
    model = make_model()
    with torch.no_grad():
        exact = model(*inputs).pooler_output
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(*inputs).pooler_output
    assert torch.nn.functional.cosine_similarity(exact, mixed.float()).min() > 0.995
