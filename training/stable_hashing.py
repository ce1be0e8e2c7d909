"""Random choices that are the same on every machine and in every process: hashes of what they are made for."""

import json
from hashlib import blake2b
from typing import Any


def stable_hash(*parts: Any) -> int:
    """A hash in 0..2^63-1 of strings and integers, in this order."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(blake2b(text.encode("ascii"), digest_size=8).digest(), "big") >> 1


def stable_order(count: int, *parts: Any) -> list[int]:
    """A random permutation of 0..count-1 that belongs to `parts`.

    Sorted by hashes, and not drawn by a generator of a library, of which another release may draw otherwise.
    """
    return sorted(range(count), key=lambda number: (stable_hash(*parts, number), number))
