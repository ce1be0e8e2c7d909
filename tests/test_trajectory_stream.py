"""Streams against the generator on the same frames, against a loop over clips, and by hand."""

import gc
import os
import re
import weakref
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import write_video

from trajvit.processing.backends import Clip
from trajvit.processing.clips import match_regions
from trajvit.processing.generator import TrajectoryGenerator
from trajvit.processing.key_frames import KeyFrameDetector
from trajvit.processing.streamed_trajectory import StreamedTrajectory
from trajvit.processing.synthetic_scenes import make_scene
from trajvit.processing.trajectory_stream import stream_video
from trajvit.processing.video_frames import VideoDecodingError

DOCS = Path(__file__).parents[1] / "docs"
NO_CUTS = KeyFrameDetector(min_votes=3, hsv_threshold=255.0, rgb_threshold=255.0)


class Colors:
    """One trajectory per colour in each clip, black is nothing. Keeps count of the clips it sees."""

    name = "colors"
    frame_interval = None

    def __init__(self):
        self.clips: list[tuple[int, bool]] = []

    def track(self, clips, max_trajectories, progress=None):
        self.clips += [(len(clip.frames), clip.has_boundary) for clip in clips]
        return [self.label(clip) for clip in clips]

    def label(self, clip):
        codes = clip.frames[clip.sampled].astype(np.int64) @ [65536, 256, 1]
        _, labels = np.unique(codes, return_inverse=True)
        return np.where(codes > 0, labels.reshape(codes.shape) + 1, 0)


class Patches(Colors):
    """Labels that depend on the clip's own pixels, so that what goes on from clip to clip is for the join to find."""

    name = "patches"

    def label(self, clip):
        blocks = clip.frames[..., 0].astype(np.int64) // 52
        rows = np.arange(blocks.shape[1])[:, None] * 3 // blocks.shape[1]
        return blocks * 3 + rows + int(clip.frames[0].sum()) % 7


