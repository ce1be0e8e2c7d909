"""An iterator that a thread runs ahead of the one who takes its elements."""

from collections.abc import Callable, Generator, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Element = TypeVar("Element")

_POLL_SECONDS = 0.1


class _End(Exception):
    """There are no further elements."""


class ReadAhead(Iterator[Element], Generic[Element]):
    """Takes elements from a generator in a thread of its own, in order, and hands them on.

    Args:
        start: Makes the generator, in the thread; closed there as well.
        depth: Elements that wait at most.
        name: Of the thread.
    """

    def __init__(self, start: Callable[[], Generator[Element, None, None]], depth: int, name: str):
        self._start = start
        self._waiting: Queue[Element | BaseException] = Queue(depth)
        self._is_closed = Event()
        self._end: BaseException | None = None
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __next__(self) -> Element:
        """The next element. What the generator raised is raised here, and again at every later call."""
        if self._is_closed.is_set():
            raise StopIteration
        if self._end is None:
            element = self._waiting.get()
            if not isinstance(element, BaseException):
                return element
            self._end = element
        if isinstance(self._end, _End):
            raise StopIteration
        raise self._end

    def close(self, patience: float | None = None) -> bool:
        """Ask the thread to close the generator and end; returns whether it did, within `patience` seconds."""
        self._is_closed.set()
        while True:
            try:
                self._waiting.get_nowait()
            except Empty:
                break
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        elements = self._start()
        try:
            for element in elements:
                if not self._put(element):
                    return
            self._put(_End())
        except BaseException as error:
            self._put(error)
        finally:
            elements.close()

    def _put(self, element: Element | BaseException) -> bool:
        """Whether it was put before `close`."""
        while not self._is_closed.is_set():
            try:
                self._waiting.put(element, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False
