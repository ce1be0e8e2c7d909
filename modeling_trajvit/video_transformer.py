"""The main transformer: a plain pre-norm ViT over a CLS token and any masked sequence of tokens (Table 2, row 6).

It knows nothing about trajectories, so every tokenizer can stand before it.

Shape letters: B batch, L tokens, D width.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import TransformersKwargs
from typing_extensions import Unpack


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out: the only form that returns its weights. The mask is additive, (B, 1, L, L)."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class VideoTransformerAttention(nn.Module):
    """Multi-head self-attention through the attention interface of transformers."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        heads = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_proj(hidden_states).view(heads).transpose(1, 2)
        key = self.k_proj(hidden_states).view(heads).transpose(1, 2)
        value = self.v_proj(hidden_states).view(heads).transpose(1, 2)
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attention(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.o_proj(context.reshape(hidden_states.shape).contiguous()), weights


class VideoTransformerMLP(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(hidden_states)))


class VideoTransformerLayer(GradientCheckpointingLayer):
    """Pre-norm attention and MLP with residual connections."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = VideoTransformerAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VideoTransformerMLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        context, _ = self.attention(self.attention_norm(hidden_states), attention_mask, **kwargs)
        hidden_states = hidden_states + self.dropout(context)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))


class VideoTransformerEncoder(nn.Module):
    """CLS token, transformer layers, final norm and pooling over a masked token sequence.

    `config` needs the fields of a transformers ViT (`hidden_size`, `num_hidden_layers`, ...) and `pooling`.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList([VideoTransformerLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, tokens: torch.Tensor, token_mask: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encodes `tokens` (B, L, D) where `token_mask` (B, L) bool is true.

        Returns the hidden states (B, 1 + L, D), CLS first and zeros in place of masked tokens, the pooled output (B, D)
        and the mask with the CLS token (B, 1 + L) bool.
        """
        cls_token = self.cls_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        hidden_states = self.dropout(torch.cat([cls_token, tokens], dim=1))
        mask = torch.cat([token_mask.new_ones(token_mask.shape[0], 1), token_mask], dim=1)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=mask.long()
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        hidden_states = self.norm(hidden_states) * mask.unsqueeze(-1)
        return hidden_states, self.pool(hidden_states, token_mask), mask

    def pool(self, hidden_states: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """One vector per sample, (B, 1 + L, D) -> (B, D): the CLS token, or the mean of the tokens that are there."""
        if self.config.pooling == "cls":
            return hidden_states[:, 0]
        weights = torch.cat([~token_mask.any(1, keepdim=True), token_mask], dim=1).to(hidden_states.dtype)
        return (weights.unsqueeze(-1) * hidden_states).sum(1) / weights.sum(1, keepdim=True)
