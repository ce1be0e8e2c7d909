"""Streams against the generator on the same frames, against a loop over clips, and by hand."""

import numpy as np
import pytest
from stream_scenes import NO_CUTS, Colors, Patches, squares, volume_of, wandering

from trajvit.processing.backends import Clip
from trajvit.processing.clips import match_regions
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.key_frames import KeyFrameDetector
from trajvit.processing.streamed_trajectory import StreamedTrajectory
from trajvit.processing.synthetic_scenes import make_scene


class TestTheSameAsTheGenerator:
    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("backend", [Colors, Patches])
    def test_ids_and_pixels_where_clips_end_at_key_frames_alone(self, backend, seed):
        frames = wandering(np.random.default_rng(seed), 20)
        expected = TrajectoryGenerator(backend(), max_trajectories=10**6)(frames)
        streaming = backend()
        pieces = list(TrajectoryGenerator(streaming, max_trajectories=10**6).stream(iter(frames), clip_frames=20))
        np.testing.assert_array_equal(volume_of(pieces, 20, (24, 36)), expected.ids)
        assert len(pieces) == expected.num_trajectories
        assert len(streaming.clips) == len(expected.key_frames)
        for piece in pieces:
            present = expected.presence[piece.id - 1]
            assert piece.frame_indices.tolist() == np.flatnonzero(present).tolist() == piece.timestamps.tolist()
            np.testing.assert_array_equal(piece.areas, expected.areas[piece.id - 1, present])
            np.testing.assert_array_equal(piece.boxes, expected.boxes[piece.id - 1, present])

    def test_the_default_backend_on_a_scene(self):
        frames = make_scene(0, num_frames=14, height=64, width=96).frames
        generator = TrajectoryGenerator(max_trajectories=40)
        expected = generator(frames)
        assert expected.key_frames == (0,)
        pieces = list(generator.stream(frames, clip_frames=14))
        np.testing.assert_array_equal(volume_of(pieces, 14, (64, 96)), expected.ids)

    def test_frames_are_scaled_as_a_call_scales_them(self):
        frames = wandering(np.random.default_rng(3), 9)
        generator = TrajectoryGenerator(Patches(), short_side=10, max_trajectories=10**6)
        pieces = list(generator.stream(frames))
        np.testing.assert_array_equal(volume_of(pieces, 9, (10, 15)), generator(frames).ids)

    def test_a_backend_that_wants_larger_frames_than_labels(self):
        class Coarse(Patches):
            frame_short_side = 24

            def label(self, clip):
                assert clip.frames.shape[1:3] == (24, 36)
                assert clip.label_size == (8, 12)
                return super().label(clip)[:, 1::3, 1::3]

        frames = wandering(np.random.default_rng(4), 12).repeat(2, axis=1).repeat(2, axis=2)
        generator = TrajectoryGenerator(Coarse(), short_side=8, max_trajectories=10**6)
        pieces = list(generator.stream(frames))
        np.testing.assert_array_equal(volume_of(pieces, 12, (8, 12)), generator(frames).ids)


def stream_by_hand(frames, backend, clip_frames, starts, join_iou=0.5):
    """(T, H, W) labels, clip by clip: equal through a boundary where regions match, else new."""
    bounds = sorted(set(starts) | {0})
    clips = []
    for start, stop in zip(bounds, [*bounds[1:], len(frames)], strict=True):
        clips += [(first, min(first + clip_frames, stop)) for first in range(start, stop, clip_frames)]
    result = np.zeros(frames.shape[:3], dtype=np.int64)
    carried, next_label = None, 1
    for first, stop in clips:
        own = frames[first : stop + 1] if stop < len(frames) else frames[first:]
        volume = backend.label(Clip(own, np.arange(len(own)), stop < len(frames)))
        names = {}
        if carried is not None:
            before, after = match_regions(carried, volume[0], join_iou)
            names = dict(zip(after.tolist(), before.tolist(), strict=True))
        for label in np.unique(volume):
            if label > 0 and label not in names:
                names[label] = next_label
                next_label += 1
        named = np.vectorize(lambda label, names=names: names.get(label, 0), otypes=[np.int64])(volume)
        carried = named[-1]
        result[first:stop] = named[: stop - first]
    return result


