"""Segments between predicted edges: known edges by hand, and a random Segformer from disk."""

import json
import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)
from transformers.modeling_outputs import SemanticSegmenterOutput

from trajvit.processing.edge_segmenter import EdgeSegmenter

# The model sees the frame itself, 0..1.
PLAIN_PIXELS = SegformerImageProcessor(do_resize=False, do_normalize=False)


class LinearConfig(PretrainedConfig):
    model_type = "linear-edges"


class LinearEdges(PreTrainedModel):
    """Logits that are a linear function of each pixel's colour, so that a frame says where its edges are."""

    config_class = LinearConfig

    def __init__(self, weight, bias):
        super().__init__(LinearConfig(id2label={number: f"class {number}" for number in range(len(bias))}))
        self.classifier = nn.Conv2d(3, len(bias), 1)
        self.classifier.weight.data = torch.tensor(weight, dtype=torch.float32)[..., None, None]
        self.classifier.bias.data = torch.tensor(bias, dtype=torch.float32)

    def forward(self, pixel_values):
        return SemanticSegmenterOutput(logits=self.classifier(pixel_values))


def red_edges(**options):
    """Red pixels are edges with a probability of nearly 1, others of nearly 0."""
    return EdgeSegmenter(LinearEdges([[20.0, 0.0, 0.0]], [-10.0]), PLAIN_PIXELS, **options)


def frame_with_edges(edges):
    frame = np.zeros((*edges.shape, 3), np.uint8)
    frame[edges, 0] = 255
    return frame


def crossing_lines(height=60, width=80, thickness=3):
    edges = np.zeros((height, width), bool)
    edges[20 : 20 + thickness] = True
    edges[:, 30 : 30 + thickness] = True
    return edges


def segformer(num_labels=1):
    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=num_labels,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    model = SegformerForSemanticSegmentation(config).eval()
    # New weights give nearly constant logits around 0: spread them around the threshold.
    model.decode_head.classifier.weight.data *= 100
    model.decode_head.classifier.bias.data[0] = -1.4
    return model


FRAMES = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("dilation", [0, 1, 2])
def test_known_edges_divide_the_frame_at_their_middle(dilation):
    edges = crossing_lines()
    (labels,) = red_edges(dilation=dilation)(frame_with_edges(edges)[None], None, edges.shape)
    expected = np.zeros(edges.shape, int)
    for number, part in enumerate(
        [np.s_[23:, 33:], np.s_[23:, :30], np.s_[:20, 33:], np.s_[:20, :30]],
        start=1,
    ):
        expected[part] = number
    np.testing.assert_array_equal(labels[~edges], expected[~edges])
    # The middle pixel of a line is as near to both sides; the outer ones belong to theirs.
    np.testing.assert_array_equal(labels[20, :29], labels[0, 0])
    np.testing.assert_array_equal(labels[22, :29], labels[-1, 0])
    assert labels.dtype == np.int32


def test_dilation_lies_on_top_where_the_part_is_smaller():
    edges = np.zeros((40, 60), bool)
    edges[:, 20] = True
    (labels,) = red_edges(dilation=5)(frame_with_edges(edges)[None], None, edges.shape)
    # The left part is smaller and grows by 5 pixels, across the line and into the right one.
    assert (labels[20] == labels[20, 0]).sum() == 25


def test_a_diagonal_line_of_single_pixels_separates():
    edges = np.eye(50, dtype=bool)
    (labels,) = red_edges(dilation=0)(frame_with_edges(edges)[None], None, edges.shape)
    assert labels.max() == 2
    assert labels[0, -1] != labels[-1, 0]


@pytest.mark.parametrize(("edge_threshold", "is_cut"), [(0.19, True), (0.21, False)])
def test_a_line_with_probability_a_fifth_cuts_below_that_threshold(edge_threshold, is_cut):
    # Red is an edge with probability 0.2, black with 0.01.
    low, line = np.log(0.01 / 0.99), np.log(0.2 / 0.8)
    model = LinearEdges([[line - low, 0.0, 0.0]], [low])
    segmenter = EdgeSegmenter(model, PLAIN_PIXELS, edge_threshold=edge_threshold)
    edges = crossing_lines()
    (labels,) = segmenter(frame_with_edges(edges)[None], None, edges.shape)
    assert labels.max() == (4 if is_cut else 1)


@pytest.mark.parametrize("edge_label", [2, "class 2"])
def test_of_several_labels_the_edge_is_one_channel_of_the_softmax(edge_label):
    weight = [[1.0, -2.0, 0.5], [0.3, 2.0, -1.0], [-3.0, 1.0, 4.0]]
    bias = [0.2, 0.0, -1.0]
    smooth = ndimage.zoom(FRAMES[0].astype(float), (3, 3, 1), order=1).clip(0, 255).astype(np.uint8)
    segmenter = EdgeSegmenter(LinearEdges(weight, bias), PLAIN_PIXELS, 0.3, edge_label, dilation=0, max_gap=1000)
    (labels,) = segmenter(smooth[None], None, smooth.shape[:2])
    scores = np.exp(smooth / 255 @ np.array(weight).T + bias)
    is_part = scores[..., 2] / scores.sum(-1) < 0.3
    parts, count = ndimage.label(is_part)
    kept = [part for part in range(1, count + 1) if (parts == part).sum() > 16]
    assert len(kept) > 3
    numbers = [np.unique(labels[parts == part]) for part in kept]
    assert sorted(number for of_part in numbers for number in of_part) == list(range(1, labels.max() + 1))


