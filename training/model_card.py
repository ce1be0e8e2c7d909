"""The card of a trained model: metadata that the Hub reads, and what a reader needs to use it."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from .config_file import to_mapping
from .run_config import RunConfig, StreamSettings
from .run_state import RunState


def model_card(model: Any, config: RunConfig, state: RunState) -> str:
    """Markdown with a YAML head, about the model that a run ended with at `state`."""
    tower = config.model.tower
    name = config.hub.model_id if config.hub is not None else "path/to/this/folder"
    sections = [
        f"---\n{yaml.safe_dump(_metadata(tower), sort_keys=False)}---",
        f"# {tower}, a video-text contrastive model",
        f"A `TrajViTForContrastive` with the vision tower `{tower}` ({config.model.size}) and the text tower "
        f"`{model.config.text_config.model_type}`, {model.num_parameters() / 1e6:.1f} M parameters, trained for "
        f"{state.step} steps on {sum(state.samples.values())} samples.",
        "## Use",
        _usage(name, model.config),
        "## Data",
        _data(config, state),
        "## Results",
        _results(config, state.metrics),
        "## Training",
        "Written by `training/pretrain.py` with these settings:\n\n```yaml\n" + _settings(config) + "```",
        "## License",
        "Code and weights are under the Apache License 2.0. The licenses of the data above may limit the use further.",
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(tower: str) -> dict[str, Any]:
    return {
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "feature-extraction",
        "tags": ["video", "video-text", "contrastive", "video-retrieval", "trajvit", tower],
    }


def _usage(name: str, config: Any) -> str:
    tasks = "Its pipelines: " + ", ".join(f"`{task}`" for task in config.pipeline_tasks()) + "."
    trajectories = (
        "\n\nThe processor finds the trajectories of a video itself; `trajectories=` takes those that are there."
        if config.vision_config.needs_trajectories
        else ""
    )
    return (
        "```python\n"
        "import torch\n"
        "from trajvit import TrajViTForContrastive, TrajViTProcessor\n\n"
        f'model = TrajViTForContrastive.from_pretrained("{name}").eval()\n'
        f'processor = TrajViTProcessor.from_pretrained("{name}")\n'
        'inputs = processor(videos=["video.mp4"], text=["a dog runs", "a cat sleeps"], return_tensors="pt")\n'
        "with torch.no_grad():\n"
        "    similarities = model(**inputs).logits_per_video.softmax(-1)\n"
        "```\n\n"
        "or, with any number of videos, by a pipeline:\n\n"
        "```python\n"
        "import trajvit\n"
        "from transformers import pipeline\n\n"
        f'classifier = pipeline("zero-shot-video-classification", model="{name}")\n'
        'classifier("video.mp4", candidate_labels=["a dog runs", "a cat sleeps"])\n'
        "```\n\n"
        f"{tasks}\n\n"
        "Where `trajvit` is not installed, both load with `trust_remote_code=True`: the code of the model, of its "
        "processor and of its pipelines is in this repository." + trajectories
    )


def _data(config: RunConfig, state: RunState) -> str:
    rows = ["| stream | source | media | frames | batch | samples seen | skipped |", "|---|---|---|---|---|---|---|"]
    for stream in config.data:
        seen, skipped = state.samples.get(stream.name, 0), state.skipped.get(stream.name, 0)
        frames = 1 if stream.media == "image" else stream.num_frames
        rows.append(
            f"| {stream.name} | {_origin(stream)} | {stream.media} | {frames} | {stream.batch_size} | {seen} "
            f"| {skipped} |"
        )
    return "\n".join(rows)


def _results(config: RunConfig, metrics: Mapping[str, float]) -> str:
    if config.evaluation is None or not metrics:
        return "Not evaluated while training."
    rows = [f"| {name} | {value:.4g} |" for name, value in metrics.items()]
    origin = _origin(config.evaluation.data)
    return "\n".join(
        [f"Zero-shot retrieval on {origin}, recalls in percent:\n", "| metric | value |", "|---|---|", *rows]
    )


def _origin(stream: StreamSettings) -> str:
    """The source, and the name of a data set on the Hub; not where its files lie."""
    path = stream.path
    is_name = isinstance(path, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path) is not None
    return f"{stream.source} {path}" if is_name else stream.source


def _settings(config: RunConfig) -> str:
    values = to_mapping(config)
    # Where things lie on one machine is nobody else's business.
    del values["output_dir"], values["hub"]
    for stream in [*values["data"], *([values["evaluation"]["data"]] if values["evaluation"] else [])]:
        del stream["path"]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
