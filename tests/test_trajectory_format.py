"""The trajectories file: exact both ways, visible, small, and safe to read."""

import io
import json
import lzma
import os
import struct
import threading
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from trajvit.processing.trajectories import Trajectories
from trajvit.processing.trajectory_format import MAX_FRAMES, MAX_PIXELS

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@st.composite
def any_trajectories(draw):
    labels = draw(
        hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 400))
    )
    num_frames = len(labels)
    indices = draw(st.sets(st.integers(0, 2**62), min_size=num_frames, max_size=num_frames))
    seconds = draw(st.lists(st.floats(-1e9, 1e9), min_size=num_frames, max_size=num_frames))
    starts = draw(st.sets(st.integers(0, num_frames - 1)))
    return Trajectories.from_labels(
        labels, frame_indices=sorted(indices), timestamps=sorted(seconds), key_frames=sorted(starts | {0})
    )


def moving_discs(num_frames=16, height=90, width=160):
    """Overlapping discs that drift: trajectories with smooth outlines that come and go."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((num_frames, height, width), dtype=int)
    for label in range(1, 60):
        centre, speed, radius = rng.uniform((0, 0), (height, width)), rng.normal(0, 1.5, 2), rng.uniform(5, 20)
        for t in range(num_frames):
            labels[t][(y - centre[0] - t * speed[0]) ** 2 + (x - centre[1] - t * speed[1]) ** 2 < radius**2] = label
    return Trajectories.from_labels(labels, timestamps=np.arange(num_frames) / 1.5, key_frames=[0, 9])


@pytest.fixture(scope="module")
def discs():
    return moving_discs()


@pytest.fixture(scope="module")
def small_file():
    """The content of a file whose chunks are all short, for the fuzzers."""
    return moving_discs(num_frames=10, height=16, width=24).to_bytes()


def chunks_of(data):
    """(kind, content) of each chunk of a PNG, read by the PNG specification."""
    position, chunks = len(SIGNATURE), []
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += length + 12
    return chunks


def png_of(chunks):
    return SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def with_header(trajectories, **changes):
    """The file with some of its header's entries replaced (or removed: None), checksums right."""
    chunks = dict(chunks_of(trajectories.to_bytes()))
    keyword, _, text = chunks[b"tEXt"].partition(b"\0")
    header = {name: value for name, value in {**json.loads(text), **changes}.items() if value is not None}
    chunks[b"tEXt"] = keyword + b"\0" + json.dumps(header).encode()
    return png_of(chunks.items())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_trajectories())
def test_bytes_come_back_equal(trajectories):
    assert Trajectories.from_bytes(trajectories.to_bytes()) == trajectories


@pytest.mark.parametrize("count", [0, 1, 255, 256, 65_535, 65_536, 70_000])
def test_every_id_width_is_exact(count):
    ids = np.zeros(70_001, dtype=int)
    ids[:count] = np.arange(1, count + 1)
    trajectories = Trajectories(np.random.default_rng(0).permutation(ids).reshape(1, 1, -1))
    assert Trajectories.from_bytes(trajectories.to_bytes()) == trajectories


def test_a_file_comes_back_equal_and_replaces_an_older_one(tmp_path, discs):
    path = tmp_path / "clip.traj.png"
    discs.select_frames([0, 3]).save(path)
    discs.save(str(path))
    assert Trajectories.load(path) == Trajectories.load(str(path)) == discs
    assert os.listdir(tmp_path) == ["clip.traj.png"]
    assert path.read_bytes() == discs.to_bytes()


def test_a_relative_path_without_a_folder(tmp_path, discs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    discs.save("clip.png")
    assert Trajectories.load("clip.png") == discs


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, discs):
    target = tmp_path / "clip.png"
    target.mkdir()
    with pytest.raises(OSError, match="clip"):
        discs.save(target)
    assert os.listdir(tmp_path) == ["clip.png"]
    with pytest.raises(FileNotFoundError):
        discs.save(tmp_path / "missing" / "clip.png")


def test_a_reader_never_sees_half_a_file(tmp_path):
    trajectories = Trajectories(np.ones((1, 2, 2), dtype=int))
    path = tmp_path / "clip.png"
    trajectories.save(path)
    done = threading.Event()

    def rewrite():
        for _ in range(200):
            trajectories.save(path)
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    reads = 0
    while not done.is_set() or not reads:
        assert Trajectories.load(path) == trajectories
        reads += 1
    writer.join()


