"""The Perceiver resampler against masked multi-head attention written out, and what time does to it."""

import math

import pytest
import torch
from torch import nn

from trajvit.modeling_trajvit import TrajViTConfig, TrajViTModel
from trajvit.modeling_trajvit.perceiver_resampler import PerceiverResampler, TrajectoryPairs
from trajvit.modeling_trajvit.position_encoding import SinusoidalBoxEncoder, frame_times

WIDTH, HEADS, FRAMES, TRAJECTORIES = 16, 4, 6, 5


def make_resampler(num_layers=2, num_heads=HEADS, dtype=torch.float64):
    torch.manual_seed(0)
    resampler = PerceiverResampler(WIDTH, num_layers, num_heads, 1e-6)
    nn.init.normal_(resampler.query)
    return resampler.to(dtype)


def make_presence():
    present = torch.rand(TRAJECTORIES, FRAMES, generator=torch.Generator().manual_seed(1)) < 0.6
    present[3] = False
    present[4] = torch.arange(FRAMES) == 2
    return present


def pairs_of(present, listed=None):
    segment, frame = (present if listed is None else listed).nonzero(as_tuple=True)
    times = frame_times(torch.ones(1, present.shape[1], dtype=torch.bool))[0]
    return TrajectoryPairs(segment, frame, present[segment, frame], present.shape[0], times)


def speeds(count):
    return 0.5 * (8.0 / 0.5) ** (torch.arange(count) / max(count - 1, 1))


def literal(resampler, features, present):
    """One trajectory and one head at a time, rotations as complex numbers."""
    layer_norms = zip(resampler.query_norms, resampler.layers, strict=True)
    half = WIDTH // HEADS // 2
    still = HEADS // 2
    times = (torch.arange(FRAMES) + 0.5) / FRAMES - 0.5
    value_speeds = speeds((HEADS - still) * half).view(-1, half)
    query = resampler.query.expand(TRAJECTORIES, -1)
    for norm, layer in layer_norms:
        context = torch.zeros_like(query)
        for m in range(TRAJECTORIES):
            frames = present[m].nonzero().flatten()
            if not len(frames):
                continue
            x = resampler.input_norm(features[m, frames])
            q, k, v = layer.q_proj(norm(query[m])), layer.k_proj(x), layer.v_proj(x)
            for h in range(HEADS):
                part = slice(h * 2 * half, (h + 1) * 2 * half)
                turn = torch.exp(2j * math.pi * times[frames, None] * speeds(half))
                kc = torch.complex(k[:, part][:, :half], k[:, part][:, half:]) * turn
                qc = torch.complex(q[part][:half], q[part][half:])
                weights = ((kc * qc.conj()).real.sum(1) / math.sqrt(2 * half)).softmax(0)
                vc = torch.complex(v[:, part][:, :half], v[:, part][:, half:])
                if h >= still:
                    vc = vc * torch.exp(2j * math.pi * times[frames, None] * value_speeds[h - still])
                total = (weights[:, None] * vc).sum(0)
                context[m, part] = torch.cat([total.real, total.imag])
        query = query + layer.o_proj(context)
    return resampler.output_norm(query)


def test_packed_pairs_equal_attention_written_out():
    resampler, present = make_resampler(), make_presence()
    features = torch.randn(TRAJECTORIES, FRAMES, WIDTH, dtype=torch.float64)
    packed = resampler(features[present], pairs_of(present))
    # Angles are float32, as positions are in any precision.
    torch.testing.assert_close(packed, literal(resampler, features, present), rtol=0, atol=1e-6)


