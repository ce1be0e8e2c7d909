"""From items with their captions to a retrieval set."""

from collections.abc import Iterable, Sequence

from .evaluation_data import MediaItem, RetrievalSet


def retrieval_set(name: str, captioned: Iterable[tuple[MediaItem, Sequence[str]]]) -> RetrievalSet:
    """Number the items and line their captions up.

    Args:
        name: Of the data set.
        captioned: The items, each with its captions, of which there is at least one.
    """
    pairs = list(captioned)
    return captioned_set(name, tuple(item for item, _ in pairs), [captions for _, captions in pairs])


def captioned_set(name: str, items: Sequence[MediaItem], captions: Iterable[Sequence[str]]) -> RetrievalSet:
    """Line captions up with items that stay as they are.

    Args:
        name: Of the data set.
        items: The items.
        captions: For each item its captions, of which there is at least one.
    """
    texts: list[str] = []
    item_of_text: list[int] = []
    for position, own in enumerate(captions):
        item_of_text += [position] * len(own)
        texts += own
    return RetrievalSet(name, items, tuple(texts), tuple(item_of_text))


def on_one_line(caption: str) -> str:
    """A caption with single blanks between its words: some data sets have line ends and doubled blanks in theirs."""
    return " ".join(caption.split())
