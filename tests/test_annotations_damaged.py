"""Whatever is done to an annotation file, it is read or refused in words; no reader ends in another error."""

import json
import random

import annotation_samples as samples
import pytest
from annotated_media import media_folder, write

from trajvit.evaluation.action_list import read_action_list
from trajvit.evaluation.ava_annotations import read_ava
from trajvit.evaluation.coco_captions import read_coco
from trajvit.evaluation.evaluation_data import AnnotationError
from trajvit.evaluation.imagenet_classes import read_imagenet
from trajvit.evaluation.video_captions import read_activitynet, read_charades, read_msrvtt, read_vatex
from trajvit.evaluation.video_classes import read_kinetics400, read_ssv2, read_ucf101

BYTES = b'",;{}[]:\n\r\x00 0-9.eE\\#ax\xff'
PIECES = (b"null", b'""', b"1e400", b"NaN", b",", b"\n", b"{}", b"[]", b"-1", b"true", b"\xe2\x80\xa8")
READERS = {
    "a.json": (samples.MSRVTT, read_msrvtt),
    "a.csv": (samples.MSRVTT_1K_A, read_msrvtt),
    "b.json": (samples.ACTIVITYNET, lambda path, media: read_activitynet(path, media, texts="segments")),
    "c.json": (samples.VATEX, read_vatex),
    "d.csv": (samples.CHARADES_HEADER + samples.CHARADES_ROWS, read_charades),
    "e.json": (samples.COCO_OFFICIAL, read_coco),
    "f.json": (samples.COCO_KARPATHY, read_coco),
    "g.csv": (samples.KINETICS, read_kinetics400),
    "h.json": (samples.SSV2, lambda path, media: read_ssv2(path, media, labels=path.parent / "labels.json")),
    "labels.json": (samples.SSV2_LABELS, lambda path, media: read_ssv2(path.parent / "h.json", media, labels=path)),
    "classInd.txt": (samples.UCF_CLASSES, lambda path, media: read_ucf101(path.parent, media)),
    "testlist01.txt": (samples.UCF_TEST, lambda path, media: read_ucf101(path.parent, media)),
    "i.txt": (samples.IMAGENET_SYNSETS, read_imagenet),
    "ava_val_v2.2.csv": (samples.AVA_VAL, lambda path, media: read_ava(path.parent, media)),
    "ava_val_excluded_timestamps_v2.2.csv": (
        "1j20qq1JyX4,0903\n",
        lambda path, media: read_ava(path.parent, media),
    ),
    "detected.csv": (samples.AVA_DETECTED, lambda path, media: read_ava(path.parent, media, detections=path)),
    "ava_action_list_v2.2_for_activitynet_2019.pbtxt": (
        samples.AVA_ACTIONS,
        lambda path, media: read_action_list(path),
    ),
}


def damaged(content, chance):
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(content) + 1)
        kind = chance.random()
        if kind < 0.4:
            content[at : at + 1] = bytes([chance.choice(BYTES)])
        elif kind < 0.6:
            del content[at : at + chance.randrange(1, 9)]
        elif kind < 0.8:
            content[at:at] = chance.choice(PIECES)
        elif kind < 0.9:
            content[at:at] = content[at : at + 20]
        else:
            del content[at:]
    return bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_in_words(tmp_path, name):
    media = media_folder(tmp_path / "m", "n01440764/a.jpg")
    for other, (content, _) in READERS.items():
        write(tmp_path / other, content)
    content, read = READERS[name]
    read(tmp_path / name, media)
    text = content if isinstance(content, str) else json.dumps(content)
    chance = random.Random(name)
    refusals = []
    for _ in range(60):
        write(tmp_path / name, damaged(text.encode(), chance))
        try:
            read(tmp_path / name, media)
        except AnnotationError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert all("; expected " in refusal for refusal in refusals)
