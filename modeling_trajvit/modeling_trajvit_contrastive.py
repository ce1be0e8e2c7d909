"""Video-text contrastive model: a vision tower and a text tower meet in one normalised space."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring
from transformers.utils.generic import can_return_tuple, maybe_autocast
from typing_extensions import Unpack

from .configuration_trajvit_contrastive import TrajViTContrastiveConfig
from .contrastive_loss import bounded, info_nce
from .safetensors_weights import SafetensorsModel
from .vision_towers import VISION_TOWERS, build_vision_tower

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .backbone_tower import BackboneTowerPreTrainedModel  # noqa: F401
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_image_vit import ImageViTConfig  # noqa: F401
    from .configuration_rlt import RLTConfig  # noqa: F401
    from .configuration_token_learner import TokenLearnerConfig  # noqa: F401
    from .configuration_token_merge import TokenMergeConfig  # noqa: F401
    from .configuration_tome import ToMeConfig  # noqa: F401
    from .configuration_trajvit import TrajViTConfig  # noqa: F401
    from .configuration_vision_tower import VisionTowerConfig  # noqa: F401
    from .configuration_vit3d import ViT3DConfig  # noqa: F401
    from .configuration_vivit import ViViTConfig  # noqa: F401
    from .frame_features import FrameFeatureExtractor  # noqa: F401
    from .learned_merging import soft_pooling  # noqa: F401
    from .model_inputs import check_videos  # noqa: F401
    from .modeling_image_vit import ImageViTModel  # noqa: F401
    from .modeling_rlt import RLTModel  # noqa: F401
    from .modeling_token_learner import TokenLearnerModel  # noqa: F401
    from .modeling_token_merge import TokenMergeModel  # noqa: F401
    from .modeling_tome import ToMeModel  # noqa: F401
    from .modeling_trajvit import TrajViTModel  # noqa: F401
    from .modeling_vit3d import ViT3DModel  # noqa: F401
    from .modeling_vivit import ViViTModel  # noqa: F401
    from .packed_sequences import PackedSequences  # noqa: F401
    from .perceiver_resampler import TrajectoryPairs  # noqa: F401
    from .position_encoding import geometric_frequencies  # noqa: F401
    from .region_pooling import check_regions  # noqa: F401
    from .resampled_tokenizer import ResampledTokenizer  # noqa: F401
    from .run_length import Runs  # noqa: F401
    from .spatial_transformer import SpatialFeatures  # noqa: F401
    from .token_learner import TokenLearner  # noqa: F401
    from .token_merging import match_tokens  # noqa: F401
    from .trajectory_pooling import segment_index  # noqa: F401
    from .tubelet_embedding import Tubelets  # noqa: F401
    from .tubelet_tower import TubeletTowerPreTrainedModel  # noqa: F401
    from .video_pipelines import PIPELINES  # noqa: F401
    from .video_transformer import eager_attention_forward  # noqa: F401
    from .vision_tower import VisionTowerOutput  # noqa: F401
    from .vision_tower_configs import named_tower  # noqa: F401


@dataclass
class TrajViTContrastiveOutput(ModelOutput):
    r"""
    loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `return_loss` is `True`):
        Symmetric InfoNCE over the batch.
    logits_per_video (`torch.FloatTensor` of shape `(num_videos, num_texts)`):
        Cosine similarities divided by the temperature.
    logits_per_text (`torch.FloatTensor` of shape `(num_texts, num_videos)`):
        Their transpose.
    text_embeds (`torch.FloatTensor` of shape `(num_texts, projection_dim)`):
        Normalised text embeddings.
    video_embeds (`torch.FloatTensor` of shape `(num_videos, projection_dim)`):
        Normalised video embeddings.
    text_model_output (`BaseModelOutputWithPooling`):
        Output of `get_text_features`.
    vision_model_output (`BaseModelOutputWithPooling`):
        Output of `get_video_features`.
    temperature (`torch.FloatTensor` of shape `(1,)`):
        What the similarities were divided by, within its bounds: for a loss that is computed elsewhere.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None
    temperature: torch.Tensor | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(v.to_tuple() if isinstance(v, ModelOutput) else v for v in self.values())


