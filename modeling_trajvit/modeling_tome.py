"""ToMe's vision tower: ViT3D's tubelets and positions, and a transformer that merges similar tokens in every layer.

"Token Merging: Your ViT But Faster" (Bolya et al. 2023): between attention and MLP the most similar tokens, compared by
their attention keys averaged over the heads, merge to their mean, and attention counts a token as often as it has
tubelets (proportional attention). `token_merging` holds the matching. The paper merges in trained models and in
training; in both the matching is a constant of the gradient, which flows through the means.

What the paper leaves open: videos of other sizes than the configuration's merge the same shares of their tokens
([`ToMeConfig`]), and `pooling="mean"` is the plain mean of the tokens that remain, as in every other tower. Where two
similarities are equal but for rounding, the choice may fall differently on other hardware or in another batch.

Shape letters: B batch, T frames, L tokens with CLS, D width, H heads, d width of a head, t x h x w tubelets of a video.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs
from typing_extensions import Unpack

from .configuration_tome import ToMeConfig
from .token_merging import match_tokens, merge_tokens
from .tubelet_embedding import SpaceTimePositions, TubeletEmbedding, check_and_cut
from .tubelet_tower import TubeletTowerPreTrainedModel
from .video_transformer import VideoTransformerAttention, VideoTransformerEncoder, VideoTransformerLayer
from .vision_tower import TubeletTowerOutput

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_vision_tower import VisionTowerConfig  # noqa: F401
    from .model_inputs import check_videos  # noqa: F401
    from .packed_sequences import PackedSequences  # noqa: F401
    from .region_pooling import align_regions  # noqa: F401
    from .safetensors_weights import SafetensorsModel  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401


class LayerMerges(NamedTuple):
    """How many tokens a layer merges in each video of a batch."""

    num_merged: torch.Tensor | None  # (B,) int64, or None where no video can have any
    length: int  # tokens after the layer, CLS and padding counted


def plan_merges(config: ToMeConfig, counts: torch.Tensor, time: int, instant: int) -> list[LayerMerges]:
    """The merges of every layer in videos of `counts` (B,) instants, at most `time`, each of `instant` tubelets.

    Lengths have room for videos of all counts, so that they follow from the shape of the batch alone.
    """
    merged = [config.tokens_merged(rows * instant) for rows in range(1, time + 1)]
    remaining = [rows * instant for rows in range(1, time + 1)]
    layers = []
    for by_count in zip(*merged, strict=True):
        remaining = [before - step for before, step in zip(remaining, by_count, strict=True)]
        num_merged = torch.tensor(by_count, device=counts.device)[counts - 1] if any(by_count) else None
        layers.append(LayerMerges(num_merged, 1 + max(remaining)))
    return layers


class ToMeAttention(VideoTransformerAttention):
    """Proportional attention: a token that stands for n tubelets draws as much as n equal tokens would."""

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, sizes: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """(B, L, D) and sizes (B, L) -> the output (B, L, D), the weights or None, and what to compare (B, L, d)."""
        query, key, value = self.project(hidden_states)
        # The logarithm of no tubelet at all is minus infinity, which masks padding.
        bias = sizes.log().to(query.dtype)[:, None, None]
        context, weights = self.attend(query, key, value, bias, **kwargs)
        return context, weights, key.detach().mean(1)


class ToMeLayer(VideoTransformerLayer):
    """A layer of the transformer that merges tokens between its attention and its MLP."""

    attention_class = ToMeAttention

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        sizes: torch.Tensor,
        merges: LayerMerges,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(B, L, D) and sizes (B, L) -> the merged tokens, their sizes, and where each of the L went, or None."""
        context, _, metric = self.attention(self.attention_norm(hidden_states), sizes, **kwargs)
        hidden_states = hidden_states + self.dropout(context)
        destination = None
        if merges.num_merged is not None:
            destination = match_tokens(metric, sizes > 0, merges.num_merged)
            hidden_states, sizes = merge_tokens(hidden_states, sizes, destination, merges.length)
        hidden_states = hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))
        return hidden_states, sizes, destination


class ToMeEncoder(VideoTransformerEncoder):
    """The transformer of all towers, with fewer tokens after every layer."""

    layer_class = ToMeLayer

    def forward(  # type: ignore[override]
        self,
        tokens: torch.Tensor,
        token_mask: torch.Tensor,
        merges: list[LayerMerges],
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encodes `tokens` (B, L, D) where `token_mask` (B, L) bool is true, the first ones of each row.

        Returns the hidden states, the pooled output and the mask as `VideoTransformerEncoder` does, and for each of the
        L tokens the position of the one that carries it at the end, (B, L), 0 for padding.
        """
        hidden_states, mask = self.prepend_cls(tokens, token_mask)
        sizes = mask.to(torch.promote_types(tokens.dtype, torch.float32))
        sources = torch.arange(1, mask.shape[1], device=mask.device) * token_mask
        for layer, layer_merges in zip(self.layers, merges, strict=True):
            hidden_states, sizes, destination = layer(hidden_states, sizes, layer_merges, **kwargs)
            if destination is not None:
                sources = destination.gather(1, sources)
        mask = sizes > 0
        hidden_states, pooled = self.finish(hidden_states, mask)
        return hidden_states, pooled, mask, sources


@auto_docstring
class ToMePreTrainedModel(TubeletTowerPreTrainedModel):
    config: ToMeConfig
    _no_split_modules = ["ToMeLayer"]  # noqa: RUF012
    # Proportional attention adds to the logits, which these kernels have no room for.
    _supports_flash_attn = False
    _supports_flex_attn = False


@auto_docstring(
    custom_intro="The video encoder whose layers merge the most similar space-time tubelets, without a head on top."
)
class ToMeModel(ToMePreTrainedModel):
    def __init__(self, config: ToMeConfig):
        super().__init__(config)
        self.embedding = TubeletEmbedding(config)
        self.positions = SpaceTimePositions(config.position_grid, config.hidden_size)
        self.encoder = ToMeEncoder(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        trajectory_maps: torch.Tensor | None = None,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TubeletTowerOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Frames, normalised with ImageNet's mean and standard deviation; height and width are multiples of
            `config.patch_size`. An image is a video of one frame.
        trajectory_maps (`torch.LongTensor`, *optional*):
            Not used: taken so that every vision tower has the same inputs.
        trajectory_attention_mask (`torch.LongTensor`, *optional*):
            Not used, as `trajectory_maps`.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest. Without it all count.
        """
        tubelets = check_and_cut(pixel_values_videos, frame_attention_mask, self.config)
        shape = tubelets.pixels.shape[:4]
        counts = tubelets.mask.sum(1)
        tokens = (self.embedding(tubelets.pixels) + self.positions(counts, *shape[1:])).flatten(1, 3)

        # (B, t, h, w): all tubelets of an instant are there or none of them is.
        is_token = tubelets.mask[:, :, None, None].expand(shape).flatten(1)
        merges = plan_merges(self.config, counts, shape[1], shape[2] * shape[3])
        hidden_states, pooled, token_mask, sources = self.encoder(tokens, is_token, merges, **kwargs)
        return TubeletTowerOutput(
            last_hidden_state=hidden_states,
            pooler_output=pooled,
            token_mask=token_mask,
            tubelet_sources=sources.view(shape),
            frame_to_tubelet=tubelets.frame_to_tubelet,
        )


__all__ = ["ToMeModel", "ToMePreTrainedModel"]
