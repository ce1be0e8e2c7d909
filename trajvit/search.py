"""Search by text in a handful of videos: which shows it, and which of its trajectories does.

For many videos, `trajvit.evaluation` embeds them once and keeps what it finds.

Shape letters: N videos, Q texts, M trajectories of the video with most, d width of the common space.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trajvit.modeling_trajvit import TrajViTForContrastive
from trajvit.processing.processing_trajvit import TrajViTProcessor


@dataclass(frozen=True, eq=False)
class Similarities:
    """Cosine similarities of texts with videos and with their trajectories.

    Attributes:
        videos: (Q, N) float32.
        trajectories: (Q, N, M) float32, row m of trajectory m + 1; -inf where a video has no such trajectory.
    """

    videos: torch.Tensor
    trajectories: torch.Tensor

    def best_videos(self, text: int, count: int) -> list[int]:
        """The most similar videos of a text, best first."""
        return self.videos[text].topk(min(count, self.videos.shape[1])).indices.tolist()

    def best_trajectory(self, text: int, video: int) -> int | None:
        """The most similar trajectory of a video, 1 and up; None where it has none."""
        row = self.trajectories[text, video]
        return None if not row.numel() or row.max() == -torch.inf else int(row.argmax()) + 1


@torch.no_grad()
def search(
    model: TrajViTForContrastive, processor: TrajViTProcessor, texts: Sequence[str], inputs: Mapping[str, torch.Tensor]
) -> Similarities:
    """Compare texts with videos, and with each of their trajectories as if its video had no other.

    Args:
        model: Of the vision tower `trajvit`, in evaluation mode.
        processor: That belongs to it.
        texts: What is looked for.
        inputs: What the processor made of the videos.

    Raises:
        ValueError: There is no text, or the model's tokens are no trajectories.
    """
    if isinstance(texts, str) or not texts:
        raise ValueError(f"texts are {texts!r}; expected at least one, in a list")
    queries = _normalized(model.get_text_features(**_on(model, processor(text=list(texts)))).pooler_output)
    on_device = _on(model, inputs)
    videos = _normalized(model.get_video_features(**on_device).pooler_output)
    features, mask = model.get_trajectory_features(**on_device)
    similarities = torch.einsum("qd,nmd->qnm", queries, _normalized(features))
    return Similarities(queries @ videos.T, similarities.masked_fill(~mask, -torch.inf))


def _on(model: TrajViTForContrastive, inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    known = ("pixel_values_videos", "trajectory_maps", "trajectory_attention_mask", "frame_attention_mask")
    names = ("input_ids", "attention_mask", *known)
    return {name: inputs[name].to(model.device) for name in names if name in inputs}


def _normalized(features: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(features.float(), dim=-1)