@auto_docstring(
    custom_intro="A vision tower and a text encoder, projected to one space and compared by a learned temperature."
)
class TrajViTForContrastive(SafetensorsModel):
    config: TrajViTContrastiveConfig
    base_model_prefix = "trajvit_contrastive"
    main_input_name = "pixel_values_videos"
    input_modalities: Any = ("video", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: TrajViTContrastiveConfig):
        super().__init__(config)
        vision_config: Any = config.vision_config
        text_config: Any = config.text_config
        self.vision_model = build_vision_tower(vision_config)
        self.text_model = AutoModel.from_config(text_config)
        if config.text_pooling == "cls" and getattr(self.text_model, "pooler", None) is not None:
            # Weights that no loss reaches stall distributed training.
            self.text_model.pooler = None
        self.video_projection = nn.Linear(vision_config.hidden_size, config.projection_dim)
        self.text_projection = nn.Linear(text_config.hidden_size, config.projection_dim)
        # One element, not a scalar: sharded training cannot split a 0-dim parameter.
        self.temperature = nn.Parameter(torch.empty(1))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, TrajViTForContrastive):
            init.constant_(module.temperature, self.config.temperature_init_value)

    @classmethod
    def from_pretrained_parts(cls, config: TrajViTContrastiveConfig, **hub_options: Any) -> "TrajViTForContrastive":
        """A new model whose parts start from the checkpoints that the configuration names, Hub ids or folders.

        `config.text_checkpoint` starts the text tower and decides its architecture; a vision tower with a
        `backbone_checkpoint` starts its backbone. `hub_options` (token, cache_dir, ...) go to each `from_pretrained`.
        Raises `ValueError` when the configuration names no checkpoint, or one that lacks weights.
        """
        vision_config: Any = config.vision_config
        has_vision_checkpoint = getattr(vision_config, "backbone_checkpoint", None) is not None
        if config.text_checkpoint is None and not has_vision_checkpoint:
            raise ValueError(
                "text_checkpoint=None and vision_config.backbone_checkpoint=None: expected a Hub id or a folder."
            )
        changed: dict[str, Any] = {}
        vision_model = text_model = None
        if has_vision_checkpoint:
            tower: Any = VISION_TOWERS[vision_config.model_type]
            vision_model = tower.from_pretrained_parts(vision_config, **hub_options)
            changed["vision_config"] = vision_model.config
        if config.text_checkpoint is not None:
            text_model, info = AutoModel.from_pretrained(
                config.text_checkpoint, output_loading_info=True, **hub_options
            )
            changed["text_config"] = text_model.config
        model = cls(type(config)(**{**config.to_dict(), **changed}))
        if vision_model is not None:
            model.vision_model.load_state_dict(vision_model.state_dict())
        if text_model is not None:
            # The pooler that `text_pooling="cls"` leaves out may be in the checkpoint or not.
            lacking = set(info["missing_keys"]) & set(model.text_model.state_dict())
            if lacking:
                raise ValueError(f"text_checkpoint={config.text_checkpoint!r} lacks {sorted(lacking)}.")
            model.text_model.load_state_dict(text_model.state_dict(), strict=False)
        return model

    @can_return_tuple
    @auto_docstring
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        trajectory_maps: torch.Tensor | None = None,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Normalised frames.
        trajectory_maps (`torch.LongTensor` of shape `(batch_size, num_frames, height, width)`, *optional*):
            The trajectory that owns each cell, 0 for none; unused by towers that need no trajectories.
        trajectory_attention_mask (`torch.LongTensor` of shape `(batch_size, num_trajectories)`, *optional*):
            1 for a trajectory, 0 for padding.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest.

        Returns the vision tower's output with `pooler_output` projected to the common space, not normalised.
        """
        outputs = self.vision_model(
            pixel_values_videos=pixel_values_videos,
            trajectory_maps=trajectory_maps,
            trajectory_attention_mask=trajectory_attention_mask,
            frame_attention_mask=frame_attention_mask,
            return_dict=True,
            **kwargs,
        )
        outputs.pooler_output = self.video_projection(outputs.pooler_output)
        return outputs

    def get_trajectory_features(
        self,
        pixel_values_videos: torch.Tensor,
        trajectory_maps: torch.Tensor,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each trajectory in the common space, as if its video had no other: to find it by a text.

        The inputs are those of `get_video_features`. Returns (batch_size, num_trajectories, projection_dim), not
        normalised, and (batch_size, num_trajectories) bool, which of them are there. Raises `ValueError` for a vision
        tower whose tokens are no trajectories.
        """
        tower: Any = self.vision_model
        if not hasattr(tower, "encode_each_trajectory"):
            raise ValueError(
                f"model_type={tower.config.model_type!r} has no token for each trajectory: expected 'trajvit'."
            )
        pooled, mask = tower.encode_each_trajectory(
            pixel_values_videos, trajectory_maps, trajectory_attention_mask, frame_attention_mask
        )
        return self.video_projection(pooled) * mask.unsqueeze(-1), mask

    @can_return_tuple
    @auto_docstring
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        Returns the text encoder's output with `pooler_output` projected to the common space, not normalised.
        """
        # Not every text encoder knows segments.
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        outputs = self.text_model(
            input_ids=input_ids, attention_mask=attention_mask, **segments, return_dict=True, **kwargs
        )
        pooled = outputs.pooler_output if self.config.text_pooling == "pooler" else outputs.last_hidden_state[:, 0]
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=self.text_projection(pooled),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        trajectory_maps: torch.Tensor | None = None,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        return_loss: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TrajViTContrastiveOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Normalised frames.
        trajectory_maps (`torch.LongTensor` of shape `(batch_size, num_frames, height, width)`, *optional*):
            The trajectory that owns each cell, 0 for none.
        trajectory_attention_mask (`torch.LongTensor` of shape `(batch_size, num_trajectories)`, *optional*):
            1 for a trajectory, 0 for padding.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest.
        return_loss (`bool`, *optional*):
            Whether to return the loss, which takes the i-th video and the i-th text to match. It is the loss of the
            batch at hand and needs no process group; a loss over several processes starts from the embeddings.
        """
        if input_ids is None:
            raise ValueError("input_ids is missing: use get_video_features for videos alone.")
        vision = self.get_video_features(
            pixel_values_videos,
            trajectory_maps,
            trajectory_attention_mask,
            frame_attention_mask,
            return_dict=True,
            **kwargs,
        )
        text = self.get_text_features(input_ids, attention_mask, token_type_ids, return_dict=True, **kwargs)
        # Similarities are divided by a small temperature: half precision would round the logits too coarsely.
        dtype = torch.promote_types(vision.pooler_output.dtype, torch.float32)
        video_embeds = nn.functional.normalize(vision.pooler_output.to(dtype), dim=-1)
        text_embeds = nn.functional.normalize(text.pooler_output.to(dtype), dim=-1)
        temperature = bounded(self.temperature.to(dtype), self.config.temperature_min, self.config.temperature_max)
        with maybe_autocast(device_type=video_embeds.device.type, enabled=False):
            logits_per_video = video_embeds @ text_embeds.T / temperature
        return TrajViTContrastiveOutput(
            loss=info_nce(logits_per_video) if return_loss else None,
            logits_per_video=logits_per_video,
            logits_per_text=logits_per_video.T,
            text_embeds=text_embeds,
            video_embeds=video_embeds,
            text_model_output=text,
            vision_model_output=vision,
            temperature=temperature,
        )


__all__ = ["TrajViTContrastiveOutput", "TrajViTForContrastive"]
