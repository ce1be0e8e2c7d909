"""The attentive probe, against torch's own multi-head attention and against what pooling must not depend on."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trajvit.modeling_trajvit import AttentiveProbe

WIDTH, LABELS, HEADS = 24, 5, 3


def make_probe(**options):
    """Weights large enough that every part shows in the logits."""
    torch.manual_seed(0)
    probe = AttentiveProbe(WIDTH, LABELS, num_heads=HEADS, **options).eval()
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return probe


def make_features(num_sequences=4, length=7):
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(num_sequences, length, generator=generator) > 0.4
    mask[:, 2] = True
    return torch.randn(num_sequences, length, WIDTH, generator=generator), mask


def reference(probe, features, mask):
    """The same by torch's modules, with the weights copied into them."""
    attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).to(probe.query.dtype)
    projections = (probe.q_proj, probe.k_proj, probe.v_proj)
    attention.in_proj_weight.data = torch.cat([projection.weight.data for projection in projections])
    attention.in_proj_bias.data = torch.cat([projection.bias.data for projection in projections])
    attention.out_proj.load_state_dict(probe.o_proj.state_dict())
    mlp = nn.Sequential(
        nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
    ).to(probe.query.dtype)
    for module, source in zip((mlp[0], mlp[1], mlp[3]), (probe.mlp_norm, probe.fc1, probe.fc2), strict=True):
        module.load_state_dict(source.state_dict())
    centred = features - features.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    normed = normed * probe.feature_norm.weight + probe.feature_norm.bias
    query = probe.query.expand(len(features), -1, -1)
    gathered, _ = attention(query, normed, normed, key_padding_mask=None if mask is None else ~mask)
    pooled = query + gathered
    return probe.classifier(pooled + mlp(pooled)).squeeze(1)


@pytest.mark.parametrize("masked", [True, False])
def test_the_logits_are_those_of_torchs_attention(masked):
    probe, (features, mask) = make_probe(), make_features()
    with torch.no_grad():
        output = probe(features, mask if masked else None)
        expected = reference(probe, features, mask if masked else None)
    assert output.shape == (4, LABELS)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", [True, False])
def test_gradients_are_those_of_torchs_attention(masked):
    probe, (features, mask) = make_probe().double(), make_features()
    mask = mask if masked else None
    found, expected = [], []
    for logits_of, gradients in ((probe, found), (lambda *inputs: reference(probe, *inputs), expected)):
        inputs = features.double().requires_grad_()
        probe.zero_grad()
        logits_of(inputs, mask).square().sum().backward()
        # The reference has copies of the other weights.
        gradients += [inputs.grad, probe.query.grad, probe.feature_norm.weight.grad, probe.classifier.weight.grad]
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)


