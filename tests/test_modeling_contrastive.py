"""The contrastive model: embeddings, temperature, loss, and text towers of other families."""

import math

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTContrastiveConfig, TrajViTForContrastive, TrajViTModel
from trajvit.modeling_trajvit.contrastive_loss import bounded, info_nce

TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}


def make_model(text=None, **options):
    torch.manual_seed(0)
    vision = TrajViTConfig.from_name("tiny", image_size=64, feature_size=16, num_hidden_layers=1)
    text = {"model_type": "bert", **TEXT} if text is None else text
    return TrajViTForContrastive(TrajViTContrastiveConfig(vision_config=vision, text_config=text, **options)).eval()


def make_inputs(batch_size=3):
    generator = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(1, 99, (batch_size, 6), generator=generator),
        "attention_mask": torch.ones(batch_size, 6, dtype=torch.long),
        "pixel_values_videos": torch.randn(batch_size, 2, 3, 64, 64, generator=generator),
        "trajectory_maps": torch.randint(0, 5, (batch_size, 2, 4, 4), generator=generator)
        .repeat_interleave(4, 2)
        .repeat_interleave(4, 3),
        "trajectory_attention_mask": torch.ones(batch_size, 4, dtype=torch.long),
    }


def video_inputs(inputs):
    return {key: value for key, value in inputs.items() if "video" in key or "trajectory" in key}