def test_saved_files_have_the_usual_permissions(tmp_path, discs):
    discs.save(tmp_path / "clip.png")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "clip.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_any_viewer_shows_a_coloured_strip(discs):
    large = discs.resize(270, 480)
    with Image.open(io.BytesIO(large.to_bytes())) as picture:
        assert (picture.format, picture.mode) == ("PNG", "P")
        assert json.loads(picture.text["trajectories"])["shape"] == [16, 270, 480]
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (48, 4 * 85 + 3 * 2, 3)
    # Each shown pixel is the colour of the id at the same place, so within the first frame colours and ids match 1:1.
    rows, columns = (2 * np.arange(48) + 1) * 270 // 96, (2 * np.arange(85) + 1) * 480 // 170
    shown = large.ids[0][rows[:, None], columns]
    colors = {tuple(color) for color in pixels[:, :85].reshape(-1, 3)}
    pairs = {(int(i), *color) for i, color in zip(shown.flat, pixels[:, :85].reshape(-1, 3).tolist(), strict=True)}
    assert len(pairs) == len(colors) == len(np.unique(shown)) > 20
    assert len({tuple(color) for color in pixels[:, :85][shown == 0].tolist()}) == 1


def test_small_maps_have_a_small_picture(discs):
    sizes = {}
    for height in (64, 90, 128):
        with Image.open(io.BytesIO(discs.resize(height, 160).to_bytes())) as picture:
            sizes[height] = picture.size
    assert sizes == {64: (53, 21), 90: (53, 30), 128: (2 * 53 + 2, 43)}


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 5000), (3, 5000, 1), (70, 2, 3)])
def test_the_picture_is_legal_for_extreme_shapes(shape):
    data = Trajectories(np.ones(shape, dtype=int)).to_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.width <= 4 * 512 + 6
        assert picture.height <= 48
        picture.load()


def test_it_takes_far_less_space_than_a_png_of_the_stacked_maps(discs):
    buffer = io.BytesIO()
    Image.fromarray(discs.ids.reshape(-1, discs.width).astype(np.uint16)).save(buffer, "PNG", optimize=True)
    assert len(discs.to_bytes()) < 0.6 * len(buffer.getvalue())


def test_every_truncation_is_an_error(small_file):
    for length in range(len(small_file)):
        with pytest.raises(ValueError, match="not a valid trajectories file"):
            Trajectories.from_bytes(small_file[:length])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_every_changed_byte_is_an_error(small_file, data):
    content = bytearray(small_file)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assume(bytes(content) != small_file)
    with pytest.raises(ValueError, match="not a valid trajectories file"):
        Trajectories.from_bytes(bytes(content))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_content_forged_under_right_checksums_is_an_error_or_valid(small_file, data):
    chunks = dict(chunks_of(small_file))
    kind = data.draw(st.sampled_from([b"tEXt", b"trAJ"]))
    content = bytearray(chunks[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    chunks[kind] = bytes(content)
    try:
        trajectories = Trajectories.from_bytes(png_of(chunks.items()))
    except ValueError:
        return
    # What it accepts keeps every rule: the constructor checks them all.
    where = (trajectories.frame_indices, trajectories.timestamps, trajectories.key_frames)
    assert Trajectories(trajectories.ids, *where) == trajectories


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_unrelated_bytes_are_an_error(data):
    for content in (data, SIGNATURE + data):
        with pytest.raises(ValueError, match="not a valid trajectories file"):
            Trajectories.from_bytes(content)


def test_errors_name_the_file_and_what_is_wrong(tmp_path, discs):
    picture = tmp_path / "photo.png"
    Image.new("RGB", (600, 600)).save(picture)
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    half = tmp_path / "half.png"
    half.write_bytes(discs.to_bytes()[:1000])
    empty = tmp_path / "empty.png"
    empty.touch()
    for path, message in (
        (picture, "it is a PNG without trajectories"),
        (video, "it does not start as a PNG does"),
        (half, "byte 1000"),
        (empty, "it does not start as a PNG does"),
    ):
        with pytest.raises(ValueError, match=f"{path} is not a valid trajectories file: .*{message}"):
            Trajectories.load(path)
    with pytest.raises(FileNotFoundError):
        Trajectories.load(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "format version is 2, this reader knows 1"),
        ({"version": None}, "format version is None"),
        ({"shape": None, "key_frames": None}, "lacks key_frames, shape"),
        ({"shape": [16, 90]}, "three positive integers"),
        ({"shape": [16, 90, 0]}, "three positive integers"),
        ({"shape": [16, 90, 160.0]}, "three positive integers"),
        ({"shape": [16, 90, True]}, "three positive integers"),
        ({"shape": "abc"}, "three positive integers"),
        ({"shape": [2**40, 2**40, 2**40]}, f"at most {MAX_PIXELS} pixels"),
        ({"shape": [MAX_FRAMES + 1, 1, 1]}, f"{MAX_FRAMES} frames"),
        ({"shape": [16, 90, 161]}, "do not decompress to the 231840 bytes"),
        ({"shape": [16, 90, 159]}, "do not decompress to the 228960 bytes"),
        ({"num_trajectories": 58}, "58 trajectories declared, 56 found"),
        ({"num_trajectories": 400}, "do not decompress"),
        ({"num_trajectories": -1}, "num_trajectories must lie in"),
        ({"num_trajectories": 2**70}, "num_trajectories must lie in"),
        ({"num_trajectories": "56"}, "num_trajectories must lie in"),
        ({"frame_indices": [1, 2]}, "frame_indices must have one entry per frame"),
        ({"frame_indices": [2**80] * 16}, "frame_indices"),
        ({"frame_indices": 5}, "frame_indices"),
        ({"timestamps": [float("nan")] * 16}, "timestamps must be finite"),
        ({"timestamps": [[0]] * 16}, "timestamps must have one entry per frame"),
        ({"timestamps": {"a": 1}}, "timestamps must be real"),
        ({"key_frames": [3]}, "key_frames must start with 0"),
        ({"key_frames": "0"}, "key_frames must"),
    ],
)
def test_a_forged_header_is_an_error(discs, changes, message):
    with pytest.raises(ValueError, match=f"not a valid trajectories file: .*{message}"):
        Trajectories.from_bytes(with_header(discs, **changes))


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"3", b"\xff\xfe", b'{"version": 1}', b" " * 10_000_000])
def test_a_header_that_is_no_header_is_an_error(discs, text):
    chunks = dict(chunks_of(discs.to_bytes()))
    chunks[b"tEXt"] = b"trajectories\0" + text
    with pytest.raises(ValueError, match=r"not a valid trajectories file: its (header|format)"):
        Trajectories.from_bytes(png_of(chunks.items()))


