"""Automatic masks against the package's own decoder and generator, and what happens where there is nothing to find."""

import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("sam2")

from random_sam2 import randomise_
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from skimage import data

from trajvit.processing.sam2_features import encode_frames
from trajvit.processing.sam2_loading import build_sam2
from trajvit.processing.sam2_point_decoder import PointDecoder
from trajvit.processing.sam2_segmenter import AutomaticMaskSegmenter

SIZE = 128
FRAMES = np.stack([data.astronaut()[:300, :400], data.coffee()[:300, :400], data.chelsea()[:300, :400]])
# Everything is kept: for looking at what there is to choose from.
OPEN = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
# Random weights give soft masks: a smaller offset than the default spreads their stability.
OFFSET = 0.2


def small_model(image_size=SIZE):
    """Random weights whose masks are small enough to have boxes of many sizes: by default all fill the frame."""
    model = randomise_(build_sam2("tiny", image_size))
    with torch.no_grad():
        for head in model.sam_mask_decoder.output_hypernetworks_mlps:
            head.layers[-1].bias.sub_(2.5)
    return model


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def features(model):
    return encode_frames(model, FRAMES)


def in_widest_gap(values, low, high):
    """The middle of the widest gap between values in a range of quantiles: rounding moves nothing across it."""
    values = np.sort(np.asarray(values))
    values = values[int(low * len(values)) : int(high * len(values)) + 1]
    widest = np.diff(values).argmax()
    return float(values[widest : widest + 2].mean())


def selective_options(model, features, **options):
    """Thresholds by which each filter drops some of the candidates and leaves some."""
    options = {"points_per_side": 8, "stability_score_offset": OFFSET, **options}
    (found,) = AutomaticMaskSegmenter(model, **OPEN, **options).find_masks(features)
    iou = in_widest_gap(found.predicted_ious, 0.4, 0.6)
    stability = in_widest_gap(found.stability_scores[found.predicted_ious > iou], 0.2, 0.4)
    return {**options, "pred_iou_thresh": iou, "stability_score_thresh": stability, "box_nms_thresh": 0.9}


