"""docs/robustness.md, made of the bad inputs themselves: `python tests/bad_inputs_page.py` writes it anew."""

import re
from pathlib import Path

from bad_images import IMAGES, VALUES
from bad_inputs import BadInput
from bad_trajectories import CHECKPOINTS, TRAJECTORIES_FILES, TRAJECTORIES_VALUES
from bad_videos import VIDEOS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "robustness.md"

SECTIONS = {
    "Video files": VIDEOS,
    "Images and animations": IMAGES,
    "Arrays, lists and other objects": VALUES,
    "Trajectories": TRAJECTORIES_VALUES,
    "Trajectories files": TRAJECTORIES_FILES,
    "Checkpoints": CHECKPOINTS,
}

INTRODUCTION = """# Bad and odd inputs

Each input below is made and read by the tests; this page is generated from their list
(`python tests/bad_inputs_page.py`), and a test fails where it is out of date. There are {count}: {refused} are refused
with one error that names the input, what was found and what was expected; {read} are odd and are read as the table
says. Files go through Python, the pipelines, the command line and the web page.

What holds for all of them:

- Nothing hangs: pipes and devices are not opened, a server may keep silent for {silence:g} s, a video to be sampled has
  at most {max_frames:,} frames (`iterate_video` reads any length). PyAV's log is turned off where a video is opened:
  messages about damage from FFmpeg's threads could stop the process for ever.
- Memory is bounded before it is taken: a frame of video has at most {max_pixels:,} pixels, an image as many as Pillow
  allows, a trajectories file {max_volume:,}. The weights-free backend follows frames of at most {max_side:,} pixels
  a side.
- A file is read alone: playlists and scripts that name other files or addresses are not followed.
- Of a damaged video the frames that can be decoded are used, and a `VideoDecodingWarning` says how many are lost.
- Weights are read from safetensors alone; a pickle is never opened. A path that is no text is shown with escapes.
- In a batch (`trajvit tokenize`, `trajvit generate`) a bad item is reported and skipped, and nothing else is lost.

The reader of trajectories files is fuzzed as well: bytes edited with and without right checksums, forged headers,
chunks in any order, any stream of ids.
"""


def page() -> str:
    from trajvit.processing.classic_backend import MAX_SIDE
    from trajvit.processing.trajectory_format import MAX_PIXELS
    from trajvit.processing.video_file import MAX_FRAME_PIXELS, MAX_FRAMES, URL_TIMEOUT_SECONDS

    every = [bad for inputs in SECTIONS.values() for bad in inputs]
    refused = sum(bad.error is not None for bad in every)
    text = INTRODUCTION.format(
        count=len(every),
        refused=refused,
        read=len(every) - refused,
        max_frames=MAX_FRAMES,
        max_pixels=MAX_FRAME_PIXELS,
        max_volume=MAX_PIXELS,
        max_side=MAX_SIDE,
        silence=URL_TIMEOUT_SECONDS,
    )
    for title, inputs in SECTIONS.items():
        text += f"\n## {title}\n\n| kind | input | what comes of it |\n|---|---|---|\n"
        text += "".join(f"| {bad.kind} | {bad.name} | {_expected(bad)} |\n" for bad in inputs)
    return text


def _expected(bad: BadInput) -> str:
    if bad.error is not None:
        # Releases of FFmpeg and Pillow differ in which of several messages it is.
        first, *others = re.sub(r"[()^$?\\]", "", bad.error.replace("(?i)", "")).split("|")
        says = " ... ".join(part.strip(" .:") for part in first.split(".*") if part.strip(" .:"))
        says = says.replace("<", "&lt;")
        return f"error: \u201c{says}\u201d" + (" or the like" if others else "")
    frames = f"{bad.shape[0]} frames of {bad.shape[1]} x {bad.shape[2]}" if bad.shape else ""
    if bad.numbers is not None and not frames:
        count = len(list(bad.numbers))
        frames = f"{count} frame{'s' if count > 1 else ''}"
    return f"{frames}, with a warning" if bad.warns else frames


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
