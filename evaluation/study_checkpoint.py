"""Makes a checkpoint to be given away of a run of the study: the model, its processor, and what it is good for.

python -m trajvit.evaluation.study_checkpoint runs/small_scale trajvit-tracked 0 trajvit/checkpoints/tiny_synthetic
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from trajvit.modeling_trajvit import TrajViTForContrastive
from trajvit.processing.processing_trajvit import TrajViTProcessor

from .small_scale import read_settings
from .study_report import QUALITY, read_records
from .study_run import RUNS
from .study_settings import GENERATOR, PRESETS, StudySettings

_LIMITS = """\
Real videos. It has seen nothing but flat, textured shapes that move over photographs, at {image_size} pixels and
{num_frames} frames, and sentences of one grammar with {words} words; another word is unknown to it. Even there it
errs, as the table says: the held-out clips have pairs of a shape with a colour or a motion that it never saw. It is
meant for demonstrations and tests: small, quick, and not random."""


def make_checkpoint(study: Path, system: str, seed: int, folder: Path) -> Path:
    """Write the model of a finished run without a copy of the code, for a package that has it.

    Raises `ValueError` where there is no such finished run.
    """
    record = next((own for own in read_records(study) if (own["system"], own["seed"]) == (system, seed)), None)
    if record is None:
        raise ValueError(f"{study} has no finished run of {system!r} with seed {seed}")
    settings = read_settings(study)
    pretrained = study / RUNS / f"{system}-{seed}" / "pretraining" / "model"
    model: Any = TrajViTForContrastive.from_pretrained(pretrained)
    processor: Any = TrajViTProcessor.from_pretrained(pretrained)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _remove_code(folder)
    card = model_card(settings, record, model.num_parameters(), len(processor.tokenizer))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def model_card(settings: StudySettings, record: Mapping[str, Any], num_parameters: int, num_words: int) -> str:
    """Markdown with a YAML head."""
    metadata = {
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "feature-extraction",
        "tags": ["video", "video-text", "contrastive", "video-retrieval", "trajvit"],
    }
    rows = [f"| {QUALITY[name]} | {record['metrics'][name]:.1f} |" for name in QUALITY if name in record["metrics"]]
    origin = "the world's own" if record["trajectories"] == "exact" else "found by the weights-free backend"
    sections = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---",
        "# A tiny TrajViT, trained on synthetic clips",
        f"A `TrajViTForContrastive` with {num_parameters / 1e6:.1f} M parameters: the vision tower `trajvit` with "
        f"{settings.num_layers} layers of width {settings.hidden_size} and a narrow ResNet, and a text tower of two "
        "layers with a vocabulary of its own.",
        "## Use",
        "```python\n"
        "from trajvit import TrajViTForContrastive, TrajViTProcessor\n"
        "from trajvit.search import search\n"
        "from trajvit.search_demo import CHECKPOINT\n\n"
        "model = TrajViTForContrastive.from_pretrained(CHECKPOINT).eval()\n"
        "processor = TrajViTProcessor.from_pretrained(CHECKPOINT)\n"
        "inputs = processor(videos=videos)\n"
        'similarities = search(model, processor, ["a red star moves left"], inputs)\n'
        "```",
        "## What it was trained on",
        f"{settings.steps:,} steps of {settings.batch_size} clips out of {settings.train_clips:,} of the synthetic "
        f"world of `trajvit.training`, {settings.num_frames} frames of {settings.image_size} pixels each, with "
        f"captions of its grammar and trajectories {origin} (at most {GENERATOR['max_trajectories']}). No real video, "
        "no text of people, and no other checkpoint. The run again:",
        f"```\n{command_of(settings, record)}\n```",
        "## Results",
        f"Among {settings.test_clips} held-out clips, in percent but for the rank:\n\n"
        "| metric | value |\n|---|---|\n" + "\n".join(rows),
        "## What it is not good for",
        _LIMITS.format(image_size=settings.image_size, num_frames=settings.num_frames, words=num_words),
        "## License",
        "Code and weights are under the Apache License 2.0. The backgrounds of the clips are photographs of "
        "scikit-image's data module.",
    ]
    return "\n\n".join(sections) + "\n"


def command_of(settings: StudySettings, record: Mapping[str, Any]) -> str:
    """The command that does a run of a study of these settings."""
    default = {**asdict(PRESETS["default"]), "seeds": settings.seeds}
    changes = [f"{name}={value}" for name, value in asdict(settings).items() if value != default[name]]
    run = ["--system", record["system"], "--seed", str(record["seed"])]
    return " ".join(["python evaluation/small_scale.py runs/small_scale", *changes, *run])


def _remove_code(folder: Path) -> None:
    """Remove the copy of the code that `save_pretrained` leaves, and what points to it."""
    for path in folder.glob("*.py"):
        path.unlink()
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        path = folder / name
        config = json.loads(path.read_text(encoding="utf-8"))
        for part in (config, config.get("vision_config", {}), config.get("video_processor", {})):
            part.pop("auto_map", None)
            part.pop("custom_pipelines", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    study, system, seed, folder = arguments
    print(make_checkpoint(Path(study), system, int(seed), Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
