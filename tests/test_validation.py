"""Retrieval among held-out samples, against loops, and that evaluating leaves no trace."""

import random

import numpy as np
import pytest
import torch
from tiny_run import TinyRun, make_inputs
from torch.nn.functional import normalize

from trajvit.training import validation
from trajvit.training.clip_loader import Batch
from trajvit.training.collation import to_model_inputs
from trajvit.training.record_stream import Position
from trajvit.training.validation import evaluate_retrieval, retrieval_metrics


def recall_by_loops(videos, texts, recall):
    """Sorts every candidate list; no two similarities may be equal."""
    captions = len(texts) // len(videos)
    found = 0
    for number, text in enumerate(texts):
        order = sorted(range(len(videos)), key=lambda video: -float(text @ videos[video]))
        found += number // captions in order[:recall]
    to_videos = found / len(texts)
    found = 0
    for number, video in enumerate(videos):
        order = sorted(range(len(texts)), key=lambda text: -float(video @ texts[text]))
        own = [place for place, text in enumerate(order) if text // captions == number]
        # Its other captions do not stand in the way of the best one.
        found += min(own) < recall
    return 100 * to_videos, 100 * found / len(videos)


@pytest.mark.parametrize("captions", [1, 3])
def test_recalls_are_those_of_sorted_lists(captions, monkeypatch):
    generator = torch.Generator().manual_seed(captions)
    videos = normalize(torch.randn(23, 8, generator=generator, dtype=torch.float64), dim=-1)
    noise = torch.randn(23 * captions, 8, generator=generator, dtype=torch.float64)
    texts = normalize(videos.repeat_interleave(captions, 0) + 0.5 * noise, dim=-1)
    metrics = retrieval_metrics(videos, texts)
    assert (metrics["num_videos"], metrics["num_texts"]) == (23, 23 * captions)
    for recall in (1, 5, 10):
        expected = recall_by_loops(videos, texts, recall)
        assert 0 < expected[0] < 100 or recall > 1
        assert (metrics[f"txt2vid_R@{recall}"], metrics[f"vid2txt_R@{recall}"]) == pytest.approx(expected)
    monkeypatch.setattr(validation, "_ROWS_AT_ONCE", 4)
    assert retrieval_metrics(videos, texts) == metrics


def test_ranks_by_hand():
    # Similarities of three videos (rows) and three texts, each with one caption.
    wanted = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.3, 0.5], [0.1, 0.4, 0.6]], dtype=torch.float64)
    metrics = retrieval_metrics(wanted, torch.eye(3, dtype=torch.float64))
    # Videos' ranks 1, 3, 1; texts': 1, 2 and 1.
    assert metrics["vid2txt_R@1"] == metrics["txt2vid_R@1"] == pytest.approx(200 / 3)
    assert (metrics["vid2txt_median_rank"], metrics["txt2vid_median_rank"]) == (1, 1)
    metrics = retrieval_metrics(wanted[[1, 0, 2]], torch.eye(3, dtype=torch.float64))
    # Videos' ranks 1, 3, 1; texts': 2, 3, 1.
    assert (metrics["vid2txt_R@1"], metrics["txt2vid_R@1"]) == (pytest.approx(200 / 3), pytest.approx(100 / 3))
    assert (metrics["vid2txt_median_rank"], metrics["txt2vid_median_rank"]) == (1, 2)


def test_a_video_has_the_rank_of_its_best_caption():
    videos = torch.eye(3, dtype=torch.float64)
    texts = torch.tensor(
        [[0.1, 0.5, 0.0], [0.9, 0.0, 0.2], [0.2, 0.7, 0.1], [0.3, 0.6, 0.0], [0.8, 0.1, 0.3], [0.7, 0.2, 0.1]],
        dtype=torch.float64,
    )
    metrics = retrieval_metrics(videos, texts)
    # Video 2's best text has 0.3, and none of the others' more than 0.2.
    assert metrics["vid2txt_R@1"] == 100
    # Texts 0, 4 and 5 are nearer to another video.
    assert metrics["txt2vid_R@1"] == 50


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_equal_and_missing_similarities_find_nothing(value):
    videos = torch.full((30, 4), value)
    metrics = retrieval_metrics(videos, torch.ones(30, 4))
    assert metrics["txt2vid_R@10"] == metrics["vid2txt_R@10"] == 0
    assert metrics["txt2vid_median_rank"] == metrics["vid2txt_median_rank"] == 30


def test_texts_that_cannot_be_shared_out_are_an_error():
    with pytest.raises(ValueError, match="5 texts for 2 videos"):
        retrieval_metrics(torch.ones(2, 3), torch.ones(5, 3))
    with pytest.raises(ValueError, match="0 texts for 0 videos"):
        retrieval_metrics(torch.ones(0, 3), torch.ones(0, 3))


def make_batches(sizes):
    generator = torch.Generator().manual_seed(0)
    for number, size in enumerate(sizes):
        inputs = make_inputs(number, num_samples=size)
        inputs["pixel_values_videos"] = torch.randint(
            0, 256, (size, 4, 3, 32, 32), dtype=torch.uint8, generator=generator
        )
        # Whoever reads the samples may draw random numbers.
        random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
        yield Batch("held out", inputs, ("",) * size, (), Position())


def test_an_evaluation_is_the_models_and_leaves_no_trace(tmp_path):
    run = TinyRun.start(tmp_path)
    norm = run.model.vision_model.encoder.layers[0].attention_norm.eval()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    metrics = evaluate_retrieval(run.accelerator, run.model, make_batches([4, 4, 3]))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert run.model.training
    assert not norm.training
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert metrics["num_videos"] == metrics["num_texts"] == 11

    run.model.eval()
    outputs = []
    with torch.no_grad():
        for batch in make_batches([4, 4, 3]):
            for row in range(len(batch.keys)):
                one = {name: values[row : row + 1] for name, values in batch.inputs.items()}
                outputs.append(run.model(**to_model_inputs(one, "cpu")))
    videos = torch.cat([output.video_embeds for output in outputs])
    texts = torch.cat([output.text_embeds for output in outputs])
    assert recall_by_loops(videos, texts, 5) == pytest.approx((metrics["txt2vid_R@5"], metrics["vid2txt_R@5"]))


def test_no_sample_is_an_error(tmp_path):
    run = TinyRun.start(tmp_path)
    with pytest.raises(ValueError, match="no held-out sample"):
        evaluate_retrieval(run.accelerator, run.model, [])
    assert run.model.training
