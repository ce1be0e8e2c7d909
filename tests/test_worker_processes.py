"""How workers outlive signals to a whole job, and how none outlives its trainer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_for

PATIENCE_SECONDS = 120

TRAINER = """
import signal
import sys
import time

sys.path.insert(0, {tests!r})

from array_source import ArraySource, word_tokenizer
from trajvit.training.augmentation import ClipTransform
from trajvit.training.clip_loader import ClipLoader
from trajvit.training.record_stream import RecordStream
from trajvit.training.run_config import AugmentationSettings

if __name__ == "__main__":
    received = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    # A record that is met only after many others.
    source = ArraySource(num_samples=200, num_shards=1, faults={{190: "hang"}})
    loader = ClipLoader(
        RecordStream(source, seed=0),
        source,
        ClipTransform(16, 4, AugmentationSettings(), 8, 1),
        word_tokenizer(),
        name="arrays",
        batch_size=4,
        num_workers=2,
        prefetch=1,
    )
    next(loader)
    print("started", flush=True)
    while not received:
        time.sleep(0.1)
    for _ in range(44):
        next(loader)
    print("went on", flush=True)
"""


@pytest.fixture
def trainer(tmp_path):
    """A trainer in a session of its own; whatever is left of it is killed at the end."""
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER.format(tests=str(Path(__file__).parent)))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    for process_id in processes_of(process.pid):
        os.kill(process_id, signal.SIGKILL)
    process.communicate()


def processes_of(session):
    """Ids of the processes of a session that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = status.read_text().rpartition(") ")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(number) == session and state != "Z":
            found.append(int(status.parent.name))
    return found


def wait_for_end(session):
    wait_for("the session's end", lambda: not processes_of(session), PATIENCE_SECONDS)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
class TestWorkerProcesses:
    def test_a_signal_to_the_whole_job_is_left_to_the_trainer(self, trainer):
        """It goes on, and ends at last without closing its loader, one worker of which hangs."""
        assert trainer.stdout.readline() == "started\n"
        # The trainer, the server, two workers, and Python's tracker of resources.
        assert len(processes_of(trainer.pid)) >= 4
        os.killpg(trainer.pid, signal.SIGTERM)
        output, errors = trainer.communicate(timeout=PATIENCE_SECONDS)
        assert output == "went on\n", errors
        assert trainer.returncode == 0
        wait_for_end(trainer.pid)

    def test_workers_end_with_a_trainer_that_is_killed(self, trainer):
        assert trainer.stdout.readline() == "started\n"
        assert len(processes_of(trainer.pid)) >= 4
        trainer.kill()
        wait_for_end(trainer.pid)
