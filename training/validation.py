"""Zero-shot retrieval among held-out samples while a run trains.

Shape letters: n videos and m texts of one process, N and M those of all, k captions of each video, d width of the
common space.
"""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from .acceleration import input_dtype, shards_weights
from .clip_loader import Batch
from .collation import to_model_inputs
from .contrastive_step import random_states, set_random_states

RECALLS = (1, 5, 10)
_ROWS_AT_ONCE = 1024


def evaluate_retrieval(accelerator: Accelerator, model: Any, loader: Iterable[Batch]) -> dict[str, float]:
    """Texts to videos and videos to texts, among the samples of all processes' loaders.

    Every process calls it, each with its own part of the samples, of which there may be none. Neither the model nor
    the state of a random number generator is another afterwards.

    Returns:
        What `retrieval_metrics` does, the same on every process.

    Raises:
        ValueError: Nobody has a sample; or the weights are shared out and a process has none.
    """
    wrapped = accelerator.unwrap_model(model)
    with _at_testing(wrapped, accelerator.device):
        videos, texts = _embed(accelerator, wrapped, loader)
    videos, texts = gather_rows(accelerator, videos), gather_rows(accelerator, texts)
    if len(videos) == 0:
        raise ValueError("there is no held-out sample: expected at least one")
    return retrieval_metrics(videos, texts)


def retrieval_metrics(videos: torch.Tensor, texts: torch.Tensor) -> dict[str, float]:
    """Recall and median rank both ways.

    Texts i * k to i * k + k - 1 are the captions of video i. The rank of a text's video is 1 and how many other videos
    are at least as similar: one that is as similar as the right one counts against it, so that a model which gives all
    the same embedding finds nothing. A video's rank is that of its best caption among the texts of other videos.

    Args:
        videos: (N, d) normalised embeddings.
        texts: (N * k, d) normalised embeddings.

    Returns:
        `txt2vid_R@1`, `_R@5`, `_R@10` in percent and `txt2vid_median_rank`; the same of `vid2txt`; `num_videos` and
        `num_texts`.
    """
    num_videos, num_texts = len(videos), len(texts)
    if num_videos == 0 or num_texts == 0 or num_texts % num_videos:
        raise ValueError(f"{num_texts} texts for {num_videos} videos: expected as many for each, and at least one")
    captions = num_texts // num_videos
    video_of_text = torch.arange(num_texts, device=videos.device) // captions
    ranks = {
        "txt2vid": _ranks(texts, video_of_text, videos, torch.arange(num_videos, device=videos.device)),
        "vid2txt": _ranks(videos, torch.arange(num_videos, device=videos.device), texts, video_of_text),
    }
    metrics: dict[str, float] = {}
    for name, own in ranks.items():
        for recall in RECALLS:
            metrics[f"{name}_R@{recall}"] = 100 * (own <= recall).double().mean().item()
        # `quantile` is the mean of the middle two, unlike torch's median.
        metrics[f"{name}_median_rank"] = own.double().quantile(0.5).item()
    return {**metrics, "num_videos": num_videos, "num_texts": num_texts}


def gather_rows(accelerator: Accelerator, rows: torch.Tensor) -> torch.Tensor:
    """(n, d) of each process, n its own -> (N, d), in the processes' order, each row once."""
    counts = accelerator.gather(torch.tensor([len(rows)], device=rows.device))
    padded = nn.functional.pad(rows, (0, 0, 0, int(counts.max()) - len(rows)))
    gathered = accelerator.gather(padded).unflatten(0, (len(counts), -1))
    return torch.cat([own[:count] for own, count in zip(gathered, counts.tolist(), strict=True)])


def _ranks(
    queries: torch.Tensor, video_of_query: torch.Tensor, candidates: torch.Tensor, video_of_candidate: torch.Tensor
) -> torch.Tensor:
    """Ranks (q,) of the right one among candidates (c, d) for queries (q, d); those of the same video are right."""
    ranks = []
    for rows, videos in zip(queries.split(_ROWS_AT_ONCE), video_of_query.split(_ROWS_AT_ONCE), strict=True):
        similarities = rows @ candidates.T
        own = videos[:, None] == video_of_candidate
        best = similarities.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        # A similarity that is no number counts against the right one as well.
        ranks.append(1 + (~own & ~(similarities < best)).sum(1))
    return torch.cat(ranks)


def _embed(accelerator: Accelerator, model: Any, loader: Iterable[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised embeddings of this process's videos (n, d) and texts (m, d)."""
    width = model.config.projection_dim
    none = torch.empty(0, width, device=accelerator.device)
    videos, texts = [none], [none]
    for batch, is_own in _in_step(accelerator, loader):
        outputs = model(**to_model_inputs(batch.inputs, accelerator.device, input_dtype(accelerator)))
        if is_own:
            videos.append(outputs.video_embeds.float())
            texts.append(outputs.text_embeds.float())
    return torch.cat(videos), torch.cat(texts)


def _in_step(accelerator: Accelerator, loader: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
    """A process's batches; where weights are shared out, as many on all: its last again in place of none."""
    if not shards_weights(accelerator):
        yield from ((batch, True) for batch in loader)
        return
    batches = iter(loader)
    last: Batch | None = None
    while True:
        batch = next(batches, None)
        anyone = accelerator.reduce(torch.tensor(float(batch is not None), device=accelerator.device), "sum")
        if anyone.item() == 0:
            return
        last = last if batch is None else batch
        if last is None:
            raise ValueError("this process has no held-out sample: ZeRO-3 expects one at least on each")
        yield last, batch is not None


@contextmanager
def _at_testing(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode without gradients, then the modes and all random states as they were."""
    training = [module for module in model.modules() if module.training]
    states = random.getstate(), np.random.get_state(), random_states(device)  # noqa: NPY002 - the global state is kept
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        set_random_states(states[2], device)
