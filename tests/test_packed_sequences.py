"""Sequences of different lengths: packed, padded and alone they are the same, and padding costs nothing packed."""

import shutil
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from trajvit.modeling_trajvit import TrajViTConfig
from trajvit.modeling_trajvit.packed_sequences import jagged_attention, pack_sequences
from trajvit.modeling_trajvit.video_transformer import VideoTransformerEncoder

LENGTHS = (5, 1, 9, 4)


def make_encoder(attention="sdpa", **options):
    torch.manual_seed(0)
    fields = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = TrajViTConfig.from_name("tiny", **{**fields, **options})
    config._attn_implementation = attention
    encoder = VideoTransformerEncoder(config).eval()
    torch.nn.init.normal_(encoder.cls_token)
    return encoder


def make_tokens(lengths=LENGTHS, width=32, scattered=False):
    """Tokens (B, L, D), garbage where the mask is false; with `scattered` the padding stands anywhere."""
    generator = torch.Generator().manual_seed(1)
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    if scattered:
        mask = mask[:, torch.randperm(longest, generator=generator)]
    return torch.randn(len(lengths), longest, width, generator=generator) * 3, mask


def run(encoder, tokens, mask, **options):
    hidden_states, pooled, token_mask = encoder(tokens, mask, **options)
    assert torch.equal(token_mask[:, 1:], mask)
    return hidden_states, pooled


compiled = pytest.mark.skipif(shutil.which("g++") is None, reason="flex attention is compiled by g++")


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager", pytest.param("flex_attention", marks=compiled)])
def test_packed_padded_and_alone_are_the_same(attention, scattered):
    encoder = make_encoder(attention)
    tokens, mask = make_tokens(scattered=scattered)
    with torch.no_grad():
        packed, pooled = run(encoder, tokens, mask)
        # Hidden states are returned with the batch's shape, so this takes the padded form.
        padded, padded_pooled = run(encoder, tokens, mask, output_hidden_states=True)
        torch.testing.assert_close(packed, padded, rtol=0, atol=1e-5)
        torch.testing.assert_close(pooled, padded_pooled, rtol=0, atol=1e-5)
        for row in range(len(LENGTHS)):
            own = tokens[row : row + 1, mask[row]]
            alone, _ = run(encoder, own, torch.ones(1, own.shape[1], dtype=torch.bool))
            here = torch.cat([torch.ones(1, dtype=torch.bool), mask[row]])
            torch.testing.assert_close(packed[row, here], alone[0], rtol=0, atol=1e-5)
            assert (packed[row, ~here] == 0).all()


def test_gradients_of_packed_and_padded_are_the_same():
    tokens, mask = make_tokens()
    results = []
    for options in ({}, {"output_hidden_states": True}):
        encoder = make_encoder()
        leaf = tokens.clone().requires_grad_()
        run(encoder, leaf, mask, **options)[0].square().sum().backward()
        results.append([leaf.grad, *(parameter.grad for parameter in encoder.parameters())])
    for packed, padded in zip(*results, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-4)
    assert (results[0][0][~mask] == 0).all()


def counted(encoder, tokens, mask, **options):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(encoder, tokens, mask, **options)
    return counter.get_total_flops()


def test_padding_is_not_computed():
    encoder = make_encoder(hidden_size=64, intermediate_size=256)
    tokens, mask = make_tokens((100, 3, 20, 7), width=64)
    alone = sum(counted(encoder, tokens[row : row + 1, mask[row]], mask[row : row + 1, mask[row]]) for row in range(4))
    packed = counted(encoder, tokens, mask)
    padded = counted(encoder, tokens, mask, output_hidden_states=True)
    assert packed == alone
    assert padded > 3 * packed


def test_a_full_batch_stays_one_batch():
    """Nothing to leave out: one call for all videos, which accelerators like best."""
    encoder = make_encoder()
    tokens, mask = make_tokens((9, 9, 9))
    shapes = []
    encoder.layers[0].register_forward_hook(lambda _, inputs, output: shapes.append(tuple(output.shape)))
    with torch.no_grad():
        run(encoder, tokens, mask)
        run(encoder, *make_tokens((9, 2, 9)))
    assert shapes == [(3, 10, 32), (1, 23, 32)]


def flash_reference(module, query, key, value, attention_mask, scaling, dropout=0.0, **spans):
    """What flash attention for variable lengths computes, from the arguments that transformers hands to it."""
    assert attention_mask is None
    if "cu_seq_lens_q" not in spans:
        bounds = [(0, query.shape[2])]
    else:
        assert torch.equal(spans["cu_seq_lens_q"], spans["cu_seq_lens_k"])
        assert spans["cu_seq_lens_q"].dtype == torch.int32
        offsets = spans["cu_seq_lens_q"].tolist()
        bounds = list(pairwise(offsets))
        assert spans["max_length_q"] == spans["max_length_k"] == max(end - start for start, end in bounds)
        assert bounds[-1][1] == query.shape[2]
    parts = []
    for start, end in bounds:
        scores = query[:, :, start:end] @ key[:, :, start:end].transpose(2, 3) * scaling
        parts.append(scores.softmax(-1) @ value[:, :, start:end])
    return torch.cat(parts, dim=2).transpose(1, 2), None


def test_flash_attention_is_told_where_sequences_begin():
    name = "flash_reference"
    AttentionInterface.register(name, flash_reference)
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, lambda *arguments, **options: None)
    tokens, mask = make_tokens()
    with torch.no_grad():
        told, _ = run(make_encoder(name), tokens, mask)
        expected, _ = run(make_encoder("sdpa"), tokens, mask)
    torch.testing.assert_close(told, expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_jagged_attention_is_a_call_for_each_sequence():
    packing = pack_sequences(make_tokens()[1], "sdpa")
    assert packing.lengths == list(LENGTHS)
    total = sum(LENGTHS)
    generator = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(1, 4, total, 8, generator=generator) for _ in range(3))
    result = jagged_attention(query, key, value, packing, scaling=0.3, dropout=0.0)
    parts = []
    for part in zip(*(tensor.split(LENGTHS, dim=2) for tensor in (query, key, value)), strict=True):
        parts.append((part[0] @ part[1].transpose(2, 3) * 0.3).softmax(-1) @ part[2])
    torch.testing.assert_close(result, torch.cat(parts, dim=2).transpose(1, 2), rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_and_padded_are_the_same_on_a_gpu(dtype):
    encoder = make_encoder().to("cuda", dtype)
    tokens, mask = (tensor.to("cuda") for tensor in make_tokens())
    results = []
    for options in ({}, {"output_hidden_states": True}):
        leaf = tokens.to(dtype).requires_grad_()
        hidden, _ = run(encoder, leaf, mask, **options)
        hidden.square().sum().backward()
        results.append((hidden, leaf.grad))
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    for packed, padded in zip(*results, strict=True):
        torch.testing.assert_close(packed, padded, rtol=tolerance, atol=tolerance)
