"""What a worker tells of the shard that it is at, so that a clip that ends its process is known to the next one."""

import json
import os
import socket
from collections import Counter
from pathlib import Path

MAX_DEATHS = 3
"""Processes that may end at one record before its clip is taken for the reason."""

_BYTES = 256


class WorkersDied(Exception):
    """Processes ended again and again where no clip can be left out: not a clip's fault, so it ends the run."""


class RunningShard:
    """The file of a shard under way: which record is worked on, and at which ones processes ended before.

    Args:
        path: The file. If there is one, its process did not live to remove it.
        start: The first record.

    Raises:
        WorkersDied: A process ended at a record whose clip was left out already: as it was read, or as the shard was
            completed behind the last one.
    """

    def __init__(self, path: Path, start: int):
        self._path = path
        self._deaths: Counter[int] = Counter()
        self._size = path.stat().st_size if path.exists() else 0
        self._read(start)
        position, count = max(self._deaths.items(), key=lambda item: item[1], default=(start, 0))
        if count > MAX_DEATHS:
            path.unlink(missing_ok=True)
            raise WorkersDied(
                f"{count} worker processes ended all at once at record {position} of {path.stem}, the last ones as it "
                "was read or the shard completed; workers.log, or Ray's logs, have what they said last"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.at(start, 0)

    def deaths(self, position: int) -> int:
        """How many processes ended at this record."""
        return self._deaths[position]

    def at(self, position: int, num_done: int) -> None:
        """Tell which record comes next, and how many are done."""
        told = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "position": position,
            "done": num_done,
            "deaths": self._deaths,
        }
        content = json.dumps(told).encode()
        self._size = max(self._size, _BYTES * -(-len(content) // _BYTES))
        # In one call and over all that was there, so that a process that is killed leaves the old content or the new.
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.write(handle, content.ljust(self._size))
        finally:
            os.close(handle)

    def finish(self) -> None:
        """The shard is finished."""
        self._path.unlink(missing_ok=True)

    def _read(self, start: int) -> None:
        try:
            told = json.loads(self._path.read_bytes())
            self._deaths = Counter({int(position): count for position, count in told["deaths"].items()})
            self._deaths[int(told["position"])] += 1
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError):
            # Its machine went down while it was written.
            self._deaths[start] += 1
