"""Computes what a model makes of media and texts, once, into a `FeatureStore`, by as many processes as there are.

Each process computes files of its own, batch by batch, and a batch never has items of two files: so features do not
depend on how many processes there were, or on where a run was broken off. All processes must see the folder.

Shape letters: T frames, K tokens, D width, R regions of an item, d width of the common space.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from trajvit.processing.atomic_files import write_json
from trajvit.processing.processing_trajvit import MAX_TEXT_TOKENS

from .checkpoint_loading import EvaluatedModel
from .evaluation_data import MediaItem, outlines
from .feature_store import FeatureStore, hash_of, hash_of_item
from .media_batches import PIXELS, MediaBatch, load_batches

TEXTS_PER_CHUNK = 2048
ITEMS_PER_CHUNK = 128
"""Items of a file of features; a run that is broken off loses no more than these."""

Metrics = dict[str, Any]

Encode = Callable[[EvaluatedModel, MediaBatch, dict[str, torch.Tensor]], list[list[torch.Tensor]]]
"""From inputs on the device to the sequences (any number, D) of each item of a batch."""


@dataclass(frozen=True)
class Extraction:
    """How features are computed; none of this changes them by more than rounding.

    Attributes:
        cache: Folder in which they are kept, by model and data.
        batch_size: Items that pass the model together.
        num_workers: Processes that decode, for each process that computes.
        process_index, num_processes: Which of the processes this is; they share the work.
        wait: Called when this process's part is done; returns when that of all is.
        retry_failures: Whether items that could not be used before are tried again.
        show_progress: Whether to show how far it is.
        on_items: Called after each batch of media with the number of its items, for a caller who shows it otherwise.
    """

    cache: str | os.PathLike
    batch_size: int = 32
    num_workers: int = 0
    process_index: int = 0
    num_processes: int = 1
    wait: Callable[[], Any] = lambda: None
    retry_failures: bool = True
    show_progress: bool = True
    on_items: Callable[[int], Any] = lambda count: None

    @property
    def is_first(self) -> bool:
        """Whether this process is the first, which does what only one may."""
        return self.process_index == 0


def computed_once(extraction: Extraction, name: str, compute: Callable[[], Metrics]) -> Metrics:
    """What `compute` returns, plain JSON values, on every process; the first one alone computes it."""
    path = Path(extraction.cache) / f"{name}.json"
    if extraction.is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, compute(), parts=path.parent)
    extraction.wait()
    return json.loads(path.read_text(encoding="utf-8"))


def embed_media(
    model: EvaluatedModel, items: Sequence[MediaItem], extraction: Extraction, num_frames: int | None = None
) -> FeatureStore:
    """One normalised vector (1, d) float32 of each item, in the space of texts. `num_frames` None: the processor's."""
    return _extract("embeddings", model, items, extraction, num_frames, _embeddings)


def extract_tokens(
    model: EvaluatedModel, items: Sequence[MediaItem], extraction: Extraction, num_frames: int | None = None
) -> FeatureStore:
    """The tokens (K, D) that the vision tower gives of each item, CLS first, in the model's precision."""
    return _extract("tokens", model, items, extraction, num_frames, _tokens)


def extract_regions(
    model: EvaluatedModel,
    items: Sequence[MediaItem],
    boxes: Sequence[torch.Tensor],
    seconds: Sequence[float],
    extraction: Extraction,
    num_frames: int | None = None,
) -> FeatureStore:
    """The tokens (K, D) of each box of each item, as the tower's `region_features` gives them.

    `boxes` has (R, 4) float32 for each item; they lie in the sampled frame that is shown nearest to its `seconds`.
    """

    def encode(model: EvaluatedModel, batch: MediaBatch, inputs: dict[str, torch.Tensor]) -> list[list[torch.Tensor]]:
        return _regions(model, batch, inputs, boxes, seconds)

    asked = [[own.tolist(), second] for own, second in zip(boxes, seconds, strict=True)]
    return _extract("regions", model, items, extraction, num_frames, encode, asked)


def embed_texts(model: EvaluatedModel, texts: Sequence[str], extraction: Extraction) -> torch.Tensor:
    """(number of texts, d) float32, normalised."""
    folder = _folder(model, extraction, "texts")
    store = FeatureStore(folder, list(texts), TEXTS_PER_CHUNK, _about(model, "texts"))
    for chunk in _own_chunks(store, extraction):
        rows: list[torch.Tensor] = []
        own = [texts[position] for position in store.positions(chunk)]
        for begin in range(0, len(own), 8 * extraction.batch_size):
            rows += text_embeddings(model, own[begin : begin + 8 * extraction.batch_size])
        store.write(chunk, {store.positions(chunk)[row]: [vector] for row, vector in enumerate(rows)}, {})
    extraction.wait()
    return store.vectors()


