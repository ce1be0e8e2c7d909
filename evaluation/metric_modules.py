"""The metrics of `metrics/`, as modules of Hugging Face's `evaluate`."""

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "metrics"


def load_metric(name: str, config: str | None = None, **distributed: Any) -> Any:
    """Load one of this package's metrics without the network.

    Args:
        name: `retrieval_recall`, `top_k_accuracy` or `ava_frame_map`.
        config: Of `retrieval_recall`: "scores", the default, or "ranks".
        distributed: What else `evaluate.load` takes: `num_process`, `process_id` and `experiment_id` where several
            processes share a file system and each adds its part; `cache_dir`, `keep_in_memory`.

    Returns:
        An `evaluate.Metric` with `add`, `add_batch` and `compute`; the latter returns None in processes other than 0.

    Raises:
        ValueError: There is no such metric or configuration.
        ImportError: `evaluate` is not installed.
    """
    names = sorted(path.parent.name for path in FOLDER.glob("*/*.py") if path.stem == path.parent.name)
    if name not in names:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(names)}")
    try:
        import evaluate
    except ImportError as error:
        raise ImportError("metrics need `evaluate`: pip install 'trajvit[eval]'") from error
    return evaluate.load(str(FOLDER / name / f"{name}.py"), config, **distributed)
