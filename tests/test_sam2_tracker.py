"""The batched tracker against the package's predictor, and what it saves, counted."""

import gc
import weakref
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

pytest.importorskip("sam2")

from sam2_objects import ROUNDING, SIZE, follow, moving_frames, random_predictor, share_of_pixels, voronoi_masks
from torch.utils.flop_counter import FlopCounterMode

from trajvit.processing.sam2_features import prepare_frames
from trajvit.processing.sam2_tracker import NO_OBJECT, Sam2Tracker


@pytest.fixture(scope="module")
def model():
    return random_predictor(SIZE)


@pytest.fixture(scope="module")
def tracker(model):
    return Sam2Tracker(model)


def predictor_logits(model, frames, masks) -> torch.Tensor:
    """The same from `SAM2VideoPredictor`, object by object, in a video of at least 16 frames."""
    size = model.image_size
    with torch.inference_mode(), mock.patch("sam2.sam2_video_predictor.load_video_frames") as load:
        # What it would read from a folder of JPEG files, without their loss.
        load.return_value = (prepare_frames(frames, size), size, size)
        state = model.init_state("unused")
        state["num_frames"] = max(16, len(frames))
        for i, mask in enumerate(masks):
            model.add_new_mask(state, frame_idx=0, obj_id=i, mask=mask)
        for _ in model.propagate_in_video(state, max_frame_num_to_track=len(frames) - 1):
            pass
    logits = []
    for outputs in state["output_dict_per_obj"].values():
        by_frame = outputs["cond_frame_outputs"] | outputs["non_cond_frame_outputs"]
        logits.append(torch.stack([by_frame[frame]["pred_masks"][0, 0] for frame in range(len(frames))]))
    return torch.stack(logits)


class TestAgainstPredictor:
    """Memories are kept in bfloat16: a difference in the last bit of float32 can round to its neighbour, and does."""

    def test_masks_and_logits(self):
        model = random_predictor(256)
        frames, masks = moving_frames(6, size=256), voronoi_masks(3, size=256)
        expected = predictor_logits(model, frames, masks)
        tracker = Sam2Tracker(model)
        found = follow(tracker, tracker.encode(frames), 0, 6, masks)
        assert (found - expected).abs().max() < 1e-3
        assert share_of_pixels((found > 0) != (expected > 0)) <= 1e-4
        # The comparison says something: objects appear, differ, and change.
        assert 0.05 < share_of_pixels(expected > 0) < 0.95
        assert (expected[0, 3] - expected[1, 3]).abs().max() > 0.1
        assert (expected[:, 3] - expected[:, 5]).abs().max() > 0.1

    def test_clip_longer_than_the_memory_bank_and_the_pointers(self, model, tracker):
        """18 frames: more than 7 memories and 16 pointers."""
        frames, masks = moving_frames(18), voronoi_masks(3)
        expected = predictor_logits(model, frames, masks)
        found = follow(tracker, tracker.encode(frames), 0, 18, masks)
        assert (found - expected).abs().max() < ROUNDING
        assert share_of_pixels((found > 0) != (expected > 0)) < 1e-3

    def test_objects_that_vanish(self):
        """Scores around 0: some objects are absent, with their own pointer and memory, and come back."""
        model = random_predictor(SIZE)
        frames, masks = moving_frames(8, seed=3), voronoi_masks(4, seed=1)
        tracker = Sam2Tracker(model)
        features = tracker.encode(frames)
        objects, _ = tracker.start(features, torch.zeros(4, dtype=torch.long), masks)
        scores = []
        for frame in range(1, 8):
            objects, output = tracker.step(objects, features, torch.full((4,), frame))
            scores.append(output.object_scores)
        with torch.no_grad():
            model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.sub_(torch.stack(scores).median())
        expected = predictor_logits(model, frames, masks)
        found = follow(tracker, features, 0, 8, masks)
        absent = (expected == NO_OBJECT).flatten(2).all(dim=2)
        assert 0 < share_of_pixels(absent[:, 1:]) < 1
        assert torch.equal((found == NO_OBJECT).flatten(2).all(dim=2), absent)
        assert (found - expected).abs().max() < ROUNDING

    def test_an_empty_mask(self, model, tracker):
        frames, masks = moving_frames(4), voronoi_masks(2)
        masks[1] = False
        expected = predictor_logits(model, frames, masks)
        found = follow(tracker, tracker.encode(frames), 0, 4, masks)
        assert (found - expected).abs().max() < ROUNDING


