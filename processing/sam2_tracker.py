"""Follow many objects of many clips in one batch with SAM 2, as its video predictor follows each of them alone.

The result is that of `sam2.sam2_video_predictor.SAM2VideoPredictor` run object by object (float32: logits to 1e-3)
with less work: frames are encoded once, what does not depend on the object is computed once per frame, masks are
upscaled for the best candidate alone, and a frame becomes a memory only when another step reads it.

Shape legend: F encoded frames, N objects, S image size (square), C = 256 channels, L tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.nn import functional as F

from .sam2_features import FrameFeatures, encode_frames
from .sam2_mask_decoder import transform, upscale
from .sam2_memory_attention import MemoryAttention, SharedFrame
from .sam2_tracked_objects import LastFrame, Memory, TrackedObjects
from .sam2_windows import TokenWindows

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_Result = TypeVar("_Result")

NO_OBJECT = -1024.0
"""Logit of every pixel of an object that is not in the frame."""

# A mask that is given, not predicted, has these logits inside and outside.
_GIVEN_LOGIT = 10.0
# Settings of sam2.1 on which the computation here relies.
_REQUIRED = {
    "use_mask_input_as_output_without_sam": True,
    "use_obj_ptrs_in_encoder": True,
    "add_tpos_enc_to_obj_ptrs": True,
    "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True,
    "pred_obj_scores": True,
    "fixed_no_obj_ptr": True,
    "soft_no_obj_ptr": False,
    "multimask_output_in_sam": True,
    "multimask_output_for_tracking": True,
    "use_multimask_token_for_obj_ptr": True,
    "non_overlap_masks_for_mem_enc": False,
    "memory_temporal_stride_for_eval": 1,
}


@dataclass(frozen=True, eq=False)
class StepOutput:
    """Masks of one step.

    Attributes:
        logits: (N, S/4, S/4) float32, positive inside the object; `NO_OBJECT` where the object is not in the frame.
        object_scores: (N,) float32 logits, positive where the object is in the frame.
    """

    logits: torch.Tensor
    object_scores: torch.Tensor


class Sam2Tracker:
    """SAM 2's tracking, all objects of a step in one batch.

    Args:
        model: SAM 2.1 in evaluation mode, as `load_sam2` returns it.
        autocast_dtype: Reduced precision of the matrix products; None keeps float32.
        memory_pooling: Memories are pooled so many times in each direction: 1 is exact, more is an approximation.
        attention_window: Condition on memories only the tokens inside the object's last box, dilated by this factor
            (at least 1), and read only those of the memories: an approximation. None conditions the whole frame.

    Raises:
        ValueError: The model is not a SAM 2.1, or a setting is out of its range.
    """

    def __init__(
        self,
        model: SAM2Base,
        *,
        autocast_dtype: torch.dtype | None = None,
        memory_pooling: int = 1,
        attention_window: float | None = None,
    ):
        for name, required in _REQUIRED.items():
            if getattr(model, name, None) != required:
                raise ValueError(f"The model must be a SAM 2.1: its {name} must be {required}.")
        side = model.image_size // model.backbone_stride
        if memory_pooling < 1 or side % memory_pooling:
            raise ValueError(f"memory_pooling must divide the {side} tokens of a frame's side, got {memory_pooling}.")
        if attention_window is not None and attention_window < 1:
            raise ValueError(f"attention_window must be at least 1, got {attention_window}.")
        if attention_window is not None and memory_pooling > 1:
            raise ValueError("attention_window and memory_pooling cannot be used together.")
        self.model = model
        self.autocast_dtype = autocast_dtype
        self._attention = MemoryAttention(model, memory_pooling, autocast_dtype)
        self._pooling = memory_pooling
        self._windows = None if attention_window is None else TokenWindows(side, attention_window)
        self._shared: WeakKeyDictionary[FrameFeatures, dict[int, SharedFrame]] = WeakKeyDictionary()
        self._projections: WeakKeyDictionary[FrameFeatures, dict[int, torch.Tensor]] = WeakKeyDictionary()
        with torch.inference_mode():
            encoder, decoder = model.sam_prompt_encoder, model.sam_mask_decoder
            outputs = (decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight)
            # An empty prompt is one point that is none, and one of padding.
            self._prompts = torch.cat([*outputs, encoder.not_a_point_embed.weight.expand(2, -1)])
            self._position = encoder.get_dense_pe()[0].flatten(1).T

    def encode(self, frames: np.ndarray, batch_size: int | None = None) -> FrameFeatures:
        """Encode frames (F, H, W, 3), uint8 RGB, each once, `batch_size` together as in `encode_frames`."""
        return encode_frames(self.model, frames, batch_size, self.autocast_dtype)

    @torch.inference_mode()
    def start(
        self, features: FrameFeatures, frame_of_object: torch.Tensor, masks: torch.Tensor
    ) -> tuple[TrackedObjects, StepOutput]:
        """Begin to follow objects from their masks on key frames.

        Args:
            features: F encoded frames.
            frame_of_object: (N,) int64 position in `features` of each object's key frame.
            masks: (N, S, S) bool.

        Returns:
            The objects, and their masks as the model keeps them.
        """
        model = self.model
        device = model.device
        masks = masks.to(device)[:, None].float()
        given = masks * (2 * _GIVEN_LOGIT) - _GIVEN_LOGIT
        side = model.image_size // 4
        logits = F.interpolate(given, size=(side, side), mode="bilinear", align_corners=False, antialias=True)[:, 0]
        with self._autocast():
            frames = features.stride_16[frame_of_object.to(features.stride_16.device)]
            prompts = model.sam_prompt_encoder.mask_downscaling(model.mask_downsample(masks))
            tokens, _ = self._transform((frames + prompts).flatten(2).transpose(1, 2))
            present = model.sam_mask_decoder.pred_obj_score_head(tokens[:, 0]) > 0
            pointers = model.obj_ptr_proj(tokens[:, 2]).float()
        is_given = masks.flatten(1).any(dim=1)
        pointers = torch.where(present & is_given[:, None], pointers, model.no_obj_ptr)
        scores = torch.where(is_given, _GIVEN_LOGIT, -_GIVEN_LOGIT)
        last = self._last_frame(features, frame_of_object, logits, scores)
        objects = TrackedObjects(0, last, None, (), pointers, ())
        return objects, StepOutput(logits, scores)

    @torch.inference_mode()
    def step(
        self, objects: TrackedObjects, features: FrameFeatures, frame_of_object: torch.Tensor
    ) -> tuple[TrackedObjects, StepOutput]:
        """Follow objects into their next frames.

        Args:
            objects: N objects; they stay as they are.
            features: F encoded frames.
            frame_of_object: (N,) int64 position in `features` of the frame into which each object is followed.

        Returns:
            The objects one step later, and their masks. No object's result depends on the others.
        """
        with self._autocast():
            objects = self._remember(objects)
            conditioned, outside = self._condition(objects, features, frame_of_object)
            logits, scores, pointers = self._decode(conditioned, features, frame_of_object)
        if outside is not None:
            logits = logits.masked_fill(outside, NO_OBJECT)
        last = self._last_frame(features, frame_of_object, logits, scores)
        recent_pointers = (*objects.recent_pointers, pointers)[-(self.model.max_obj_ptrs_in_encoder - 1) :]
        moved = TrackedObjects(
            objects.age + 1, last, objects.key_memory, objects.recent_memories, objects.key_pointer, recent_pointers
        )
        return moved, StepOutput(logits, scores)

    def bytes_per_object(self, num_steps: int) -> int:
        """Estimate the memory, state and working, that one object takes while it is followed for some steps."""
        model = self.model
        size = 2 if self.autocast_dtype else 4
        tokens = (model.image_size // model.backbone_stride) ** 2
        memory_tokens = tokens // self._pooling**2
        num_memories = min(num_steps, model.num_maskmem)
        num_layers = len(model.memory_attention.layers)
        caches = 1 + (self.autocast_dtype is not None or model.device.type == "cuda")
        memories = num_memories * memory_tokens * (num_layers * model.hidden_dim * size * caches + model.mem_dim * 2)
        attention = num_memories * memory_tokens * model.hidden_dim * size * 2
        feed_forward = tokens * (model.memory_attention.layers[0].linear1.out_features + 4 * model.hidden_dim) * 4
        # The mask at full size, its first convolutions, and the decoder's upscaling.
        masks = 16 * model.image_size**2
        return memories + max(attention + feed_forward, masks)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.model.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None
        )

    def _last_frame(
        self, features: FrameFeatures, frame_of_object: torch.Tensor, logits: torch.Tensor, scores: torch.Tensor
    ) -> LastFrame:
        frames, index = torch.unique(frame_of_object, return_inverse=True)
        with self._autocast():
            projections = _once_per_frame(self._projections, features, frames.tolist(), self._project)
        return LastFrame(logits, scores, tuple(projections), index.to(logits.device))

    def _project(self, frames: torch.Tensor) -> list[torch.Tensor]:
        # Cloned, so that keeping one frame does not keep them all.
        return [projected.clone() for projected in self.model.memory_encoder.pix_feat_proj(frames)]

    def _remember(self, objects: TrackedObjects) -> TrackedObjects:
        """Turn the last frame into the newest memory, and cache what the attention needs of each."""
        newest = self._encode_memory(objects)
        key_memory, recent = newest, objects.recent_memories
        if objects.key_memory is not None:
            key_memory = objects.key_memory
            recent = (*recent, newest)[-(self.model.num_maskmem - 1) :]
        cache = self._attention.cache
        return replace(objects, key_memory=cache(key_memory), recent_memories=tuple(map(cache, recent)))

    def _encode_memory(self, objects: TrackedObjects) -> Memory:
        model, last = self.model, objects.last
        size = (model.image_size, model.image_size)
        masks = F.interpolate(last.logits[:, None], size=size, mode="bilinear", align_corners=False)
        is_binary = objects.age == 0 and model.binarize_mask_from_pts_for_mem_enc
        masks = (masks > 0).float() if is_binary else masks.sigmoid_()
        masks = masks.mul_(model.sigmoid_scale_for_mem_enc).add_(model.sigmoid_bias_for_mem_enc)
        encoder = model.memory_encoder
        encoded = encoder.mask_downsampler(masks) + torch.stack(last.projections)[last.frame_of_object]
        encoded = encoder.out_proj(encoder.fuser(encoded)).float()
        absent = (last.object_scores <= 0).float()[:, None, None, None]
        encoded = encoded + absent * model.no_obj_embed_spatial[..., None, None]
        if self._pooling > 1:
            encoded = F.avg_pool2d(encoded, self._pooling)
        return Memory(encoded.flatten(2).transpose(1, 2).to(torch.bfloat16))

    def _condition(
        self, objects: TrackedObjects, features: FrameFeatures, frame_of_object: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Conditioned frames (N, L, C), and, of windows, the pixels outside of them (N, S/4, S/4)."""
        frames, index = torch.unique(frame_of_object, return_inverse=True)
        index = index.to(features.stride_16.device)
        shared = _once_per_frame(self._shared, features, frames.tolist(), self._attention.share)
        assert objects.key_memory is not None
        recent = list(enumerate(reversed(objects.recent_memories), start=1))
        memories = [(0, objects.key_memory), *recent]
        pointers = [(objects.age + 1, objects.key_pointer)]
        pointers += list(enumerate(reversed(objects.recent_pointers), start=1))
        if self._windows is None:
            return self._attention(shared, index, memories, pointers), None
        # Outside its window an object sees the frame as one without any memory.
        plain = (features.stride_16[frames].flatten(2).transpose(1, 2) + self.model.no_mem_embed)[index]
        for rows, window in self._windows.groups(objects.last.logits):
            selected = [(age, memory.select(rows)) for age, memory in memories]
            chosen = [(age, pointer[rows]) for age, pointer in pointers]
            inside = self._attention(shared, index[rows], selected, chosen, window)
            plain[rows[:, None], window] = inside.to(plain.dtype)
        return plain, self._windows.outside(objects.last.logits)

    def _transform(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the mask decoder's transformer: its output tokens (N, 6 + 2, C) and images (N, L, C) of (N, L, C)."""
        decoder = self.model.sam_mask_decoder
        prompts = self._prompts.expand(len(embeddings), -1, -1)
        layers = decoder.transformer.layers
        return transform(decoder.transformer, layers, prompts, prompts, embeddings, self._position)

    def _decode(
        self, conditioned: torch.Tensor, features: FrameFeatures, frame_of_object: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Masks (N, S/4, S/4), object scores (N,) and pointers (N, C) of conditioned frames (N, L, C)."""
        model, decoder = self.model, self.model.sam_mask_decoder
        tokens, image = self._transform(conditioned + model.sam_prompt_encoder.no_mask_embed.weight)
        scores = decoder.pred_obj_score_head(tokens[:, 0])[:, 0].float()
        predicted_iou = decoder.iou_prediction_head(tokens[:, 1])
        rows = torch.arange(len(tokens), device=tokens.device)
        # The first mask token is for unambiguous prompts.
        best = predicted_iou[:, 1:].argmax(dim=-1)
        mask_tokens = tokens[:, 3:6]
        present = scores > 0
        pointers = torch.where(present[:, None], model.obj_ptr_proj(mask_tokens[rows, best]).float(), model.no_obj_ptr)

        side = model.image_size // 4
        logits = conditioned.new_full((len(tokens), side, side), NO_OBJECT, dtype=torch.float32)
        seen = present.nonzero()[:, 0]
        if len(seen):
            upscaled = upscale(decoder, image[seen], features, frame_of_object.to(seen.device)[seen])
            heads = decoder.output_hypernetworks_mlps[1:]
            weights = torch.stack([head(mask_tokens[seen, i]) for i, head in enumerate(heads)], dim=1)
            weights = weights[torch.arange(len(seen), device=seen.device), best[seen]]
            logits[seen] = torch.matmul(weights[:, None], upscaled.flatten(2)).float().unflatten(2, (side, side))[:, 0]
        return logits, scores, pointers


def _once_per_frame(
    results: WeakKeyDictionary[FrameFeatures, dict[int, _Result]],
    features: FrameFeatures,
    frames: list[int],
    compute: Callable[[torch.Tensor], list[_Result]],
) -> list[_Result]:
    """What `compute` makes of these frames' (f, C, S/16, S/16), kept in `results` while `features` lives."""
    known = results.setdefault(features, {})
    missing = [frame for frame in frames if frame not in known]
    if missing:
        known.update(zip(missing, compute(features.stride_16[missing]), strict=True))
    return [known[frame] for frame in frames]
