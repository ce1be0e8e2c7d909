"""Signals end a run behind its step, and the second one at once."""

import os
import signal

import pytest
from accelerate import Accelerator

from trajvit.training.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_handlers_return(number):
    accelerator = Accelerator(cpu=True)
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert not interruption.requested(accelerator)
        os.kill(os.getpid(), number)
        assert interruption.requested(accelerator)
        assert interruption.requested(accelerator)
    assert signal.getsignal(number) is before


def status_of(child):
    """What becomes of a forked process that runs `child`: its exit status, negative where a signal ended it."""
    process = os.fork()
    if process == 0:
        try:
            child()
        finally:
            # Never back into the test runner.
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_the_process_at_once(number):
    def once():
        with Interruption():
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)

    def twice():
        with Interruption():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), number)
            os._exit(7)

    assert status_of(once) == 7
    assert status_of(twice) == -number


def test_a_worker_outlives_ctrl_c_and_can_be_ended():
    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(7)

    def ended():
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7)

    with Interruption() as interruption:
        assert status_of(interrupted) == 7
        assert status_of(ended) == -signal.SIGTERM
        assert not interruption.requested(Accelerator(cpu=True))


def test_without_signals_nothing_is_asked_for():
    with Interruption() as interruption:
        assert interruption.requested(Accelerator(cpu=True)) is False
