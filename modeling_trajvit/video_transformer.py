"""The main transformer: a plain pre-norm ViT over a CLS token and any masked sequence of tokens (Table 2, row 6).

It knows nothing about trajectories, so every tokenizer can stand before it.

Shape letters: B batch, L tokens, D width.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import TransformersKwargs
from typing_extensions import Unpack

from .configuration_vision_tower import VisionTowerConfig
from .packed_sequences import PackedSequences, pack_sequences, packed_attention


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

    def __init__(self, config: VisionTowerConfig):
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

    def project(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, L, D) -> query, key and value, (B, H, L, d) each."""
        heads = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_proj(hidden_states).view(heads).transpose(1, 2)
        key = self.k_proj(hidden_states).view(heads).transpose(1, 2)
        value = self.v_proj(hidden_states).view(heads).transpose(1, 2)
        return query, key, value

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        packing: PackedSequences | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Query, key and value (B, H, L, d) -> the layer's output (B, L, D), and the weights or None."""
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        options = {"dropout": self.attention_dropout if self.training else 0.0, "scaling": self.scaling, **kwargs}
        if packing is None:
            context, weights = attention(self, query, key, value, attention_mask, **options)
        else:
            context, weights = packed_attention(self, query, key, value, packing, attention, **options)
        return self.o_proj(context.flatten(2).contiguous()), weights

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        packing: PackedSequences | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.attend(*self.project(hidden_states), attention_mask, packing, **kwargs)


class VideoTransformerMLP(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(self, config: VisionTowerConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(hidden_states)))


class VideoTransformerLayer(GradientCheckpointingLayer):
    """Pre-norm attention and MLP with residual connections."""

    attention_class: type[VideoTransformerAttention] = VideoTransformerAttention

    def __init__(self, config: VisionTowerConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = self.attention_class(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VideoTransformerMLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        packing: PackedSequences | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        context, _ = self.attention(self.attention_norm(hidden_states), attention_mask, packing, **kwargs)
        hidden_states = hidden_states + self.dropout(context)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))


class VideoTransformerEncoder(nn.Module):
    """CLS token, transformer layers, final norm and pooling over a masked token sequence.

    Padding is not computed: sequences of different lengths pass the layers packed one after another. They pass padded
    and masked where the shapes of a batch must stay: when hidden states or attentions are to be returned, and in
    compiled code, whose shapes are fixed.
    """

    layer_class: type[VideoTransformerLayer] = VideoTransformerLayer

    def __init__(self, config: VisionTowerConfig, num_layers: int | None = None):
        """`num_layers` takes the place of `config.num_hidden_layers`."""
        super().__init__()
        self.config = config
        num_layers = config.num_hidden_layers if num_layers is None else num_layers
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList([self.layer_class(config) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def init_own_weights(self, std: float) -> None:
        init.normal_(self.cls_token, std=std)

    def forward(
        self, tokens: torch.Tensor, token_mask: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encodes `tokens` (B, L, D) where `token_mask` (B, L) bool is true.

        Returns the hidden states (B, 1 + L, D), CLS first and zeros in place of masked tokens, the pooled output (B, D)
        and the mask with the CLS token (B, 1 + L) bool.
        """
        hidden_states, mask = self.prepend_cls(tokens, token_mask)
        hidden_states = self.run_layers(hidden_states, mask, **kwargs)
        hidden_states, pooled = self.finish(hidden_states, mask)
        return hidden_states, pooled, mask

    def prepend_cls(self, tokens: torch.Tensor, token_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, L, D) and mask (B, L) -> the first layer's input (B, 1 + L, D) and its mask (B, 1 + L)."""
        cls_token = self.cls_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        mask = torch.cat([token_mask.new_ones(token_mask.shape[0], 1), token_mask], dim=1)
        return self.dropout(torch.cat([cls_token, tokens], dim=1)), mask

    def run_layers(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor,
        layers: Iterable[nn.Module] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Passes `hidden_states` (B, L, D) with `mask` (B, L) bool through `layers`, all of them unless given."""
        layers = self.layers if layers is None else layers
        if self.pads_may_be_left_out(mask, kwargs):
            packing = pack_sequences(mask, self.config._attn_implementation)
            packed = packing.pack(hidden_states)
            for layer in layers:
                packed = layer(packed, None, packing, **kwargs)
            return packing.unpack(packed)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=mask.long()
        )
        for layer in layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return hidden_states

    def pads_may_be_left_out(self, mask: torch.Tensor, options: Mapping[str, Any]) -> bool:
        """Whether a batch has padding and nothing asks for its shape to stay."""
        if torch.compiler.is_compiling():
            return False
        for field in ("output_hidden_states", "output_attentions"):
            wanted = options.get(field)
            if getattr(self.config, field, False) if wanted is None else wanted:
                return False
        return not bool(mask.all())

    def finish(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layer's output and its mask -> normed hidden states, zeros where masked, and the pooled output."""
        hidden_states = self.norm(hidden_states) * mask.unsqueeze(-1)
        return hidden_states, self.pool(hidden_states, mask[:, 1:])

    def pool(self, hidden_states: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """One vector per sample, (B, 1 + L, D) -> (B, D): the CLS token, or the mean of the tokens that are there."""
        if self.config.pooling == "cls":
            return hidden_states[:, 0]
        weights = torch.cat([~token_mask.any(1, keepdim=True), token_mask], dim=1).to(hidden_states.dtype)
        return (weights.unsqueeze(-1) * hidden_states).sum(1) / weights.sum(1, keepdim=True)
