"""What holds for the outputs of every vision tower: shapes, padding and batches that change nothing, attention."""

import pytest
import torch
from tower_models import TOWERS, make_tower, make_videos, select, tokens_of

pytestmark = pytest.mark.parametrize("tower", TOWERS)


def assert_close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_tokens_their_mask_and_the_pooled_output_fit_each_other(tower, pooling):
    model = make_tower(tower, pooling=pooling)
    with torch.no_grad():
        output = model(**make_videos())
    batch_size, length, width = output.last_hidden_state.shape
    assert (batch_size, width) == (2, 32)
    assert length > 1
    assert output.token_mask.shape == (2, length)
    assert output.token_mask.dtype == torch.bool
    assert output.token_mask[:, 0].all()
    assert not output.last_hidden_state[~output.token_mask].any()
    assert output.pooler_output.shape == (2, 32)
    if pooling == "cls":
        assert torch.equal(output.pooler_output, output.last_hidden_state[:, 0])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_video_gives_the_same_alone_and_in_a_batch(tower, pooling):
    model, inputs = make_tower(tower, pooling=pooling), make_videos(batch_size=3)
    with torch.no_grad():
        together = model(**inputs)
        for video in range(3):
            alone = model(**select(inputs, [video]))
            assert_close(tokens_of(together, video), tokens_of(alone, 0))
            assert_close(together.pooler_output[video], alone.pooler_output[0])


@pytest.mark.parametrize("present", [[0, 1, 2], [2, 3, 4, 5], [0, 2, 5], [4], [0, 1, 3, 4, 5]])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_frames_change_nothing_wherever_they_stand(tower, present, pooling):
    """The padded video shares its batch with one of all six frames."""
    model, inputs = make_tower(tower, pooling=pooling), make_videos(num_frames=6)
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1] = 0
    mask[1, present] = 1
    noisy = {**inputs, "pixel_values_videos": inputs["pixel_values_videos"].clone()}
    noisy["pixel_values_videos"][mask == 0] = 7.0
    with torch.no_grad():
        alone = model(**select(inputs, [1], present))
        whole = model(**select(inputs, [0]))
        batch = model(**noisy, frame_attention_mask=mask)
    assert_close(tokens_of(batch, 1), tokens_of(alone, 0))
    assert_close(batch.pooler_output[1], alone.pooler_output[0])
    assert_close(tokens_of(batch, 0), tokens_of(whole, 0))


@pytest.mark.parametrize("num_frames", [1, 3, 9])
def test_any_number_of_frames_is_taken(tower, num_frames):
    """One frame is an image, nine are more than the configuration's four."""
    model, inputs = make_tower(tower), make_videos(num_frames=num_frames)
    with torch.no_grad():
        output = model(**inputs)
        changed = {**inputs, "pixel_values_videos": inputs["pixel_values_videos"].clone()}
        changed["pixel_values_videos"][:, -1] += torch.randn(3, 32, 32)
        assert not torch.allclose(model(**changed).pooler_output, output.pooler_output, atol=1e-4)
    assert torch.isfinite(output.last_hidden_state).all()


def test_eager_attention_and_sdpa_give_the_same(tower):
    inputs = {**make_videos(num_frames=5), "frame_attention_mask": torch.tensor([[1] * 5, [1, 0, 1, 1, 0]])}
    outputs, gradients = [], []
    for attention in ("eager", "sdpa"):
        model = make_tower(tower, attention)
        output = model(**inputs)
        # A weight for every token, so that none goes unnoticed.
        weights = torch.linspace(0.5, 1.5, output.last_hidden_state.numel()).view_as(output.last_hidden_state)
        (output.last_hidden_state * weights).sum().backward()
        outputs.append(output.last_hidden_state.detach())
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert_close(outputs[0], outputs[1])
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def test_hidden_states_and_attentions_are_returned_when_asked_for(tower):
    model, inputs = make_tower(tower, "eager"), make_videos()
    with torch.no_grad():
        plain = model(**inputs)
        output = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert plain.hidden_states is None
    assert plain.attentions is None
    assert_close(output.last_hidden_state, plain.last_hidden_state)
    assert len(output.hidden_states) >= model.config.num_hidden_layers
    assert all(states.shape[-1] == model.config.hidden_size for states in output.hidden_states)
    assert len(output.attentions) == model.config.num_hidden_layers
    for weights in output.attentions:
        assert weights.shape[1] == model.config.num_attention_heads
        assert weights.shape[-1] == weights.shape[-2]
        assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_a_tuple_holds_the_same_values(tower):
    model, inputs = make_tower(tower), make_videos()
    with torch.no_grad():
        output, values = model(**inputs), model(**inputs, return_dict=False)
    assert type(values) is tuple
    assert len(values) == len(output.to_tuple())
    assert torch.equal(values[0], output.last_hidden_state)
    assert torch.equal(values[1], output.pooler_output)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(tower, dtype):
    """By the pooled output: rounded values may drop, merge or keep other tubelets than exact ones."""
    model, inputs = make_tower(tower), make_videos()
    with torch.no_grad():
        expected = model(**inputs).pooler_output
        output = model.to(dtype)(**inputs).pooler_output
    assert output.dtype == dtype
    assert torch.nn.functional.cosine_similarity(output.float(), expected).min() > 0.99
