"""What a checkpoint is, read off its files alone: no code of it runs, no weight is loaded, no pickle is opened."""

import json
import os
import struct
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

TOWERS = {
    "trajvit": "trajectory",
    "vit3d": "tubelet",
    "vivit_factorised": "position in time",
    "token_learner": "learned map of places",
    "rlt": "run of tubelets",
    "tome": "group of tubelets",
    "token_merge": "learned group of cells",
    "image_vit": "patch of a frame",
}
"""What each vision tower has one token for, by `model_type`."""

# From model_type to what the model does and the tasks of transformers' pipelines that take it.
_MODELS = {
    "trajvit_contrastive": (
        ("embed videos and texts in one space", "search videos by text", "classify without training"),
        ("video-feature-extraction", "zero-shot-video-classification"),
    ),
    "trajvit_video_classification": (("classify videos",), ("video-classification", "video-feature-extraction")),
    "trajvit_action_detection": (("tell what people in boxes do",), ("video-feature-extraction",)),
}
_WITH_CLASSES = ("trajvit_video_classification", "trajvit_action_detection")
# Of batch normalisation: a checkpoint holds them beside its parameters.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_MOST_HEADER_BYTES = 100_000_000


def checkpoint_facts(folder: str | os.PathLike) -> dict[str, Any]:
    """The facts of a checkpoint in a folder, JSON values.

    Raises:
        ValueError: It is none, of another project, or damaged; the message says what was expected.
    """
    folder = Path(folder)
    config = _read_json(folder / "config.json")
    model_type = config.get("model_type")
    vision = config.get("vision_config") or config
    tower = vision.get("model_type")
    if tower not in TOWERS:
        raise ValueError(
            f"{folder} has model_type={model_type!r}; expected a vision tower ({', '.join(TOWERS)}) or a model on one "
            f"({', '.join(_MODELS)})"
        )
    abilities, pipelines = _MODELS.get(str(model_type), (("turn videos into tokens",), ("video-feature-extraction",)))
    if model_type == "trajvit_contrastive" and tower == "trajvit":
        abilities, pipelines = (*abilities, "find objects by text"), (*pipelines, "text-to-trajectory-search")
    weights = _weights(folder)
    return {
        "kind": "checkpoint",
        "path": os.fspath(folder),
        "model_type": model_type,
        "tower": tower,
        "one_token_for_each": TOWERS[tower],
        "sizes": _sizes(config, vision),
        "classes": len(config.get("id2label") or ()) if model_type in _WITH_CLASSES else None,
        **weights,
        "can": list(abilities),
        "pipelines": list(pipelines),
        "processor": _processor(folder),
        "carries_code": sorted(path.name for path in folder.glob("*.py")),
    }


def _sizes(config: Mapping[str, Any], vision: Mapping[str, Any]) -> dict[str, Any]:
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "image_size", "feature_size", "num_frames")
    sizes = {name: vision[name] for name in names if vision.get(name) is not None}
    text = config.get("text_config")
    if text:
        sizes["text_model"] = text.get("model_type")
        sizes |= {f"text_{name}": text[name] for name in names[:3] if text.get(name) is not None}
    if config.get("projection_dim"):
        sizes["projection_dim"] = config["projection_dim"]
    return sizes


def _weights(folder: Path) -> dict[str, Any]:
    """Parameters by part, and in which types, from the headers of safetensors files."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        # Names alone: a file elsewhere is none of this checkpoint.
        listed = {os.path.basename(str(name)) for name in _read_json(index).get("weight_map", {}).values()}
        files = [folder / name for name in sorted(listed)]
    else:
        others = sorted(path.name for path in folder.glob("*.bin"))
        why = f"they are in {others[0]}, which is a pickle and is not opened" if others else "there are none"
        return {"parameters": None, "parameters_by_part": {}, "weights": why}
    parts: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for file in files:
        for name, tensor in _header(file).items():
            if name.endswith(_STATISTICS):
                continue
            count = prod(tensor["shape"])
            parts[_part(name)] += count
            types[tensor["dtype"]] += count
    return {
        "parameters": sum(parts.values()),
        "parameters_by_part": dict(parts.most_common()),
        "weights": f"{len(files)} safetensors {'file' if len(files) == 1 else 'files'}, {', '.join(types)}",
    }


def _part(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "vision_model" else first


def _header(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            if length > _MOST_HEADER_BYTES:
                raise ValueError(f"its header would have {length} bytes")
            header = json.loads(content.read(length))
        header.pop("__metadata__", None)
        if not all(isinstance(each["shape"], list) and isinstance(each["dtype"], str) for each in header.values()):
            raise ValueError("its header is another")
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"{file} is no safetensors file ({error}); expected the weights of the checkpoint") from None
    return header


def _processor(folder: Path) -> dict[str, Any] | None:
    """What a video is turned into before the model sees it; None where the checkpoint has no processor."""
    for name in ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            content = _read_json(folder / name)
            own = content.get("video_processor", content)
            generator = own.get("generator") or {}
            return {
                "num_frames": own.get("num_frames"),
                "size": own.get("size"),
                "generates_trajectories": own.get("generate_trajectories"),
                "backend": generator.get("backend"),
                "max_trajectories": generator.get("max_trajectories"),
            }
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no {path.name}; expected a folder that save_pretrained wrote") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}); expected a JSON object") from None
    return content
