"""Bad and odd values and files of trajectories, and checkpoints that are broken or hostile."""

import json
import lzma
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from bad_inputs import BadInput
from safetensors.torch import load_file

from trajvit.processing.trajectories import Trajectories
from trajvit.search_demo import CHECKPOINT

SIGNATURE = b"\x89PNG\r\n\x1a\n"
WHOLE = Trajectories.from_labels(np.random.default_rng(0).integers(0, 9, (4, 12, 20))).to_bytes()


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    position, chunks = len(SIGNATURE), []
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def png_of(chunks) -> bytes:
    """A PNG of these chunks, whose checksums are right."""
    return SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def replaced(kind, content) -> bytes:
    """`content` may be a function of what is there."""
    return png_of(
        [(k, content(c) if callable(content) else content) if k == kind else (k, c) for k, c in chunks_of(WHOLE)]
    )


def header(**changes) -> bytes:
    """The file with a header that says something else, under the right checksum."""

    def forged(content):
        keyword, text = content.split(b"\0", 1)
        return keyword + b"\0" + json.dumps({**json.loads(text), **changes}).encode()

    return replaced(b"tEXt", forged)


def bomb() -> bytes:
    """A stream of a few kilobytes that unpacks to 128 MB."""
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    return replaced(b"trAJ", b"".join(packer.compress(bytes(2**20)) for _ in range(128)) + packer.flush())


def flipped(place) -> bytes:
    data = bytearray(WHOLE)
    data[place] ^= 4
    return bytes(data)


def written(content):
    def make(folder) -> Path:
        (folder / "bad.traj.png").write_bytes(content() if callable(content) else content)
        return folder / "bad.traj.png"

    return make


NOT_VALID = "bad.traj.png is not a valid trajectories file: "


def file(name, content, error, kind="trajectories file"):
    return BadInput(name, kind, written(content), NOT_VALID + error)


