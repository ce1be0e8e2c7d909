"""Folders of media and annotation files for tests of readers, which look at names and never into media."""

import json

import pytest

from trajvit.evaluation.evaluation_data import AnnotationError, missing_media


def media_folder(folder, *paths):
    """A folder with files at these paths."""
    folder.mkdir(exist_ok=True)
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"media")
    return folder


def write(path, content):
    """A file with a text, bytes, or a value as JSON."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def places(items, folder):
    """Where the media of items lie in a folder; None for those that are not there."""
    return [None if item.media is None else str(item.media).removeprefix(f"{folder}/") for item in items]


def captions(retrieval_set):
    """The texts of each item by its key."""
    found = {item.key: [] for item in retrieval_set.items}
    assert len(found) == len(retrieval_set.items)
    assert list(retrieval_set.item_of_text) == sorted(retrieval_set.item_of_text)
    for text, item in zip(retrieval_set.texts, retrieval_set.item_of_text, strict=True):
        found[retrieval_set.items[item].key].append(text)
    return found


def refuses(parts, read, *arguments, **options):
    """The message of an `AnnotationError`, in which each of these parts must be."""
    with pytest.raises(AnnotationError) as caught:
        read(*arguments, **options)
    for part in parts:
        assert part in str(caught.value)
    assert "expected" in str(caught.value)


def assert_missing(items, *keys):
    assert list(missing_media(items)) == list(keys)