class TestBatches:
    def test_clips_of_unequal_length_together_are_each_alone(self, tracker):
        features = tracker.encode(moving_frames(9))
        starts, lengths = [0, 4, 6], [5, 3, 3]
        masks = [voronoi_masks(n, seed=n) for n in (2, 1, 3)]
        alone = [follow(tracker, features, s, n, m) for s, n, m in zip(starts, lengths, masks, strict=True)]

        clip = torch.repeat_interleave(torch.arange(3), torch.tensor([2, 1, 3]))
        first, length = torch.tensor(starts)[clip], torch.tensor(lengths)[clip]
        objects, output = tracker.start(features, first, torch.cat(masks))
        rows = torch.arange(6)
        together = {(int(row), 0): output.logits[row] for row in rows}
        for step in range(1, 5):
            stays = length[rows] > step
            rows, objects = rows[stays], objects.select(stays)
            objects, output = tracker.step(objects, features, first[rows] + step)
            together.update({(int(row), step): logits for row, logits in zip(rows, output.logits, strict=True)})
        for row, (c, i) in enumerate(zip(clip.tolist(), [0, 1, 0, 0, 1, 2], strict=True)):
            found = torch.stack([together[row, step] for step in range(lengths[c])])
            assert (found - alone[c][i]).abs().max() < ROUNDING

    def test_chunks_do_not_change_the_result(self, tracker):
        features = tracker.encode(moving_frames(5))
        masks = voronoi_masks(5)
        whole = follow(tracker, features, 0, 5, masks)
        for size in (1, 2, 3):
            parts = torch.cat([follow(tracker, features, 0, 5, chunk) for chunk in masks.split(size)])
            assert (parts - whole).abs().max() < ROUNDING

    def test_a_step_leaves_the_objects_as_they_were(self, tracker):
        features = tracker.encode(moving_frames(4))
        objects, _ = tracker.start(features, torch.zeros(2, dtype=torch.long), voronoi_masks(2))
        objects, _ = tracker.step(objects, features, torch.ones(2, dtype=torch.long))
        once = tracker.step(objects, features, torch.full((2,), 2))[1].logits
        again = tracker.step(objects, features, torch.full((2,), 2))[1].logits
        assert torch.equal(once, again)

    def test_compact_objects_go_on_alike_and_take_less(self, tracker):
        features = tracker.encode(moving_frames(5))
        objects, _ = tracker.start(features, torch.zeros(2, dtype=torch.long), voronoi_masks(2))
        for frame in (1, 2, 3):
            objects, _ = tracker.step(objects, features, torch.full((2,), frame))
        compact = objects.compact()
        assert compact.nbytes < objects.nbytes / 4
        expected = tracker.step(objects, features, torch.full((2,), 4))[1].logits
        assert torch.equal(tracker.step(compact, features, torch.full((2,), 4))[1].logits, expected)

    def test_objects_may_go_on_in_other_features(self, tracker):
        frames = moving_frames(4)
        features = tracker.encode(frames)
        expected = follow(tracker, features, 0, 4, voronoi_masks(2))[:, 3]
        objects, _ = tracker.start(features, torch.zeros(2, dtype=torch.long), voronoi_masks(2))
        for frame in (1, 2):
            objects, _ = tracker.step(objects, features, torch.full((2,), frame))
        later = tracker.step(objects.compact(), tracker.encode(frames[3:]), torch.zeros(2, dtype=torch.long))[1].logits
        assert (later - expected).abs().max() < ROUNDING

    def test_a_broken_object_does_not_reach_the_others(self, tracker):
        features = tracker.encode(moving_frames(4))
        masks = voronoi_masks(2)
        expected = follow(tracker, features, 0, 4, masks)
        objects, _ = tracker.start(features, torch.zeros(2, dtype=torch.long), masks)
        logits = objects.last.logits.clone()
        logits[1] = torch.nan
        objects = replace(objects, last=replace(objects.last, logits=logits))
        for frame in (1, 2, 3):
            objects, output = tracker.step(objects, features, torch.full((2,), frame))
            assert (output.logits[0] - expected[0, frame]).abs().max() < ROUNDING
            assert (output.logits[1] == NO_OBJECT).all()