TRAJECTORIES_FILES = (
    file("of no bytes", b"", "it does not start as a PNG does"),
    file("a text", b"trajectories" * 99, "it does not start as a PNG does"),
    file("a pickle", pickle.dumps({"ids": [1]}), "it does not start as a PNG does"),
    file("a NumPy file", b"\x93NUMPY\x01\0v\0{}", "it does not start as a PNG does"),
    file("the signature alone", SIGNATURE, "it ends early"),
    file("cut by one byte", WHOLE[:-1], ".*(ends early|beyond the end)"),
    file("cut in the middle", WHOLE[: len(WHOLE) // 2], ".*(ends early|beyond the end)"),
    file("one bit flipped in the ids", lambda: flipped(-40), ".*checksum"),
    file("one bit flipped in the picture", lambda: flipped(30), ".*(checksum|beyond the end)"),
    file("something after the end", WHOLE + b"x", "1 bytes follow"),
    file("a chunk of 4 GB", SIGNATURE + b"\xff\xff\xff\xfftEXt", ".*(beyond the end|ends early)"),
    file("two headers", lambda: png_of([c for c in chunks_of(WHOLE) for _ in range(1 + (c[0] == b"tEXt"))]), ".*twice"),
    file(
        "two streams of ids",
        lambda: png_of([c for c in chunks_of(WHOLE) for _ in range(1 + (c[0] == b"trAJ"))]),
        ".*twice",
    ),
    file("no ids", lambda: png_of([c for c in chunks_of(WHOLE) if c[0] != b"trAJ"]), ".*without trajectories"),
    file("a header of deep JSON", lambda: replaced(b"tEXt", b"trajectories\0" + b"[" * 100_000), "its header is not"),
    file(
        "a header of a number with 100,000 digits",
        lambda: replaced(b"tEXt", b'trajectories\0{"version":' + b"9" * 100_000 + b"}"),
        "its (header|format)",
    ),
    file("another version", lambda: header(version=2), "its format version is 2"),
    file("a negative size", lambda: header(shape=[4, -12, 20]), "shape must be three positive integers"),
    file("a size that is no integer", lambda: header(shape=[4, 12.0, 20]), "shape must be three positive integers"),
    file("a size of text", lambda: header(shape="big"), "shape must be three positive integers"),
    file("a size beyond memory", lambda: header(shape=[2**20, 2**20, 2**20]), "a file holds at most"),
    file("more frames than are allowed", lambda: header(shape=[2**17, 1, 1]), "a file holds at most"),
    file("another size than its ids have", lambda: header(shape=[4, 12, 21]), "its ids do not decompress"),
    file("the largest size and few ids", lambda: header(shape=[1, 2**13, 2**14]), "its ids do not decompress"),
    file("a wrong number of trajectories", lambda: header(num_trajectories=9), "9 trajectories declared, 8 found"),
    file("a negative number of trajectories", lambda: header(num_trajectories=-1), "num_trajectories must lie in"),
    file("times that are NaN", lambda: header(timestamps=[float("nan")] * 4), "timestamps must be finite"),
    file("times that are infinite", lambda: header(timestamps=[0, 1, 2, float("inf")]), "timestamps must be finite"),
    file("times that go back", lambda: header(timestamps=[3, 2, 1, 0]), "timestamps must"),
    file("frame numbers that repeat", lambda: header(frame_indices=[0, 0, 1, 2]), "frame_indices must increase"),
    file("frame numbers beyond 64 bits", lambda: header(frame_indices=[0, 1, 2, 2**80]), ".*frame_indices"),
    file("key frames out of range", lambda: header(key_frames=[0, 4]), "key_frames must increase strictly"),
    file("no key frame at the start", lambda: header(key_frames=[1]), "key_frames must start with 0"),
    file("a bomb of 128 MB", bomb, "its ids do not decompress", "trajectories bomb"),
)


def ids(make, *where):
    return lambda folder: (make(), *where)


TRAJECTORIES_VALUES = (
    BadInput("negative ids", "ids", ids(lambda: np.full((2, 4, 4), -1)), "must be 0 .* or more, got -1"),
    BadInput("ids with a hole", "ids", ids(lambda: np.full((2, 4, 4), 3)), "without holes.*first is 1"),
    BadInput("an id beyond all pixels", "ids", ids(lambda: np.full((1, 1, 1), 2**62)), "without holes, got"),
    BadInput("ids that are floats", "ids", ids(lambda: np.ones((2, 4, 4))), "integers or bool, got float64"),
    BadInput("ids that are complex", "ids", ids(lambda: np.ones((2, 4, 4), complex)), "integers or bool, got complex"),
    BadInput("ids that are objects", "ids", ids(lambda: np.full((2, 4, 4), None)), "integers or bool, got object"),
    BadInput("ids that are texts", "ids", ids(lambda: np.full((2, 4, 4), "1")), "integers or bool, got <U1"),
    BadInput("ids of two axes", "ids", ids(lambda: np.ones((4, 4), int)), "shape .frames, height, width.*got .4, 4"),
    BadInput("ids of no frame", "ids", ids(lambda: np.ones((0, 4, 4), int)), "each at least 1; got .0, 4, 4"),
    BadInput("ids that are an empty list", "ids", ids(list), "ids must"),
    BadInput(
        "ids that are a ragged list",
        "ids",
        ids(lambda: [[[1]], [[1, 1]]]),
        "ids must be an array, or lists of one length",
    ),
    BadInput("too few frame numbers", "ids", ids(lambda: np.ones((2, 4, 4), int), [0]), "one entry per frame"),
    BadInput("times that are NaN", "ids", ids(lambda: np.ones((2, 4, 4), int), [0, 1], [0, np.nan]), "finite"),
    BadInput("times that are texts", "ids", ids(lambda: np.ones((2, 4, 4), int), [0, 1], ["a", "b"]), "real numbers"),
)


def checkpoint(change):
    """A copy of the shipped checkpoint that something was done to."""

    def make(folder) -> Path:
        copy = folder / "checkpoint"
        shutil.copytree(CHECKPOINT, copy)
        change(copy)
        return copy

    return make


def weights(content):
    def change(copy):
        path = copy / "model.safetensors"
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return checkpoint(change)


def config(name="config.json", content=None, **changes):
    def change(copy):
        path = copy / name
        if content is not None:
            path.write_bytes(content)
            return
        told = json.loads(path.read_text())
        for key, value in changes.items():
            part = told if key in told else told["vision_config"]
            part[key] = value
        path.write_text(json.dumps(told))

    return checkpoint(change)


def pickled(copy):
    """Whole and honest weights, in a file that pickle reads."""
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()


class _Intruder:
    """What runs code when it is unpickled: it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def hostile(copy):
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(_Intruder(copy / "intruder"), protocol=2))
    (copy / "model.safetensors").unlink()


NO_WEIGHTS = "no file named model.safetensors"
UNREADABLE = "The weights in .*checkpoint cannot be read"

CHECKPOINTS = (
    BadInput("weights in a pickle alone", "checkpoint", checkpoint(pickled), NO_WEIGHTS),
    BadInput("a pickle that runs code", "checkpoint", checkpoint(hostile), NO_WEIGHTS),
    BadInput("no weights", "checkpoint", checkpoint(lambda copy: (copy / "model.safetensors").unlink()), NO_WEIGHTS),
    BadInput("weights of no bytes", "checkpoint", weights(b""), UNREADABLE),
    BadInput("weights cut in the middle", "checkpoint", weights(lambda data: data[: len(data) // 2]), UNREADABLE),
    BadInput("weights cut by one byte", "checkpoint", weights(lambda data: data[:-1]), UNREADABLE),
    BadInput("weights that are a text", "checkpoint", weights(b"weights " * 99), UNREADABLE),
    BadInput(
        "weights whose header tells 2**60 bytes", "checkpoint", weights(struct.pack("<Q", 2**60) + b"{}"), UNREADABLE
    ),
    BadInput("a configuration that is no JSON", "checkpoint", config(content=b"{"), "not a valid JSON"),
    BadInput("a configuration that is a list", "checkpoint", config(content=b"[]"), "model_type"),
    BadInput("an unknown type of model", "checkpoint", config(model_type="nonsense"), "`nonsense`"),
    BadInput("a negative width", "checkpoint", config(hidden_size=-4), "hidden_size=-4 is out of range"),
    BadInput(
        "heads that do not divide the width", "checkpoint", config(num_attention_heads=7), "num_attention_heads=7"
    ),
    BadInput("a width that is a text", "checkpoint", config(hidden_size="many"), "hidden_size.*expected int, got str"),
    BadInput("an empty folder", "checkpoint", lambda folder: folder, "Unrecognized model|config.json"),
    BadInput("no such folder", "checkpoint", lambda folder: folder / "none", "none"),
)
