"""What drives a generation run: something that gives jobs to workers, on one machine or on many."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol


class GenerationFailed(Exception):
    """A run that had to end. What is finished stays; the same command goes on from there."""


PoolEvent = Callable[..., None]
"""Called as `on_event(name, **values)`."""


class WorkerPool(Protocol):
    """Workers that live until it is closed."""

    def map(self, jobs: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The results of jobs, in the order in which they are done; see `GenerationWorker`.

        Raises `GenerationFailed`.
        """

    def close(self) -> None:
        """End all workers at once."""
