"""Three ways to follow objects with SAM 2 that the project's tracker is measured against.

- `track_with_predictor`: `SAM2VideoPredictor`, object by object, through its documented calls.
- `track_in_one_batch`: every object of every clip is a row of one batch through the unmodified `SAM2Base.track_step`.
- `track_with_transformers`: `Sam2VideoModel` through its inference session.

Shape legend: F frames of all clips, T frames of a clip, N objects of a clip, R rows, S image size, s = S / 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from trajvit.processing.sam2_features import prepare_frames

# Object pointers are timed relative to min(number of frames, 16); a constant makes clips of all lengths comparable.
NUM_FRAMES = 16


@dataclass(frozen=True)
class Clip:
    """Frames `first` to `first + length` of a task, and the objects of the first of them."""

    index: int
    first: int
    length: int
    masks: Tensor  # (N, S, S) bool


# An object: its clip, and its number in the clip.
Row = tuple[Clip, int]


@dataclass(frozen=True, eq=False)
class TrackingTask:
    """Clips that lie one after the other, with masks on the first frame of each.

    Attributes:
        frames: (F, S, S, 3) uint8 RGB, what the JPEG files hold once decoded.
        clip_lengths: Frames of each clip.
        masks: Of each clip, (N, S, S) bool.
        folders: Of each clip, a folder of JPEG files as `SAM2VideoPredictor.init_state` reads it.
    """

    frames: np.ndarray
    clip_lengths: tuple[int, ...]
    masks: tuple[Tensor, ...]
    folders: tuple[Path, ...]

    @staticmethod
    def read(folders: Sequence[Path], masks: Sequence[Tensor]) -> TrackingTask:
        """Decode the JPEG files of each clip's folder."""
        clips = [[np.asarray(Image.open(path)) for path in sorted(folder.glob("*.jpg"))] for folder in folders]
        frames = np.stack([frame for clip in clips for frame in clip])
        return TrackingTask(frames, tuple(map(len, clips)), tuple(masks), tuple(folders))

    @property
    def clips(self) -> list[Clip]:
        starts = accumulate(self.clip_lengths[:-1], initial=0)
        return [Clip(*clip) for clip in zip(range(len(self.masks)), starts, self.clip_lengths, self.masks, strict=True)]


