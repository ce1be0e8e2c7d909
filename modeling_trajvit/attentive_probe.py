"""The probe that tells what a frozen vision tower's features hold: multi-head attention pooling and a classifier.

One learned query attends to the features of a video or of a region, as in the attentive probing of V-JEPA ("Revisiting
Feature Prediction for Learning Visual Representations from Video"). The supplement (section 1) adds that features are
layer-normalised first, and leaves the rest open. As in V-JEPA the query is added to what it gathers, and an MLP of four
times the width follows; where V-JEPA normalises after the MLP, its input is normalised here, as in the tower's layers.

Shape letters: N sequences, K features of a sequence, D width, H heads, d width of a head.
"""

import torch
from torch import nn
from transformers import initialization as init


class AttentiveProbe(nn.Module):
    """Pools features by one learned query and classifies what it gathers.

    It needs no tower: features may be computed once and stored. The weights of a probe trained so are those of the
    `probe` of [`TrajViTForVideoClassification`] and [`TrajViTForActionDetection`].
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        layer_norm_eps: float = 1e-6,
    ):
        """`dropout` falls on the attention's weights and on the MLP's output; `num_heads` divides `hidden_size`."""
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size={hidden_size} must be a multiple of num_heads={num_heads}.")
        self.num_heads = num_heads
        self.attention_dropout = dropout
        self.query = nn.Parameter(torch.empty(1, 1, hidden_size))
        self.feature_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.o_proj = nn.Linear(hidden_size, hidden_size)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.fc1 = nn.Linear(hidden_size, int(mlp_ratio * hidden_size))
        self.activation = nn.GELU()
        self.fc2 = nn.Linear(int(mlp_ratio * hidden_size), hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, num_labels)
        self.init_own_weights(0.02)

    @torch.no_grad()
    def init_own_weights(self, std: float) -> None:
        """Starts a probe that stands alone as one inside a model."""
        init.normal_(self.query, std=std)
        for module in self.children():
            if isinstance(module, nn.Linear):
                init.normal_(module.weight, std=std)
                init.zeros_(module.bias)

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(N, K, D) features and (N, K) bool, true where there is one -> logits (N, num_labels).

        Raises `ValueError` on other shapes and on a sequence without a feature.
        """
        self.check(features, mask)
        features = self.feature_norm(features.to(self.query.dtype))
        pooled = self.query + self.attend(features, mask)
        pooled = pooled + self.dropout(self.fc2(self.activation(self.fc1(self.mlp_norm(pooled)))))
        return self.classifier(pooled[:, 0])

    def attend(self, features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """What the query gathers from (N, K, D) features: (N, 1, D).

        There is one query for all features, so neither their keys nor their values are made: a score is the feature's
        product with `k_proj`'s transpose of the query, and `v_proj` of a mean the mean of values. That takes
        2 H products of width D for a feature in place of 2 D.
        """
        query = self.q_proj(self.query).view(self.num_heads, -1)
        scale = query.shape[-1] ** -0.5
        keys, key_bias = self._matrices(self.k_proj)
        values, value_bias = self._matrices(self.v_proj)
        scores = features @ torch.einsum("hd,hde->eh", query * scale, keys) + (query * key_bias).sum(-1) * scale
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(-1), -torch.inf)
        weights = scores.softmax(1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(features.dtype)
        weights = nn.functional.dropout(weights, self.attention_dropout, self.training).transpose(1, 2)
        gathered = torch.einsum("nhe,hde->nhd", weights @ features, values)
        context = gathered + weights.sum(-1, keepdim=True) * value_bias
        return self.o_proj(context.flatten(1).unsqueeze(1))

    def _matrices(self, layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (H, d, D) and bias (H, d) of each head; of a layer in a `Linear`'s place, from what it does."""
        if type(layer) is nn.Linear:
            weight, bias = layer.weight, layer.bias
        else:
            # As with LoRA, whose layer adds something to a weight that it still shows.
            rows = torch.eye(self.query.shape[-1], dtype=self.query.dtype, device=self.query.device)
            bias = layer(torch.zeros_like(rows[:1]))[0]
            weight = (layer(rows) - bias).T
        return weight.view(self.num_heads, -1, weight.shape[1]), bias.view(self.num_heads, -1)

    def check(self, features: torch.Tensor, mask: torch.Tensor | None) -> None:
        hidden_size = self.query.shape[-1]
        if features.ndim != 3 or features.shape[-1] != hidden_size:
            raise ValueError(
                f"features have shape {tuple(features.shape)}: expected (sequences, features, {hidden_size})."
            )
        if mask is None:
            return
        if mask.shape != features.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)} and dtype {mask.dtype}: expected bool {tuple(features.shape[:2])}."
            )
        if not torch.compiler.is_compiling() and not mask.any(1).all():
            row = int((~mask.any(1)).nonzero()[0])
            raise ValueError(f"mask[{row}] is all False: expected at least one feature in every sequence.")


__all__ = ["AttentiveProbe"]
