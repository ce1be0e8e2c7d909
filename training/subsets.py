"""Subsets of a data set by the hash of each sample's key.

Whether a sample is kept depends on its key alone, so a subset is the same on every machine and however the data set is
split into files, and a smaller one lies inside a larger one: of 8 million samples, the 2 million of one run are among
the 4 million of another.
"""

from .stable_hashing import stable_hash

_HASHES = 2**63


class Subset:
    """Keeps a share of the samples.

    Each is kept or not independently of the others, so the subset's size is only expected to be `size`; its standard
    deviation is at most sqrt(size).

    Args:
        size: Samples to keep.
        num_samples: Samples that there are.
    """

    def __init__(self, size: int, num_samples: int):
        if not 1 <= size <= num_samples:
            raise ValueError(f"subset={size} of num_samples={num_samples}: expected 1..{num_samples}")
        self._limit = size * _HASHES // num_samples

    def keeps(self, key: str) -> bool:
        """Whether the sample of this key belongs to the subset."""
        return stable_hash("subset", key) < self._limit
