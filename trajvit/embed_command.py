"""`trajvit embed`: a vector for each video."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trajvit.command_conventions import (
    FAILED,
    SHIPPED_MODEL,
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    MediaOption,
    ModelOption,
    WorkersOption,
    checked_device,
    checkpoint_of,
    know_models,
    print_json,
    print_table,
    progress_bar,
    tell_failures,
    without_preamble,
    written_whole,
)
from trajvit.command_inputs import MediaInput, find_media

if TYPE_CHECKING:
    import torch

    from trajvit.evaluation.checkpoint_loading import EvaluatedModel


def embed(
    inputs: Annotated[
        list[str], typer.Argument(help="Videos, images, folders, glob patterns or URLs.", show_default=False)
    ],
    model: ModelOption = SHIPPED_MODEL,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="A .safetensors file; without it --json prints the vectors."),
    ] = None,
    frames: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Frames sampled from each video. Default: as the model's processor says."),
    ] = None,
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 8,
    workers: WorkersOption = 0,
    media: MediaOption = "video",
    as_json: JsonOption = False,
) -> None:
    """Compute one vector for each video.

    The file holds `embeddings` (N, d) float32, and in its metadata `paths` as a JSON list. Vectors of a contrastive
    model have length 1 and lie in the space of its texts.
    """
    if output is None and not as_json:
        raise typer.BadParameter("is missing: expected a .safetensors file, or --json", param_hint="--output")
    if output is not None and output.suffix != ".safetensors":
        raise typer.BadParameter(f"{str(output)!r}; expected a .safetensors file", param_hint="--output")
    found, failures = find_media(inputs, media)
    vectors: dict[str, torch.Tensor] = {}
    width, about = 0, {}
    if found:
        know_models()
        from trajvit.media_embedding import load_embedder

        embedder = load_embedder(checkpoint_of(model), checked_device(device))
        about = {"model": embedder.name, **embedder.settings(frames)}
        vectors, lost = _vectors(embedder, found, batch_size, workers, frames)
        failures |= lost
    if vectors:
        width = len(next(iter(vectors.values())))
        if output is not None:
            _write(output, vectors, about)
    if as_json:
        told: dict[str, Any] = {**about, "width": width, "paths": list(vectors)}
        if output is None:
            told["embeddings"] = [vector.tolist() for vector in vectors.values()]
        elif vectors:
            told["output"] = str(output)
        print_json({**told, "failures": [{"input": name, "error": why} for name, why in failures.items()]})
    elif vectors:
        row = (output, len(vectors), width, about["model"])
        print_table(("output", "videos", "width", "model"), [row], left=("output",))
    tell_failures(failures)
    if failures:
        raise typer.Exit(FAILED)


def _vectors(
    model: "EvaluatedModel", found: list[MediaInput], batch_size: int, workers: int, frames: int | None
) -> tuple[dict[str, "torch.Tensor"], dict[str, str]]:
    from trajvit.evaluation.evaluation_data import MediaItem
    from trajvit.media_embedding import embedding_batches

    items = [MediaItem(media.source, media.source) for media in found]
    vectors: dict[str, torch.Tensor] = {}
    failures: dict[str, str] = {}
    with progress_bar("embed") as report:
        report(0, len(items))
        for own, lost in embedding_batches(model, items, batch_size, workers, frames):
            vectors |= {items[position].key: vector for position, vector in own.items()}
            failures |= {items[position].key: without_preamble(reason) for position, reason in lost.items()}
            report(len(vectors) + len(failures), len(items))
    return vectors, failures


def _write(path: Path, vectors: dict[str, "torch.Tensor"], about: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import save

    metadata = {"paths": json.dumps(list(vectors)), **{name: str(value) for name, value in about.items()}}
    with written_whole(path) as part:
        # Their own writer names a file of its own where it cannot write.
        part.write_bytes(save({"embeddings": torch.stack(list(vectors.values()))}, metadata))
