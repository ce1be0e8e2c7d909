"""Reads the caption files of MSR-VTT, ActivityNet Captions, VATEX and Charades.

Each reader returns the items in the order of the annotation file, also those whose media are not there.
"""

import os
import re
from collections.abc import Iterator

from .annotation_files import UniqueNames, chosen_split, read_table
from .annotation_json import JsonValue, read_json
from .captioned_items import on_one_line, retrieval_set
from .evaluation_data import AnnotationError, MediaItem, RetrievalSet
from .media_index import MediaIndex

Path = str | os.PathLike
_CLIP = re.compile(r"(.+)_([0-9]{6})_([0-9]{6})")
_TEXTS_OF_CHARADES = ("descriptions", "script")


def read_msrvtt(
    annotations: Path, media_folder: Path, *, split: str | None = None, trajectories_folder: Path | None = None
) -> RetrievalSet:
    """MSR-VTT: videos of ten to thirty seconds with twenty captions each, or the 1k-A test set with one.

    Args:
        annotations: A file with `videos` and `sentences` such as `test_videodatainfo.json`, or the 1k-A list
            `MSRVTT_JSFUSION_test.csv`.
        media_folder: Holds `video7010.mp4`, ...
        split: Of a JSON file with several. Default: `test`.
        trajectories_folder: As for `MediaIndex`.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
    """
    index = MediaIndex(media_folder, "video", trajectories_folder)
    if os.fspath(annotations).lower().endswith(".csv"):
        if split is not None:
            raise AnnotationError(f"{annotations} has no splits, and {split!r} is asked for; expected no split")
        rows = read_table(annotations, ("key", "vid_key", "video_id", "sentence"))
        captions = {}
        videos = UniqueNames("video_id")
        for row in rows:
            videos.add(row.text("video_id"), row.place)
            captions[row.text("video_id")] = [on_one_line(row.text("sentence"))]
    else:
        captions = _sentences(read_json(annotations), split)
    return retrieval_set("msrvtt", ((index.item(key, key), texts) for key, texts in captions.items()))


def read_activitynet(
    annotations: Path,
    media_folder: Path,
    *,
    texts: str = "paragraphs",
    trajectories_folder: Path | None = None,
) -> RetrievalSet:
    """ActivityNet Captions: videos of minutes, with sentences that each describe a stretch.

    Args:
        annotations: `val_1.json`, `val_2.json` or `train.json`.
        media_folder: Holds `v_uqiMw7tQ1Cc.mp4`, ...
        texts: `paragraphs`, in which each whole video has all its sentences as one text, as is usual in video
            retrieval; or `segments`, in which each stretch is an item of its own. A stretch that ends before it starts
            counts as missing.
        trajectories_folder: As for `MediaIndex`. Those of segments are called `v_uqiMw7tQ1Cc_0.traj.png`, ...

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
    """
    if texts not in ("paragraphs", "segments"):
        raise ValueError(f"texts={texts!r}; expected 'paragraphs' or 'segments'")
    index = MediaIndex(media_folder, "video", trajectories_folder)
    captioned: list[tuple[MediaItem, list[str]]] = []
    for key, video in read_json(annotations).fields():
        sentences = [_caption(sentence) for sentence in video.field("sentences").elements()]
        if not sentences:
            raise video.field("sentences").fault("at least one sentence")
        if texts == "paragraphs":
            captioned.append((index.item(key, key), [" ".join(sentences)]))
        else:
            stretches = _stretches(index, key, video, len(sentences))
            captioned += [(item, [sentence]) for item, sentence in zip(stretches, sentences, strict=True)]
    if not captioned:
        raise AnnotationError(f"{annotations} has no video; expected at least one")
    return retrieval_set("activitynet", captioned)


