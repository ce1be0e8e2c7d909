"""Small contrastive models whose batch may be cut anywhere, and batches of unequal samples for them."""

import torch
from torch import nn
from tower_models import SIZE, TEXT, make_config

from trajvit.modeling_trajvit import TrajViTContrastiveConfig, TrajViTForContrastive


def make_contrastive(tower="trajvit", dropout=0.0, text_dropout=0.0, **options):
    """A model in training, its batch norms frozen; equal calls give equal weights."""
    torch.manual_seed(0)
    text = {**TEXT, "hidden_dropout_prob": text_dropout, "attention_probs_dropout_prob": 0.0}
    vision = make_config(tower, hidden_dropout_prob=dropout)
    model = TrajViTForContrastive(TrajViTContrastiveConfig(vision_config=vision, text_config=text, **options)).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def make_batch(num_trajectories=(5, 2, 4, 1, 3, 0), captions=1, num_frames=4, seed=0):
    """Videos with so many trajectories each, and captions of 3 to 8 tokens: frames are double where the model is."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(num_trajectories)
    frames = torch.randn(len(counts), num_frames, 3, SIZE, SIZE, generator=generator)
    frames[..., : SIZE // 2] = frames[:, :1, ..., : SIZE // 2]
    cells = torch.rand(len(counts), num_frames, 8, 8, generator=generator)
    maps = (cells * (counts.view(-1, 1, 1, 1) + 1)).long()
    lengths = torch.randint(3, 9, (len(counts) * captions, 1), generator=generator)
    attention = torch.arange(8) < lengths
    ids = torch.randint(1, 99, attention.shape, generator=generator) * attention
    return {
        "pixel_values_videos": frames,
        "trajectory_maps": maps,
        "trajectory_attention_mask": (torch.arange(int(counts.max())) < counts.unsqueeze(1)).long(),
        "input_ids": ids,
        "attention_mask": attention.long(),
    }


def select_samples(inputs, samples, captions=1):
    """Some samples of a batch, a slice, with their captions."""
    texts = slice(samples.start * captions, samples.stop * captions)
    of_texts = ("input_ids", "attention_mask")
    return {name: values[texts if name in of_texts else samples] for name, values in inputs.items()}


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same_gradients(actual, expected, rtol=1e-6, atol=1e-9):
    """Fits double precision: far below what a wrong share of a gradient would be."""
    assert actual.keys() == expected.keys()
    assert any(gradient.abs().max() > 1e-2 for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(
            actual[name], gradient, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )
