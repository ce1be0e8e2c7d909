"""Trains an attentive probe on stored features, by the supplement's recipe (section 1).

AdamW, weight decay 0.5, learning rate 1e-4, batches of 128, 12 epochs, features layer-normed before the classifier
(`AttentiveProbe.feature_norm`). What the supplement leaves open: the learning rate is constant, and weight decay is on
all weights.

Shape letters: N sequences of a batch, K features of the longest, D width, C labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm.auto import tqdm

from trajvit.modeling_trajvit import AttentiveProbe
from trajvit.training.read_ahead import ReadAhead

from .feature_store import FeatureChunk, FeatureStore


@dataclass(frozen=True)
class ProbeRecipe:
    """Settings of a probe's training; the defaults are the supplement's.

    Attributes:
        learning_rate, weight_decay: AdamW's.
        batch_size, epochs: Of its training.
        num_heads: Heads of the probe's attention; fewer where they do not divide the width.
        seed: Of its weights and of the order of samples.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.5
    batch_size: int = 128
    epochs: int = 12
    num_heads: int = 16
    seed: int = 0


class StoredSequences:
    """All sequences of a store, in order, read from disk when they are asked for."""

    def __init__(self, store: FeatureStore):
        self._places: list[tuple[FeatureChunk, int]] = [
            (chunk, number) for chunk in store.chunks() for number in range(len(chunk.lengths))
        ]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def width(self) -> int:
        """D."""
        chunk, number = self._places[0]
        return chunk.sequence(number).shape[1]

    def batch(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (N, K, D) float32 and mask (N, K) bool of these sequences, padded with zeros."""
        sequences = [chunk.sequence(number) for chunk, number in (self._places[number] for number in numbers.tolist())]
        features = nn.utils.rnn.pad_sequence(sequences, batch_first=True).float()
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        return features, torch.arange(features.shape[1]) < lengths[:, None]

    def in_batches(self, batches: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """`batch` of each of these, read ahead while the one before is used."""
        ahead = ReadAhead(lambda: (self.batch(numbers) for numbers in batches), 2, "features of a probe")
        try:
            yield from ahead
        finally:
            ahead.close()


def train_probe(
    store: FeatureStore,
    labels: torch.Tensor,
    num_labels: int,
    recipe: ProbeRecipe,
    device: torch.device | str = "cpu",
    show_progress: bool = True,
) -> AttentiveProbe:
    """Train a probe; on a CPU the same store, labels and recipe give the same probe.

    Args:
        store: Features.
        labels: For each sequence of the store a class (s,) int64, or 0 and 1 for each label (s, C) float.
        num_labels: C.
        recipe: Of the training.
        device: Where to train.
        show_progress: Whether to show how far it is.

    Returns:
        The probe, in evaluation mode.

    Raises:
        ValueError: The store has no sequence, or another number of them than there are labels.
    """
    sequences = StoredSequences(store)
    if len(sequences) != len(labels) or not len(labels):
        raise ValueError(f"{len(sequences)} sequences of features with {len(labels)} labels: expected as many, and one")
    device = torch.device(device)
    loss_of = nn.functional.cross_entropy if labels.ndim == 1 else nn.functional.binary_cross_entropy_with_logits
    order = torch.Generator().manual_seed(recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        probe = AttentiveProbe(sequences.width, num_labels, num_heads=_fitting_heads(sequences.width, recipe.num_heads))
    probe.to(device).train()
    optimizer = torch.optim.AdamW(probe.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    for _ in tqdm(range(recipe.epochs), desc="probe", unit="epoch", disable=not show_progress):
        batches = torch.randperm(len(labels), generator=order).split(recipe.batch_size)
        for numbers, (features, mask) in zip(batches, sequences.in_batches(batches), strict=True):
            loss = loss_of(probe(features.to(device), mask.to(device)), labels[numbers].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return probe.eval()


@torch.inference_mode()
def probe_logits(probe: AttentiveProbe, store: FeatureStore, batch_size: int = 128) -> Iterator[torch.Tensor]:
    """(N, C) float32 logits of all sequences of a store, a batch at a time, in order."""
    sequences = StoredSequences(store)
    device = next(probe.parameters()).device
    if not len(sequences):
        return
    for features, mask in sequences.in_batches(torch.arange(len(sequences)).split(batch_size)):
        yield probe(features.to(device), mask.to(device)).float().cpu()


def _fitting_heads(width: int, most: int) -> int:
    return max(heads for heads in range(1, most + 1) if width % heads == 0)