def read_vatex(
    annotations: Path,
    media_folder: Path,
    *,
    whole_videos: bool = False,
    trajectories_folder: Path | None = None,
) -> RetrievalSet:
    """VATEX: clips of ten seconds with ten English captions each.

    Args:
        annotations: A list of objects with `videoID` and `enCap`, such as `vatex_validation_v1.0.json`.
        media_folder: Holds the clips by their `videoID`, `G9zN5TTuGO4_000179_000189.mp4`, ...
        whole_videos: The folder holds whole videos by their YouTube id, `G9zN5TTuGO4.mp4`; the clips' seconds are
            read from them.
        trajectories_folder: As for `MediaIndex`.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
    """
    index = MediaIndex(media_folder, "video", trajectories_folder)
    clips = UniqueNames("videoID")
    captioned: list[tuple[MediaItem, list[str]]] = []
    for entry in read_json(annotations).elements():
        clip = entry.field("videoID")
        key = clip.text()
        clips.add(key, clip.place)
        match = _CLIP.fullmatch(key)
        if match is None or int(match[2]) >= int(match[3]):
            raise clip.fault("a YouTube id, the first and the last second, such as G9zN5TTuGO4_000179_000189")
        captions = [_caption(caption) for caption in entry.field("enCap").elements()]
        if not captions:
            raise entry.field("enCap").fault("at least one caption")
        stretch = {"start": float(match[2]), "end": float(match[3])} if whole_videos else {}
        captioned.append((index.item(key, match[1] if whole_videos else key, **stretch), captions))
    if not captioned:
        raise AnnotationError(f"{annotations} has no clip; expected at least one")
    return retrieval_set("vatex", captioned)


def read_charades(
    annotations: Path,
    media_folder: Path,
    *,
    texts: str = "descriptions",
    trajectories_folder: Path | None = None,
) -> RetrievalSet:
    """Charades: videos of half a minute in homes, with what those who watched them wrote.

    Args:
        annotations: `Charades_v1_test.csv` or `Charades_v1_train.csv`.
        media_folder: Holds `YSKX3.mp4`, ...
        texts: `descriptions`, of which a video has one to three; or `script`, what was to be played.
        trajectories_folder: As for `MediaIndex`.

    Raises:
        AnnotationError: The annotations cannot be used.
        MissingMediaError: There is no such media folder.
    """
    if texts not in _TEXTS_OF_CHARADES:
        raise ValueError(f"texts={texts!r}; expected one of {', '.join(_TEXTS_OF_CHARADES)}")
    index = MediaIndex(media_folder, "video", trajectories_folder)
    videos = UniqueNames("id")
    captioned: list[tuple[MediaItem, list[str]]] = []
    for row in read_table(annotations, ("id", texts)):
        key = row.text("id")
        videos.add(key, row.place)
        parts = row.values[texts].split(";") if texts == "descriptions" else [row.values[texts]]
        # A semicolon at the end starts no description.
        captions = [on_one_line(part) for part in parts if part.strip()]
        if not captions:
            raise row.fault(texts, "at least one caption")
        captioned.append((index.item(key, key), captions))
    return retrieval_set("charades", captioned)


def _sentences(content: JsonValue, split: str | None) -> dict[str, list[str]]:
    """The captions of each video of a split, by its `video_id`."""
    split_of: dict[str, str] = {}
    places: dict[str, str] = {}
    videos = UniqueNames("video_id")
    for video in content.field("videos").elements():
        key = video.field("video_id").text()
        videos.add(key, video.place)
        split_of[key] = video.field("split").text()
        places[key] = video.place
    split = chosen_split(f"{content.path}: videos", split, split_of.values(), default="test")
    captions: dict[str, list[str]] = {key: [] for key, its_split in split_of.items() if its_split == split}
    for sentence in content.field("sentences").elements():
        video = sentence.field("video_id")
        if video.text() not in split_of:
            raise video.fault("the video_id of one of videos")
        if video.text() in captions:
            captions[video.text()].append(_caption(sentence.field("caption")))
    for key, texts in captions.items():
        if not texts:
            raise AnnotationError(f"{places[key]}: no sentence has the video_id {key!r}; expected at least one")
    return captions


def _stretches(index: MediaIndex, key: str, video: JsonValue, num_sentences: int) -> Iterator[MediaItem]:
    duration = video.field("duration").number()
    timestamps = list(video.field("timestamps").elements())
    if len(timestamps) != num_sentences:
        raise video.field("timestamps").fault(f"{num_sentences} stretches, one for each sentence")
    for number, stretch in enumerate(timestamps):
        seconds = [second.number() for second in stretch.elements()]
        if len(seconds) != 2 or seconds[0] < 0:
            raise stretch.fault("the first and the last second of a stretch")
        # Some of the official stretches end a little after their videos, and a few before they start.
        start, end = seconds[0], min(seconds[1], duration)
        if start < end:
            yield index.item(f"{key}_{number}", key, start=start, end=end)
        else:
            yield MediaItem(
                f"{key}_{number}", None, start, end, expected=f"stretch from {start:g} to {end:g} s of {key}"
            )


def _caption(caption: JsonValue) -> str:
    return on_one_line(caption.text())
