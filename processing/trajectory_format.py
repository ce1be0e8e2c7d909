"""The trajectories file: a PNG that any viewer shows and that holds all ids, without loss and without pickle.

The picture is a strip of up to four frames in the colours of their trajectories, for the eye only. What `Trajectories`
reads back lies in two chunks that viewers skip:

- `tEXt` with the keyword "trajectories": JSON with `version`, `shape` (T, H, W), `num_trajectories`, `frame_indices`,
  `timestamps` and `key_frames`.
- `trAJ` (private): the ids as one, two or four bytes each (the least that num_trajectories fits in, little-endian), in
  the order (H, W, T), as a raw LZMA2 stream. With time innermost most pixels repeat the T ids of the pixel to their
  left, which on real clips takes a third of the space of a PNG of the stacked maps.

Every chunk carries PNG's CRC-32, so damage anywhere is noticed.
"""

import json
import lzma
import math
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .trajectories import Trajectories
from .trajectory_colors import trajectory_colors

MAX_PIXELS = 2**27
"""Most pixels T * H * W that a file may hold: 16 frames of 2,896 x 2,896, or 1,152 frames of 256 x 455."""

MAX_FRAMES = 2**16
"""Most frames T that a file may hold."""

VERSION = 1

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"trajectories"
# Incompressible ids take 4 bytes each; the rest is room for the picture and for a line of JSON per frame.
_MAX_FILE_BYTES = 5 * MAX_PIXELS
_MAX_HEADER_BYTES = 2**10 + 64 * MAX_FRAMES
# Characters of what is wrong with a file.
_MOST_SAID = 300
_PREVIEW_FRAMES = 4
_PREVIEW_SIZE = (48, 512)  # height, width of a frame at most
# Smaller maps have a smaller picture, which else would be a good part of the file: a third of their height, and a frame
# for each so many pixels of it.
_PREVIEW_SHRINKAGE = 3
_HEIGHT_FOR_A_PREVIEW_FRAME = 64
_PREVIEW_GAP = 2


def encode(trajectories: Trajectories) -> bytes:
    """Return the content of a trajectories file.

    Raises:
        ValueError: The volume has more than `MAX_PIXELS` pixels or `MAX_FRAMES` frames.
    """
    _check_size(trajectories.shape)
    header = {
        "version": VERSION,
        "shape": trajectories.shape,
        "num_trajectories": trajectories.num_trajectories,
        "frame_indices": trajectories.frame_indices.tolist(),
        "timestamps": trajectories.timestamps.tolist(),
        "key_frames": trajectories.key_frames,
    }
    id_type = _id_type(trajectories.num_trajectories)
    ids = np.ascontiguousarray(trajectories.ids.transpose(1, 2, 0), dtype=id_type).tobytes()
    size, palette, pixels = _preview_chunks(trajectories)
    return b"".join(
        (
            _SIGNATURE,
            size,
            palette,
            _chunk(b"tEXt", _KEYWORD + b"\0" + json.dumps(header, separators=(",", ":")).encode("ascii")),
            pixels,
            _chunk(b"trAJ", lzma.compress(ids, lzma.FORMAT_RAW, filters=_lzma_filters(len(ids)))),
            _chunk(b"IEND", b""),
        )
    )


def decode(data: bytes, name: str = "The data") -> Trajectories:
    """Read the content of a trajectories file.

    Memory is bounded by the size that the file declares, which is at most `MAX_PIXELS`.

    Args:
        data: The content.
        name: What errors call it.

    Raises:
        ValueError: It is not a trajectories file, is damaged, or breaks a rule of `Trajectories`.
    """
    try:
        header, stream = _contents(bytes(data))
        shape, num_trajectories = header["shape"], header["num_trajectories"]
        ids = _decompress(stream, math.prod(shape), _id_type(num_trajectories))
        volume = ids.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
        trajectories = Trajectories(volume, header["frame_indices"], header["timestamps"], header["key_frames"])
        if trajectories.num_trajectories != num_trajectories:
            raise ValueError(f"{num_trajectories} trajectories declared, {trajectories.num_trajectories} found")
    except (ValueError, TypeError, OverflowError) as error:
        # What is found there may be long.
        reason = str(error)
        shown = reason if len(reason) <= _MOST_SAID else f"{reason[:_MOST_SAID]} ..."
        raise ValueError(f"{name} is not a valid trajectories file: {shown}") from error
    return trajectories


