"""InfoNCE with several captions against loops, finite differences and the loss of one caption; without processes."""

import pytest
import torch
from naive_contrastive import naive_info_nce
from torch import nn

from trajvit.modeling_trajvit.contrastive_loss import info_nce, multi_positive_cross_entropy
from trajvit.training.global_contrastive import gather_with_gradient, global_info_nce, global_similarities


def embeddings(num_videos=4, captions=1, width=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(captions)
    videos = torch.randn(num_videos, width, generator=generator, dtype=torch.float64)
    texts = torch.randn(num_videos * captions, width, generator=generator, dtype=torch.float64)
    return videos.to(dtype), texts.to(dtype), torch.tensor([0.5], dtype=dtype)


@pytest.mark.parametrize("captions", [1, 2, 3])
def test_against_loops(captions):
    inputs = embeddings(captions=captions)
    torch.testing.assert_close(global_info_nce(*inputs), naive_info_nce(*inputs, captions))


@pytest.mark.parametrize("captions", [1, 3])
def test_gradients_by_finite_differences(captions):
    inputs = [tensor.requires_grad_() for tensor in embeddings(3, captions)]
    assert torch.autograd.gradcheck(global_info_nce, inputs)


def test_one_caption_is_the_loss_of_the_model():
    videos, texts, temperature = embeddings(dtype=torch.float32)
    loss = global_info_nce(videos, texts, temperature)
    torch.testing.assert_close(loss, info_nce(videos @ texts.T / temperature), rtol=1e-6, atol=0)


def test_one_right_answer_is_cross_entropy():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    right = torch.tensor([3, 0, 6, 6, 2])
    torch.testing.assert_close(
        multi_positive_cross_entropy(logits, right.unsqueeze(1)), nn.functional.cross_entropy(logits, right)
    )


def test_several_right_answers_by_hand():
    """Two texts of four, with shares 1/2, 1/4, 1/8, 1/8 of a softmax: the mean of log 2 and log 8."""
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log() + 3
    loss = multi_positive_cross_entropy(logits, torch.tensor([[0, 3]]))
    assert loss.item() == pytest.approx((torch.log(torch.tensor(2.0)) + torch.log(torch.tensor(8.0))).item() / 2)


def test_half_precision_is_compared_in_single_precision():
    videos, texts, temperature = embeddings(dtype=torch.bfloat16)
    exact = global_info_nce(videos.double(), texts.double(), temperature.double())
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = global_info_nce(videos, texts, temperature.float())
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


def test_accuracy_is_the_share_of_videos_next_to_a_caption_of_theirs():
    videos = torch.eye(4)
    texts = torch.eye(4).repeat_interleave(2, 0)
    temperature = torch.ones(1)
    assert global_similarities(videos, texts, temperature).accuracy() == 1
    texts[:2] *= -1  # the first video's captions say the opposite
    texts[2] = 0  # the other caption of the second video still does
    texts[3] = 2 * videos[1]
    texts[7] = 3 * videos[2]  # a caption of the last video describes the third
    assert global_similarities(videos, texts, temperature).accuracy() == 0.5


def test_without_processes_there_is_nothing_to_gather():
    videos, _, _ = embeddings()
    assert not torch.distributed.is_initialized()
    assert gather_with_gradient(videos) is videos


@pytest.mark.parametrize(("videos", "texts"), [((3, 4), (4, 4)), ((3, 4), (3, 5)), ((3, 4), (0, 4)), ((0, 4), (0, 4))])
def test_wrong_shapes(videos, texts):
    with pytest.raises(ValueError, match=rf"video_embeds have shape \({videos[0]}, 4\) and text_embeds \({texts[0]}, "):
        global_info_nce(torch.ones(videos), torch.ones(texts), torch.ones(1))
