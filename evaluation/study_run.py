"""One run of the study in the small: a system is pretrained from one seed, and then evaluated.

    python -m trajvit.evaluation.study_run STUDY_FOLDER SYSTEM SEED DEVICE

What is finished is not done again: pretraining goes on from its last checkpoint, evaluation from its features.
"""

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trajvit.processing.atomic_files import write_json
from trajvit.training.config_file import build_config
from trajvit.training.run_config import RunConfig

from .action_detection import evaluate_action_detection
from .attentive_probing import evaluate_attentive_probing
from .checkpoint_loading import CheckpointError, EvaluatedModel, load_contrastive, with_regions
from .cost_measuring import count_flops
from .feature_extraction import Extraction, embed_media, embed_texts
from .media_batches import load_batches
from .probe_training import ProbeRecipe
from .retrieval import evaluate_retrieval
from .study_agreement import agreement, facts_of_world
from .study_settings import GENERATOR, SYSTEMS, StudySettings, System
from .study_worlds import CLASSES, classification_sets, detection_sets, retrieval_set

WORLDS, RUNS, RECORDS, FEATURES = "worlds", "runs", "records", "features"
_CLIPS_COUNTED = 32
_TIMES = "pretraining_times.json"


def record_path(study: Path, system: str, seed: int) -> Path:
    """Where a run leaves what it found."""
    return study / RECORDS / f"{system}-{seed}.json"


def run(study: Path, settings: StudySettings, name: str, seed: int, device: str) -> dict[str, Any]:
    """Pretrain a system from a seed, evaluate it, and write its record. Returns the record."""
    system = SYSTEMS[name]
    folder = study / RUNS / f"{name}-{seed}"
    config = pretraining_config(study / WORLDS, folder / "pretraining", settings, system, seed)
    pretrained = _pretrain(config, folder)
    began = time.perf_counter()
    model = load_contrastive(str(pretrained), device)
    metrics = {
        **_costs(study / WORLDS, system, model),
        **_evaluate(study / WORLDS, folder, settings, system, model, seed),
    }
    record = {
        "system": name,
        "tower": system.tower,
        "trajectories": system.trajectories,
        "seed": seed,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "metrics": metrics,
        "evaluation_s": time.perf_counter() - began,
        **_times(folder),
    }
    path = record_path(study, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record, parts=path.parent)
    shutil.rmtree(folder / FEATURES, ignore_errors=True)
    return record


def pretraining_config(worlds: Path, folder: Path, settings: StudySettings, system: System, seed: int) -> RunConfig:
    """The configuration of `training/pretrain.py` for a run: all systems differ in their tower alone."""
    vision = {
        "image_size": settings.image_size,
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.num_layers,
        "num_attention_heads": settings.num_heads,
        "intermediate_size": 4 * settings.hidden_size,
    }
    has_grid = system.tower in ("trajvit", "token_merge")
    vision |= {"feature_size": settings.feature_size} if has_grid else {"patch_size": settings.patch_size}
    text = {
        "model_type": "bert",
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": 2,
        "num_attention_heads": settings.num_heads,
        "intermediate_size": 4 * settings.hidden_size,
    }
    return build_config(
        {
            "output_dir": str(folder),
            "seed": seed,
            "mixed_precision": "no",
            "model": {
                "tower": system.tower,
                "size": "tiny",
                "vision": vision,
                "text_checkpoint": None,
                "text": text,
                "pretrained_backbone": False,
                "batch_norm": "batch",
                "projection_dim": settings.hidden_size,
            },
            "data": [
                {
                    "name": "videos",
                    "source": "synthetic",
                    "path": str(worlds / "train"),
                    "columns": {"trajectories": system.trajectories},
                    "num_frames": settings.num_frames,
                    "batch_size": settings.batch_size,
                }
            ],
            # Captions name sides and colours, and what crosses the border.
            "augmentation": {"crop_scale": [0.8, 1.0], "flip": 0, "color_jitter": 0, "blur": 0, "grayscale": 0},
            "loader": {"num_workers": 0, "shuffle_block": 128, "trajectory_generator": GENERATOR},
            "optimizer": {
                "learning_rate": settings.learning_rate,
                "max_steps": settings.steps,
                "warmup_steps": max(1, settings.steps // 10),
            },
            "checkpoints": {"every": 200, "keep": 1},
            "logging": {"every": 20, "trackers": []},
        }
    )


def _pretrain(config: RunConfig, folder: Path) -> Path:
    from trajvit.training.pretrain import pretrain

    finished = Path(config.output_dir) / "model"
    # The model's last file.
    if (finished / "README.md").exists():
        return finished
    before = _times(folder)
    wall, processor = time.perf_counter(), time.process_time()
    try:
        if pretrain(config) is None:
            raise SystemExit("told to stop; the same command goes on")
    finally:
        taken = {"pretraining_s": time.perf_counter() - wall, "pretraining_cpu_s": time.process_time() - processor}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _TIMES, {name: taken[name] + before.get(name, 0.0) for name in taken}, parts=folder)
    return finished