def write_file(trajectories: Trajectories, path: str | os.PathLike) -> None:
    """Write a trajectories file; a file of that name is replaced once the new one is complete."""
    data = encode(trajectories)
    folder, file_name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{file_name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def read_file(path: str | os.PathLike) -> Trajectories:
    """Read a trajectories file; errors as `decode`'s, with the path as name."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        # To open a pipe would wait for somebody to write to it.
        raise ValueError(f"{os.fspath(path)} is not a valid trajectories file: it is no regular file")
    with open(path, "rb") as file:
        data = file.read(len(_SIGNATURE))
        if data == _SIGNATURE:
            # Python makes room for all that may come before it reads.
            data += file.read(min(_MAX_FILE_BYTES, os.fstat(file.fileno()).st_size))
    return decode(data, os.fspath(path))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and content of each chunk up to the end chunk, all checked."""
    if not data.startswith(_SIGNATURE):
        raise ValueError("it does not start as a PNG does")
    position, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise ValueError(f"it ends early, at byte {len(data)}")
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            raise ValueError(f"chunk {kind!r} of {length} bytes ends beyond the end, at byte {len(data)}")
        content = data[position + 8 : end]
        if struct.pack(">I", zlib.crc32(kind + content)) != data[end : end + 4]:
            raise ValueError(f"chunk {kind!r} at byte {position} is damaged (its checksum differs)")
        yield kind, content
        position = end + 4
    if position != len(data):
        raise ValueError(f"{len(data) - position} bytes follow its end")


def _contents(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header, checked but for the arrays of frames, and the compressed ids."""
    texts, streams = [], []
    for kind, content in _chunks(data):
        if kind == b"trAJ":
            streams.append(content)
        elif kind == b"tEXt" and content.startswith(_KEYWORD + b"\0"):
            texts.append(content[len(_KEYWORD) + 1 :])
    if not texts or not streams:
        raise ValueError("it is a PNG without trajectories")
    if len(texts) > 1 or len(streams) > 1:
        raise ValueError("it holds trajectories twice")
    return _checked_header(texts[0]), streams[0]


def _checked_header(text: bytes) -> dict[str, Any]:
    if len(text) > _MAX_HEADER_BYTES:
        raise ValueError(f"its header has {len(text)} bytes, more than {_MAX_HEADER_BYTES}")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its header is not JSON") from None
    if not isinstance(header, dict) or header.get("version") != VERSION:
        version = header.get("version") if isinstance(header, dict) else None
        raise ValueError(f"its format version is {version!r}, this reader knows {VERSION}")
    missing = {"shape", "num_trajectories", "frame_indices", "timestamps", "key_frames"} - header.keys()
    if missing:
        raise ValueError(f"its header lacks {', '.join(sorted(missing))}")
    shape, num_trajectories = header["shape"], header["num_trajectories"]
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(size) is int and size >= 1 for size in shape):
        raise ValueError(f"shape must be three positive integers, got {shape!r}")
    _check_size(shape)
    if type(num_trajectories) is not int or not 0 <= num_trajectories <= math.prod(shape):
        raise ValueError(f"num_trajectories must lie in 0..{math.prod(shape)}, got {num_trajectories!r}")
    return header


def _check_size(shape: Sequence[int]) -> None:
    if math.prod(shape) > MAX_PIXELS or shape[0] > MAX_FRAMES:
        size = " x ".join(map(str, shape))
        raise ValueError(f"a file holds at most {MAX_PIXELS} pixels and {MAX_FRAMES} frames, but the shape is {size}")


def _id_type(num_trajectories: int) -> np.dtype:
    return np.dtype("u1" if num_trajectories < 2**8 else "<u2" if num_trajectories < 2**16 else "<u4")


def _lzma_filters(num_bytes: int) -> list[dict[str, int]]:
    """Reader and writer derive the window from the size, so no file can ask for more."""
    window = min(max(num_bytes, 2**12), 2**23)
    # Ids are not text: neither the previous byte nor the position predicts much.
    return [
        {
            "id": lzma.FILTER_LZMA2,
            "preset": 9 | lzma.PRESET_EXTREME,
            "dict_size": window,
            "lc": 0,
            "lp": 0,
            "pb": 0,
        }
    ]


def _decompress(stream: bytes, num_ids: int, id_type: np.dtype) -> np.ndarray:
    num_bytes = num_ids * id_type.itemsize
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_lzma_filters(num_bytes))
    try:
        content = decompressor.decompress(stream, max_length=num_bytes + 1)
    except lzma.LZMAError as error:
        raise ValueError(f"its ids cannot be decompressed ({error})") from None
    if len(content) != num_bytes or not decompressor.eof or decompressor.unused_data:
        raise ValueError(f"its ids do not decompress to the {num_bytes} bytes that its shape needs")
    return np.frombuffer(content, dtype=id_type)


def _preview_chunks(trajectories: Trajectories) -> tuple[bytes, bytes, bytes]:
    """The picture: evenly spaced frames side by side, one palette colour per trajectory (repeating after 255)."""
    num_frames, height, width = trajectories.shape
    num_shown = min(num_frames, _PREVIEW_FRAMES, max(1, height // _HEIGHT_FOR_A_PREVIEW_FRAME))
    chosen = np.unique(np.linspace(0, num_frames - 1, num_shown).round().astype(int))
    scale = min(1 / _PREVIEW_SHRINKAGE, _PREVIEW_SIZE[0] / height, _PREVIEW_SIZE[1] / width)
    shown_height, shown_width = max(1, round(height * scale)), max(1, round(width * scale))
    rows = (2 * np.arange(shown_height) + 1) * height // (2 * shown_height)
    columns = (2 * np.arange(shown_width) + 1) * width // (2 * shown_width)
    frames = trajectories.ids[chosen][:, rows[:, None], columns]
    indices = np.where(frames > 0, (frames - 1) % 255 + 1, 0).astype(np.uint8)
    strip = np.concatenate(list(np.pad(indices, ((0, 0), (0, 0), (0, _PREVIEW_GAP)))), axis=1)[:, :-_PREVIEW_GAP]
    scanlines = np.pad(strip, ((0, 0), (1, 0)))  # PNG's filter byte: none
    return (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", strip.shape[1], strip.shape[0], 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", trajectory_colors(255)[: int(np.max(indices)) + 1].tobytes()),
        _chunk(b"IDAT", zlib.compress(scanlines.tobytes(), 9)),
    )
