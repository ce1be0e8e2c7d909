"""Action detection on every vision tower that can localise: boxes, their padding, the loss, parts of other models."""

import pytest
import torch
from torch import nn
from tower_models import LOCALISING, make_config, make_tower, make_videos, select

from trajvit.modeling_trajvit import TrajViTActionDetectionConfig, TrajViTForActionDetection

BOXES = torch.tensor(
    [[[0.0, 0.0, 0.5, 0.5], [0.25, 0.1, 1.0, 0.9]], [[0.5, 0.0, 1.0, 1.0], [0.6, 0.6, 0.9, 1.0]]],
)
FRAMES = torch.tensor([[0, 3], [2, 1]])


def make_model(tower="vit3d"):
    """The probe's weights are large enough that differences between boxes show in its logits."""
    torch.manual_seed(0)
    config = TrajViTActionDetectionConfig(vision_config=make_config(tower), num_labels=3, initializer_range=0.2)
    return TrajViTForActionDetection(config).eval()


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tower", LOCALISING)
def test_every_box_is_answered_from_its_own_tokens_alone(tower):
    model, inputs = make_model(tower), make_videos()
    with torch.no_grad():
        logits = model(**inputs, boxes=BOXES, frame_index=FRAMES).logits
        assert logits.shape == (2, 2, 3)
        for video in range(2):
            alone = select(inputs, [video])
            tokens = model.vision_model(**alone)
            for box in range(2):
                where = BOXES[video, box].view(1, 1, 4), FRAMES[video, box].view(1)
                close(model(**alone, boxes=where[0], frame_index=where[1]).logits[0, 0], logits[video, box])
                region = model.vision_model.region_features(tokens, *where)
                assert region.features.shape[-1] == model.config.vision_config.region_hidden_size
                own = region.features[0, 0][region.mask[0, 0]]
                close(model.probe(own.unsqueeze(0))[0], logits[video, box])


@pytest.mark.parametrize("tower", LOCALISING)
def test_boxes_in_different_places_and_times_have_different_answers(tower):
    model, inputs = make_model(tower), make_videos()
    corners = torch.tensor([[[0.0, 0.0, 0.25, 0.25], [0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0]]]).expand(2, -1, -1)
    frames = torch.tensor([[0, 0, 3]]).expand(2, -1)
    with torch.no_grad():
        logits = model(**inputs, boxes=corners, frame_index=frames).logits
    # Not of both videos: a trajectory may own both places.
    assert (logits[:, 0] - logits[:, 1]).abs().max() > 1e-2
    assert (logits[:, 1] - logits[:, 2]).abs().max() > 1e-2


@pytest.mark.parametrize("tower", LOCALISING)
def test_padding_boxes_have_zero_logits_and_influence_nothing(tower):
    model, inputs = make_model(tower), make_videos()
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    boxes = nn.functional.pad(BOXES, (0, 0, 0, 1))
    frames = nn.functional.pad(FRAMES, (0, 1))
    labels = torch.ones(2, 3, 3)
    answers = []
    for junk, frame, label in ((0.0, 0, 0.0), (float("nan"), -1, float("nan")), (9.0, 99, 1.0)):
        boxes, frames, labels = boxes.clone(), frames.clone(), labels.clone()
        boxes[mask == 0], frames[mask == 0], labels[mask == 0] = junk, frame, label
        model.zero_grad()
        output = model(**inputs, boxes=boxes, frame_index=frames, box_attention_mask=mask, labels=labels)
        output.loss.backward()
        assert not output.logits[mask == 0].any()
        gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        answers.append((output.logits.detach(), output.loss.detach(), gradient))
    for answer in answers[1:]:
        for value, expected in zip(answer, answers[0], strict=True):
            assert torch.equal(value, expected)
    with torch.no_grad():
        close(
            answers[0][0][:, :2][mask[:, :2] == 1],
            model(**inputs, boxes=BOXES, frame_index=FRAMES).logits[mask[:, :2] == 1],
        )