def _times(folder: Path) -> dict[str, float]:
    """What pretraining has taken so far."""
    path = folder / _TIMES
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _costs(worlds: Path, system: System, model: EvaluatedModel) -> dict[str, float]:
    """Parameters of the vision tower; tokens and GFLOP of a clip in the mean of some."""
    data = retrieval_set(worlds, system.trajectories)
    count = min(_CLIPS_COUNTED, len(data.items))
    batch = next(load_batches([range(count)], data.items, model.video_processor))
    inputs = {name: tensor.to(model.device) for name, tensor in batch.inputs.items()}
    tower = model.vision_tower
    outputs, counter = count_flops(tower, lambda: _without_gradients(tower, inputs))
    return {
        "parameters": float(sum(parameter.numel() for parameter in tower.parameters())),
        "tokens": outputs.token_mask.sum().item() / count,
        "gflop": counter.get_total_flops() / count / 1e9,
    }


@torch.no_grad()
def _without_gradients(tower: Any, inputs: dict[str, torch.Tensor]) -> Any:
    return tower(**inputs)


def _evaluate(
    worlds: Path, folder: Path, settings: StudySettings, system: System, model: EvaluatedModel, seed: int
) -> dict[str, float]:
    extraction = Extraction(folder / FEATURES, settings.batch_size, show_progress=False)
    recipe = ProbeRecipe(settings.probe_learning_rate, epochs=settings.probe_epochs, seed=seed)
    clips = retrieval_set(worlds, system.trajectories)
    metrics = evaluate_retrieval(model, clips, extraction).metrics
    videos = embed_media(model, clips.items, extraction).vectors()
    texts = embed_texts(model, clips.texts, extraction)
    metrics |= agreement(videos, texts, facts_of_world(worlds / "test", len(videos)))
    tower = replace(model, model=model.vision_tower, tokenizer=None)
    for what in CLASSES:
        train, test = classification_sets(worlds, system.trajectories, what)
        found = evaluate_attentive_probing(tower, train, test, extraction, recipe).metrics
        metrics |= {f"{what}_{name}": value for name, value in found.items()}
    try:
        regional = replace(tower, model=with_regions(tower.model))
    except CheckpointError:
        # A tower whose tokens have no places has no detection.
        return metrics
    train_boxes, test_boxes = detection_sets(worlds, system.trajectories, settings)
    return metrics | evaluate_action_detection(regional, train_boxes, test_boxes, extraction, recipe).metrics


def main(arguments: list[str]) -> None:
    from .small_scale import read_settings

    study, name, seed, device = Path(arguments[0]), arguments[1], int(arguments[2]), arguments[3]
    run(study, read_settings(study), name, seed, device)


if __name__ == "__main__":
    main(sys.argv[1:])
