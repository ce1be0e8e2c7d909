"""Waiting for what another process or thread is to do."""

import time


def wait_for(what, condition, seconds=120):
    """What `condition` gives once that is true; a test fails that waits for longer than so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")
