"""Pictures of trajectories: checked by their pixels, and read back from the files by another decoder than wrote
them."""

import av
import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from trajvit.processing.drawing import contact_sheet, draw_overlay, timeline, trajectory_colors, write_video
from trajvit.processing.trajectories import Trajectories

KEY_COLOR = (218, 112, 0)


@pytest.fixture
def trajectories():
    """Four quarters; the last quarter belongs to none in the first frame and is trajectory 4 from the second."""
    ids = np.zeros((5, 32, 48), int)
    ids[:, :16, :24], ids[:, :16, 24:], ids[:, 16:, :24] = 1, 2, 3
    ids[1:, 16:, 24:] = 4
    ids[3, :16, :24] = 0
    return Trajectories(ids, timestamps=[0.5, 1.0, 1.5, 2.0, 2.5], key_frames=(0, 2))


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (5, 128, 192, 3)).astype(np.uint8)


def test_colours_are_stable_by_id():
    many = trajectory_colors(500)
    assert many.shape == (501, 3)
    assert many.dtype == np.uint8
    np.testing.assert_array_equal(trajectory_colors(7), many[:8])
    np.testing.assert_array_equal(trajectory_colors(0), many[:1])
    assert len({*many[0]}) == 1
    with pytest.raises(ValueError, match="-1"):
        trajectory_colors(-1)


def test_colours_of_ids_that_follow_each_other_are_far_apart():
    """A CIEDE2000 difference of 10 is seen at a glance; neighbours in number are often neighbours in the picture."""
    lab = rgb2lab(trajectory_colors(256)[1:] / 255.0)
    for step in (1, 2):
        assert deltaE_ciede2000(lab[step:], lab[:-step]).min() > 20
    pairs = deltaE_ciede2000(lab[:16, None], lab[None, :16])
    assert pairs[~np.eye(16, dtype=bool)].min() > 10
    # No pair of the usual 128 looks the same, and none is as grey as what belongs to no trajectory.
    pairs = deltaE_ciede2000(lab[:128, None], lab[None, :128])
    assert pairs[~np.eye(128, dtype=bool)].min() > 3
    assert np.hypot(lab[:, 1], lab[:, 2]).min() > 15


def test_overlay_mixes_colour_and_frame(frames, trajectories):
    before = frames.copy()
    drawn = draw_overlay(frames, trajectories, alpha=0.25, boundaries=False)
    np.testing.assert_array_equal(frames, before)
    assert drawn.shape == frames.shape
    assert drawn.dtype == np.uint8
    colors = trajectory_colors(4)
    for frame in range(5):
        for y, x in ((10, 10), (10, 150), (100, 10), (127, 191), (63, 95), (64, 96)):
            label = trajectories.ids[frame, y // 4, x // 4]
            color = 0.75 * frames[frame, y, x] + 0.25 * colors[label] if label else frames[frame, y, x]
            np.testing.assert_allclose(drawn[frame, y, x], color, atol=1)


def test_opaque_overlay_is_the_map_of_colours(frames, trajectories):
    drawn = draw_overlay(frames, trajectories, alpha=1.0, boundaries=False)
    expected = trajectory_colors(4)[trajectories.ids[2].repeat(4, axis=0).repeat(4, axis=1)]
    np.testing.assert_array_equal(drawn[2], expected)


def test_boundaries_lighten_the_borders_alone(trajectories):
    frames = np.full((5, 128, 192, 3), 100, np.uint8)
    plain = draw_overlay(frames, trajectories, boundaries=False).astype(int)
    lined = draw_overlay(frames, trajectories, boundaries=True).astype(int)
    changed = (plain != lined).any(-1)
    near_border = np.zeros((128, 192), bool)
    near_border[58:70], near_border[:, 90:102] = True, True
    assert not changed[1][~near_border].any()
    assert (lined[1, 64] > 180).all()
    assert changed[1, 64].all()
    assert changed[1, :, 96].all()


def test_ids_are_written_on_demand_where_they_fit(trajectories):
    frames = np.full((5, 256, 384, 3), 100, np.uint8)
    plain = draw_overlay(frames, trajectories)
    written = draw_overlay(frames, trajectories, ids=True)
    changed = (plain != written).any(-1)
    quarters = {1: (slice(0, 128), slice(0, 192)), 4: (slice(128, 256), slice(192, 384))}
    assert changed[1][quarters[1]].any()
    assert changed[1][quarters[4]].any()
    # No id where there is no trajectory, and none in a region too thin to hold it.
    assert not changed[0][quarters[4]].any()
    thin = Trajectories(np.where(np.arange(48)[None, None] < 1, 1, 2) * np.ones((5, 32, 1), int))
    changed = (draw_overlay(frames, thin, ids=True) != draw_overlay(frames, thin)).any(-1)
    assert not changed[:, :, :40].any()
    assert changed.any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda frames: frames[:3], "3 frames and trajectories of 5"),
        (lambda frames: frames / 255.0, "float64"),
        (lambda frames: frames[..., 0], r"\(5, 128, 192\)"),
    ],
)
def test_wrong_frames_are_named(frames, trajectories, wrong, message):
    with pytest.raises(ValueError, match=message):
        draw_overlay(wrong(frames), trajectories)


