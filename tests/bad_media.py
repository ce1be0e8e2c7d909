"""All bad and odd media files at once, for what reads many: commands, folders, the page."""

from pathlib import Path

from bad_images import IMAGES
from bad_videos import VIDEOS

# Without what no command line or folder can hold, and a place that is no file.
MEDIA = [
    bad
    for bad in VIDEOS + IMAGES
    if bad.name not in ("a name with a zero byte", "a name of 5,000 letters", "a folder", "20 x 20,000 pixels")
]


def make_media(folder: Path) -> dict[str, Path]:
    """The path of each file, by the input's name, each in a folder of its own."""
    made = {}
    for number, bad in enumerate(MEDIA):
        (folder / str(number)).mkdir()
        made[bad.name] = Path(bad.make(folder / str(number)))
    return made


def link_media(sources: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Links to the files in one folder, under names that differ: a number and the file's suffix."""
    links = {}
    for number, (name, path) in enumerate(sources.items()):
        links[name] = folder / f"{number}{path.suffix[:20]}"
        links[name].symlink_to(path)
    return links
