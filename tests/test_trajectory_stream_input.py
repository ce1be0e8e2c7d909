"""What streams take and refuse, and what they hold meanwhile."""

import gc
import weakref

import numpy as np
import pytest
from stream_scenes import NO_CUTS, Colors, Patches, squares, volume_of, wandering

from trajvit.processing.generator import TrajectoryGenerator


class TestInput:
    def test_a_single_frame(self):
        (piece,) = TrajectoryGenerator(Colors()).stream(iter(squares(1, [range(1)])))
        assert piece.frame_indices.tolist() == [0]
        assert piece.areas.tolist() == [90]

    @pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65])
    def test_streams_that_end_anywhere(self, count):
        frames = squares(count, [range(count)])
        (piece,) = TrajectoryGenerator(Colors()).stream(iter(frames))
        assert piece.frame_indices.tolist() == list(range(count))
        assert not piece.continues

    def test_nothing_in_the_picture(self):
        assert list(TrajectoryGenerator(Colors()).stream(squares(5, []), clip_frames=2)) == []

    def test_no_frame_at_all(self):
        with pytest.raises(ValueError, match="no frame in the stream; expected at least one"):
            list(TrajectoryGenerator(Colors()).stream(iter([])))

    def test_a_source_that_fills_one_buffer_again_and_again(self):
        frames = wandering(np.random.default_rng(6), 15)
        generator = TrajectoryGenerator(Patches(), max_trajectories=10**6)

        def refilled():
            buffer = np.empty_like(frames[0])
            for frame in frames:
                buffer[:] = frame
                yield buffer

        expected = volume_of(generator.stream(frames, clip_frames=4), 15, (24, 36))
        np.testing.assert_array_equal(volume_of(generator.stream(refilled(), clip_frames=4), 15, (24, 36)), expected)

    @pytest.mark.parametrize(
        ("bad", "error", "message"),
        [
            ([[0]], TypeError, r"frame 5 must be a numpy array \(H, W, 3\) of uint8 RGB, got list"),
            (np.zeros((40, 60, 3)), TypeError, r"frame 5 must be uint8 \(0..255\), got float64"),
            (np.zeros((40, 60), np.uint8), ValueError, r"frame 5 must have shape \(H, W, 3\).*got \(40, 60\)"),
            (np.zeros((3, 40, 60), np.uint8), ValueError, r"frame 5 must have shape .*got \(3, 40, 60\)"),
            (np.zeros((0, 60, 3), np.uint8), ValueError, r"frame 5 must have shape .*got \(0, 60, 3\)"),
            (np.zeros((41, 60, 3), np.uint8), ValueError, "frame 5 is 41 x 60 pixels, those before are 40 x 60"),
        ],
    )
    def test_a_frame_that_does_not_belong_is_named(self, bad, error, message):
        frames = [*squares(5, [range(2), range(5)]), bad]
        stream = TrajectoryGenerator(Colors()).stream(frames, clip_frames=3)
        assert next(stream).frame_indices.tolist() == [0, 1]  # what ended before the bad frame is not lost
        with pytest.raises(error, match=message):
            next(stream)

    @pytest.mark.parametrize("name", ["clip_frames", "max_frames_per_piece"])
    def test_settings_are_checked_before_the_first_frame_is_asked_for(self, name):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            TrajectoryGenerator(Colors()).stream(squares(2, []), **{name: 0})
        with pytest.raises(TypeError):
            TrajectoryGenerator(Colors()).stream(squares(2, []), **{name: 2.5})

    def test_a_detector_that_needs_the_whole_video(self):
        generator = TrajectoryGenerator(Colors(), key_frame_detector=lambda frames: [0])
        with pytest.raises(TypeError, match="A stream needs a KeyFrameDetector, got function"):
            generator.stream(squares(2, []))

    def test_what_a_backend_must_not_return_is_named(self):
        class Broken(Colors):
            def label(self, clip):
                return np.zeros((1, 2, 3), int)

        with pytest.raises(ValueError, match=r"Backend 'colors' must return integers \(3, 40, 60\)"):
            list(TrajectoryGenerator(Broken()).stream(squares(3, [])))

    def test_progress(self):
        calls = []
        generator = TrajectoryGenerator(Colors(), key_frame_detector=NO_CUTS)
        list(generator.stream(squares(10, []), clip_frames=4, progress=lambda *call: calls.append(call)))
        assert calls == [("stream", 4, 5), ("stream", 8, 9), ("stream", 10, 10)]


class Counted:
    """How many of the objects shown to it are still alive."""

    def __init__(self):
        self._references: list[weakref.ref] = []

    def watch(self, item):
        self._references.append(weakref.ref(item))

    def __len__(self):
        return sum(reference() is not None for reference in self._references)


class TestMemory:
    def counted(self, num_frames, alive):
        """Frames that come and go; `alive` gets the number of living ones after each."""
        live = Counted()
        for t in range(num_frames):
            frame = squares(1, [range(1)] * (1 + t % 4))[0].copy()
            live.watch(frame)
            yield frame
            del frame
            alive.append(len(live))

    def test_frames_and_clips_do_not_pile_up(self):
        clips = Counted()
        most_clips = 0

        class Watched(Colors):
            def track(self, clips_, max_trajectories, progress=None):
                nonlocal most_clips
                for clip in clips_:
                    clips.watch(clip)
                most_clips = max(most_clips, len(clips))
                return super().track(clips_, max_trajectories)

        alive: list[int] = []
        generator = TrajectoryGenerator(Watched(), key_frame_detector=NO_CUTS)
        for _ in generator.stream(self.counted(400, alive), clip_frames=8):
            assert len(clips) == 0  # not held while the caller looks at what has ended
        assert len(alive) == 400
        assert max(alive) <= 2
        assert most_clips == 1

    def test_what_has_ended_is_forgotten(self):
        live = Counted()
        most = 0
        frames = (squares(1, [range(1)] * (1 + t // 4 % 4))[0] for t in range(400))
        generator = TrajectoryGenerator(Colors(), key_frame_detector=NO_CUTS)
        for piece in generator.stream(frames, clip_frames=4, max_frames_per_piece=16):
            live.watch(piece)
            del piece
            most = max(most, len(live))
        # Square 0 lives on in pieces; a clip gives away four at most.
        assert most <= 8
        gc.collect()
        assert len(live) <= 1

    def test_closing_early_lets_go_of_everything(self):
        alive: list[int] = []
        closed = []

        def frames():
            try:
                yield from self.counted(1000, alive)
            finally:
                closed.append(len(alive))

        gc.disable()
        try:
            backend = Colors()
            stream = TrajectoryGenerator(backend).stream(frames(), clip_frames=4)
            first = next(stream)
            stream.close()
            assert first.mask(0).any()
            del stream
            assert len(closed) == 1
            assert closed[0] <= 20
        finally:
            gc.enable()
