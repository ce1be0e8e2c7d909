"""The contrastive objective: a bounded learned temperature and the symmetric InfoNCE loss."""

import torch
from torch import nn


class _Bound(torch.autograd.Function):
    """Clamps a parameter; the gradient passes unless following it would lead further outside.

    A plain clamp has no gradient outside its bounds: a temperature that one step carries out would stay there forever.
    """

    @staticmethod
    def forward(ctx, value: torch.Tensor, low: float, high: float) -> torch.Tensor:
        ctx.save_for_backward(value)
        ctx.low, ctx.high = low, high
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (value,) = ctx.saved_tensors
        outwards = ((value < ctx.low) & (gradient > 0)) | ((value > ctx.high) & (gradient < 0))
        return gradient.masked_fill(outwards, 0.0), None, None


def bounded(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """`value` clamped to `low`..`high`, with a gradient that can always lead back inside."""
    return _Bound.apply(value, low, high)


def info_nce(logits: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE of square `logits` (N, N) whose diagonal holds the matching pairs: a scalar.

    Raises `ValueError` when the logits are not square.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}: the loss expects as many videos as texts, matching in order."
        )
    target = torch.arange(logits.shape[0], device=logits.device)
    return (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2


def multi_positive_cross_entropy(logits: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with several right answers, each by a softmax over all: the mean over them and the rows, a scalar.

    `logits` (Q, K), `positives` (Q, P) int64 columns. With P = 1 it is `cross_entropy`; with more, the loss of
    "Supervised Contrastive Learning" (Khosla et al. 2020) whose mean is outside the logarithm.
    """
    return -logits.log_softmax(-1).gather(1, positives).mean()