def test_a_checkpoint_in_a_folder_is_what_the_loaded_model_is(tmp_path):
    model, processor = segformer(), SegformerImageProcessor(size={"height": 64, "width": 64})
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    size = (96, 128)
    from_folder = EdgeSegmenter(tmp_path)(FRAMES, None, size)
    loaded = EdgeSegmenter(model, processor)(FRAMES, None, size)
    for labels, again in zip(from_folder, loaded, strict=True):
        assert labels.shape == size
        assert labels.max() > 1
        np.testing.assert_array_equal(labels, again)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    segformer().save_pretrained(tmp_path)
    SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSemanticSegmentation": "evil.Evil", "AutoConfig": "evil.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: pass\n")
    segmenter = EdgeSegmenter(tmp_path)
    assert type(segmenter.model) is SegformerForSemanticSegmentation
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("frames_per_batch", [2, 5])
def test_the_batch_of_frames_does_not_matter(frames_per_batch):
    model, processor = segformer(), SegformerImageProcessor(size={"height": 64, "width": 64})
    one_by_one = EdgeSegmenter(model, processor)(FRAMES, None, (96, 128))
    batched = EdgeSegmenter(model, processor, frames_per_batch=frames_per_batch)(FRAMES, None, (96, 128))
    assert len(one_by_one) == len(batched) == 3
    for labels, again in zip(one_by_one, batched, strict=True):
        assert (labels != again).mean() < 1e-3


class SizeRecorder(nn.Module):
    """Passes everything on and remembers what size of picture the model was shown."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.shape = model, model.config, None

    def forward(self, pixel_values):
        self.shape = tuple(pixel_values.shape[-2:])
        return self.model(pixel_values=pixel_values)


@pytest.mark.parametrize(("input_size", "shape"), [(None, (64, 32)), (96, (96, 96)), ((32, 160), (32, 160))])
def test_the_model_sees_frames_at_input_size(input_size, shape):
    recorder = SizeRecorder(segformer())
    processor = SegformerImageProcessor(size={"height": 64, "width": 32})
    EdgeSegmenter(recorder, processor, input_size=input_size)(FRAMES[:1], None, (48, 64))
    assert recorder.shape == shape


def test_autocast_reaches_the_model():
    model, processor = segformer(), SegformerImageProcessor(size={"height": 64, "width": 64})
    exact = EdgeSegmenter(model, processor)(FRAMES, None, (48, 64))
    half = EdgeSegmenter(model, processor, autocast_dtype=torch.bfloat16)(FRAMES, None, (48, 64))
    assert any((a != b).any() for a, b in zip(exact, half, strict=True)), "bfloat16 moves some pixel"
    assert all(labels.min() == 1 for labels in half)


@pytest.mark.parametrize("is_edge", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (70, 3), (40, 50)])
def test_blank_frames_are_one_segment(shape, is_edge):
    frame = frame_with_edges(np.full(shape, is_edge))
    (labels,) = red_edges()(frame[None], None, shape)
    np.testing.assert_array_equal(labels, np.ones(shape))


def test_no_frames_have_no_maps():
    assert red_edges()(FRAMES[:0], None, (10, 10)) == []


def test_maps_have_the_asked_size_and_at_most_max_segments():
    edges = np.zeros((60, 80), bool)
    edges[9::10] = edges[:, 9::10] = True
    size = (120, 160)
    (labels,) = red_edges(max_segments=128)(frame_with_edges(edges)[None], None, size)
    assert labels.shape == size
    assert labels.max() == 48
    (labels,) = red_edges(max_segments=5)(frame_with_edges(edges)[None], None, size)
    assert labels.max() == 5


def test_a_model_that_gives_nan_gives_one_segment_and_one_warning():
    model = LinearEdges([[torch.nan, 0.0, 0.0]], [0.0])
    with pytest.warns(RuntimeWarning, match="NaN or infinite values for 3 of 3 frames") as caught:
        maps = EdgeSegmenter(model, PLAIN_PIXELS)(FRAMES, None, (48, 64))
    assert len(caught) == 1
    for labels in maps:
        np.testing.assert_array_equal(labels, np.ones((48, 64)))


def test_a_sound_model_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        red_edges()(FRAMES, None, (48, 64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge_threshold": 0.0}, "edge_threshold must lie above 0 and at most at 1, got 0.0"),
        ({"edge_threshold": 1.2}, "edge_threshold must lie above 0 and at most at 1, got 1.2"),
        ({"dilation": -1}, "dilation must be at least 0 pixels, got -1"),
        ({"frames_per_batch": 0}, "frames_per_batch must be at least 1, got 0"),
        ({"input_size": 0}, "input_size must be None, a side or .height, width. in pixels, got 0"),
        ({"input_size": (1, 2, 3)}, "input_size must be None"),
        ({"edge_label": "sky"}, "edge_label must be one of the model's labels, .*class 0.*, got 'sky'"),
        ({"min_area": -1}, "min_area must be at least 0, got -1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        red_edges(**options)


def test_several_labels_need_a_named_edge():
    with pytest.raises(ValueError, match=r"edge_label must be one of .*class 1.*, got None"):
        EdgeSegmenter(LinearEdges([[1.0, 0.0, 0.0]] * 2, [0.0, 0.0]), PLAIN_PIXELS)


def test_a_loaded_model_needs_its_processor():
    with pytest.raises(ValueError, match="processor must be given"):
        EdgeSegmenter(segformer())


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        EdgeSegmenter(tmp_path / "nowhere")
