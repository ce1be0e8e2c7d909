"""`trajvit info`: what a checkpoint, a trajectories file or a video is."""

import os
from typing import Annotated, Any

import typer

from trajvit.command_conventions import FAILED, JsonOption, described, print_facts, print_json, tell_failures


def info(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoints (folders or Hub ids), trajectories files, videos, images.", show_default=False
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Say what checkpoints, trajectories files, videos and images are.

    Nothing of a checkpoint is run, and no pickle is opened.
    """
    found: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for path in paths:
        try:
            found.append(_facts(path))
        except (OSError, ValueError) as error:
            failures[path] = described(error)
    if as_json:
        # One thing is an object, several are a list: what is wanted of one is read without an index.
        told = [{"input": name, "error": why} for name, why in failures.items()]
        print_json(found[0] if len(paths) == 1 and found else {"found": found, "failures": told})
    else:
        for facts in found:
            print_facts(f"{facts['path']}: {facts['kind']}", _SHOWN[facts["kind"]](facts))
    tell_failures(failures)
    if failures:
        raise typer.Exit(FAILED)


def _facts(path: str) -> dict[str, Any]:
    from trajvit.checkpoint_facts import checkpoint_facts
    from trajvit.media_facts import is_trajectories_file, media_facts, trajectories_facts

    if os.path.isdir(path):
        return checkpoint_facts(path)
    if os.path.exists(path) or "://" in path:
        return trajectories_facts(path) if is_trajectories_file(path) else media_facts(path)
    if path.count("/") == 1 and not os.path.splitext(path)[1] and not path.startswith("."):
        return {**checkpoint_facts(_downloaded(path)), "path": path}
    raise ValueError(f"{path} does not exist; expected a checkpoint, a trajectories file, a video or an image")


def _downloaded(hub_id: str) -> str:
    """A checkpoint of the Hub without its code."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors"])
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{hub_id} does not exist here, and the Hub does not give it ({reason})") from error


def _of_checkpoint(facts: dict[str, Any]) -> dict[str, object]:
    processor = facts["processor"]
    sizes = facts["sizes"]
    shown: dict[str, object] = {
        "model": facts["model_type"],
        "tower": f"{facts['tower']}, one token for each {facts['one_token_for_each']}",
        "transformer": _transformer(sizes, ""),
    }
    if "text_model" in sizes:
        shown["text"] = f"{sizes['text_model']}, {_transformer(sizes, 'text_')}"
        shown["common space"] = f"width {sizes['projection_dim']}"
    if facts["classes"]:
        shown["classes"] = facts["classes"]
    shown["video"] = f"{sizes.get('num_frames')} frames of {sizes.get('image_size')} x {sizes.get('image_size')}"
    if processor is None:
        shown["processor"] = "none"
    elif processor["generates_trajectories"]:
        shown["processor"] = f"{processor['max_trajectories']} trajectories at most, by {processor['backend']}"
    else:
        shown["processor"] = "frames alone"
    count = facts["parameters"]
    shown["parameters"] = "unknown" if count is None else f"{count:,}"
    for part, number in facts["parameters_by_part"].items():
        shown[f"  {part}"] = f"{number:,}"
    shown["weights"] = facts["weights"]
    shown["can"] = ", ".join(facts["can"])
    shown["pipelines"] = ", ".join(facts["pipelines"])
    if facts["carries_code"]:
        shown["code"] = f"{len(facts['carries_code'])} files, which run only with trust_remote_code=True"
    return shown


def _transformer(sizes: dict[str, Any], prefix: str) -> str:
    layers, width, heads = (
        sizes.get(f"{prefix}{name}", "?") for name in ("num_hidden_layers", "hidden_size", "num_attention_heads")
    )
    return f"{layers} layers, width {width}, {heads} heads"


def _of_trajectories(facts: dict[str, Any]) -> dict[str, object]:
    times, alive, lives = facts["timestamps"], facts["trajectories_per_frame"], facts["lifetimes"]
    return {
        "trajectories": facts["trajectories"],
        "frames": f"{facts['frames']} of {facts['height']} x {facts['width']}",
        "of the source": _ranged(facts["frame_indices"]),
        "seconds": f"{times[0]:.2f} to {times[-1]:.2f}",
        "key frames": ", ".join(f"{position} ({times[position]:.2f} s)" for position in facts["key_frames"]),
        "coverage": f"{facts['coverage']:.1%}",
        "in a frame": f"{alive['mean']:.1f} on average, {alive['least']} to {alive['most']}",
        "lifetimes": "none" if lives["median"] is None else _lived(lives),
        "size": f"{facts['bytes']:,} bytes",
    }


def _lived(lives: dict[str, Any]) -> str:
    median, whole, single = lives["median"], lives["whole_video"], lives["one_frame"]
    return f"{median:g} frames in the middle; {whole} live all along, {single} for one frame"


def _ranged(numbers: list[int]) -> str:
    if len(numbers) < 5:
        return "frames " + ", ".join(map(str, numbers))
    return f"frames {numbers[0]}, {numbers[1]}, ... {numbers[-1]}"


def _of_media(facts: dict[str, Any]) -> dict[str, object]:
    shown: dict[str, object] = {"size": f"{facts['width']} x {facts['height']}", "frames": f"{facts['frames']:,}"}
    if facts.get("seconds") is not None:
        shown["duration"] = f"{facts['seconds']:.2f} s"
    if facts.get("fps") is not None:
        shown["rate"] = f"{facts['fps']:g} frames per second"
    if facts.get("codec"):
        containers = facts["container"].split(",")
        suffix = os.path.splitext(facts["path"])[1][1:].lower()
        container = suffix if suffix in containers else containers[0]
        shown["codec"] = f"{facts['codec']}, {facts['pixel_format']}, in {container}"
    if facts["bytes"] is not None:
        shown["file"] = f"{facts['bytes']:,} bytes"
    return shown


_SHOWN = {
    "checkpoint": _of_checkpoint,
    "trajectories": _of_trajectories,
    "video": _of_media,
    "image": _of_media,
    "animation": _of_media,
}