def test_gradients_of_the_projections_are_their_slopes():
    probe, (features, mask) = make_probe().double(), make_features()
    features = features.double()
    probe(features, mask).sum().backward()
    for projection in (probe.q_proj, probe.k_proj, probe.v_proj):
        for parameter in (projection.weight, projection.bias):
            place, step = (1,) * parameter.ndim, 1e-5
            sums = []
            with torch.no_grad():
                for change in (step, -2 * step):
                    parameter[place] += change
                    sums.append(probe(features, mask).sum().item())
                parameter[place] += step
            slope = (sums[0] - sums[1]) / (2 * step)
            assert parameter.grad[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_no_feature_is_projected():
    """Its products are with two vectors a head, which at 12 heads of width 32 are a 32nd of keys and values."""
    width, heads, features = 384, 12, torch.randn(2, 196, 384)
    probe = AttentiveProbe(width, LABELS, num_heads=heads).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        probe(features)
    projecting = 2 * features.numel() * 2 * width
    assert counter.get_total_flops() < projecting / 8


def test_what_lora_adds_to_the_projections_counts():
    probe, (features, mask) = make_probe(), make_features()
    with torch.no_grad():
        before = probe(features, mask)
    names = ["q_proj", "k_proj", "v_proj"]
    adapted = get_peft_model(probe, LoraConfig(r=2, target_modules=names, init_lora_weights=False))
    with torch.no_grad():
        output = adapted(features, mask)
        merged = adapted.merge_and_unload()(features, mask)
    assert (output - before).abs().max() > 1e-2
    torch.testing.assert_close(output, merged, rtol=1e-4, atol=1e-4)


def test_masked_features_count_for_nothing():
    probe, (features, mask) = make_probe(), make_features()
    with torch.no_grad():
        output = probe(features, mask)
        assert torch.equal(probe(features.masked_fill(~mask.unsqueeze(-1), 50.0), mask), output)
        for row in range(4):
            alone = probe(features[row : row + 1, mask[row]])
            torch.testing.assert_close(alone[0], output[row], rtol=0, atol=1e-5)


def test_the_order_of_features_does_not_count_and_each_of_them_does():
    probe, (features, _) = make_probe(), make_features()
    with torch.no_grad():
        output = probe(features)
        torch.testing.assert_close(probe(features[:, torch.randperm(7)]), output, rtol=0, atol=1e-5)
        for position in range(7):
            changed = features.clone()
            changed[:, position] = changed[:, position].flip(-1)
            assert (probe(changed) - output).abs().amax(1).min() > 1e-4


def test_features_are_layer_normalised_first():
    """Their scale and offset, which differ from tower to tower, do not count (supplement, section 1)."""
    probe, (features, mask) = make_probe(), make_features()
    with torch.no_grad():
        torch.testing.assert_close(probe(features * 40 + 3, mask), probe(features, mask), rtol=1e-3, atol=1e-3)


def test_stored_half_precision_features_are_taken():
    probe, (features, mask) = make_probe(), make_features()
    with torch.no_grad():
        output = probe(features.half(), mask)
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, probe(features, mask), rtol=0, atol=0.05)


def test_a_probe_learns_what_one_feature_of_many_says():
    """The class is in one feature, at a random place among seven that say nothing."""
    torch.manual_seed(0)
    probe = AttentiveProbe(WIDTH, 3, num_heads=HEADS)
    signs = torch.randn(3, WIDTH)
    marker = torch.zeros(WIDTH)
    marker[:4] = 4.0
    labels = torch.randint(0, 3, (256,))
    features = torch.randn(256, 7, WIDTH)
    features[torch.arange(256), torch.randint(0, 7, (256,))] = 2 * signs[labels] + marker
    optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3)
    for _ in range(40):
        loss = nn.functional.cross_entropy(probe(features[:192]), labels[:192])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = (probe(features[192:]).argmax(1) == labels[192:]).float().mean()
    assert accuracy > 0.9


def test_every_weight_gets_a_gradient_and_starts_the_same():
    torch.manual_seed(0)
    probe = AttentiveProbe(WIDTH, LABELS, num_heads=HEADS)
    assert probe.query.std().item() == pytest.approx(0.02, rel=0.5)
    assert not probe.classifier.bias.any()
    probe(*make_features()).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for name, parameter in probe.named_parameters() if name != "k_proj.bias")


def test_dropout_falls_in_training_alone():
    probe, (features, mask) = make_probe(dropout=0.5), make_features()
    with torch.no_grad():
        assert torch.equal(probe(features, mask), make_probe()(features, mask))
        assert not torch.allclose(probe.train()(features, mask), make_probe()(features, mask), atol=1e-2)


def test_wrong_inputs_are_named():
    probe, (features, mask) = make_probe(), make_features()
    with pytest.raises(ValueError, match=r"features have shape \(4, 24\): expected \(sequences, features, 24\)"):
        probe(features[:, 0])
    with pytest.raises(ValueError, match=r"features have shape \(4, 7, 23\)"):
        probe(features[..., 1:])
    with pytest.raises(ValueError, match=r"mask has shape \(4, 6\) and dtype torch.bool: expected bool \(4, 7\)"):
        probe(features, mask[:, 1:])
    with pytest.raises(ValueError, match=r"dtype torch.int64: expected bool"):
        probe(features, mask.long())
    mask[3] = False
    with pytest.raises(ValueError, match=r"mask\[3\] is all False"):
        probe(features, mask)
    with pytest.raises(ValueError, match="hidden_size=24 must be a multiple of num_heads=5"):
        AttentiveProbe(WIDTH, LABELS, num_heads=5)