def test_alpha_is_checked(frames, trajectories):
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        draw_overlay(frames, trajectories, alpha=1.5)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (37, 51)])
def test_video_has_the_frames_at_the_rate_and_an_even_size(tmp_path, height, width):
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (120, 120, 120)]
    frames = np.stack([np.full((height, width, 3), color, np.uint8) for color in colors])
    path = write_video(tmp_path / "new" / "clip.mp4", frames, fps=12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(12.5)
        assert (stream.height, stream.width) == (height + height % 2, width + width % 2)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 4
    for frame, color in zip(decoded, colors, strict=True):
        # The repeated last row and column show no seam either.
        assert np.abs(frame.astype(int) - color).max() <= 12


def test_video_bytes_are_the_same_every_time(tmp_path, frames):
    one, two = (write_video(tmp_path / name, iter(frames), fps=24).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert one == two


def test_wrong_videos_are_named_and_leave_no_file(tmp_path, frames):
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "empty.mp4", [], fps=24)
    assert not (tmp_path / "empty.mp4").exists()
    with pytest.raises(ValueError, match="fps is 0"):
        write_video(tmp_path / "still.mp4", frames, fps=0)
    with pytest.raises(ValueError, match="frame 1 is uint8"):
        write_video(tmp_path / "mixed.mp4", [frames[0], frames[0, :64]], fps=24)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"\(128, 192\)"):
        write_video(tmp_path / "grey.mp4", frames[..., 0], fps=24)


def test_contact_sheet_shows_every_frame_and_marks_key_frames(tmp_path, frames, trajectories):
    path = tmp_path / "new" / "sheet.png"
    sheet = contact_sheet(frames, trajectories, path, columns=3)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), sheet)
    key = (sheet == KEY_COLOR).all(-1).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(key)
    framed = [stats[k] for k in range(1, count) if stats[k][cv2.CC_STAT_WIDTH] > 300]
    # Frames 0 and 2 of five, both in the first row of three.
    assert len(framed) == 2
    assert framed[0][cv2.CC_STAT_TOP] == framed[1][cv2.CC_STAT_TOP]
    assert framed[1][cv2.CC_STAT_LEFT] - framed[0][cv2.CC_STAT_LEFT] > 2 * framed[0][cv2.CC_STAT_WIDTH]
    tall = contact_sheet(frames, trajectories, columns=1)
    assert tall.shape[0] > 2 * sheet.shape[0]
    assert tall.shape[1] < sheet.shape[1]


def test_contact_sheet_of_one_image_holds_its_heading(frames, trajectories):
    sheet = contact_sheet(frames[:1], trajectories.select_frames([0]))
    assert (sheet[:, -20:] == 255).all()
    assert (sheet != 255).any()


def test_columns_are_checked(frames, trajectories):
    with pytest.raises(ValueError, match="columns is 0"):
        contact_sheet(frames, trajectories, columns=0)


def test_timeline_draws_each_run_of_each_trajectory(tmp_path, trajectories):
    figure = timeline(trajectories, tmp_path / "new" / "timeline.png")
    assert Image.open(tmp_path / "new" / "timeline.png").width > 1000
    density, lives = figure.axes
    bars = [path.get_extents().get_points() for path in lives.collections[0].get_paths()]
    spans = sorted((round((bar[0, 1] + bar[1, 1]) / 2), float(bar[0, 0]), float(bar[1, 0])) for bar in bars)
    # Trajectory 1 is away in the fourth frame; the last frame lasts as long as the others, half a second.
    assert spans == [(1, 0.5, 2.0), (1, 2.5, 3.0), (2, 0.5, 3.0), (3, 0.5, 3.0), (4, 1.0, 3.0)]
    key_times = sorted({line.get_xdata()[0] for line in lives.lines})
    assert key_times == [0.5, 1.5]
    np.testing.assert_array_equal(density.patches[0].get_data().values, [3, 4, 4, 3, 4])


def test_timeline_of_one_image_and_of_no_trajectory(tmp_path):
    for ids in (np.ones((1, 4, 4), int), np.zeros((2, 4, 4), int)):
        path = tmp_path / f"{len(ids)}.png"
        timeline(Trajectories(ids), path)
        assert path.stat().st_size > 0


def test_timeline_needs_no_display(trajectories):
    assert isinstance(timeline(trajectories).canvas, FigureCanvasAgg)
