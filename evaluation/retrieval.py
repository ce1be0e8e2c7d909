"""Zero-shot retrieval of videos or images by texts, and of texts by them.

    accelerate launch evaluation/retrieval.py CHECKPOINT --data msrvtt --annotations MSRVTT_data.json --media videos

Recalls and median ranks are those of `metrics/retrieval_recall`: a text's rank is that of its video among all videos, a
video's that of the best of its texts among all texts. docs/evaluation.md describes options and output.
"""

import numpy as np
import torch

from trajvit.evaluation.checkpoint_loading import EvaluatedModel, load_contrastive
from trajvit.evaluation.completeness import check_features, check_media
from trajvit.evaluation.data_registry import open_retrieval_set
from trajvit.evaluation.evaluation_data import RetrievalSet
from trajvit.evaluation.exact_search import best_positive_ranks
from trajvit.evaluation.feature_extraction import Extraction, embed_media, embed_texts
from trajvit.evaluation.metric_modules import load_metric
from trajvit.evaluation.result_files import Result
from trajvit.evaluation.task_command import TaskOptions, run_task


def evaluate_retrieval(
    model: EvaluatedModel,
    data: RetrievalSet,
    extraction: Extraction,
    *,
    num_frames: int | None = None,
    allow_missing: bool = False,
    trained_on: str | None = None,
) -> Result:
    """Embed media and texts, and rank each among the other.

    Args:
        model: A contrastive one.
        data: Media with their texts.
        extraction: How, and by how many processes, they are embedded; each process calls this.
        num_frames: Frames of a video; None for the processor's number.
        allow_missing: Whether to report on the media that there are, where some cannot be used.
        trained_on: For the tables.

    Returns:
        `txt2vid_R@1`, `_R@5`, `_R@10` in percent and `txt2vid_median_rank`; the same of `vid2txt`; `num_texts`.

    Raises:
        MissingMediaError: Media are missing, and that is not allowed.
    """
    check_media(data.name, data.items, allow_missing)
    videos = embed_media(model, data.items, extraction, num_frames)
    failures, missing = check_features(data.name, data.items, videos, allow_missing)
    used = [position for position, item in enumerate(data.item_of_text) if item not in failures]
    texts = embed_texts(model, [data.texts[position] for position in used], extraction)
    item_of_text = np.array([data.item_of_text[position] for position in used])
    item_of_video = np.array([position for position in range(len(data.items)) if position not in failures])
    metrics = retrieval_metrics(videos.vectors(), texts, item_of_video, item_of_text, model.device)
    return Result(
        task="retrieval",
        dataset=data.name,
        model=model.name,
        tower=model.tower,
        metrics={**metrics, "num_texts": float(len(used))},
        num_items=len(item_of_video),
        trained_on=trained_on,
        missing=missing,
        settings=model.settings(num_frames),
    )


def retrieval_metrics(
    videos: torch.Tensor,
    texts: torch.Tensor,
    item_of_video: np.ndarray,
    item_of_text: np.ndarray,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Recalls and median ranks both ways of normalised embeddings (N, d) and (M, d), which belong to these items."""
    metrics: dict[str, float] = {}
    sides = {
        "txt2vid": (texts, videos, item_of_text, item_of_video),
        "vid2txt": (videos, texts, item_of_video, item_of_text),
    }
    for side, (queries, candidates, group_of_query, group_of_candidate) in sides.items():
        ranks = best_positive_ranks(queries, candidates, group_of_query, group_of_candidate, device=device)
        found = load_metric("retrieval_recall", "ranks").compute(predictions=ranks)
        metrics |= {f"{side}_{name}": value for name, value in found.items() if name != "num_queries"}
    return metrics


def main(options: TaskOptions) -> Result:
    model = load_contrastive(options.checkpoint, options.device, options.torch_dtype)
    data = open_retrieval_set(options.data, **options.reading)
    return evaluate_retrieval(
        model,
        data,
        options.extraction,
        num_frames=options.frames,
        allow_missing=options.allow_missing,
        trained_on=options.trained_on,
    )


if __name__ == "__main__":
    run_task(main, __doc__)
