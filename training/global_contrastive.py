"""InfoNCE over the batch of all processes, with the gradient of one process that has the whole batch.

Every process computes the rows of its own videos and texts against the columns of all. The mean of the processes'
losses is the loss of the whole batch, and where gradients are averaged over processes, as distributed data parallel
training does, those of all parameters are the whole batch's too.

Shape letters: R processes, n videos of one process, k captions of each video, d width of the common space.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import once_differentiable

from trajvit.modeling_trajvit.contrastive_loss import multi_positive_cross_entropy


def num_processes() -> int:
    """How many processes share a batch; 1 where there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """The rows of all processes; what these lose to a row comes back to the process that it is from."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        ctx.num_rows = len(tensor)
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(num_processes())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        # Not every backend can reduce and scatter in one; embeddings are small enough to reduce all of them.
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed.narrow(0, dist.get_rank() * ctx.num_rows, ctx.num_rows)


class _Shared(torch.autograd.Function):
    """A value that all processes have alike; its gradient is the mean of theirs."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        mean = gradient.clone()
        dist.all_reduce(mean)
        return mean / num_processes()


def gather_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """(n, ...) of each process -> (R * n, ...) of all, in their order. Every process calls it, with as many rows.

    In the backward pass a row gets the sum of all processes' gradients. Without a process group it is `tensor` itself.
    """
    return tensor if num_processes() == 1 else _Gather.apply(tensor)


@dataclass(frozen=True, eq=False)
class GlobalSimilarities:
    """This process's rows of the similarity matrix, in both directions, and where the matches are.

    Attributes:
        of_videos: (n, R * n * k), its videos against all texts.
        own_texts: (n, k) int64, the columns of a video's captions.
        of_texts: (n * k, R * n), its texts against all videos.
        own_video: (n * k,) int64, the column of a text's video.
    """

    of_videos: torch.Tensor
    own_texts: torch.Tensor
    of_texts: torch.Tensor
    own_video: torch.Tensor

    def info_nce(self) -> torch.Tensor:
        """The mean of both directions' losses, a scalar; over processes its mean is `info_nce` of the whole batch."""
        loss_of_videos = multi_positive_cross_entropy(self.of_videos, self.own_texts)
        return (loss_of_videos + nn.functional.cross_entropy(self.of_texts, self.own_video)) / 2

    @torch.no_grad()
    def accuracy(self) -> torch.Tensor:
        """Share of this process's videos whose most similar text is a caption of theirs, a scalar."""
        nearest = self.of_videos.argmax(1, keepdim=True)
        return (self.own_texts == nearest).any(1).float().mean()


def global_similarities(
    video_embeds: torch.Tensor, text_embeds: torch.Tensor, temperature: torch.Tensor
) -> GlobalSimilarities:
    """Compares `video_embeds` (n, d) and `text_embeds` (n * k, d) with those of all processes, in at least float32.

    Texts i * k to i * k + k - 1 are the captions of video i; n and k are the same in every process. Raises `ValueError`
    for texts that cannot be shared out evenly, or of another width.
    """
    num_videos, num_texts = len(video_embeds), len(text_embeds)
    if num_videos == 0 or num_texts == 0 or num_texts % num_videos or video_embeds.shape[1:] != text_embeds.shape[1:]:
        raise ValueError(
            f"video_embeds have shape {tuple(video_embeds.shape)} and text_embeds {tuple(text_embeds.shape)}: expected "
            "(n, d) and (n * k, d), at least one video and k texts for each."
        )
    processes, captions = num_processes(), num_texts // num_videos
    rank = dist.get_rank() if processes > 1 else 0
    if processes > 1:
        temperature = _Shared.apply(temperature)
    dtype = torch.promote_types(video_embeds.dtype, torch.float32)
    with torch.autocast(video_embeds.device.type, enabled=False):
        both = torch.cat([video_embeds.to(dtype), text_embeds.to(dtype)])
        # One exchange for both; a process's videos and texts follow one another.
        all_videos, all_texts = (
            gather_with_gradient(both).view(processes, len(both), -1).split([num_videos, num_texts], dim=1)
        )
        of_videos = both[:num_videos] @ all_texts.flatten(0, 1).T / temperature
        of_texts = both[num_videos:] @ all_videos.flatten(0, 1).T / temperature
    texts = torch.arange(num_texts, device=both.device)
    own_texts = (rank * num_texts + texts).view(num_videos, captions)
    own_video = rank * num_videos + torch.div(texts, captions, rounding_mode="floor")
    return GlobalSimilarities(of_videos, own_texts, of_texts, own_video)


def global_info_nce(video_embeds: torch.Tensor, text_embeds: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE of this process's `video_embeds` (n, d) and `text_embeds` (n * k, d) among all: a scalar.

    Every process calls it. The mean over processes is the loss of the whole batch; `temperature` (1,) divides the
    similarities. Raises as `global_similarities` does.
    """
    return global_similarities(video_embeds, text_embeds, temperature).info_nce()
