"""From items with their captions to a retrieval set."""

from collections.abc import Iterable, Sequence

from .evaluation_data import MediaItem, RetrievalSet


def retrieval_set(name: str, captioned: Iterable[tuple[MediaItem, Sequence[str]]]) -> RetrievalSet:
    """Number the items and line their captions up.

    Args:
        name: Of the data set.
        captioned: The items, each with its captions, of which there is at least one.
    """
    items: list[MediaItem] = []
    texts: list[str] = []
    item_of_text: list[int] = []
    for item, captions in captioned:
        item_of_text += [len(items)] * len(captions)
        texts += captions
        items.append(item)
    return RetrievalSet(name, tuple(items), tuple(texts), tuple(item_of_text))


def on_one_line(caption: str) -> str:
    """A caption with single blanks between its words: some data sets have line ends and doubled blanks in theirs."""
    return " ".join(caption.split())
