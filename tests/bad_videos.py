"""Bad and odd video files: each is made here, and says which error or which frames are expected of it."""

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from bad_inputs import BadInput
from numbered_videos import numbered, write_numbered, write_video


def clip(folder: Path, count=12, name="clip.mp4", **settings) -> Path:
    """Frames that each carry their number; the index comes first, so that a cut file still opens."""
    settings.setdefault("options", {"preset": "ultrafast", "g": "4"})
    settings.setdefault("muxing", {"movflags": "faststart"} if name.endswith((".mp4", ".mov")) else None)
    return Path(write_numbered(folder / name, count, **settings))


def noise(count, height, width) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (count, height, width, 3), dtype=np.uint8))


def packets_of(path: Path) -> list[tuple[int, int]]:
    """Where the packets of the video lie: position and size."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def edited(path: Path, edit) -> Path:
    data = bytearray(path.read_bytes())
    edit(data)
    path.write_bytes(data)
    return path


def cut(share):
    def make(folder):
        path = clip(folder)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        return path

    return make


def cut_in_frame(number):
    def make(folder):
        path = clip(folder)
        position, size = packets_of(path)[number]
        path.write_bytes(path.read_bytes()[: position + size // 2])
        return path

    return make


def blanked(numbers):
    def make(folder):
        path = clip(folder, codec="mjpeg", pix_fmt="yuvj420p", options=None)

        def edit(data):
            places = packets_of(path)
            for number in numbers:
                position, size = places[number]
                data[position : position + size] = bytes(size)

        return edited(path, edit)

    return make


def without_index(folder):
    path = clip(folder, muxing=None)
    return edited(path, lambda data: data.__delitem__(slice(data.index(b"moov") - 4, None)))


def with_box(name, new):
    """A box of the index that has another name is a box that lacks."""

    def make(folder):
        path = clip(folder)

        def edit(data):
            data[data.index(name) : data.index(name) + 4] = new

        return edited(path, edit)

    return make


def forged_count(folder):
    """The index tells of 2**31 samples."""
    path = clip(folder)

    def edit(data):
        place = data.index(b"stsz") + 4 + 8
        data[place : place + 4] = struct.pack(">I", 2**31 - 1)

    return edited(path, edit)


def forged_size(width, height):
    """The sample entry and the track tell another size than the stream has."""

    def make(folder):
        path = clip(folder)

        def edit(data):
            place = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
            data[place : place + 4] = struct.pack(">HH", width, height)

        return edited(path, edit)

    return make


def sound_only(folder):
    path = folder / "song.mp4"
    with av.open(str(path), "w") as container:
        add_sound(container, container.add_stream("aac", rate=8000, layout="mono"))
    return path


def add_sound(container, stream) -> None:
    for position in range(4):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 1024 * position
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def cover_only(folder):
    path = folder / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 80, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        add_sound(container, sound)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(3), format="rgb24")))
        container.mux(cover.encode())
    return path


def stream_without_frames(folder):
    path = folder / "frameless.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        add_sound(container, container.add_stream("aac", rate=8000, layout="mono"))
    return path


def two_sizes(folder):
    parts = []
    for start, size in ((0, (48, 80)), (6, (96, 160))):
        frames = [numbered(number, *size) for number in range(start, start + 6)]
        parts.append(Path(write_video(str(folder / f"{start}.h264"), frames, file_format="h264")).read_bytes())
    path = folder / "two_sizes.h264"
    path.write_bytes(b"".join(parts))
    return path


def hdr(folder):
    """Ten bits, BT.2020 and the PQ curve."""
    path = folder / "hdr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p10le"
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, 16
        stream.codec_context.colorspace = 9
        for number in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        container.mux(stream.encode())
    return path


def turned(folder):
    """A display matrix of a quarter turn."""
    path = clip(folder, 4)

    def edit(data):
        start = data.index(b"tkhd") + 4 + 40
        data[start : start + 24] = struct.pack(">6i", 0, 1 << 16, 0, -1 << 16, 0, 0)

    return edited(path, edit)


def wide_pixels(folder):
    """A sample aspect ratio of 2 : 1; pixels are taken as they are."""
    path = folder / "anamorphic.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for number in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        container.mux(stream.encode())
    return path


def retimed(times, name="retimed.mkv", decoded=None):
    """Packets whose times are those given, in units of a millisecond, decoded in the order they are in."""
    decoded = decoded or times

    def make(folder):
        path = folder / name
        source = clip(folder, len(times), "source.avi", codec="mjpeg", pix_fmt="yuvj420p", options=None, muxing=None)
        with av.open(str(source)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            packets = [packet for packet in old.demux(video=0) if packet.size]
            for position, (packet, time) in enumerate(zip(packets, times, strict=True)):
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts, packet.dts = time, decoded[position]
                new.mux_one(packet)
        return path

    return make


def renamed(name, content):
    def make(folder):
        path = folder / name
        path.write_bytes(content(folder) if callable(content) else content)
        return path

    return make


def jpeg_bytes(folder):
    from PIL import Image

    Image.fromarray(numbered(5)).save(folder / "5.jpg", quality=95)
    return (folder / "5.jpg").read_bytes()


def fifo(folder):
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4"


def playlist(folder):
    """A playlist that names another file of this machine, which a video must not read."""
    clip(folder, 4, "secret.ts", muxing=None)
    path = folder / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + str(folder / "secret.ts") + "\n#EXT-X-ENDLIST\n")
    return path


def concat_script(folder):
    clip(folder, 4, "secret.mp4")
    path = folder / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile 'secret.mp4'\n")
    return path


VIDEOS = (
    BadInput("cut after 1 % of its bytes", "truncated", cut(0.01), r"cannot be opened"),
    BadInput("cut within the index", "truncated", cut(0.1), "cannot be opened|no video stream"),
    BadInput("cut in the first frame", "truncated", cut_in_frame(0), r"none of its 12 frames"),
    BadInput("cut in the eighth frame", "truncated", cut_in_frame(7), numbers=range(7), warns="5 of its 12", loose=2),
    BadInput("cut in the last frame", "truncated", cut_in_frame(11), numbers=range(11), warns="1 of its 12", loose=2),
    BadInput("cut before the index at its end", "truncated", without_index, "cannot be opened"),
    BadInput("of no bytes", "empty", renamed("empty.mp4", b""), "cannot be opened"),
    BadInput("of 4,096 zeros", "empty", renamed("zeros.mp4", bytes(4096)), "cannot be opened"),
    BadInput("of sound alone", "no video", sound_only, r"has no video stream \(only audio\)"),
    BadInput("of sound with a cover picture", "no video", cover_only, r"has no video stream \(only audio\)"),
    BadInput("with a stream of video but no frame", "no video", stream_without_frames, "without any frame"),
    BadInput(
        "a text named .mp4",
        "wrong name",
        renamed("text.mp4", b"The quick brown fox\n" * 99),
        "cannot be opened|no video",
    ),
    BadInput("a video named .jpg", "wrong name", renamed("v.jpg", lambda f: clip(f, 4).read_bytes()), numbers=range(4)),
    BadInput("a JPEG named .mp4", "wrong name", renamed("p.mp4", jpeg_bytes), numbers=[5]),
    BadInput("a page of HTML", "wrong name", renamed("h.mp4", b"<!doctype html><html></html>" * 9), "opened|no video"),
    BadInput("a playlist of local files", "wrong name", playlist, "may list other files"),
    BadInput("a script that joins local files", "wrong name", concat_script, "may list other files"),
    BadInput(
        "an index without its sample table",
        "broken index",
        with_box(b"stbl", b"free"),
        "cannot decode|opened|without any",
    ),
    BadInput("an index without sizes", "broken index", with_box(b"stsz", b"free"), "opened|without any|no video"),
    BadInput("an index of 2**31 frames", "broken index", forged_count, "opened|without any|none of|no video|codec"),
    BadInput("an index that lies about the size", "broken index", forged_size(8, 8), shape=(12, 48, 80, 3)),
    BadInput("an index that tells 65,535 x 65,535", "broken index", forged_size(65535, 65535), shape=(12, 48, 80, 3)),
    BadInput(
        "four dead frames of twelve",
        "corrupt packets",
        blanked(range(4, 8)),
        numbers=[0, 1, 2, 3, 8, 9, 10, 11],
        warns="4 of its 12",
    ),
    BadInput("all frames dead", "corrupt packets", blanked(range(12)), "none of its 12 frames"),
    BadInput("one frame", "short", lambda f: clip(f, 1), numbers=[0]),
    BadInput("frames that last no time", "short", retimed([0, 0, 0, 0]), numbers=range(4)),
    BadInput(
        "1 x 1 pixels",
        "odd size",
        lambda f: Path(write_video(str(f / "dot.mkv"), noise(3, 1, 1), codec="ffv1", pix_fmt="bgr0")),
        shape=(3, 1, 1, 3),
    ),
    BadInput(
        "20,000 x 20 pixels",
        "odd size",
        lambda f: Path(write_video(str(f / "wide.mkv"), noise(2, 20, 20000), codec="ffv1", pix_fmt="bgr0")),
        shape=(2, 20, 20000, 3),
    ),
    BadInput(
        "20 x 20,000 pixels",
        "odd size",
        lambda f: Path(write_video(str(f / "high.mkv"), noise(2, 20000, 20), codec="ffv1", pix_fmt="bgr0")),
        shape=(2, 20000, 20, 3),
    ),
    BadInput(
        "47 x 81 pixels",
        "odd size",
        lambda f: Path(write_video(str(f / "odd.mkv"), noise(3, 47, 81), codec="ffv1", pix_fmt="yuv420p")),
        shape=(3, 47, 81, 3),
    ),
    BadInput("another size from the seventh frame on", "odd size", two_sizes, shape=(12, 48, 80, 3), numbers=range(12)),
    BadInput("pixels twice as wide as high", "odd pixels", wide_pixels, shape=(4, 48, 80, 3), numbers=range(4)),
    BadInput("10 bits, BT.2020, PQ", "odd pixels", hdr, shape=(4, 48, 80, 3), numbers=range(4)),
    BadInput(
        "grey",
        "odd pixels",
        lambda f: clip(f, 4, "g.mkv", codec="ffv1", pix_fmt="gray", options=None),
        numbers=range(4),
    ),
    BadInput(
        "grey of 16 bits",
        "odd pixels",
        lambda f: clip(f, 4, "g16.mkv", codec="ffv1", pix_fmt="gray16le", options=None),
        numbers=range(4),
    ),
    BadInput(
        "with transparency",
        "odd pixels",
        lambda f: clip(f, 4, "a.mkv", codec="ffv1", pix_fmt="bgra", options=None),
        numbers=range(4),
    ),
    BadInput(
        "interlaced",
        "odd pixels",
        lambda f: clip(f, 6, "i.mpg", codec="mpeg2video", options={"flags": "+ildct+ilme"}, muxing=None),
        numbers=range(6),
    ),
    BadInput("turned by its display matrix", "odd pixels", turned, shape=(4, 80, 48, 3)),
    BadInput("of a varying rate", "odd times", retimed([0, 5, 300, 301, 2000, 9000]), numbers=range(6)),
    BadInput("times that go back", "odd times", retimed([0, 40, 20, 80, 60, 100], decoded=range(6)), numbers=range(6)),
    BadInput(
        "packets without times", "odd times", lambda f: clip(f, 6, "raw.h264", file_format="h264"), numbers=range(6)
    ),
    BadInput(
        "a start before zero",
        "odd times",
        retimed([-80, -40, 0, 40, 80], "early.mp4"),
        numbers=[2, 3, 4],
        warns="2 of its 5",
    ),
    BadInput("a gap of a day", "odd times", retimed([0, 40, 80, 86_400_000]), numbers=range(4)),
    BadInput("a folder", "no file", lambda f: f, "is no regular file"),
    BadInput("a file that is not there", "no file", lambda f: f / "missing.mp4", "does not exist"),
    BadInput("a pipe that nobody writes to", "no file", fifo, "is no regular file"),
    BadInput("a device", "no file", lambda f: Path("/dev/zero"), "is no regular file"),
    BadInput("a link that leads nowhere", "no file", lambda f: _link(f, "nowhere"), "does not exist"),
    BadInput("a link to itself", "no file", lambda f: _link(f, "link.mp4"), "link.mp4"),
    BadInput("a name of 5,000 letters", "odd name", lambda f: f / ("a" * 5000 + ".mp4"), "(?i)name too long"),
    BadInput("a name with a zero byte", "odd name", lambda f: str(f / "a\0b.mp4"), "does not exist|null"),
    BadInput(
        "a name of emoji, quotes, percent and a new line",
        "odd name",
        lambda f: clip(f, 4).rename(f / "a b'\"%20#?\n\U0001f600é.mp4"),
        numbers=range(4),
    ),
    BadInput(
        "a name that looks like a protocol",
        "odd name",
        lambda f: clip(f, 4).rename(f / "concat:a|b.mp4"),
        numbers=range(4),
    ),
    BadInput(
        "a name that is no UTF-8",
        "odd name",
        lambda f: clip(f, 4).rename(os.fsdecode(os.fsencode(f) + b"/caf\xe9.mp4")),
        numbers=range(4),
    ),
)


def _link(folder, target):
    (folder / "link.mp4").symlink_to(folder / target)
    return folder / "link.mp4"