def canonical(labels):
    from trajvit.processing.trajectories import Trajectories

    return Trajectories.from_labels(labels).ids


@pytest.mark.parametrize("clip_frames", [1, 2, 5, 7])
@pytest.mark.parametrize("seed", range(3))
def test_clips_that_end_early_against_a_loop(clip_frames, seed):
    frames = wandering(np.random.default_rng(100 + seed), 23)
    backend = Patches()
    generator = TrajectoryGenerator(backend, max_trajectories=10**6)
    pieces = list(generator.stream((frame for frame in frames), clip_frames=clip_frames))
    starts = KeyFrameDetector()(frames)
    expected = canonical(stream_by_hand(frames, Patches(), clip_frames, starts))
    np.testing.assert_array_equal(volume_of(pieces, 23, (24, 36)), expected)
    assert [piece.id for piece in pieces] != sorted(piece.id for piece in pieces) or clip_frames == 1
    assert sorted(piece.id for piece in pieces) == list(range(1, len(pieces) + 1))
    assert all(length <= clip_frames + has_boundary for length, has_boundary in backend.clips)


@pytest.mark.parametrize("detector", [KeyFrameDetector(), KeyFrameDetector(min_scene_len=3), NO_CUTS])
@pytest.mark.parametrize("clip_frames", [1, 3, 4, 40])
def test_clips_begin_where_the_batch_detector_says(detector, clip_frames):
    # Cuts right before, at and after the ends of clips, and several in a row.
    rng = np.random.default_rng(7)
    frames = np.concatenate([wandering(rng, count, cut_share=0) for count in (3, 1, 1, 4, 2, 6, 5, 3, 1, 8)])
    key_frames = detector(frames)
    assert len(key_frames) > 4 or detector is not KeyFrameDetector()
    backend = Colors()
    list(TrajectoryGenerator(backend, key_frame_detector=detector).stream(frames, clip_frames=clip_frames))
    expected = []
    for start, stop in zip(key_frames, [*key_frames[1:], len(frames)], strict=True):
        expected += [min(clip_frames, stop - first) for first in range(start, stop, clip_frames)]
    assert [length - has_boundary for length, has_boundary in backend.clips] == expected
    assert [has_boundary for _, has_boundary in backend.clips] == [True] * (len(expected) - 1) + [False]


class TestWhenTrajectoriesEnd:
    # Square 0 lives on, square 1 is gone before the first boundary frame, square 2 comes late, square 3 comes and goes.
    lives = (range(10), range(2), range(6, 10), (0, 1, 2, 4, 5, 6))

    def stream(self, **settings):
        generator = TrajectoryGenerator(Colors(), key_frame_detector=NO_CUTS)
        read: list[int] = []

        def frames():
            for t, frame in enumerate(squares(10, self.lives)):
                read.append(t)
                yield frame

        for piece in generator.stream(frames(), **settings):
            yield piece, len(read)

    def test_each_is_given_away_once_it_cannot_go_on(self):
        given = list(self.stream(clip_frames=4))
        assert [(piece.id, piece.frame_indices.tolist(), read) for piece, read in given] == [
            (2, [0, 1], 5),  # not on the boundary frame 4
            (3, [0, 1, 2, 4, 5, 6], 9),  # absent in frame 3, on the boundary frame 4 again; not on frame 8
            (1, list(range(10)), 10),
            (4, [6, 7, 8, 9], 10),
        ]
        assert not any(piece.is_continued or piece.continues for piece, _ in given)

    def test_what_is_absent_at_a_boundary_ends_and_comes_back_as_another(self):
        given = [piece for piece, _ in self.stream(clip_frames=3)]
        third = [piece.frame_indices.tolist() for piece in given if piece.areas[0] == 7 * 9]
        assert third == [[0, 1, 2], [4, 5, 6]]

    @pytest.mark.parametrize("clip_frames", [1, 3, 4, 32])
    @pytest.mark.parametrize("most", [1, 2, 3, 5, 10])
    def test_pieces_put_together_are_the_whole(self, clip_frames, most):
        whole = {piece.id: piece for piece, _ in self.stream(clip_frames=clip_frames)}
        pieces: dict[int, list[StreamedTrajectory]] = {}
        for piece, _ in self.stream(clip_frames=clip_frames, max_frames_per_piece=most):
            pieces.setdefault(piece.id, []).append(piece)
        assert pieces.keys() == whole.keys()
        for id_, parts in pieces.items():
            assert [len(part) for part in parts[:-1]] == [most] * (len(parts) - 1)
            assert 1 <= len(parts[-1]) <= most
            assert [part.is_continued for part in parts] == [False] + [True] * (len(parts) - 1)
            assert [part.continues for part in parts] == [True] * (len(parts) - 1) + [False]
            joined, expected = StreamedTrajectory.concatenate(parts), whole[id_]
            assert (joined.is_continued, joined.continues) == (False, False)
            for name in ("frame_indices", "timestamps", "areas", "boxes"):
                np.testing.assert_array_equal(getattr(joined, name), getattr(expected, name))
            for position in range(len(expected)):
                np.testing.assert_array_equal(joined.mask(position), expected.mask(position))

    def test_pieces_come_while_the_trajectory_goes_on(self):
        given = [
            (piece.id, piece.frame_indices.tolist(), read)
            for piece, read in self.stream(clip_frames=4, max_frames_per_piece=3)
        ]
        assert (1, [0, 1, 2], 5) in given
        assert (1, [3, 4, 5], 9) in given