def _extract(
    kind: str,
    model: EvaluatedModel,
    items: Sequence[MediaItem],
    extraction: Extraction,
    num_frames: int | None,
    encode: Encode,
    asked: Sequence[Any] | None = None,
) -> FeatureStore:
    """`asked` is what else the features of each item depend on."""
    num_frames = model.video_processor.num_frames if num_frames is None else num_frames
    hashes = [hash_of_item(item) for item in outlines(items)]
    if asked is not None:
        hashes = [hash_of(own, what) for own, what in zip(hashes, asked, strict=True)]
    folder = _folder(model, extraction, f"{kind}-{num_frames}")
    store = FeatureStore(folder, hashes, ITEMS_PER_CHUNK, {**_about(model, kind), "num_frames": num_frames})
    chunks = _own_chunks(store, extraction)
    batches = [
        positions[begin : begin + extraction.batch_size]
        for positions in (list(store.positions(chunk)) for chunk in chunks)
        for begin in range(0, len(positions), extraction.batch_size)
    ]
    loaded = load_batches(batches, items, model.video_processor, num_frames, extraction.num_workers)
    with _progress(kind, sum(map(len, batches)), extraction) as report:
        for chunk in chunks:
            features: dict[int, list[torch.Tensor]] = {}
            failures: dict[int, str] = {}
            while len(features) + len(failures) < len(store.positions(chunk)):
                batch = next(loaded)
                failures |= batch.failures
                if batch.positions:
                    features.update(zip(batch.positions, _encoded(model, batch, encode), strict=True))
                report(len(batch.positions) + len(batch.failures))
                extraction.on_items(len(batch.positions) + len(batch.failures))
            store.write(chunk, features, failures)
    extraction.wait()
    return store


@torch.inference_mode()
def _encoded(model: EvaluatedModel, batch: MediaBatch, encode: Encode) -> list[list[torch.Tensor]]:
    inputs = {name: tensor.to(model.device) for name, tensor in batch.inputs.items()}
    inputs[PIXELS] = inputs[PIXELS].to(model.dtype)
    # To own memory: a slice would keep its whole batch.
    return [[tokens.cpu().clone() for tokens in own] for own in encode(model, batch, inputs)]


def _embeddings(model: EvaluatedModel, batch: MediaBatch, inputs: dict[str, torch.Tensor]) -> list[list[torch.Tensor]]:
    pooled = model.model.get_video_features(**inputs, return_dict=True).pooler_output
    return [[vector[None]] for vector in nn.functional.normalize(pooled.float(), dim=-1)]


def _tokens(model: EvaluatedModel, batch: MediaBatch, inputs: dict[str, torch.Tensor]) -> list[list[torch.Tensor]]:
    outputs = model.vision_tower(**inputs, return_dict=True)
    return [[tokens[mask]] for tokens, mask in zip(outputs.last_hidden_state, outputs.token_mask, strict=True)]


def _regions(
    model: EvaluatedModel,
    batch: MediaBatch,
    inputs: dict[str, torch.Tensor],
    boxes: Sequence[torch.Tensor],
    seconds: Sequence[float],
) -> list[list[torch.Tensor]]:
    outputs = model.vision_tower(**inputs, return_dict=True)
    own = [boxes[position] for position in batch.positions]
    most = max(1, *map(len, own))
    # Boxes that only pad are the whole first frame, which every video has.
    padded = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(own), most, 1)
    frame_index = torch.zeros(len(own), dtype=torch.int64)
    for row, position in enumerate(batch.positions):
        padded[row, : len(own[row])] = own[row]
        shown = torch.tensor(batch.frame_seconds[row])
        if len(own[row]):
            frame_index[row] = (shown - seconds[position]).abs().argmin()
    regions = model.vision_tower.region_features(outputs, padded.to(model.device), frame_index.to(model.device))
    return [
        [regions.features[row, region][regions.mask[row, region]] for region in range(len(own[row]))]
        for row in range(len(own))
    ]


@torch.inference_mode()
def text_embeddings(model: EvaluatedModel, texts: Sequence[str]) -> list[torch.Tensor]:
    """One normalised vector (1, d) float32 of each text, all at once; nothing is kept on disk."""
    tokens = model.tokenizer(
        list(texts), padding=True, truncation=True, max_length=MAX_TEXT_TOKENS, return_tensors="pt"
    )
    inputs = {name: tokens[name].to(model.device) for name in ("input_ids", "attention_mask")}
    pooled = model.model.get_text_features(**inputs, return_dict=True).pooler_output
    return [vector[None].cpu().clone() for vector in nn.functional.normalize(pooled.float(), dim=-1)]


def _own_chunks(store: FeatureStore, extraction: Extraction) -> list[int]:
    """The files that are to be computed and this process's: which these are must not depend on when it looks."""
    own = range(extraction.process_index, store.num_chunks, extraction.num_processes)
    return [
        chunk for chunk in own if not store.has(chunk) or (extraction.retry_failures and store.read(chunk).failures)
    ]


def _folder(model: EvaluatedModel, extraction: Extraction, kind: str) -> Path:
    return Path(extraction.cache) / model.fingerprint[:16] / kind


def _about(model: EvaluatedModel, kind: str) -> dict[str, Any]:
    return {"kind": kind, "model": model.name, "tower": model.tower, "fingerprint": model.fingerprint}


@contextmanager
def _progress(what: str, total: int, extraction: Extraction) -> Iterator[Callable[[int], Any]]:
    hidden = not extraction.show_progress or not extraction.is_first or total == 0
    with tqdm(total=total, desc=what, unit="item", disable=hidden) as bar:
        yield bar.update
