"""SAM 2's memory attention against the package's, and the approximations of it, with hand-computed windows."""

import pytest
import torch

pytest.importorskip("sam2")

from sam2_objects import ROUNDING, SIZE, follow, moving_frames, random_predictor, voronoi_masks
from torch.utils.flop_counter import FlopCounterMode

from trajvit.processing.sam2_memory_attention import MemoryAttention, _rotation
from trajvit.processing.sam2_tracked_objects import Memory
from trajvit.processing.sam2_tracker import NO_OBJECT, Sam2Tracker
from trajvit.processing.sam2_windows import TokenWindows


@pytest.fixture(scope="module")
def model():
    return random_predictor(SIZE)


@pytest.fixture(scope="module")
def tracker(model):
    return Sam2Tracker(model)


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
