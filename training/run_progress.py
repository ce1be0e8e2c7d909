"""What one process of a run has taken from its streams, joined with what the others have."""

from collections import Counter

from accelerate.utils import gather_object

from .clip_loader import Batch
from .record_stream import Position
from .run_state import RunState, gather_positions


class RunProgress:
    """Counts steps, positions and samples from a `RunState` on, and gives the next one.

    Args:
        state: Where the run stands.
        streams: Names of its streams.
        rank: This process.

    Attributes:
        step: Steps taken.
        nonfinite_steps: Those of them that changed no weight.
        metrics: What the last evaluation found.
    """

    def __init__(self, state: RunState, streams: list[str], rank: int):
        self._start = state
        self._positions = {
            name: Position(**state.streams[name][rank]) if name in state.streams else Position() for name in streams
        }
        self._samples = Counter(state.samples)
        self._skipped: Counter[str] = Counter()
        self.nonfinite_steps = state.nonfinite_steps
        self.step = state.step
        self.metrics = state.metrics

    def add(self, batch: Batch, num_samples: int, finite: bool) -> None:
        """Counts a step that took `batch`: `num_samples` over all ranks; not `finite`, it changed no weight."""
        self.step += 1
        self._positions[batch.stream] = batch.position
        self._samples[batch.stream] += num_samples
        self._skipped[batch.stream] += len(batch.skipped)
        self.nonfinite_steps += not finite

    def state(self) -> RunState:
        """Where the run stands; every process calls it, and gets the same."""
        skipped = Counter(self._start.skipped)
        for of_rank in gather_object([dict(self._skipped)]):
            skipped.update(of_rank)
        return RunState(
            step=self.step,
            streams=gather_positions(self._positions),
            samples=dict(self._samples),
            skipped=dict(skipped),
            nonfinite_steps=self.nonfinite_steps,
            metrics=self.metrics,
            num_ranks=self._start.num_ranks,
        )