def wandering(rng, num_frames, size=(24, 36), cut_share=0.15):
    """Noise blobs that drift, with cuts here and there, often on consecutive frames."""
    frames = np.empty((num_frames, *size, 3), dtype=np.uint8)
    picture = None
    for t in range(num_frames):
        if picture is None or rng.random() < cut_share:
            coarse = rng.integers(0, 256, (4, 6, 3)) * rng.uniform(0.2, 1)
            picture = coarse.repeat(size[0] // 4, axis=0).repeat(size[1] // 6, axis=1)
        picture = np.roll(picture, 1, axis=1)
        frames[t] = np.clip(picture + rng.integers(-9, 10), 0, 255)
    return frames


def squares(num_frames, lives, size=(40, 60)):
    """White noise-free squares on black: square k, of its own colour, is there in the frames of `lives[k]`."""
    frames = np.zeros((num_frames, *size, 3), dtype=np.uint8)
    for k, life in enumerate(lives):
        for t in life:
            frames[t, 4 : 14 - k, 12 * k + 1 : 12 * k + 10] = (40 + 20 * k, 90, 10)
    return frames


def volume_of(pieces, num_frames, size):
    """(T, H, W) ids of all pieces; no pixel may be taken twice."""
    ids = np.zeros((num_frames, *size), dtype=np.int64)
    for piece in pieces:
        for position, frame in enumerate(piece.frame_indices):
            mask = piece.mask(position)
            assert not ids[frame][mask].any()
            ids[frame][mask] = piece.id
    return ids


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


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """23 frames at 10 a second, 48 x 72, with a cut; lossless enough."""
    frames = wandering(np.random.default_rng(8), 23).repeat(2, axis=1).repeat(2, axis=2)
    path = tmp_path_factory.mktemp("video") / "wandering.mkv"
    return Path(write_video(str(path), list(frames), codec="ffv1", pix_fmt="bgr0", rate=10)), frames


class TestVideoFiles:
    def test_a_file_is_streamed_with_its_times(self, video):
        path, frames = video
        generator = TrajectoryGenerator(Patches(), max_trajectories=10**6)
        pieces = list(stream_video(path, generator, clip_frames=5))
        expected = list(generator.stream(frames, clip_frames=5))
        np.testing.assert_array_equal(volume_of(pieces, 23, (48, 72)), volume_of(expected, 23, (48, 72)))
        for piece in pieces:
            np.testing.assert_allclose(piece.timestamps, piece.frame_indices / 10, atol=1e-3)

    def test_frames_apart(self, video):
        path, frames = video
        generator = TrajectoryGenerator(Patches(), max_trajectories=10**6)
        pieces = list(stream_video(path.read_bytes(), generator, frame_interval=0.3))
        ids = volume_of(pieces, 23, (48, 72))
        assert sorted({int(t) for piece in pieces for t in piece.frame_indices}) == list(range(0, 23, 3))
        np.testing.assert_array_equal(ids[::3], volume_of(generator.stream(frames[::3]), len(frames[::3]), (48, 72)))

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed on Linux alone")
    def test_closing_early_closes_the_file(self, video):
        path, _ = video

        def is_open():
            return any(os.path.realpath(f"/proc/self/fd/{fd}") == str(path) for fd in os.listdir("/proc/self/fd"))

        stream = stream_video(path, TrajectoryGenerator(Patches()), clip_frames=3)
        next(stream)
        assert is_open()
        stream.close()
        assert not is_open()

    def test_a_source_that_is_none(self, tmp_path):
        with pytest.raises(VideoDecodingError, match=r"gone\.mp4 does not exist"):
            stream_video(tmp_path / "gone.mp4", TrajectoryGenerator(Colors()))
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(VideoDecodingError, match=r"text\.mp4 cannot be opened"):
            list(stream_video(tmp_path / "text.mp4", TrajectoryGenerator(Colors())))

    def test_the_documented_example_works(self, video, monkeypatch):
        path, _ = video
        page = (DOCS / "streaming.md").read_text()
        blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
        assert len(blocks) == 2
        (path.parent / "video.mkv").write_bytes(path.read_bytes())
        monkeypatch.chdir(path.parent)
        namespace: dict = {}
        for block in blocks:
            exec(block.replace("video.mp4", "video.mkv"), namespace)
        assert namespace["mask"].shape == (48, 72)
        assert namespace["num_ended"] > 0


@pytest.fixture(scope="module")
def sam2_generator(tmp_path_factory):
    pytest.importorskip("sam2")
    from random_sam2 import save_random_checkpoint

    checkpoint = save_random_checkpoint(tmp_path_factory.mktemp("sam2") / "tiny.pt")
    # Random weights tell no good mask from a bad one, so every mask of a coarse grid is taken.
    segmenter = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    options = {"model": "tiny", "image_size": 128, "device": "cpu", "segmenter_options": segmenter}
    return TrajectoryGenerator("sam2", short_side=64, checkpoint=str(checkpoint), max_segments=3, **options)


class TestSam2:
    def test_clips_streamed_one_by_one_are_those_of_a_call(self, sam2_generator):
        shots = [make_scene(seed, num_frames=4, height=128, width=192).frames for seed in (1, 4)]
        frames = np.concatenate(shots)
        expected = sam2_generator(frames)
        assert expected.key_frames == (0, 4)
        assert expected.num_trajectories > 2
        found = volume_of(sam2_generator.stream(iter(frames)), 8, (64, 96))
        assert (found != expected.ids).mean() <= 1e-4

    def test_clips_that_end_early(self, sam2_generator):
        frames = make_scene(1, num_frames=5, height=128, width=192).frames
        pieces = list(sam2_generator.stream(iter(frames), clip_frames=2))
        ids = volume_of(pieces, 5, (64, 96))
        assert (ids > 0).any(axis=(1, 2)).all()
        assert sorted(piece.id for piece in pieces) == list(range(1, len(pieces) + 1))