def test_the_loss_is_the_mean_over_boxes_and_labels():
    model, inputs = make_model(), make_videos()
    labels = torch.randint(0, 2, (2, 2, 3), generator=torch.Generator().manual_seed(2))
    output = model(**inputs, boxes=BOXES, frame_index=FRAMES, labels=labels.float())
    expected = nn.functional.binary_cross_entropy_with_logits(output.logits, labels.float())
    torch.testing.assert_close(output.loss, expected)
    mask = torch.tensor([[1, 0], [1, 1]])
    output = model(**inputs, boxes=BOXES, frame_index=FRAMES, box_attention_mask=mask, labels=labels)
    real = mask.bool()
    expected = nn.functional.binary_cross_entropy_with_logits(output.logits[real], labels[real].float())
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize("num_boxes", [0, 2])
def test_a_batch_without_a_box_has_no_loss_but_gradients(num_boxes):
    model = make_model()
    boxes, labels = BOXES[:, :num_boxes], torch.ones(2, num_boxes, 3)
    nothing = torch.zeros(2, num_boxes, dtype=torch.long)
    output = model(
        **make_videos(), boxes=boxes, frame_index=torch.tensor([0, 1]), box_attention_mask=nothing, labels=labels
    )
    assert output.loss.item() == 0
    output.loss.backward()
    assert all(not parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("tower", LOCALISING)
def test_padding_frames_change_no_answer(tower):
    """The frames of the second video stand at 1 and 4 of six; `frame_index` counts the padded ones too."""
    model, inputs = make_model(tower), make_videos(num_frames=6)
    mask = torch.tensor([[1] * 6, [0, 1, 0, 0, 1, 0]])
    boxes = torch.tensor([[[0.1, 0.0, 0.8, 0.7]]])
    with torch.no_grad():
        alone = model(**select(inputs, [1], [1, 4]), boxes=boxes, frame_index=torch.tensor([1])).logits
        padded = model(
            **inputs, frame_attention_mask=mask, boxes=boxes.expand(2, -1, -1), frame_index=torch.tensor([0, 4])
        ).logits
        close(padded[1:], alone)
        with pytest.raises(ValueError, match="padding frame"):
            model(**inputs, frame_attention_mask=mask, boxes=boxes.expand(2, -1, -1), frame_index=torch.tensor([0, 3]))
        # Its own first frame stands for the one of a padding box.
        spared = model(
            **inputs,
            frame_attention_mask=mask,
            boxes=boxes.expand(2, -1, -1),
            frame_index=torch.tensor([0, 3]),
            box_attention_mask=torch.tensor([[1], [0]]),
        ).logits
        close(spared, padded * torch.tensor([1, 0]).view(2, 1, 1))


def test_one_frame_for_all_boxes_of_a_video_is_the_same_as_one_for_each():
    model, inputs = make_model("image_vit"), make_videos()
    with torch.no_grad():
        shared = model(**inputs, boxes=BOXES, frame_index=torch.tensor([3, 1])).logits
        each = model(**inputs, boxes=BOXES, frame_index=torch.tensor([[3, 3], [1, 1]])).logits
    assert torch.equal(shared, each)


def test_what_the_tower_records_is_returned():
    model = make_model()
    model.set_attn_implementation("eager")
    output = model(**make_videos(), boxes=BOXES, frame_index=FRAMES, output_hidden_states=True, output_attentions=True)
    assert (len(output.hidden_states), len(output.attentions)) == (3, 2)
    (logits,) = model(**make_videos(), boxes=BOXES, frame_index=FRAMES, return_dict=False)
    close(logits, output.logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": None}, "boxes is missing"),
        ({"frame_index": None}, "frame_index is missing"),
        ({"pixel_values_videos": None}, "pixel_values_videos is missing"),
        ({"boxes": BOXES[0]}, r"boxes have shape \(2, 4\)"),
        ({"boxes": BOXES * 2}, r"boxes\[0, 1\] is \[0.5, 0.2, 2.0, 1.8\]: expected 0 <= x1"),
        ({"frame_index": torch.tensor([0, 4])}, "frame_index ranges from 0 to 4: expected 0 to 3"),
        ({"frame_index": torch.tensor([[0], [1], [2]])}, r"frame_index has shape \(3, 1\)"),
        ({"frame_index": torch.tensor([[0], [1], [2]]), "box_attention_mask": torch.ones(2, 2)}, r"shape \(3, 1\)"),
        ({"box_attention_mask": torch.ones(2, 3)}, r"box_attention_mask has shape \(2, 3\): expected \(2, 2\)"),
        ({"labels": torch.ones(2, 2)}, r"labels have shape \(2, 2\): expected \(2, 2, 3\)"),
    ],
)
def test_wrong_inputs_are_named(changes, message):
    inputs = {**make_videos(), "boxes": BOXES, "frame_index": FRAMES, **changes}
    with pytest.raises(ValueError, match=message), torch.no_grad():
        make_model()(**inputs)


def test_towers_that_cannot_localise_are_refused_at_once():
    with pytest.raises(ValueError, match="model_type='token_merge' cannot localise"):
        TrajViTActionDetectionConfig(vision_config=make_config("token_merge"))
    with pytest.raises(ValueError, match=r"vision_config has model_type='vjepa2', whose tower has no region_features"):
        TrajViTActionDetectionConfig(vision_config={"model_type": "vjepa2"})


def test_the_fuser_of_token_learner_starts_anew_on_a_checkpoint_without_one(tmp_path):
    tower = make_tower("token_learner")
    tower.save_pretrained(tmp_path / "tower")
    config = TrajViTActionDetectionConfig(vision_checkpoint=str(tmp_path / "tower"), num_labels=3)
    model = TrajViTForActionDetection.from_pretrained_parts(config).eval()
    assert model.config.vision_config.token_fuser
    state = model.vision_model.state_dict()
    new = set(state) - set(tower.state_dict())
    assert new
    assert all(name.startswith("token_fuser.") for name in new)
    assert all(torch.isfinite(state[name]).all() for name in new)
    for name, tensor in tower.state_dict().items():
        assert torch.equal(state[name], tensor), name
    # Once there, the fuser is a part of the tower like any other.
    model.save_pretrained(tmp_path / "detector")
    again = TrajViTActionDetectionConfig(vision_checkpoint=str(tmp_path / "detector"), num_labels=5)
    second = TrajViTForActionDetection.from_pretrained_parts(again).vision_model.state_dict()
    assert all(torch.equal(second[name], state[name]) for name in state)