class TestCountedWork:
    def test_memories_are_encoded_only_for_a_following_step(self, model, tracker):
        features = tracker.encode(moving_frames(4))
        counts = []
        handle = model.memory_encoder.fuser.register_forward_hook(lambda _, inputs, __: counts.append(len(inputs[0])))
        try:
            follow(tracker, features, 0, 4, voronoi_masks(3))
        finally:
            handle.remove()
        assert counts == [3, 3, 3]

    def test_frames_are_projected_once_for_all_chunks(self, model, tracker):
        features = tracker.encode(moving_frames(4))
        counts = []
        projection = model.memory_encoder.pix_feat_proj
        handle = projection.register_forward_hook(lambda _, inputs, __: counts.append(len(inputs[0])))
        try:
            for chunk in voronoi_masks(4).split(1):
                follow(tracker, features, 0, 4, chunk)
        finally:
            handle.remove()
        assert sum(counts) == 4

    def test_first_attention_is_counted_once_per_frame(self, tracker):
        """Two objects in one frame cost less than twice one: by the first self-attention, its inputs and queries."""
        frames = moving_frames(2)
        tokens, width = (SIZE // 16) ** 2, 256

        def flops(count: int) -> int:
            features = tracker.encode(frames)
            objects, _ = tracker.start(features, torch.zeros(count, dtype=torch.long), voronoi_masks(count))
            with FlopCounterMode(display=False) as counter:
                tracker.step(objects, features, torch.ones(count, dtype=torch.long))
            return counter.get_total_flops()

        one, two = flops(1), flops(2)
        shared = 2 * tokens * width * (4 * width + 2 * tokens) + 2 * tokens * width**2
        assert 2 * one - two == pytest.approx(shared, rel=0.02)

    def test_features_of_the_past_are_let_go(self, tracker):
        features = tracker.encode(moving_frames(2))
        objects, _ = tracker.start(features, torch.zeros(1, dtype=torch.long), voronoi_masks(1))
        objects, _ = tracker.step(objects, features, torch.ones(1, dtype=torch.long))
        reference = weakref.ref(features)
        del features
        gc.collect()
        assert reference() is None
        assert objects.nbytes > 0

    def test_estimate_covers_the_state(self, tracker):
        features = tracker.encode(moving_frames(9))
        objects, _ = tracker.start(features, torch.zeros(2, dtype=torch.long), voronoi_masks(2))
        for frame in range(1, 9):
            objects, _ = tracker.step(objects, features, torch.full((2,), frame))
        assert objects.nbytes / 2 <= tracker.bytes_per_object(9)


@pytest.mark.gpu
class TestOnCuda:
    def test_agrees_with_the_cpu(self, tracker):
        frames, masks = moving_frames(6), voronoi_masks(3)
        expected = follow(tracker, tracker.encode(frames), 0, 6, masks)
        on_cuda = Sam2Tracker(random_predictor(SIZE).cuda())
        found = follow(on_cuda, on_cuda.encode(frames), 0, 6, masks).cpu()
        assert share_of_pixels((found > 0) != (expected > 0)) < 0.01

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_reduced_precision(self, tracker, dtype):
        frames, masks = moving_frames(6), voronoi_masks(3)
        expected = follow(tracker, tracker.encode(frames), 0, 6, masks)
        half = Sam2Tracker(random_predictor(SIZE).cuda(), autocast_dtype=dtype)
        found = follow(half, half.encode(frames), 0, 6, masks).cpu()
        assert share_of_pixels((found > 0) != (expected > 0)) < 0.05


class TestSettings:
    def test_other_models_are_refused(self, model):
        model.proj_tpos_enc_in_obj_ptrs = False
        try:
            with pytest.raises(ValueError, match=r"SAM 2\.1.*proj_tpos_enc_in_obj_ptrs"):
                Sam2Tracker(model)
        finally:
            model.proj_tpos_enc_in_obj_ptrs = True

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"memory_pooling": 0}, "memory_pooling"),
            ({"memory_pooling": 3}, "memory_pooling must divide the 8 tokens"),
            ({"attention_window": 0.5}, "attention_window must be at least 1"),
            ({"attention_window": 2.0, "memory_pooling": 2}, "cannot be used together"),
        ],
    )
    def test_settings_out_of_range(self, model, settings, message):
        with pytest.raises(ValueError, match=message):
            Sam2Tracker(model, **settings)

    def test_frames_are_scaled_as_torchvision_does(self):
        from torchvision.transforms.v2 import functional as transforms

        frames = np.random.default_rng(0).integers(0, 256, (2, 90, 130, 3), dtype=np.uint8)
        expected = transforms.to_dtype(torch.from_numpy(frames).permute(0, 3, 1, 2), torch.float32, scale=True)
        expected = transforms.resize(expected, [SIZE, SIZE], antialias=True)
        expected = transforms.normalize(expected, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        torch.testing.assert_close(prepare_frames(frames, SIZE), expected)
