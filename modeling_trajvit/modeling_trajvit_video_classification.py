"""Video classification: an attentive probe over all tokens of a vision tower (supplement, section 1)."""

from typing import TYPE_CHECKING, Any

import torch
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import can_return_tuple
from typing_extensions import Unpack

from .configuration_trajvit_video_classification import TrajViTVideoClassificationConfig
from .probed_tower import ProbedTowerPreTrainedModel

if TYPE_CHECKING:
    # Several releases of transformers load, beside a checkpoint's main file, only the modules that it names itself.
    from .attentive_probe import AttentiveProbe  # noqa: F401
    from .backbone_tower import BackboneTowerPreTrainedModel  # noqa: F401
    from .carried_pipelines import ConfigWithPipelines  # noqa: F401
    from .configuration_image_vit import ImageViTConfig  # noqa: F401
    from .configuration_probed_tower import ProbedTowerConfig  # noqa: F401
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
    from .safetensors_weights import SafetensorsModel  # noqa: F401
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
    from .vision_towers import build_vision_tower  # noqa: F401


@auto_docstring(
    custom_intro="""
    A vision tower with an attentive probe that classifies videos. The probe pools the CLS token and all others, so that
    a video always has a token. To train the probe alone, freeze the tower:
    `model.vision_model.requires_grad_(False)`.
    """
)
class TrajViTForVideoClassification(ProbedTowerPreTrainedModel):
    config: TrajViTVideoClassificationConfig

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As for every model; a checkpoint that carries its code opens by both Auto classes that know the model."""
        if self._auto_class is not None:
            name = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
            auto_map = getattr(self.config, "auto_map", None) or {}
            self.config.auto_map = {**auto_map, "AutoModel": name, "AutoModelForVideoClassification": name}
        super().save_pretrained(*args, **kwargs)

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        trajectory_maps: torch.Tensor | None = None,
        trajectory_attention_mask: torch.Tensor | None = None,
        frame_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        r"""
        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
            Normalised frames.
        trajectory_maps (`torch.LongTensor` of shape `(batch_size, num_frames, height, width)`, *optional*):
            The trajectory that owns each cell, 0 for none; unused by towers that need no trajectories.
        trajectory_attention_mask (`torch.LongTensor` of shape `(batch_size, num_trajectories)`, *optional*):
            1 for a trajectory, 0 for padding.
        frame_attention_mask (`torch.LongTensor` of shape `(batch_size, num_frames)`, *optional*):
            1 for a frame, 0 for padding of a video with fewer frames than the batch's longest.
        labels (`torch.Tensor`, *optional*):
            By `config.problem_type`: classes `(batch_size,)` as integers, a share for every label
            `(batch_size, num_labels)` as floats, or targets of a regression. Where the configuration leaves it open,
            one label makes a regression, integers make single-label and floats multi-label classification.
        """
        outputs = self.vision_model(
            pixel_values_videos=pixel_values_videos,
            trajectory_maps=trajectory_maps,
            trajectory_attention_mask=trajectory_attention_mask,
            frame_attention_mask=frame_attention_mask,
            return_dict=True,
            **kwargs,
        )
        logits = self.probe(outputs.last_hidden_state, getattr(outputs, "token_mask", None))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return ImageClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = ["TrajViTForVideoClassification"]