def test_more_or_less_than_one_volume_is_an_error(discs):
    chunks = chunks_of(discs.to_bytes())
    with pytest.raises(ValueError, match="holds trajectories twice"):
        Trajectories.from_bytes(png_of([*chunks[:-1], chunks[-2], chunks[-1]]))
    with pytest.raises(ValueError, match="without trajectories"):
        Trajectories.from_bytes(png_of([chunk for chunk in chunks if chunk[0] != b"trAJ"]))
    with pytest.raises(ValueError, match="3 bytes follow its end"):
        Trajectories.from_bytes(discs.to_bytes() + b"abc")


def test_a_stream_that_is_longer_or_shorter_than_it_should_be_is_an_error(small_file):
    chunks = dict(chunks_of(small_file))
    for stream in (chunks[b"trAJ"][:-1], chunks[b"trAJ"] + b"\0", b""):
        with pytest.raises(ValueError, match="do not decompress"):
            Trajectories.from_bytes(png_of({**chunks, b"trAJ": stream}.items()))


def test_other_text_chunks_are_left_alone(discs):
    chunks = chunks_of(discs.to_bytes())
    commented = png_of([chunks[0], (b"tEXt", b"Comment\0made by hand"), *chunks[1:]])
    assert Trajectories.from_bytes(commented) == discs


def test_a_bomb_costs_no_memory():
    """A stream that grows to 256 MB under a header that declares 64 pixels, and a header that declares too much."""
    ones = Trajectories(np.ones((1, 8, 8), dtype=int))
    chunks = dict(chunks_of(ones.to_bytes()))
    zeros = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    chunks[b"trAJ"] = b"".join(zeros.compress(bytes(2**20)) for _ in range(256)) + zeros.flush()
    assert len(chunks[b"trAJ"]) < 60_000
    bombs = [png_of(chunks.items()), with_header(ones, shape=[2**16, 2**16, 2**16])]
    tracemalloc.start()
    for bomb in bombs:
        with pytest.raises(ValueError, match="not a valid trajectories file"):
            Trajectories.from_bytes(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_the_writer_refuses_what_the_reader_would():
    class Huge:
        shape = (2**10, 2**10, 2**10)

    from trajvit.processing.trajectory_format import encode

    with pytest.raises(ValueError, match=r"at most 134217728 pixels .* 1024 x 1024 x 1024"):
        encode(Huge())
