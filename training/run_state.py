"""Where a run stands: what, beside weights and optimiser, it needs to go on exactly."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from accelerate.utils import gather_object

from .record_stream import Position


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used. The message names it, what it has and what was expected."""


@dataclass
class RunState:
    """Where a run stands, behind `step` steps.

    Attributes:
        step: Steps taken.
        streams: Of each stream the position of each rank, as `dataclasses.asdict` gives it.
        samples: Samples that each stream has given, over all ranks.
        skipped: Bad samples by stream, over all ranks.
        nonfinite_steps: Steps whose loss or gradient was not finite.
        metrics: What the last evaluation found.
        num_ranks: Processes that positions are for.
    """

    step: int = 0
    streams: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    nonfinite_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    num_ranks: int = 1

    def to_json(self) -> str:
        """The text that `from_json` reads."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "run_state.json") -> "RunState":
        """Read what `to_json` wrote. Raises `CheckpointError`, naming `name`, where a field is missing or unknown."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{name} is no JSON ({error}): expected the state of a run") from None
        expected = {part.name for part in fields(cls)}
        if not isinstance(values, dict) or set(values) != expected:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise CheckpointError(f"{name} has {found}: expected {sorted(expected)}")
        state = cls(**values)
        for stream, positions in state.streams.items():
            if len(positions) != state.num_ranks:
                raise CheckpointError(
                    f"{name} has {len(positions)} positions of {stream!r}: expected one for each of the "
                    f"{state.num_ranks} processes"
                )
        return state


def gather_positions(positions: Mapping[str, Position]) -> dict[str, list[dict[str, Any]]]:
    """Positions of this process's streams -> those of each stream on all processes, in their order.

    Every process calls it, and gets the same.
    """
    ranks = gather_object([{name: asdict(position) for name, position in positions.items()}])
    return {name: [rank[name] for rank in ranks] for name in positions}
