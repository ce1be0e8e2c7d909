"""What a bad or odd input is: how it is made, and the clear error or the result that is expected of it."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, eq=False)
class BadInput:
    """An input that is bad or odd.

    Attributes:
        name: What is odd about it.
        kind: Under which it stands in the table.
        make: From an empty folder to the input: a path, a URL or a value.
        error: Regular expression of the error that names it; None where it is read.
        numbers: Those that the frames read carry, see `numbered_videos`.
        shape: (T, H, W, 3) of the frames read.
        warns: Regular expression of the warning about what is missing.
        loose: Frames at the end that may be missing, where versions of FFmpeg differ in what they save.
    """

    name: str
    kind: str
    make: Callable[[Path], Any]
    error: str | None = None
    numbers: Iterable[int] | None = None
    shape: tuple[int, ...] | None = None
    warns: str | None = None
    loose: int = 0


class HangingError(BaseException):
    """No `Exception`, so that nothing that catches errors keeps it."""


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Fail with `HangingError` what hangs."""

    def stop(number, frame):
        raise HangingError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
