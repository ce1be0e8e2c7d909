"""What training needs of every vision tower: weights that start somewhere, gradients that reach all of them."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tower_models import LOCALISING, TEXT, TOWERS, make_config, make_tower, make_videos

from trajvit.modeling_trajvit import (
    TrajViTActionDetectionConfig,
    TrajViTContrastiveConfig,
    TrajViTForActionDetection,
    TrajViTForContrastive,
    TrajViTForVideoClassification,
    TrajViTVideoClassificationConfig,
)
from trajvit.modeling_trajvit.video_transformer import VideoTransformerAttention
from trajvit.modeling_trajvit.vision_tower_configs import VISION_TOWER_CONFIGS
from trajvit.modeling_trajvit.vision_towers import VISION_TOWERS

PADDED = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1]])


def make_contrastive(tower, **options):
    torch.manual_seed(0)
    config = TrajViTContrastiveConfig(vision_config=make_config(tower, **options), text_config=TEXT)
    return TrajViTForContrastive(config)


def contrastive_loss(model):
    inputs = {**make_videos(), "frame_attention_mask": PADDED, "input_ids": torch.arange(1, 9).view(2, 4)}
    return model(**inputs, return_loss=True).loss


def assert_gradients_everywhere(model):
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_contrastive_loss_reaches_every_weight(tower, pooling):
    model = make_contrastive(tower, pooling=pooling).train()
    contrastive_loss(model).backward()
    assert_gradients_everywhere(model)


@pytest.mark.parametrize("tower", TOWERS)
def test_a_batch_of_images_reaches_every_weight(tower):
    model = make_contrastive(tower).train()
    inputs = {**make_videos(num_frames=1), "input_ids": torch.arange(1, 9).view(2, 4)}
    model(**inputs, return_loss=True).loss.backward()
    assert_gradients_everywhere(model)


@pytest.mark.parametrize("tower", TOWERS)
def test_the_classification_loss_reaches_every_weight(tower):
    torch.manual_seed(0)
    model = TrajViTForVideoClassification(
        TrajViTVideoClassificationConfig(vision_config=make_config(tower), num_labels=3)
    )
    model.train()(**make_videos(), labels=torch.tensor([2, 0])).loss.backward()
    assert_gradients_everywhere(model)


@pytest.mark.parametrize("tower", LOCALISING)
@pytest.mark.parametrize("num_boxes", [3, 0])
def test_the_detection_loss_reaches_every_weight(tower, num_boxes):
    """Also in a batch without a box, or the processes of a distributed training would wait for each other."""
    torch.manual_seed(0)
    model = TrajViTForActionDetection(TrajViTActionDetectionConfig(vision_config=make_config(tower), num_labels=3))
    boxes = torch.tensor([[0.0, 0.0, 0.6, 0.7], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])[:num_boxes]
    labels = torch.ones(2, num_boxes, 3)
    output = model.train()(
        **make_videos(), boxes=boxes.expand(2, -1, -1), frame_index=torch.tensor([1, 2]), labels=labels
    )
    output.loss.backward()
    assert output.logits.shape == (2, num_boxes, 3)
    assert_gradients_everywhere(model)


@pytest.mark.parametrize("tower", TOWERS)
def test_gradient_checkpointing_changes_no_gradient(tower):
    losses, gradients = [], []
    for checkpointing in (False, True):
        model = make_contrastive(tower).train()
        runs: list[str] = []
        for name, module in model.vision_model.named_modules():
            if isinstance(module, VideoTransformerAttention):
                module.register_forward_hook(lambda *_, name=name, runs=runs: runs.append(name))
        if checkpointing:
            model.gradient_checkpointing_enable()
        loss = contrastive_loss(model)
        first = list(runs)
        loss.backward()
        assert len(set(first)) == model.vision_model.config.num_hidden_layers
        assert sorted(runs) == sorted(first * 2 if checkpointing else first)
        losses.append(loss.detach())
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(losses[0], losses[1])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("tower", TOWERS)
def test_every_weight_and_buffer_is_initialised(tower):
    """Parameters made by `torch.empty` hold whatever was in memory unless initialisation names them."""
    model, again = make_contrastive(tower), make_contrastive(tower)
    state = again.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all(), name
        assert tensor.float().abs().max() < 10, name
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("tower", TOWERS)
def test_initialisation_fills_every_weight(tower):
    """Built on no device and initialised afterwards, as `from_pretrained` does where a checkpoint lacks weights."""
    with torch.device("meta"):
        model = VISION_TOWERS[tower](make_config(tower))
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    for module in model.modules():
        model._init_weights(module)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name


@pytest.mark.parametrize("tower", TOWERS)
def test_named_configurations_have_the_sizes_of_vits(tower):
    widths = {"tiny": 128, "small": 384, "base": 768, "large": 1024}
    parameters = {}
    for name, width in widths.items():
        with torch.device("meta"):
            model = VISION_TOWERS[tower](VISION_TOWER_CONFIGS[tower].from_name(name))
        assert model.config.hidden_size == width
        parameters[name] = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert parameters["tiny"] < 5
    # ViT-S, B and L have 22, 86 and 304 million; tokenizers add up to 14.
    assert 20 < parameters["small"] < 38
    assert 83 < parameters["base"] < 102
    assert 300 < parameters["large"] < 322
    assert VISION_TOWER_CONFIGS[tower]().to_diff_dict() == VISION_TOWER_CONFIGS[tower].from_name("large").to_diff_dict()


@pytest.mark.parametrize("tower", ["vit3d", "rlt"])
def test_low_rank_adapters_train_alone(tower):
    model, inputs = make_tower(tower), make_videos()
    before = model(**inputs).pooler_output.detach()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 2 * 2  # two layers, two projections, two factors each
    assert all("lora_" in name for name in trained)
    torch.testing.assert_close(adapted(**inputs).pooler_output.detach(), before, rtol=0, atol=1e-5)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(**inputs).pooler_output[:, 0].sum().backward()
        optimizer.step()
    assert not torch.allclose(adapted(**inputs).pooler_output.detach(), before, atol=1e-4)
