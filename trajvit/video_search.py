"""Search by text in folders of videos: each video is read once, and a query then takes milliseconds.

index = VideoSearch("path/to/checkpoint", cache="search")
index.add("videos")
index.query("a dog runs", top_k=5)
"""

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, overload

import numpy as np
import torch

from trajvit.evaluation.checkpoint_loading import DTYPES, EvaluatedModel, load_contrastive
from trajvit.evaluation.evaluation_data import MediaItem
from trajvit.evaluation.exact_search import top_k as exact_top_k
from trajvit.evaluation.feature_extraction import Extraction, embed_media, text_embeddings
from trajvit.evaluation.feature_store import hash_of_item
from trajvit.evaluation.media_index import MediaIndex
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.trajectories import Trajectories
from trajvit.search import search
from trajvit.video_index import Segment, VideoIndex

VIDEOS_PER_FILE = 64
"""Videos of a file of features: what a run that is broken off has to do again at most."""

# Rows that are multiplied at once; as large as that, since there is one query and not thousands.
_BLOCK = 2**16

Paths = str | os.PathLike | Iterable[str | os.PathLike]


@dataclass(frozen=True)
class Hit:
    """A video that was found.

    Attributes:
        path: Its file.
        score: Cosine similarity with what was looked for, -1 to 1.
    """

    path: Path
    score: float


@dataclass(frozen=True, eq=False)
class ObjectHit:
    """A trajectory that was found in a video.

    Attributes:
        trajectory: Its number, from 1 on, among those of the video that the model sees.
        score: Cosine similarity with the text, -1 to 1.
        frames: (n,) positions among the sampled frames in which it is seen.
        frame_indices: (n,) numbers of these in the source.
        timestamps: (n,) seconds of these.
        boxes: (n, 4) float32 x0, y0, x1, y1 of it in these, as shares of width and height.
    """

    trajectory: int
    score: float
    frames: np.ndarray
    frame_indices: np.ndarray
    timestamps: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class IndexReport:
    """What adding a folder came to.

    Attributes:
        new: Videos that were read for the first time.
        changed: Those that were read again since their file is another by now.
        removed: Those that left since their file is gone.
        unchanged: Those that were known.
        failures: What cannot be used, with the reason; none of it is in the counts above.
        seconds: How long it took.
    """

    new: int
    changed: int
    removed: int
    unchanged: int
    failures: dict[Path, str] = field(default_factory=dict)
    seconds: float = 0.0