class TestTheCap:
    def test_it_holds_for_each_clip_and_the_largest_stay(self):
        frames = squares(8, [range(8), range(4, 8), range(8), range(8)])
        generator = TrajectoryGenerator(Colors(), max_trajectories=2, key_frame_detector=NO_CUTS)
        pieces = list(generator.stream(frames, clip_frames=4))
        # In frames 0-4 squares 0 and 2 are largest; from frame 4 on square 1 is larger than square 2, which ends.
        assert [(piece.areas[0], piece.frame_indices.tolist()) for piece in pieces] == [
            (10 * 9, list(range(8))),
            (8 * 9, [0, 1, 2, 3]),
            (9 * 9, [4, 5, 6, 7]),
        ]

    def test_no_clip_has_more(self):
        frames = wandering(np.random.default_rng(5), 30)
        pieces = list(TrajectoryGenerator(Patches(), max_trajectories=3).stream(frames, clip_frames=6))
        present = np.zeros((31, 10**4), dtype=bool)
        for piece in pieces:
            present[piece.frame_indices, piece.id] = True
        assert present.sum(axis=1).max() == 3


class TestMasks:
    @pytest.mark.parametrize("seed", range(4))
    def test_any_shape_comes_back(self, seed):
        rng = np.random.default_rng(seed)
        pictures = rng.integers(0, 3, (6, 17, 23), dtype=np.uint8) * 80
        frames = pictures[..., None].repeat(3, axis=3)
        (first, second) = sorted(TrajectoryGenerator(Colors()).stream(frames, clip_frames=6), key=lambda p: p.areas[0])
        found = {80: None, 160: None}
        for piece in (first, second):
            value = int(pictures[0][piece.mask(0)][0])
            found[value] = piece
            for t in range(6):
                np.testing.assert_array_equal(piece.mask(t), pictures[t] == value)
        assert None not in found.values()

    def test_positions(self):
        (piece,) = TrajectoryGenerator(Colors()).stream(squares(4, [range(1, 4)]))
        np.testing.assert_array_equal(piece.mask(-1), piece.mask(2))
        assert piece.mask(0).shape == piece.size == (40, 60)
        for position in (3, -4):
            with pytest.raises(IndexError, match=rf"position must lie in -3\.\.2, got {position}"):
                piece.mask(position)
        assert repr(piece) == "StreamedTrajectory(1 in 3 frames 1-3, 1.00-3.00 s)"

    def test_they_are_small(self):
        (piece,) = TrajectoryGenerator(Colors()).stream(squares(50, [range(50)]), clip_frames=20)
        assert piece.nbytes < 50 * 80

    def test_pieces_of_others_are_not_put_together(self):
        one, other = TrajectoryGenerator(Colors()).stream(squares(4, [range(4), range(4)]), max_frames_per_piece=4)
        with pytest.raises(ValueError, match=r"StreamedTrajectory\(2 in .* does not follow StreamedTrajectory\(1 in"):
            StreamedTrajectory.concatenate([one, other])
        with pytest.raises(ValueError, match="expected at least one"):
            StreamedTrajectory.concatenate([])
