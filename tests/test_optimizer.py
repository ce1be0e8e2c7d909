"""Which parameters decay, and the learning rate of every step."""

import math

import pytest
import torch
from contrastive_batches import make_contrastive
from tower_models import TOWERS
from transformers import get_cosine_schedule_with_warmup

from trajvit.modeling_trajvit import TrajViTContrastiveConfig, TrajViTForContrastive
from trajvit.training.optimizer import build_optimizer, build_schedule, parameter_groups
from trajvit.training.run_config import OptimizerSettings

# Parameters of two and more dimensions that are no weights: by their names at the time of writing.
TOKENS_AND_POSITIONS = {
    "vision_model.encoder.cls_token",
    "vision_model.spatial.encoder.cls_token",
    "vision_model.temporal_encoder.cls_token",
    "vision_model.positions.embedding",
    "vision_model.spatial.positions.embedding",
    "vision_model.temporal_positions.embedding",
    "vision_model.lengths.embedding",
    "vision_model.tokenizer.appearance_resampler.query",
    "vision_model.tokenizer.position_resampler.query",
    "text_model.embeddings.position_embeddings.weight",
    "text_model.embeddings.token_type_embeddings.weight",
}


def names_of(model, group):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in group["params"]]


class TestGroups:
    @pytest.mark.parametrize("tower", TOWERS)
    def test_every_parameter_is_in_one_group(self, tower):
        model = make_contrastive(tower)
        decayed, kept = parameter_groups(model, 0.02)
        assert (decayed["weight_decay"], kept["weight_decay"]) == (0.02, 0.0)
        names = names_of(model, decayed) + names_of(model, kept)
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())

    @pytest.mark.parametrize("tower", TOWERS)
    def test_vectors_tokens_and_positions_do_not_decay(self, tower):
        model = make_contrastive(tower)
        expected = {name for name, parameter in model.named_parameters() if parameter.ndim <= 1}
        expected |= TOKENS_AND_POSITIONS & {name for name, _ in model.named_parameters()}
        _, kept = parameter_groups(model, 0.02)
        assert set(names_of(model, kept)) == expected
        assert "temperature" in expected

    def test_every_listed_token_is_in_some_tower(self):
        names = {name for tower in TOWERS for name, _ in make_contrastive(tower).named_parameters()}
        assert names >= TOKENS_AND_POSITIONS

    def test_words_decay(self):
        model = make_contrastive()
        decayed, _ = parameter_groups(model, 0.02)
        assert "text_model.embeddings.word_embeddings.weight" in names_of(model, decayed)

    @pytest.mark.parametrize(
        "text",
        [
            {"model_type": "roberta", "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48},
            {"model_type": "distilbert", "dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 48},
            {"model_type": "clip_text_model", "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48},
        ],
    )
    def test_other_text_towers(self, text):
        config = TrajViTContrastiveConfig(
            vision_config={"model_type": "vit3d", "num_hidden_layers": 1}, text_config=text
        )
        with torch.device("meta"):
            model = TrajViTForContrastive(config)
        _, kept = parameter_groups(model.text_model, 0.02)
        of_two_dimensions = {
            name for name in names_of(model.text_model, kept) if model.text_model.get_parameter(name).ndim > 1
        }
        assert of_two_dimensions == {
            name
            for name, _ in model.text_model.named_parameters()
            if "position_embedding" in name or "token_type" in name
        }

    def test_parameters_that_are_not_trained_are_in_none(self):
        model = make_contrastive()
        model.requires_grad_(False)
        model.video_projection.requires_grad_(True)
        decayed, kept = parameter_groups(model, 0.02)
        assert names_of(model, decayed) == ["video_projection.weight"]
        assert names_of(model, kept) == ["video_projection.bias"]
        model.video_projection.bias.requires_grad_(False)
        assert len(parameter_groups(model, 0.02)) == 1


def test_a_step_is_adamw_written_out():
    """One parameter of each group, two steps of the paper's settings (Loshchilov and Hutter 2019, algorithm 2)."""
    settings = OptimizerSettings(learning_rate=0.1, weight_decay=0.5, betas=(0.8, 0.9), eps=1e-3)
    model = torch.nn.Linear(1, 1).double()
    optimizer = build_optimizer(model, settings)
    values = {name: parameter.item() for name, parameter in model.named_parameters()}
    for name in values:
        value, first, second = values[name], 0.0, 0.0
        for step, gradient in ((1, 0.3), (2, -0.2)):
            first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
            moved = first / (1 - 0.8**step) / (math.sqrt(second / (1 - 0.9**step)) + 1e-3)
            value -= 0.1 * (moved + (0.5 if name == "weight" else 0.0) * value)
        values[name] = value
    for gradient in (0.3, -0.2):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.item() == pytest.approx(values[name], rel=1e-9)


def rates(num_steps, warmup_steps, settings, total=None):
    optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters(), lr=settings.learning_rate)
    schedule = build_schedule(optimizer, num_steps, warmup_steps, settings)
    found = []
    for _ in range(total or num_steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


class TestSchedule:
    @pytest.mark.parametrize(("num_steps", "warmup_steps"), [(20, 5), (10, 0), (7, 7), (1, 0)])
    def test_is_that_of_transformers(self, num_steps, warmup_steps):
        optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters(), lr=1e-4)
        theirs = get_cosine_schedule_with_warmup(optimizer, warmup_steps, num_steps)
        expected = []
        for _ in range(num_steps + 1):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            theirs.step()
        if num_steps == warmup_steps:
            # Where nothing is left to decay they end at the highest rate, and so do we.
            assert expected[-1] == 1e-4
        assert rates(num_steps, warmup_steps, OptimizerSettings()) == pytest.approx(expected, rel=1e-12, abs=1e-18)

    def test_by_hand(self):
        settings = OptimizerSettings(learning_rate=1.0, final_learning_rate=0.2)
        half = math.sqrt(2) / 2
        expected = [0, 0.5, 1, 0.6 + 0.4 * half, 0.6, 0.6 - 0.4 * half, 0.2, 0.2]
        assert rates(6, 2, settings, 8) == pytest.approx(expected)

    def test_goes_on_from_any_step(self):
        settings = OptimizerSettings()
        optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters(), lr=settings.learning_rate)
        schedule = build_schedule(optimizer, 20, 5, settings)
        for _ in range(8):
            optimizer.step()
            schedule.step()
        state, optimizer_state = schedule.state_dict(), optimizer.state_dict()
        optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters(), lr=settings.learning_rate)
        schedule = build_schedule(optimizer, 20, 5, settings)
        optimizer.load_state_dict(optimizer_state)
        schedule.load_state_dict(state)
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == rates(20, 5, settings)[9]

    @pytest.mark.parametrize("warmup_steps", [11, -1])
    def test_a_warm_up_longer_than_the_run(self, warmup_steps):
        with pytest.raises(ValueError, match=rf"warmup_steps={warmup_steps}: expected 0 to the run's num_steps=10"):
            rates(10, warmup_steps, OptimizerSettings())
