"""The moving average of weights against a loop, its state in a file, and weights that come back."""

import pytest
import torch
from contrastive_batches import make_batch, make_contrastive
from safetensors.torch import load_file, save_file

from trajvit.training.moving_average import MovingAverage


def make_model(dtype=torch.float64):
    """With batch norms in training, whose statistics are buffers that move."""
    return make_contrastive().train().to(dtype)


def train(model, seed):
    """Moves all weights, and the buffers by a forward pass."""
    torch.manual_seed(seed)
    with torch.no_grad():
        model(**make_batch(seed=seed))
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


def values(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_against_a_loop():
    model = make_model()
    average = MovingAverage(model, 0.9)
    expected = values(model)
    for seed in range(4):
        train(model, seed)
        average.update(model)
        for name, value in values(model).items():
            expected[name] = 0.9 * expected[name] + 0.1 * value if value.is_floating_point() else value
    found = average.state_dict()
    assert found.keys() == expected.keys()
    counters = [name for name in expected if name.endswith("num_batches_tracked")]
    assert counters
    assert all(expected[name] == 4 for name in counters)
    assert any(name.endswith("running_mean") for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-15, msg=name)
        assert found[name].dtype == value.dtype


def test_half_precision_does_not_lose_small_steps():
    model = torch.nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    torch.nn.init.constant_(model.weight, 1.0)
    average = MovingAverage(model, 0.999)
    torch.nn.init.constant_(model.weight, 2.0)
    for _ in range(100):
        average.update(model)
    assert average.state_dict()["weight"].dtype == torch.float32
    assert average.state_dict()["weight"].item() == pytest.approx(2 - 0.999**100, rel=1e-4)


def test_the_average_is_none_of_the_weights():
    model = make_model()
    average = MovingAverage(model, 0.5)
    before = values(model)
    train(model, 0)
    for name, value in average.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_come_back_bit_for_bit(dtype):
    model = make_model(dtype)
    average = MovingAverage(model, 0.5)
    train(model, 0)
    average.update(model)
    before, average_before = values(model), {name: value.clone() for name, value in average.state_dict().items()}
    parameters = [id(parameter) for parameter in model.parameters()]
    with average.applied(model):
        for name, value in model.state_dict().items():
            assert torch.equal(value, average_before[name].to(value.dtype)), name
        assert not torch.equal(model.video_projection.weight, before["video_projection.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert torch.equal(average.state_dict()[name], average_before[name]), name
    assert [id(parameter) for parameter in model.parameters()] == parameters


def test_weights_come_back_after_an_error():
    model = make_model()
    average = MovingAverage(model, 0.5)
    train(model, 0)
    before = values(model)
    with pytest.raises(RuntimeError, match="stopped"), average.applied(model):
        raise RuntimeError("stopped")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_its_state_goes_through_a_file(tmp_path):
    model = make_model()
    average = MovingAverage(model, 0.9)
    train(model, 0)
    average.update(model)
    save_file(average.state_dict(), tmp_path / "average.safetensors")
    again = MovingAverage(model, 0.9)
    again.load_state_dict(load_file(tmp_path / "average.safetensors"))
    train(model, 1)
    for one in (average, again):
        one.update(model)
    for name, value in average.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_tied_weights_have_an_average_each():
    """A file of safetensors holds no tensor twice."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    state = MovingAverage(model, 0.9).state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state) == 4


class TestWrongInputs:
    def test_decay(self):
        with pytest.raises(ValueError, match=r"decay=1\.5 is out of range: expected 0 to 1"):
            MovingAverage(torch.nn.Linear(1, 1), 1.5)

    def test_sharded_weights(self):
        model = torch.nn.Linear(1, 1)
        average = MovingAverage(model, 0.9)
        model.weight.data = torch.empty(0)
        with pytest.raises(ValueError, match=r"weight has shape \(0,\): expected \(1, 1\)\. An average needs whole"):
            average.update(model)

    def test_another_model_s_state(self):
        average = MovingAverage(torch.nn.Linear(1, 1), 0.9)
        with pytest.raises(ValueError, match=r"\['bias'\] are in one alone"):
            average.load_state_dict({"weight": torch.ones(1, 1)})
        with pytest.raises(ValueError, match=r"weight has shape \(2, 1\): expected \(1, 1\)"):
            average.load_state_dict({"weight": torch.ones(2, 1), "bias": torch.ones(1)})