def generated(model, image, options):
    """The package's own masks, at an image size below 1024, which its predictor has to be told."""
    options = {name: value for name, value in options.items() if name != "filter_size"}
    generator = SAM2AutomaticMaskGenerator(model, **options)
    generator.predictor._bb_feat_sizes = [(model.image_size // stride,) * 2 for stride in (4, 8, 16)]
    return generator.generate(image)


def assert_same_masks(found, expected, image_shape):
    assert len(found.logits) == len(expected)
    masks = F.interpolate(found.logits[:, None], image_shape[:2], mode="bilinear", align_corners=False)[:, 0] > 0
    for index, record in enumerate(expected):
        differing = (masks[index].numpy() != record["segmentation"]).mean()
        assert differing < 1e-4
        left, top, right, bottom = found.boxes[index].tolist()
        assert [left, top, right - left, bottom - top] == record["bbox"]
        assert found.predicted_ious[index].item() == pytest.approx(record["predicted_iou"], abs=1e-5)
        assert found.stability_scores[index].item() == pytest.approx(record["stability_score"], abs=1e-3)
        height, width = image_shape[:2]
        np.testing.assert_allclose(found.points[index].numpy() * [width, height], record["point_coords"][0], rtol=1e-5)


def assert_equal_masks(first, second):
    assert len(first.logits) == len(second.logits)
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.points, second.points)
    torch.testing.assert_close(first.logits, second.logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("multimask_output", [True, False])
def test_the_decoder_computes_what_the_packages_does(model, features, multimask_output):
    points = torch.tensor([[3.0, 120.0], [64.0, 64.0], [0.0, 0.0], [127.5, 9.25], [40.0, 77.0]])
    decoder = PointDecoder(model, features, multimask_output)
    decoded = decoder.decode(points)
    everything = torch.ones(decoded.predicted_ious.shape, dtype=torch.bool)
    positions, logits = (torch.cat(parts) for parts in zip(*decoder.masks(decoded, everything), strict=True))
    assert torch.equal(positions, everything.nonzero())
    logits = logits.unflatten(0, everything.shape)

    labels = torch.ones(len(points), 1, dtype=torch.int32)
    sparse, dense = model.sam_prompt_encoder(points=(points[:, None], labels), boxes=None, masks=None)
    for frame in range(len(features)):
        of_frame = features[frame : frame + 1]
        expected_logits, expected_ious, _, _ = model.sam_mask_decoder(
            image_embeddings=of_frame.stride_16 + model.no_mem_embed.view(1, -1, 1, 1),
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
            repeat_image=True,
            high_res_features=[of_frame.stride_4, of_frame.stride_8],
        )
        assert expected_logits.std() > 0.1
        torch.testing.assert_close(logits[frame], expected_logits, rtol=0, atol=1e-4)
        torch.testing.assert_close(decoded.predicted_ious[frame], expected_ious, rtol=0, atol=1e-5)


def test_masks_of_some_candidates_are_those_of_all(model, features):
    decoder = PointDecoder(model, features)
    decoded = decoder.decode(torch.rand(11, 2, generator=torch.Generator().manual_seed(0)) * SIZE)
    everything = torch.ones(decoded.predicted_ious.shape, dtype=torch.bool)
    some = torch.rand(everything.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    all_logits = torch.cat([logits for _, logits in decoder.masks(decoded, everything)]).unflatten(0, everything.shape)
    positions, logits = (torch.cat(parts) for parts in zip(*decoder.masks(decoded, some), strict=True))
    assert torch.equal(positions, some.nonzero())
    torch.testing.assert_close(logits, all_logits[some], rtol=0, atol=1e-5)


@pytest.mark.parametrize("multimask_output", [True, False])
@pytest.mark.parametrize("size", [(300, 400), (97, 33)])
def test_equals_the_packages_generator_at_the_images_size(model, size, multimask_output):
    image = np.ascontiguousarray(FRAMES[0][: size[0], : size[1]])
    features = encode_frames(model, image[None])
    side = 8 if multimask_output else 12
    options = selective_options(
        model, features, filter_size=size, multimask_output=multimask_output, points_per_side=side
    )
    (found,) = AutomaticMaskSegmenter(model, **options).find_masks(features)
    assert len(found.logits) >= 5
    assert_same_masks(found, generated(model, image, options), image.shape)


@pytest.mark.parametrize("image_size", [128, 96])
def test_equals_the_packages_generator_where_the_image_has_the_masks_resolution(image_size):
    model = small_model(image_size)
    image = np.ascontiguousarray(FRAMES[1][20 : 20 + image_size // 4, 50 : 50 + image_size // 4])
    features = encode_frames(model, image[None])
    options = selective_options(model, features)
    (found,) = AutomaticMaskSegmenter(model, **options).find_masks(features)
    assert len(found.logits) >= 5
    assert_same_masks(found, generated(model, image, options), image.shape)


def test_each_filter_drops_something(model, features):
    options = selective_options(model, features[:1])

    def num_masks(**changed):
        return len(next(AutomaticMaskSegmenter(model, **{**options, **changed}).find_masks(features[:1])).logits)

    kept = num_masks()
    assert kept < num_masks(box_nms_thresh=1.0)
    assert kept < num_masks(stability_score_thresh=0.0)
    assert kept < num_masks(pred_iou_thresh=0.0)


def test_key_frames_in_one_batch_equal_key_frames_one_by_one(model, features):
    options = selective_options(model, features[:1], filter_size=(75, 100))
    together = list(AutomaticMaskSegmenter(model, **options, frames_per_batch=3).find_masks(features))
    two_and_one = list(AutomaticMaskSegmenter(model, **options, frames_per_batch=2).find_masks(features))
    alone = [next(AutomaticMaskSegmenter(model, **options).find_masks(features[k : k + 1])) for k in range(3)]
    assert len(together) == len(two_and_one) == 3
    assert {len(found.logits) for found in alone} != {len(alone[0].logits)}, "frames differ"
    for first, second, third in zip(together, two_and_one, alone, strict=True):
        assert_equal_masks(first, third)
        assert_equal_masks(second, third)


@pytest.mark.parametrize("points_per_batch", [1, 7, 1000])
def test_the_batch_of_points_does_not_matter(model, features, points_per_batch):
    options = selective_options(model, features[:1], points_per_side=5)
    expected = list(AutomaticMaskSegmenter(model, **options).find_masks(features))
    found = list(AutomaticMaskSegmenter(model, **options, points_per_batch=points_per_batch).find_masks(features))
    for first, second in zip(found, expected, strict=True):
        assert_equal_masks(first, second)


def flops(run):
    # The counter has no formula for the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_costs_fewer_operations_than_the_packages_generator():
    model = small_model(512)
    image = np.ascontiguousarray(FRAMES[0][:128, :128])
    features = encode_frames(model, image[None])
    options = {**OPEN, "points_per_side": 2}
    encoder = flops(lambda: encode_frames(model, image[None]))
    plain = flops(lambda: generated(model, image, options)) - encoder
    all_upscaled = flops(lambda: list(AutomaticMaskSegmenter(model, **options).find_masks(features)))
    none_upscaled = flops(
        lambda: list(AutomaticMaskSegmenter(model, **{**options, "pred_iou_thresh": 1.0}).find_masks(features))
    )
    assert all_upscaled < 0.6 * plain
    assert none_upscaled < 0.4 * plain


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_nearly_the_same_masks(model, features, dtype):
    exact = next(AutomaticMaskSegmenter(model, points_per_side=4, **OPEN).find_masks(features[:1]))
    half = next(AutomaticMaskSegmenter(model, points_per_side=4, **OPEN, autocast_dtype=dtype).find_masks(features[:1]))
    assert half.logits.dtype == half.predicted_ious.dtype == torch.float32
    # Equal scores may swap neighbours: compare as sets, by point.
    first = exact.predicted_ious.sort().values
    second = half.predicted_ious.sort().values
    torch.testing.assert_close(first, second, rtol=0, atol=0.02)
    assert not torch.equal(first, second)


def test_maps_come_from_features_or_from_frames(model, features):
    options = selective_options(model, features[:1])
    segmenter = AutomaticMaskSegmenter(model, **options)
    size = (240, 320)
    maps = segmenter(FRAMES, features, size)
    from_frames = segmenter(FRAMES, None, size)
    assert [labels.shape for labels in maps] == [size] * 3
    for labels, again in zip(maps, from_frames, strict=True):
        np.testing.assert_array_equal(labels, again)
        assert labels.min() == 1
        assert labels.max() > 3
    few = AutomaticMaskSegmenter(model, **options, max_segments=3)(FRAMES, features, size)
    assert [labels.max() for labels in few] == [3, 3, 3]


def test_a_frame_where_no_mask_survives_is_one_segment(model, features):
    segmenter = AutomaticMaskSegmenter(model, points_per_side=4, pred_iou_thresh=1.0)
    (found,) = segmenter.find_masks(features[:1])
    assert found.logits.shape == (0, SIZE // 4, SIZE // 4)
    assert found.boxes.shape == (0, 4)
    (labels,) = segmenter(FRAMES[:1], features[:1], (30, 40))
    np.testing.assert_array_equal(labels, np.ones((30, 40)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (300, 2), (48, 64)])
def test_blank_and_extreme_frames_have_a_map(model, shape):
    segmenter = AutomaticMaskSegmenter(model, points_per_side=3, **OPEN)
    (labels,) = segmenter(np.full((1, *shape, 3), 255, np.uint8), None, shape)
    assert labels.shape == shape
    assert labels.min() == 1


def test_no_frames_have_no_maps(model, features):
    assert AutomaticMaskSegmenter(model)(FRAMES[:0], features[:0], (30, 40)) == []


def test_broken_features_drop_their_frame_alone_with_one_warning(model, features):
    options = selective_options(model, features[:1])
    broken = features[[0, 1, 2]]
    broken.stride_16[1, 5, 2, 2] = torch.nan
    segmenter = AutomaticMaskSegmenter(model, **options)
    with pytest.warns(RuntimeWarning, match="NaN or infinite values for 192 mask candidates") as caught:
        found = list(segmenter.find_masks(broken))
    assert len(caught) == 1
    expected = list(segmenter.find_masks(features))
    assert len(found[1].logits) == 0
    assert_equal_masks(found[0], expected[0])
    assert_equal_masks(found[2], expected[2])


def test_masks_with_nan_in_some_pixels_are_dropped(model, features):
    broken = features[[0]]
    broken.stride_4[0, :, 3, 4] = torch.nan
    segmenter = AutomaticMaskSegmenter(model, points_per_side=4, **OPEN)
    with pytest.warns(RuntimeWarning, match="for 48 mask candidates"):
        (found,) = segmenter.find_masks(broken)
    assert len(found.logits) == 0


def test_sound_features_do_not_warn(model, features):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(AutomaticMaskSegmenter(model, points_per_side=3, **OPEN).find_masks(features))


class LargestTensor(TorchDispatchMode):
    """Records the most elements that any operation returned."""

    num_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.num_elements = max(self.num_elements, value.numel())
        return result


def test_4k_maps_and_4k_filtering_hold_a_few_masks_at_a_time(model, features):
    size = (2160, 3840)
    segmenter = AutomaticMaskSegmenter(model, points_per_side=1, **OPEN, filter_size=size)
    assert len(next(segmenter.find_masks(features[:1])).logits) == 3
    with LargestTensor() as largest:
        (labels,) = segmenter(FRAMES[:1], features[:1], size)
    assert labels.shape == size
    assert largest.num_elements <= 2 * size[0] * size[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": 0}, "points_per_side must be at least 1, got 0"),
        ({"points_per_batch": 0}, "points_per_batch must be at least 1, got 0"),
        ({"frames_per_batch": 0}, "frames_per_batch must be at least 1, got 0"),
        ({"pred_iou_thresh": 1.5}, r"pred_iou_thresh must lie in 0..1, got 1.5"),
        ({"stability_score_thresh": -0.1}, r"stability_score_thresh must lie in 0..1, got -0.1"),
        ({"box_nms_thresh": 2}, r"box_nms_thresh must lie in 0..1, got 2"),
        ({"stability_score_offset": -1}, "stability_score_offset must be at least 0 logits, got -1"),
        ({"filter_size": (0, 5)}, r"filter_size must be None or a \(height, width\)"),
        ({"max_segments": 0}, "max_segments must be at least 1, got 0"),
    ],
)
def test_bad_options_are_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        AutomaticMaskSegmenter(model, **options)


def test_a_decoder_that_chooses_by_stability_is_refused_for_single_masks(features):
    model = small_model()
    model.sam_mask_decoder.dynamic_multimask_via_stability = True
    PointDecoder(model, features)
    with pytest.raises(ValueError, match="dynamic_multimask_via_stability"):
        PointDecoder(model, features, multimask_output=False)