def test_listing_absent_pairs_changes_nothing():
    resampler, present = make_resampler(), make_presence()
    features = torch.randn(TRAJECTORIES, FRAMES, WIDTH, dtype=torch.float64)
    everything = torch.ones_like(present)
    dense = resampler(features[everything], pairs_of(present, everything))
    packed = resampler(features[present], pairs_of(present))
    torch.testing.assert_close(dense, packed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("listed_all", [False, True])
def test_absent_frames_get_no_gradient(listed_all):
    resampler, present = make_resampler(), make_presence()
    features = torch.randn(TRAJECTORIES, FRAMES, WIDTH, dtype=torch.float64, requires_grad=True)
    listed = torch.ones_like(present) if listed_all else present
    resampler(features[listed], pairs_of(present, listed)).square().sum().backward()
    assert (features.grad[~present] == 0).all()
    assert torch.isfinite(features.grad).all()
    assert (features.grad[present].abs().sum(-1) > 0).all()


def test_resampler_gradient_by_finite_differences():
    resampler, present = make_resampler(num_layers=1), make_presence()
    features = torch.randn(int(present.sum()), WIDTH, dtype=torch.float64, requires_grad=True)
    parameters = [p for p in resampler.parameters() if p.requires_grad]

    def run(features, *parameters):
        named = dict(zip(dict(resampler.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(resampler, named, (features, pairs_of(present)))

    assert torch.autograd.gradcheck(run, (features, *parameters), atol=1e-6, fast_mode=True)


def test_large_logits_do_not_overflow():
    resampler, present = make_resampler(dtype=torch.float32), make_presence()
    with torch.no_grad():
        for layer in resampler.layers:
            layer.q_proj.weight *= 1e4
    output = resampler(torch.randn(int(present.sum()), WIDTH), pairs_of(present))
    assert torch.isfinite(output).all()


def test_one_head_also_carries_time_in_its_values():
    resampler = make_resampler(num_layers=1, num_heads=1)
    present = torch.ones(1, FRAMES, dtype=torch.bool)
    features = torch.randn(FRAMES, WIDTH, dtype=torch.float64)
    forwards, backwards = (resampler(x, pairs_of(present)) for x in (features, features.flip(0)))
    assert (forwards - backwards).norm() > 0.1 * forwards.norm()


def test_time_reaches_the_values_and_not_only_the_logits():
    resampler = make_resampler(num_layers=1)
    with torch.no_grad():
        resampler.layers[0].q_proj.weight.zero_()
        resampler.layers[0].q_proj.bias.zero_()
    present = torch.ones(1, FRAMES, dtype=torch.bool)
    features = torch.randn(FRAMES, WIDTH, dtype=torch.float64)
    forwards, backwards = (resampler(x, pairs_of(present)) for x in (features, features.flip(0)))
    assert (forwards - backwards).norm() > 0.1 * forwards.norm()


def times_of(*counts):
    """Times of videos with so many frames, padded at the end to the longest."""
    return frame_times(torch.arange(max(counts)) < torch.tensor(counts)[:, None])


def test_time_is_a_share_of_the_video():
    torch.testing.assert_close(times_of(4)[0], torch.tensor([-3, -1, 1, 3]) / 8)
    assert times_of(1).item() == 0.0
    # Four frames out of 64 have their mean in the middle of one segment out of 16.
    torch.testing.assert_close(times_of(64).view(16, 4).mean(1), times_of(16)[0])


def test_padding_frames_do_not_stretch_time():
    times = times_of(4, 16, 1)
    torch.testing.assert_close(times[0, :4], times_of(4)[0])
    torch.testing.assert_close(times[1], times_of(16)[0])
    assert times[2, 0] == 0.0


def test_every_box_coordinate_has_the_full_set_of_frequencies():
    encoder = SinusoidalBoxEncoder(64, 56)
    start = torch.tensor([[0.3, 0.3, 0.6, 0.6]])
    path = torch.linspace(0, 1, 57)
    travels = []
    for coordinate in range(4):
        boxes = start.repeat(57, 1)
        boxes[:, coordinate] = path
        travels.append(encoder(boxes).diff(dim=0).norm(dim=1).sum())
    torch.testing.assert_close(torch.stack(travels), travels[0].expand(4))
    assert travels[0] > 10


def test_box_codes_tell_any_two_cells_apart():
    codes = SinusoidalBoxEncoder(64, 56)(torch.arange(57)[:, None].expand(57, 4) / 56)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(57)
    assert distances.min() > 0.5


def test_projections_of_a_new_model_keep_the_scale_of_what_passes():
    """transformers initialises every linear layer alike unless a layer's own initialisation reaches it."""
    torch.manual_seed(0)
    model = TrajViTModel(TrajViTConfig.from_name("tiny"))
    for resampler in (model.tokenizer.appearance_resampler, model.tokenizer.position_resampler):
        for layer in resampler.layers:
            for projection in (layer.q_proj, layer.k_proj, layer.v_proj, layer.o_proj):
                assert projection.weight.std().item() == pytest.approx(64**-0.5, rel=0.1)
                assert (projection.bias == 0).all()
    assert model.tokenizer.appearance_mlp.weight.std().item() == pytest.approx(0.02, rel=0.1)
