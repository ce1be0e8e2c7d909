"""Runs of tubelets that repeat: where they start, how long they last, and which token stands for every tubelet.

The rule of "Don't Look Twice: Faster Video Transformers with Run-Length Tokenization" (Choudhury et al. 2024): of two
tubelets that follow each other at one place, the first frame of the earlier is compared with the last frame of the
later, and where they hardly differ, the later one is left out. A run is compared link by link, not with its start, so
that a slow enough change is never seen. What happens between the two frames is not seen either.

Shape letters: B batch, t x h x w tubelets of a video, P values of a tubelet, N tokens of all videos together, L most
tokens of a video.
"""

from typing import NamedTuple

import torch
from torch import nn


class Runs(NamedTuple):
    """The runs of a batch of videos. A run is named by its first tubelet."""

    starts: torch.Tensor  # (B, t, h, w) bool: which tubelets begin a run; none in padding
    lengths: torch.Tensor  # (B, t, h, w) int64: tubelets of the run that begins here, 0 where none does


class RunTokens(NamedTuple):
    """Which tubelets become tokens, and where every tubelet finds its token."""

    tubelets: torch.Tensor  # (N,) int64: the tubelet of each token, among the B * t * h * w of the batch
    slots: torch.Tensor  # (N,) int64: its place among the B * L of the padded batch of tokens
    mask: torch.Tensor  # (B, L) bool: which of those places hold a token
    sources: torch.Tensor  # (B, t, h, w) int64: 1 + the token of the tubelet's video that stands for it, 0 in padding


def tubelet_changes(pixels: torch.Tensor, tubelet_size: int) -> torch.Tensor:
    """How much every tubelet differs from the one before it in time: (B, t, h, w, P) -> (B, t - 1, h, w) float32.

    Mean absolute difference, in the units of `pixels`, between the first of the `tubelet_size` frames of the earlier
    tubelet and the last frame of the later one. A tubelet's values stand frame by frame.
    """
    frame = pixels.shape[-1] // tubelet_size
    earlier, later = pixels[:, :-1, ..., :frame], pixels[:, 1:, ..., -frame:]
    return (later.float() - earlier.float()).abs().mean(-1)


def find_runs(changes: torch.Tensor, mask: torch.Tensor, threshold: float) -> Runs:
    """`changes` (B, t - 1, h, w) from one tubelet to the next, `mask` (B, t) bool of those that a video has -> runs.

    A video has the first ones of its row. A run ends before a tubelet whose change is not under `threshold`, and with
    its video; a threshold of 0 makes every tubelet a run of its own.
    """
    # Nothing comes before a video's first tubelets, so that a run starts there.
    changes = nn.functional.pad(changes, (0, 0, 0, 0, 1, 0), value=torch.inf)
    starts = (changes >= threshold) & mask[:, :, None, None]
    steps = torch.arange(mask.shape[1], device=mask.device).view(1, -1, 1, 1)
    end = mask.sum(1).view(-1, 1, 1, 1)
    # The next start after each tubelet at its place: the smallest of all later ones, or the video's end.
    later = torch.cat([torch.where(starts, steps, end)[:, 1:], end.expand_as(starts[:, :1])], dim=1)
    following = later.flip(1).cummin(1).values.flip(1)
    return Runs(starts, (following - steps) * starts)


def assign_tokens(starts: torch.Tensor, mask: torch.Tensor) -> RunTokens:
    """One token for every run of `starts` (B, t, h, w), video by video in the order of their first tubelets.

    `mask` (B, t) bool as in `find_runs`. Compiled code has fixed shapes: there every tubelet has a place among the
    tokens, and the mask leaves out those that begin no run.
    """
    is_start = starts.flatten(1)
    if torch.compiler.is_compiling():
        token = torch.arange(is_start.shape[1], device=starts.device).expand_as(is_start)
        tubelets = slots = torch.arange(is_start.numel(), device=starts.device)
        token_mask = is_start
    else:
        token = is_start.cumsum(1) - 1
        counts = is_start.sum(1, keepdim=True)
        token_mask = torch.arange(int(counts.max()), device=starts.device) < counts
        tubelets = is_start.flatten().nonzero().squeeze(1)
        slots = token_mask.flatten().nonzero().squeeze(1)
    # Later starts have larger numbers, so the largest up to an instant is that of the run which goes on there.
    named = ((token + 1) * is_start).view(starts.shape)
    return RunTokens(tubelets, slots, token_mask, named.cummax(1).values * mask[:, :, None, None])