def test_logits_are_cosine_similarities_over_the_temperature():
    model, inputs = make_model(), make_inputs()
    with torch.no_grad():
        output = model(**inputs)
        videos = model.get_video_features(**video_inputs(inputs)).pooler_output
        texts = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output
    assert videos.shape == texts.shape == (3, 256)
    for video in range(3):
        for text in range(3):
            expected = nn.functional.cosine_similarity(videos[video], texts[text], dim=0) / 0.07
            torch.testing.assert_close(output.logits_per_video[video, text], expected, rtol=0, atol=1e-4)
    assert torch.equal(output.logits_per_text, output.logits_per_video.T)
    torch.testing.assert_close(output.video_embeds.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(output.text_embeds.norm(dim=1), torch.ones(3))
    assert output.loss is None


def test_loss_is_symmetric_info_nce_written_out():
    output = make_model()(**make_inputs(), return_loss=True)
    logits = output.logits_per_video.detach().double()
    expected = 0.0
    for i in range(3):
        expected += math.log(sum(math.exp(logits[i, j] - logits[i, i]) for j in range(3))) / 6
        expected += math.log(sum(math.exp(logits[j, i] - logits[i, i]) for j in range(3))) / 6
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_needs_no_process_group_and_reaches_every_weight():
    assert not torch.distributed.is_initialized()
    model = make_model().train()
    model(**make_inputs(), return_loss=True).loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


def test_a_batch_without_any_trajectory_still_reaches_every_weight():
    model, inputs = make_model().train(), make_inputs()
    inputs["trajectory_maps"] = torch.zeros_like(inputs["trajectory_maps"])
    model(**inputs, return_loss=True).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_unequal_numbers_compare_but_have_no_loss():
    model, inputs = make_model(), make_inputs()
    inputs["input_ids"], inputs["attention_mask"] = inputs["input_ids"][:2], inputs["attention_mask"][:2]
    with torch.no_grad():
        assert model(**inputs).logits_per_video.shape == (3, 2)
        with pytest.raises(ValueError, match=r"logits have shape \(3, 2\)"):
            model(**inputs, return_loss=True)


def test_training_brings_matching_pairs_together():
    torch.manual_seed(0)
    model, inputs = make_model().train(), make_inputs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model(**inputs, return_loss=True).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_temperature_is_one_element_and_starts_at_its_value():
    assert make_model().temperature.shape == (1,)
    assert make_model().temperature.item() == pytest.approx(0.07)
    assert make_model(temperature_init_value=0.2).temperature.item() == pytest.approx(0.2)


@pytest.mark.parametrize(("value", "used"), [(-1.0, 0.001), (0.0, 0.001), (0.03, 0.03), (7.0, 0.5)])
def test_temperature_is_used_within_its_bounds(value, used):
    model, inputs = make_model(), make_inputs()
    with torch.no_grad():
        model.temperature.fill_(value)
        output = model(**inputs)
    expected = output.video_embeds @ output.text_embeds.T / used
    torch.testing.assert_close(output.logits_per_video, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("value", "slope", "expected"),
    [(0.6, 1.0, 1.0), (0.6, -1.0, 0.0), (0.0, -1.0, -1.0), (0.0, 1.0, 0.0), (0.2, 1.0, 1.0), (0.2, -1.0, -1.0)],
)
def test_a_temperature_outside_its_bounds_can_only_come_back(value, slope, expected):
    temperature = torch.tensor([value], requires_grad=True)
    (slope * bounded(temperature, 0.001, 0.5)).backward()
    assert temperature.grad.item() == expected


def test_temperature_gradient_by_finite_differences():
    temperature = torch.tensor([0.07], dtype=torch.float64, requires_grad=True)
    similarities = torch.randn(4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: info_nce(similarities / bounded(t, 0.001, 0.5)), temperature)


def test_text_padding_does_not_touch_the_embedding():
    model, inputs = make_model(), make_inputs()
    padded = nn.functional.pad(inputs["input_ids"], (0, 5))
    mask = nn.functional.pad(inputs["attention_mask"], (0, 5))
    with torch.no_grad():
        alone = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output
        batch = model.get_text_features(padded, mask).pooler_output
    torch.testing.assert_close(alone, batch, rtol=0, atol=1e-5)


def test_missing_text_is_named():
    inputs = make_inputs()
    del inputs["input_ids"]
    with pytest.raises(ValueError, match="input_ids is missing"):
        make_model()(**inputs)


@pytest.mark.parametrize(
    ("text", "pooling"),
    [
        ({"model_type": "bert", **TEXT}, "cls"),
        ({"model_type": "roberta", **TEXT}, "cls"),
        (
            {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "vocab_size": 99},
            "cls",
        ),
        ({"model_type": "clip_text_model", **TEXT, "eos_token_id": 98, "bos_token_id": 1, "pad_token_id": 0}, "pooler"),
    ],
)
def test_any_text_encoder(text, pooling):
    model = make_model(text, text_pooling=pooling).train()
    output = model(**make_inputs(), return_loss=True)
    output.loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_token_types_reach_the_text_encoder():
    model, inputs = make_model(), make_inputs()
    with torch.no_grad():
        zeros = model(**inputs, token_type_ids=torch.zeros_like(inputs["input_ids"])).text_embeds
        ones = model(**inputs, token_type_ids=torch.ones_like(inputs["input_ids"])).text_embeds
        plain = model(**inputs).text_embeds
    assert torch.equal(zeros, plain)
    assert not torch.equal(ones, plain)


def test_recorded_outputs_come_from_both_towers():
    model, inputs = make_model(), make_inputs()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert len(output.vision_model_output.hidden_states) == 2
    assert len(output.vision_model_output.attentions) == 1
    assert len(output.text_model_output.hidden_states) == 3
    assert len(output.text_model_output.attentions) == 2


def test_gradient_checkpointing_reaches_both_towers():
    model = make_model().train()
    model.gradient_checkpointing_enable()
    runs = []
    model.vision_model.encoder.layers[0].attention.q_proj.register_forward_hook(lambda *_: runs.append("vision"))
    model.text_model.encoder.layer[0].attention.self.query.register_forward_hook(lambda *_: runs.append("text"))
    model(**make_inputs(), return_loss=True).loss.backward()
    assert sorted(runs) == ["text", "text", "vision", "vision"]


class OtherConfig(TrajViTConfig):
    model_type = "other_tower"


class OtherTower(TrajViTModel):
    config: OtherConfig


def test_a_vision_tower_is_chosen_by_its_model_type():
    vision = {"model_type": "other_tower", "num_hidden_layers": 1, "hidden_size": 64}
    with pytest.raises(ValueError, match="vision_config has model_type='other_tower'"):
        TrajViTContrastiveConfig(vision_config=vision)
    AutoConfig.register("other_tower", OtherConfig)
    AutoModel.register(OtherConfig, OtherTower)
    config = TrajViTContrastiveConfig(vision_config=vision, text_config={"model_type": "bert", **TEXT})
    assert type(TrajViTForContrastive(config).vision_model) is OtherTower
