"""The batched tracker against the `sam2` package: its predictor, its modules, and hand-computed windows."""

import gc
import weakref
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

pytest.importorskip("sam2")

from random_sam2 import randomise_
from torch.utils.flop_counter import FlopCounterMode

from trajvit.processing.sam2_features import prepare_frames
from trajvit.processing.sam2_loading import build_sam2
from trajvit.processing.sam2_memory_attention import MemoryAttention, _rotation
from trajvit.processing.sam2_tracked_objects import Memory
from trajvit.processing.sam2_tracker import NO_OBJECT, Sam2Tracker
from trajvit.processing.sam2_windows import TokenWindows

SIZE = 128
# Of logits with a standard deviation of 2.4, once memories that differ in float32's last bits are kept in bfloat16.
ROUNDING = 5e-3


def random_predictor(size: int):
    return randomise_(build_sam2("tiny", image_size=size, target="sam2.sam2_video_predictor.SAM2VideoPredictor")).eval()


@pytest.fixture(scope="module")
def model():
    return random_predictor(SIZE)


@pytest.fixture(scope="module")
def tracker(model):
    return Sam2Tracker(model)


def moving_frames(count: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """A picture of random blocks that moves by a few pixels a frame."""
    rng = np.random.default_rng(seed)
    picture = np.kron(rng.integers(0, 256, (24, 24, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    return np.stack([picture[3 * t : 3 * t + size, 5 * t : 5 * t + size] for t in range(count)])


def voronoi_masks(count: int, seed: int = 0, size: int = SIZE) -> torch.Tensor:
    """(count, size, size) masks that tile the frame."""
    points = torch.from_numpy(np.random.default_rng(seed).random((count, 2)) * size)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    nearest = ((y[None] - points[:, 0, None, None]) ** 2 + (x[None] - points[:, 1, None, None]) ** 2).argmin(0)
    return nearest[None] == torch.arange(count)[:, None, None]


def follow(tracker, features, first, length, masks) -> torch.Tensor:
    """Logits (N, T, S/4, S/4) of objects that start on frame `first`."""
    objects, output = tracker.start(features, torch.full((len(masks),), first), masks)
    logits = [output.logits]
    for frame in range(first + 1, first + length):
        objects, output = tracker.step(objects, features, torch.full((len(masks),), frame))
        logits.append(output.logits)
    return torch.stack(logits, dim=1)


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


def share_of_pixels(differ: torch.Tensor) -> float:
    return differ.float().mean().item()


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


class TestMemoryAttention:
    def test_equals_the_package(self, model):
        """Random memories and pointers through `sam2.modeling.memory_attention`."""
        attention = MemoryAttention(model)
        side, count = SIZE // 16, 3
        generator = torch.Generator().manual_seed(0)
        frame = torch.randn(1, 256, side, side, generator=generator)
        memories = [torch.randn(count, side * side, 64, generator=generator).bfloat16() for _ in range(3)]
        pointers = [torch.randn(count, 256, generator=generator) for _ in range(2)]
        ages, pointer_ages = [0, 1, 2], [5, 1]
        with torch.inference_mode():
            cached = [(age, attention.cache(Memory(memory))) for age, memory in zip(ages, memories, strict=True)]
            aged = list(zip(pointer_ages, pointers, strict=True))
            found = attention(attention.share(frame), torch.zeros(count, dtype=torch.long), cached, aged)

            from sam2.modeling.sam2_utils import get_1d_sine_pe

            space = model.memory_encoder.position_encoding(torch.zeros(1, 64, side, side)).flatten(2).permute(2, 0, 1)
            positions = [space + model.maskmem_tpos_enc[model.num_maskmem - 1 if age == 0 else age - 1] for age in ages]
            codes = model.obj_ptr_tpos_proj(get_1d_sine_pe(torch.tensor(pointer_ages) / (15), dim=256))
            split = [pointer.reshape(count, 4, 64).permute(1, 0, 2) for pointer in pointers]
            expected = model.memory_attention(
                curr=frame.flatten(2).permute(2, 0, 1).expand(-1, count, -1),
                curr_pos=model.image_encoder.neck.position_encoding(frame)
                .flatten(2)
                .permute(2, 0, 1)
                .expand(-1, count, -1),
                memory=torch.cat([memory.float().permute(1, 0, 2) for memory in memories] + split),
                memory_pos=torch.cat(positions + [code.expand(4, 1, -1) for code in codes]).expand(-1, count, -1),
                num_obj_ptr_tokens=8,
            ).permute(1, 0, 2)
        assert (found - expected).abs().max() < 1e-4

    def test_rotation_is_the_package_s(self):
        from sam2.modeling.position_encoding import compute_axial_cis

        expected = compute_axial_cis(dim=256, end_x=8, end_y=8)
        cosine, sine = _rotation(8, 1, 256, 10000.0, torch.device("cpu"))
        torch.testing.assert_close(torch.complex(cosine, sine), expected)

    def test_pooled_tokens_lie_between_their_pixels(self):
        """The mean angle of a 2 x 2 block, from the package's angles at frequency 1, which do not wrap."""
        cosine, sine = _rotation(2, 2, 4, 10000.0, torch.device("cpu"))
        torch.testing.assert_close(torch.atan2(sine, cosine), torch.tensor([[0.5, 0.5]]))


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


class TestApproximations:
    def test_reduced_precision_agrees_mostly(self, model, tracker):
        frames, masks = moving_frames(4), voronoi_masks(3)
        half = Sam2Tracker(model, autocast_dtype=torch.bfloat16)
        found = follow(half, half.encode(frames), 0, 4, masks)
        expected = follow(tracker, tracker.encode(frames), 0, 4, masks)
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() > 0
        assert ((found > 0) != (expected > 0)).float().mean() < 0.05

    def test_fused_path_in_float32_precision(self, model, tracker):
        """What CUDA runs, wide values through the fused kernel, gives the same as blocks of plain products."""
        frames, masks = moving_frames(4), voronoi_masks(3)
        fused = Sam2Tracker(model)
        fused._attention._is_fused = True
        found = follow(fused, fused.encode(frames), 0, 4, masks)
        expected = follow(tracker, tracker.encode(frames), 0, 4, masks)
        assert (found - expected).abs().max() < ROUNDING

    def test_pooled_memories_are_fewer(self, model, tracker):
        features = tracker.encode(moving_frames(4))
        masks = voronoi_masks(2)
        pooled = Sam2Tracker(model, memory_pooling=2)
        objects, _ = pooled.start(features, torch.zeros(2, dtype=torch.long), masks)
        objects, _ = pooled.step(objects, features, torch.ones(2, dtype=torch.long))
        assert objects.key_memory.tokens.shape == (2, (SIZE // 32) ** 2, 64)
        found = follow(pooled, features, 0, 4, masks)
        expected = follow(tracker, features, 0, 4, masks)
        assert torch.isfinite(found).all()
        assert 0 < ((found > 0) != (expected > 0)).float().mean() < 0.2

    def test_window_of_the_whole_frame_is_exact(self, model, tracker):
        features = tracker.encode(moving_frames(4))
        masks = voronoi_masks(3)
        windowed = Sam2Tracker(model, attention_window=1e6)
        expected = follow(tracker, features, 0, 4, masks)
        assert (follow(windowed, features, 0, 4, masks) - expected).abs().max() < ROUNDING

    def test_window_costs_less_and_holds_the_object(self, model, tracker):
        features = tracker.encode(moving_frames(3))
        masks = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
        masks[0, :24, :24] = True
        masks[1, 60:100, 70:120] = True
        windowed = Sam2Tracker(model, attention_window=1.5)
        flops = []
        for each in (tracker, windowed):
            objects, _ = each.start(features, torch.zeros(2, dtype=torch.long), masks)
            with FlopCounterMode(display=False) as counter:
                _, output = each.step(objects, features, torch.ones(2, dtype=torch.long))
            flops.append(counter.get_total_flops())
        assert flops[1] < flops[0]
        # The first box is 24 pixels, 1.5 tokens, dilated 2.25, rounded up to 4 tokens: 16 pixels of logits.
        assert (output.logits[0, 16:] == NO_OBJECT).all()
        assert (output.logits[0, :, 16:] == NO_OBJECT).all()

    def test_windows_by_hand(self):
        """A grid of 8 tokens, 4 pixels each; sides are multiples of 2 tokens."""
        logits = torch.full((3, 32, 32), -1.0)
        logits[0, 12:16, 8:24] = 1  # tokens 3..4 and 2..6
        logits[1, 28:32, 28:32] = 1  # the last token
        windows = TokenWindows(8, 1.0)
        groups = {tuple(rows.tolist()): positions for rows, positions in windows.groups(logits)}
        assert set(groups) == {(0,), (1,), (2,)}
        lines, columns = groups[(0,)] // 8, groups[(0,)] % 8
        assert lines.unique().tolist() in ([2, 3], [3, 4])
        assert columns.unique().tolist() == [2, 3, 4, 5]
        assert sorted(groups[(1,)].flatten().tolist()) == [54, 55, 62, 63]
        assert groups[(2,)].flatten().tolist() == list(range(64))
        outside = windows.outside(logits)
        assert not outside[2].any()
        assert (~outside[1]).nonzero().min(0).values.tolist() == [24, 24]
        assert not (outside & (logits > 0)).any()


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
