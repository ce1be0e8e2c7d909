"""Bad and odd images and animations, as files, and arrays and lists that are no frames."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from bad_inputs import BadInput
from numbered_videos import numbered
from PIL import Image


def png_of(width, height, rows=b"", depth=8, color=2) -> bytes:
    """A PNG that tells any size, whatever it holds."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + end


def file_of(name, content):
    def make(folder):
        (folder / name).write_bytes(content(folder) if callable(content) else content)
        return folder / name

    return make


def saved(name, mode="RGB", count=1, cut=None, **settings):
    """Numbered pictures of a mode; `cut` keeps that share of the bytes."""

    def make(folder) -> Path:
        frames = [Image.fromarray(numbered(number)).convert(mode) for number in range(count)]
        if count > 1:
            settings.update(save_all=True, append_images=frames[1:])
        path = folder / name
        frames[0].save(path, **settings)
        if cut is not None:
            data = path.read_bytes()
            path.write_bytes(data[: int(len(data) * cut)])
        return path

    return make


def deep_png(folder):
    Image.fromarray(numbered(5)[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    return folder / "deep.png"


def turned_jpeg(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(numbered(5)).save(folder / "turned.jpg", exif=exif)
    return folder / "turned.jpg"


def not_numbers_tiff(folder):
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(folder / "nan.tif")
    return folder / "nan.tif"


def gif_canvas(folder):
    data = io.BytesIO()
    Image.new("P", (8, 8)).save(data, "GIF")
    content = bytearray(data.getvalue())
    content[6:10] = struct.pack("<HH", 65535, 65535)
    (folder / "canvas.gif").write_bytes(content)
    return folder / "canvas.gif"


IMAGES = (
    BadInput("an animated GIF", "animation", saved("a.gif", "P", 4, duration=40), numbers=range(4)),
    BadInput(
        "an animation whose frames last no time", "animation", saved("z.gif", "P", 4, duration=0), numbers=range(4)
    ),
    BadInput("an animated WebP", "animation", saved("a.webp", count=4, lossless=True), numbers=range(4)),
    BadInput("an animated PNG", "animation", saved("a.png", count=4), numbers=range(4)),
    BadInput(
        "an animation cut in the middle",
        "animation",
        saved("c.gif", "P", 8, cut=0.6),
        numbers=range(4),
        loose=8,
        warns="breaks off|damaged",
    ),
    BadInput("a TIFF of several pages", "image", saved("pages.tif", count=3), numbers=[0]),
    BadInput("a JPEG", "image", saved("p.jpg", quality=95), numbers=[0]),
    BadInput("a BMP", "image", saved("p.bmp"), numbers=[0]),
    BadInput("a CMYK JPEG", "image", saved("c.jpg", "CMYK"), numbers=[0]),
    BadInput("a palette PNG", "image", saved("p.png", "P"), numbers=[0]),
    BadInput("a PNG of 1 bit", "image", saved("b.png", "1"), numbers=[0]),
    BadInput("a grey PNG with transparency", "image", saved("la.png", "LA"), numbers=[0]),
    BadInput("a PNG of 16 bits", "image", deep_png, numbers=[5]),
    BadInput("a JPEG turned by its EXIF", "image", turned_jpeg, shape=(1, 80, 48, 3)),
    BadInput("a PNG cut in the middle", "damaged image", saved("cut.png", cut=0.5), "damaged PNG|cannot be opened"),
    BadInput("a JPEG cut in the middle", "damaged image", saved("cut.jpg", cut=0.7), "damaged JPEG|cannot be opened"),
    BadInput("a TIFF of NaN", "damaged image", not_numbers_tiff, r"nan\.tif has values that are NaN"),
    BadInput("a PNG of 0 x 0 pixels", "damaged image", file_of("0.png", png_of(0, 0)), "opened|damaged|no pixel|any"),
    BadInput("a PNG that tells 60,000 x 60,000", "bomb", file_of("bomb.png", png_of(60000, 60000)), "pixels"),
    BadInput("a GIF that tells 65,535 x 65,535", "bomb", gif_canvas, "pixels"),
    BadInput("an SVG", "damaged image", file_of("a.svg", b"<svg/>" * 9), "cannot be opened|cannot decode|no video"),
)


def value(make):
    return lambda folder: make()


def zeros(*shape, dtype=np.uint8):
    return value(lambda: np.zeros(shape, dtype))


def filled(number, dtype=np.float32):
    return value(lambda: np.full((2, 8, 8, 3), number, dtype))


VALUES = (
    BadInput("nothing", "other object", value(lambda: None), "is no video; expected"),
    BadInput("a number", "other object", value(lambda: 3.5), "is no video; expected"),
    BadInput("a dict", "other object", value(dict), "is no video; expected"),
    BadInput("an empty path", "other object", value(str), "the empty path"),
    BadInput("no bytes", "other object", value(bytes), "0 bytes cannot be opened"),
    BadInput("a file opened as text", "other object", value(lambda: io.StringIO("text")), "opened as text"),
    BadInput("an array of one axis", "wrong shape", zeros(8), "has shape"),
    BadInput("an array of five axes", "wrong shape", zeros(1, 2, 8, 8, 3), "has shape"),
    BadInput("two channels", "wrong shape", zeros(2, 8, 8, 2), "1, 3 or 4 channels"),
    BadInput("no frame", "wrong shape", zeros(0, 8, 8, 3), "no pixel"),
    BadInput("no pixel", "wrong shape", zeros(2, 0, 8, 3), "no pixel"),
    BadInput("three grey frames or an image", "wrong shape", zeros(3, 8, 8), "may be an image"),
    BadInput("channels first", "odd layout", zeros(2, 3, 8, 10), shape=(2, 8, 10, 3)),
    BadInput("grey frames", "odd layout", zeros(5, 8, 10), shape=(5, 8, 10, 3)),
    BadInput(
        "frames that are views backwards",
        "odd layout",
        value(lambda: np.zeros((4, 8, 8, 3), np.uint8)[::-2, ::-1]),
        shape=(2, 8, 8, 3),
    ),
    BadInput(
        "half-precision tensors",
        "odd layout",
        value(lambda: torch.zeros(2, 3, 8, 8, dtype=torch.bfloat16)),
        shape=(2, 8, 8, 3),
    ),
    BadInput(
        "a tensor that needs a gradient",
        "odd layout",
        value(lambda: torch.zeros(2, 3, 8, 8, requires_grad=True)),
        shape=(2, 8, 8, 3),
    ),
    BadInput("NaN", "wrong values", filled(np.nan), "NaN"),
    BadInput("infinity", "wrong values", filled(np.inf), "infinite"),
    BadInput(
        "one NaN among many numbers",
        "wrong values",
        value(lambda: np.where(np.arange(384).reshape(2, 8, 8, 3) == 300, np.nan, 0.5)),
        "frame 1 of .* NaN",
    ),
    BadInput("floats in 0..255", "wrong values", filled(200.0), "floats in 0..1"),
    BadInput("normalised floats", "wrong values", filled(-2.0), "floats in 0..1"),
    BadInput("negative integers", "wrong values", filled(-1, np.int64), "integers in 0..255"),
    BadInput("integers beyond 255", "wrong values", filled(70000, np.int32), "integers in 0..255"),
    BadInput("bool", "wrong type", filled(True, bool), "dtype bool"),
    BadInput("complex numbers", "wrong type", filled(1j, np.complex64), "dtype complex64"),
    BadInput("objects", "wrong type", filled(None, object), "dtype object"),
    BadInput("texts", "wrong type", filled("a", "<U1"), "dtype <U1"),
    BadInput("dates", "wrong type", filled(0, "datetime64[s]"), "dtype datetime64"),
    BadInput("an empty list", "list", value(list), "holds no frame"),
    BadInput(
        "a list of frames of two sizes",
        "list",
        value(lambda: [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)]),
        "frame 1 of .* is 9 x 8",
    ),
    BadInput(
        "a list with a hole", "list", value(lambda: [np.zeros((8, 8, 3), np.uint8), None]), "frame 1 of .*NoneType"
    ),
    BadInput("a list of numbers", "list", value(lambda: [1, 2, 3]), "frame 0 of .* int"),
    BadInput(
        "a list with the path of a missing image", "list", lambda f: [str(f / "lost.png")], "lost.png does not exist"
    ),
    BadInput("a list with the path of a text", "list", lambda f: [file_of("a.txt", b"text")(f)] * 2, "is not an image"),
)
