"""How worker processes start, and how they end.

They are forked from a server that has one thread and no CUDA context. Forked from the trainer they could inherit locks
that its threads hold; started afresh, each would import PyTorch again.

A signal that a scheduler sends to all processes of a job must not end them before the trainer has taken its last step
and saved it; so they, and their server, leave SIGTERM and SIGINT to the trainer. Instead they end with their lifeline:
a pipe whose other end only the trainer holds, so that it breaks when the trainer closes it, ends or is killed.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, Pipe
from threading import Thread

import cv2

START_METHOD = "forkserver"

# Parameters of glibc's `mallopt`.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_LEFT_TO_THE_TRAINER = (signal.SIGTERM, signal.SIGINT)


class Lifeline:
    """The trainer's end of a pipe on which workers' lives depend."""

    def __init__(self) -> None:
        self._worker_end, self._trainer_end = Pipe(duplex=False)

    def worker_start(self) -> "WorkerStart":
        """What workers call when they start."""
        return WorkerStart(self._worker_end)

    def cut(self) -> None:
        """End all workers that still live. May be called again."""
        self._trainer_end.close()
        self._worker_end.close()


def keep_memory() -> None:
    """Have glibc keep freed memory for the next clip, up to a gigabyte; elsewhere nothing happens.

    By default it gives large arrays back at once, and for each clip the kernel clears some 3,000 new pages.
    """
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**30)


class WorkerStart:
    """Makes the worker process that calls it end as soon as the lifeline breaks, use one core and keep its memory."""

    def __init__(self, lifeline: Connection):
        self._lifeline = lifeline

    def __call__(self, worker: int) -> None:
        keep_memory()
        # Torch's DataLoader does the same for torch.
        cv2.setNumThreads(1)
        Thread(target=self._watch, name="lifeline", daemon=True).start()

    def _watch(self) -> None:
        try:
            self._lifeline.recv_bytes()
        except (EOFError, OSError):
            # Whatever the worker does, and whoever it waits for.
            os._exit(1)


def start_server(modules: Sequence[str]) -> None:
    """Start the server that forks workers, unless it runs, with these modules imported once for all of them."""
    forkserver.set_forkserver_preload(["__main__", *modules])
    # Starting the tracker, which each server needs, unblocks these signals again; so it has to run before.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_TRAINER)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