@dataclass
class Tracked:
    """What a system found, on the CPU.

    Attributes:
        logits: Of each clip, (T, N, s, s) float32.
        masks: Of each clip, (T, N, S, S) bool.
    """

    logits: list[Tensor]
    masks: list[Tensor]

    @staticmethod
    def empty(task: TrackingTask) -> Tracked:
        size = task.frames.shape[1]
        shapes = [(clip.length, len(clip.masks)) for clip in task.clips]
        return Tracked(
            logits=[torch.zeros(*shape, size // 4, size // 4) for shape in shapes],
            masks=[torch.zeros(*shape, size, size, dtype=torch.bool) for shape in shapes],
        )

    def add(self, rows: Sequence[Row], step: int, logits: Tensor, masks: Tensor) -> None:
        """Put one step of some objects in its place: logits (R, s, s) and masks (R, S, S) of R rows."""
        logits, masks = logits.cpu(), masks.cpu()
        for index, (clip, number) in enumerate(rows):
            self.logits[clip.index][step, number] = logits[index]
            self.masks[clip.index][step, number] = masks[index]


def frame_masks(logits: Tensor, size: int) -> Tensor:
    """(N, s, s) logits -> (N, S, S) bool, enlarged as the predictor does it."""
    return F.interpolate(logits[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0] > 0


def write_clip(frames: Iterable[np.ndarray], folder: Path) -> Path:
    """Write (S, S, 3) uint8 frames as 00000.jpg, 00001.jpg ... and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:05d}.jpg", quality=95)
    return folder


def track_with_predictor(predictor: Any, task: TrackingTask) -> Tracked:
    """Follow every object with `SAM2VideoPredictor`: a state per clip, a mask per object, then propagation.

    Reading the JPEG files is part of it: milliseconds a frame, where tracking takes tenths of a second per object.
    """
    tracked = Tracked.empty(task)
    for clip in task.clips:
        state = predictor.init_state(str(task.folders[clip.index]))
        state["num_frames"] = max(NUM_FRAMES, clip.length)
        for object_id, mask in enumerate(clip.masks):
            predictor.add_new_mask(state, frame_idx=0, obj_id=object_id, mask=mask)
        for step, _, masks in predictor.propagate_in_video(state, max_frame_num_to_track=clip.length - 1):
            tracked.masks[clip.index][step] = (masks[:, 0] > 0).cpu()
        for row, outputs in state["output_dict_per_obj"].items():
            for step, output in (outputs["cond_frame_outputs"] | outputs["non_cond_frame_outputs"]).items():
                tracked.logits[clip.index][step, row] = output["pred_masks"][0, 0].float().cpu()
    return tracked


@torch.inference_mode()
def track_in_one_batch(model: Any, task: TrackingTask) -> Tracked:
    """Follow all objects of all clips as one batch through `SAM2Base.track_step`.

    Frames are encoded once. Rows whose clip is over leave the batch. As in the predictor, memories are kept in bfloat16
    and the key frame's memory is made from the enlarged low-resolution mask, so both give the same masks.
    """
    device = model.device
    tracked = Tracked.empty(task)
    images = prepare_frames(task.frames, model.image_size, device)
    # A CPU encodes frames faster one by one.
    encoded = [model.forward_image(batch) for batch in images.split(1 if device.type == "cpu" else 4)]
    levels = [torch.cat(level) for level in zip(*(part["backbone_fpn"] for part in encoded), strict=True)]
    positions = [level[:1] for level in encoded[0]["vision_pos_enc"]]
    del encoded

    rows = [(clip, number) for clip in task.clips for number in range(len(clip.masks))]
    bank: dict[str, dict[int, dict[str, Any]]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    for step in range(max(task.clip_lengths)):
        stays = torch.tensor([clip.length > step for clip, _ in rows], device=device)
        if not stays.all():
            rows = list(compress(rows, stays.tolist()))
            _drop_rows(bank, stays)
        frames = torch.tensor([clip.first + step for clip, _ in rows], device=device)
        masks = torch.cat(task.masks)[:, None].float().to(device) if step == 0 else None
        output = _batched_step(model, step, _frames_of_rows(model, levels, positions, frames), masks, bank)
        logits = output["pred_masks"][:, 0]
        tracked.add(rows, step, logits, frame_masks(logits, model.image_size))
    return tracked


def _frames_of_rows(model: Any, levels: list[Tensor], positions: list[Tensor], frame_of_row: Tensor) -> dict[str, Any]:
    """Every row's own frame, in the layout (pixels, rows, channels) that `track_step` takes."""
    features = {
        "backbone_fpn": [level[frame_of_row] for level in levels],
        "vision_pos_enc": [level.expand(len(frame_of_row), -1, -1, -1) for level in positions],
    }
    _, vision, vision_positions, sizes = model._prepare_backbone_features(features)
    return {"current_vision_feats": vision, "current_vision_pos_embeds": vision_positions, "feat_sizes": sizes}


def _batched_step(
    model: Any, step: int, rows: dict[str, Any], masks: Tensor | None, bank: dict[str, dict[int, dict[str, Any]]]
) -> dict[str, Any]:
    """Advance the rows by one frame and put what they will attend to into the bank."""
    is_key_frame = masks is not None
    output = model.track_step(
        frame_idx=step,
        is_init_cond_frame=is_key_frame,
        point_inputs=None,
        mask_inputs=masks,
        output_dict=bank,
        num_frames=max(NUM_FRAMES, step + 1),
        run_mem_encoder=not is_key_frame,
        **rows,
    )
    if is_key_frame:
        size = (model.image_size, model.image_size)
        output["maskmem_features"], output["maskmem_pos_enc"] = model._encode_new_memory(
            current_vision_feats=rows["current_vision_feats"],
            feat_sizes=rows["feat_sizes"],
            pred_masks_high_res=F.interpolate(output["pred_masks"], size=size, mode="bilinear", align_corners=False),
            object_score_logits=output["object_score_logits"],
            is_mask_from_pts=True,
        )
    bank["cond_frame_outputs" if is_key_frame else "non_cond_frame_outputs"][step] = {
        "maskmem_features": output["maskmem_features"].to(torch.bfloat16),
        "maskmem_pos_enc": output["maskmem_pos_enc"],
        "obj_ptr": output["obj_ptr"],
    }
    return output


def _drop_rows(bank: dict[str, dict[int, dict[str, Any]]], stays: Tensor) -> None:
    for outputs in bank.values():
        for output in outputs.values():
            output["maskmem_features"] = output["maskmem_features"][stays]
            output["maskmem_pos_enc"] = [level[stays] for level in output["maskmem_pos_enc"]]
            output["obj_ptr"] = output["obj_ptr"][stays]


def transformers_model(model: Any) -> tuple[Any, Any]:
    """Build transformers' `Sam2VideoModel`, as large as a `SAM2Base` and with random weights, and its processor."""
    from transformers import Sam2ImageProcessor, Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor
    from transformers import Sam2VideoVideoProcessor as VideoProcessor

    size = model.image_size
    config = Sam2VideoConfig(
        vision_config=_vision_config(model),
        prompt_encoder_config={"image_size": size},
        mask_decoder_config={},
        image_size=size,
        memory_attention_rope_feat_sizes=[size // 16, size // 16],
    )
    square = {"height": size, "width": size}
    processor = Sam2VideoProcessor(
        image_processor=Sam2ImageProcessor(size=square), video_processor=VideoProcessor(size=square), target_size=size
    )
    return Sam2VideoModel(config).eval().to(model.device), processor


def _vision_config(model: Any) -> dict[str, Any]:
    """Transformers' description of the image encoder of a `SAM2Base`, read off its modules."""
    trunk, size = model.image_encoder.trunk, model.image_size
    widths = list(reversed(trunk.channel_list))
    heads = trunk.blocks[0].attn.num_heads
    ends = trunk.stage_ends
    return {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": widths[0],
            "num_attention_heads": heads,
            "image_size": [size, size],
            "window_positional_embedding_background_size": list(trunk.window_pos_embed_bkg_spatial_size),
            "blocks_per_stage": [end - before for before, end in zip([-1, *ends[:-1]], ends, strict=True)],
            "embed_dim_per_stage": widths,
            "num_attention_heads_per_stage": [heads * 2**stage for stage in range(len(ends))],
            "window_size_per_stage": list(trunk.window_spec),
            "global_attention_blocks": list(trunk.global_att_blocks),
        },
        "backbone_channel_list": list(trunk.channel_list),
        "backbone_feature_sizes": [[size // stride, size // stride] for stride in (4, 8, 16)],
    }


def track_with_transformers(model: Any, processor: Any, task: TrackingTask) -> Tracked:
    """Follow every object with `Sam2VideoModel`: a session per clip, all masks on its first frame, then propagation."""
    tracked = Tracked.empty(task)
    for clip in task.clips:
        frames = list(task.frames[clip.first : clip.first + clip.length])
        session = processor.init_video_session(video=frames, inference_device=model.device)
        numbers = list(range(len(clip.masks)))
        processor.add_inputs_to_inference_session(session, 0, obj_ids=numbers, input_masks=list(clip.masks))
        for step, logits in _propagate(model, session):
            size = [[session.video_height, session.video_width]]
            masks = processor.post_process_masks([logits], original_sizes=size, binarize=True)[0]
            tracked.logits[clip.index][step] = logits[:, 0].float().cpu()
            tracked.masks[clip.index][step] = masks[:, 0].cpu()
    return tracked


def _propagate(model: Any, session: Any) -> Iterator[tuple[int, Tensor]]:
    for output in model.propagate_in_video_iterator(session, start_frame_idx=0):
        yield output.frame_idx, output.pred_masks
