"""A run that is told to stop finishes its step and writes a checkpoint first."""

import ctypes
import os
import signal
import sys
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import reduce

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1


class Interruption:
    """Takes SIGTERM (what a scheduler sends before it takes a machine away) and SIGINT (Ctrl-C) while it is entered.

    The first of them is noted, for `requested` to tell; a second one ends the process at once. Where `accelerate
    launch` started the process, on Linux the end of the launcher is a SIGTERM too: it passes none on to a single
    process, which would train on unnoticed.
    """

    def __init__(self) -> None:
        self._noted = False
        self._process = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        self._process = os.getpid()
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        if sys.platform == "linux" and "ACCELERATE_MIXED_PRECISION" in os.environ:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self, accelerator: Accelerator) -> bool:
        """Whether any process was told to stop. Every process calls it, at the same place, and gets the same answer."""
        if accelerator.num_processes == 1:
            return self._noted
        noted = torch.tensor(float(self._noted), device=accelerator.device)
        return bool(reduce(noted, "sum").item() > 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Worker processes inherit this handler. Ctrl-C reaches them too, but the step that is finished needs them.
        is_worker = os.getpid() != self._process
        if is_worker and number == signal.SIGINT:
            return
        if is_worker or self._noted:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._noted = True