class VideoSearch:
    """Videos that are found by text, or by another video.

    Args:
        model: A checkpoint of `TrajViTForContrastive` (a folder or a Hub id), a pair of model and `TrajViTProcessor`,
            or an `EvaluatedModel`.
        cache: Folder in which the index is kept. What it has of this very model is there at once; several models
            may share a folder, and know nothing of each other.
        num_frames: Frames sampled from each video; None for the processor's number.
        device, dtype: Of a model that is loaded from a checkpoint.
        batch_size: Videos that pass the model together.
        num_workers: Processes that decode; with 0 this one does.

    Raises:
        CheckpointError: There is no such checkpoint, or it has no text tower.
        ValueError: The index on disk is damaged.
    """

    def __init__(
        self,
        model: Any,
        cache: str | os.PathLike,
        *,
        num_frames: int | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        batch_size: int = 8,
        num_workers: int = 0,
    ):
        self.model = _evaluated(model, device, dtype)
        self.num_frames = num_frames
        self._extraction = Extraction(
            cache, batch_size=batch_size, num_workers=num_workers, retry_failures=False, show_progress=False
        )
        # Where the features of these frames by this model go.
        self._index = VideoIndex(embed_media(self.model, [], self._extraction, num_frames).folder)

    def __len__(self) -> int:
        return len(self._index.paths)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path) in self._index.hashes

    def __repr__(self) -> str:
        return f"VideoSearch({self.model.name!r}, {len(self):,} videos in {str(self._index.folder)!r})"

    @property
    def paths(self) -> list[Path]:
        """The videos that can be found."""
        return [Path(path) for path in self._index.paths]

    @property
    def failures(self) -> dict[Path, str]:
        """The files that could not be used, with the reason."""
        return {Path(path): reason for path, reason in self._index.failures.items()}

    def add(
        self,
        videos: Paths,
        *,
        stored_trajectories: bool = False,
        retry_failures: bool = False,
        on_progress: Callable[[int, int], Any] | None = None,
    ) -> IndexReport:
        """Bring the index up to date with folders of videos, looked into at any depth, or with single files.

        Videos that are known and unchanged (by size and time of change) are not read. Those whose file is gone from an
        added folder leave. A file that cannot be used is reported, and read again only when it has changed. All that is
        done when a run is broken off stays done, but for the last 64 videos.

        Args:
            videos: A folder, a file, or several of them.
            stored_trajectories: Take trajectories from `NAME.traj.png` beside a video instead of generating them. They
                must be of the frames that the model samples.
            retry_failures: Read files again that could not be used before.
            on_progress: Called as `on_progress(done, total)` with the numbers of videos that are read.

        Raises:
            MissingMediaError: There is no such folder or file.
            ValueError: Another process is changing this index.
        """
        started = perf_counter()
        roots = [os.path.abspath(each) for each in _as_list(videos)]
        items = {item.media: item for root in roots for item in _items(root, stored_trajectories)}
        with self._index.alone():
            known = dict(self._index.hashes)
            hashes = {path: hash_of_item(item) for path, item in items.items()}
            gone = [path for path in _under(known, roots) if path not in items]
            changed = {path for path in items if path in known and known[path] != hashes[path]}
            again = {path for path in self._index.failures if path in items} if retry_failures else set()
            self._index.remove([*gone, *changed, *again])
            wanted = [path for path in items if path not in self._index.hashes]
            self._read([items[path] for path in wanted], [hashes[path] for path in wanted], on_progress)
            failures = dict(self._index.failures)
        failures |= dict.fromkeys(items.keys() - self._index.hashes.keys(), "it changed while it was read")
        read = set(wanted) - failures.keys()
        return IndexReport(
            new=len(read - changed),
            changed=len(read & changed),
            removed=len(gone),
            unchanged=len(items.keys() - failures.keys() - read),
            failures={Path(path): reason for path, reason in failures.items() if path in items},
            seconds=perf_counter() - started,
        )

    def remove(self, videos: Paths) -> int:
        """Take videos, or all of a folder, out of the index, whether the files are there or not; how many there were.

        Raises `ValueError` while another process is changing this index.
        """
        with self._index.alone():
            found = _under(self._index.hashes, [os.path.abspath(each) for each in _as_list(videos)])
            self._index.remove(found)
        return len(found)

    @overload
    def query(self, text: str, top_k: int = 5) -> list[Hit]: ...

    @overload
    def query(self, text: list[str] | tuple[str, ...], top_k: int = 5) -> list[list[Hit]]: ...

    def query(self, text: str | list[str] | tuple[str, ...], top_k: int = 5) -> list[Hit] | list[list[Hit]]:
        """The videos that are most similar to a text, best first; for a list of texts a list for each.

        There are fewer than `top_k` where the index has fewer. Equally similar ones come in the order in which they
        were added.

        Raises:
            ValueError: A text is empty, or `top_k` is less than 1.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not texts or not all(isinstance(each, str) and each.strip() for each in texts):
            raise ValueError(f"text is {text!r}; expected words to look for, or a list of texts")
        found = self._nearest(torch.cat(text_embeddings(self.model, texts)), top_k)
        return found[0] if isinstance(text, str) else found

    def query_by_video(self, video: Any, top_k: int = 5) -> list[Hit]:
        """The videos that are most similar to another, best first.

        Args:
            video: Anything that `decode_video` takes: a path, URL, bytes, an array of frames. It need not be in the
                index; if it is, it finds itself first.
            top_k: As of `query`.

        Raises:
            VideoDecodingError: It cannot be decoded.
            ValueError: `top_k` is less than 1.
        """
        path = os.path.abspath(video) if isinstance(video, (str, os.PathLike)) and "://" not in str(video) else None
        is_current = path is not None and self._index.hashes.get(path) == hash_of_item(MediaItem(path, path))
        if is_current and path not in self._index.failures:
            return self._nearest(self._index.vectors[self._index.paths.index(str(path)), None], top_k)[0]
        inputs = self._inputs(video)
        with torch.inference_mode():
            pooled = self.model.model.get_video_features(**inputs, return_dict=True).pooler_output
        return self._nearest(torch.nn.functional.normalize(pooled.float(), dim=-1).cpu(), top_k)[0]

    def objects(self, text: str, video: Any, top_k: int = 3) -> list[ObjectHit]:
        """The trajectories of one video that are most similar to a text, best first.

        The video is read anew: its trajectories are not kept. Best for the first few videos of `query`.

        Args:
            text: What to look for.
            video: As of `query_by_video`.
            top_k: Most trajectories wanted.

        Raises:
            VideoDecodingError: It cannot be decoded.
            ValueError: The text is empty, `top_k` is less than 1, or the model's tokens are no trajectories.
        """
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"text is {text!r}; expected words to look for")
        _require_count(top_k)
        inputs = self._inputs(video, return_trajectories=True)
        (trajectories,) = inputs.pop("trajectories")
        processor = TrajViTProcessor(self.model.tokenizer, self.model.video_processor)
        scores = search(self.model.model, processor, [text], inputs).trajectories[0, 0]
        count = trajectories.num_trajectories
        best = scores[:count].topk(min(top_k, count))
        return [
            _object_hit(trajectories, row + 1, score)
            for score, row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def _read(self, items: list[MediaItem], hashes: list[str], on_progress: Callable[[int, int], Any] | None) -> None:
        done = 0

        def count(number: int) -> None:
            nonlocal done
            done += number
            if on_progress is not None:
                on_progress(done, len(items))

        count(0)
        extraction = replace(self._extraction, on_items=count)
        for begin in range(0, len(items), VIDEOS_PER_FILE):
            block = items[begin : begin + VIDEOS_PER_FILE]
            with warnings.catch_warnings():
                # Here it costs nothing that trajectories are not stored: no video is read twice.
                warnings.filterwarnings("ignore", "a sample has no stored trajectories")
                embed_media(self.model, block, extraction, self.num_frames)
            # Where a file has changed since its hash was taken, the features have another name, and the block waits for
            # the next time.
            paths = tuple(str(item.media) for item in block)
            self._index.put([Segment(tuple(hashes[begin : begin + VIDEOS_PER_FILE]), paths)])

    def _inputs(self, video: Any, **settings: Any) -> Any:
        wanted = {} if self.num_frames is None else {"num_frames": self.num_frames}
        inputs = self.model.video_processor([video], return_tensors="pt", **wanted, **settings)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor):
                inputs[name] = value.to(self.model.device, self.model.dtype if value.is_floating_point() else None)
        return inputs

    def _nearest(self, queries: torch.Tensor, top_k: int) -> list[list[Hit]]:
        _require_count(top_k)
        if not len(self):
            return [[] for _ in queries]
        scores, rows = exact_top_k(queries, self._index.vectors, min(top_k, len(self)), block=_BLOCK)
        return [
            [Hit(Path(self._index.paths[row]), score) for score, row in zip(*both, strict=True)]
            for both in zip(scores.tolist(), rows.tolist(), strict=True)
        ]


def _evaluated(model: Any, device: str | torch.device, dtype: str | torch.dtype) -> EvaluatedModel:
    if isinstance(model, (str, os.PathLike)):
        if isinstance(dtype, str) and dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
        return load_contrastive(os.fspath(model), device, DTYPES[dtype] if isinstance(dtype, str) else dtype)
    if isinstance(model, (tuple, list)) and len(model) == 2:
        own, processor = model
        model = EvaluatedModel("model", own.eval(), processor.video_processor, processor.tokenizer)
    if not isinstance(model, EvaluatedModel):
        raise TypeError(
            f"model is of type {type(model).__name__}; expected a checkpoint, or a pair of model and processor"
        )
    if not model.is_contrastive or model.tokenizer is None:
        raise ValueError(f"model is a {type(model.model).__name__}; expected TrajViTForContrastive and its processor")
    return model


def _as_list(videos: Paths) -> list[str | os.PathLike]:
    return [videos] if isinstance(videos, (str, os.PathLike)) else list(videos)


def _items(root: str, stored_trajectories: bool) -> Iterable[MediaItem]:
    """The videos at a path; each is named by its own."""
    paths = [root] if os.path.isfile(root) else [os.path.join(root, name) for name in MediaIndex(root, "video").paths]
    for path in paths:
        stored = f"{os.path.splitext(path)[0]}.traj.png"
        has_stored = stored_trajectories and os.path.isfile(stored)
        yield MediaItem(path, path, trajectories=stored if has_stored else None)


def _under(paths: Iterable[str], roots: list[str]) -> list[str]:
    return [path for path in paths if any(path == root or path.startswith(os.path.join(root, "")) for root in roots)]


def _require_count(top_k: int) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k is {top_k!r}; expected a whole number, 1 or more")


def _object_hit(trajectories: Trajectories, number: int, score: float) -> ObjectHit:
    frames = np.flatnonzero(trajectories.presence[number - 1])
    return ObjectHit(
        trajectory=number,
        score=score,
        frames=frames,
        frame_indices=trajectories.frame_indices[frames],
        timestamps=trajectories.timestamps[frames],
        boxes=trajectories.boxes[number - 1, frames],
    )
