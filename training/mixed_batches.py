"""Which stream a step takes its batch from."""

import math
from collections.abc import Iterator, Mapping

from .clip_loader import Batch, ClipLoader
from .stable_hashing import stable_hash

_WHOLE = 2**64
# The golden section of it: multiples of no other number are spread as evenly.
_STEP = 11400714819323198485


class MixedBatches(Iterator[Batch]):
    """Batches of several streams, in shares that follow weights.

    A step's stream is a function of (seed, step): all ranks take the same, and a run that goes on at a step takes what
    it would have taken. Multiples of the golden section fall evenly on a circle that the streams divide by their
    weights, so that after n steps a stream's share is off by about log(n) / n, where draws by chance were off by
    1 / sqrt(n).

    Args:
        loaders: By the names of their streams, each at its own position.
        weights: By the same names, more than 0; only their ratios matter.
        seed: The run's.
        step: The next step.

    Raises:
        ValueError: There is no stream, the names differ, a weight is not positive and finite, or the step is negative.
    """

    def __init__(self, loaders: Mapping[str, ClipLoader], weights: Mapping[str, float], seed: int, step: int = 0):
        if not loaders or set(loaders) != set(weights):
            raise ValueError(f"weights of {sorted(weights)} for streams {sorted(loaders)}: expected one for each")
        for name, weight in weights.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise ValueError(f"weight {weight} of stream {name!r}: expected a positive finite number")
        if step < 0:
            raise ValueError(f"step={step}: expected at least 0")
        self._loaders = dict(loaders)
        # By name, so that the order in a configuration does not matter.
        self._weights = {name: weights[name] for name in sorted(weights)}
        self._start = stable_hash("mixed batches", seed)
        self._step = step

    def stream_of(self, step: int) -> str:
        """The stream of a step."""
        place = (self._start + step * _STEP) % _WHOLE / _WHOLE * sum(self._weights.values())
        for name, weight in self._weights.items():
            place -= weight
            if place < 0:
                return name
        return name

    def __next__(self) -> Batch:
        batch = next(self._loaders[self.stream_of(self._step)])
        self._step += 1
        return batch

    def close(self) -> None:
        """Close all loaders."""
        for loader in self._loaders.values():
            loader.close()
