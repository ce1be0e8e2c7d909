"""`TrajViTVideoProcessor`: from videos to the inputs of the vision tower, trajectories included."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling, SizeDict
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor
from typing_extensions import Unpack

from .backends import Progress, backend_names, no_progress
from .decoding import decode_video, source_name
from .frame_size import fit_short_side, scale_frame
from .generator import TrajectoryGenerator
from .key_frames import KeyFrameDetector
from .trajectories import Trajectories
from .trajectory_inputs import check_fit, pad_batch
from .video_batches import batch_of_videos
from .video_frames import VideoDecodingError, VideoFrames

_GENERATOR_PARAMETERS = signature(TrajectoryGenerator).parameters.values()
DEFAULT_GENERATOR: dict[str, Any] = {
    **{setting.name: setting.default for setting in _GENERATOR_PARAMETERS if setting.default is not setting.empty},
    "key_frame_detector": asdict(KeyFrameDetector()),
}
"""The settings of `TrajectoryGenerator()`."""

_FRAME_SIZE = {"height": 224, "width": 224}
_MODEL_INPUTS = ["pixel_values_videos", "trajectory_maps", "trajectory_attention_mask", "frame_attention_mask"]

# Settings that every video processor in transformers has, and that would part the frames from their trajectories.
_UNSUPPORTED = ("do_center_crop", "crop_size", "do_pad", "fps", "return_metadata")


class TrajViTVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Settings of [`TrajViTVideoProcessor`] beyond those of every video processor.

    feature_size (`int`):
        Height and width of `trajectory_maps`, the `feature_size` of the model.
    generator (`dict`):
        Settings of `TrajectoryGenerator`, as its `to_dict` gives them; those left out have their defaults.
    generate_trajectories (`bool`):
        Whether videos without given trajectories have them generated; False for towers that take none.
    """

    feature_size: int
    generator: dict | None
    generate_trajectories: bool


class TrajViTVideoProcessor(BaseVideoProcessor):
    """Samples frames, generates their trajectories, and resizes and normalises both for the model.

    At testing, frames are only resized (supplement, section 1), to 224 x 224 whatever their aspect; trajectories follow
    them to the feature grid by the nearest pixel, and those without a pixel left disappear.

    Settings (saved as JSON by `save_pretrained`; each can be given in a call, for that call):
        num_frames: T, frames sampled uniformly, 16. A shorter video gives all its frames, an image is T = 1.
        do_sample_frames: True; False takes all frames, for arrays that hold the sampled frames already.
        size, resample, do_resize: {"height": 224, "width": 224}, bilinear.
        do_rescale, rescale_factor, do_normalize, image_mean, image_std: to 0..1, then ImageNet's mean and deviation.
        feature_size: 56, see `TrajViTVideoProcessorKwargs`.
        generator: Settings of `TrajectoryGenerator`, see `TrajViTVideoProcessorKwargs`.
        generate_trajectories: True; False for towers that take none. Without given trajectories the inputs are then
            frames alone, decoded no larger than `size` needs and never denser than they are sampled.
        input_data_format: "channels_first" or "channels_last" of arrays; unless given, their shape decides.
        video_metadata: One mapping per video; its `fps` times the frames of arrays (24 per second unless given).
        device: Where frames are resized and normalised.

    Raises:
        ValueError: If a setting is unknown, or one of those that would part frames from trajectories is set
            (do_center_crop, crop_size, do_pad, fps, return_metadata).
    """

    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = _FRAME_SIZE
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_sample_frames = True
    num_frames = 16
    feature_size = 56
    generator = DEFAULT_GENERATOR
    generate_trajectories = True
    valid_kwargs: Any = TrajViTVideoProcessorKwargs
    model_input_names = _MODEL_INPUTS

    def __init__(self, **kwargs: Unpack[TrajViTVideoProcessorKwargs]):
        kwargs["generator"] = _complete(kwargs.get("generator"), DEFAULT_GENERATOR)
        super().__init__(**kwargs)
        _refuse_unsupported(vars(self))
        _require_positive("feature_size", self.feature_size)
        _require_positive("num_frames", self.num_frames)
        if not isinstance(self.generate_trajectories, bool):
            raise ValueError(f"generate_trajectories must be True or False, got {self.generate_trajectories!r}.")

    def preprocess(
        self,
        videos: Any,
        trajectories: Trajectories | Sequence[Trajectories | None] | None = None,
        return_trajectories: bool = False,
        progress: Progress | None = None,
        **kwargs: Unpack[TrajViTVideoProcessorKwargs],
    ) -> BatchFeature:
        """Turn one video or a batch of them into model inputs.

        Args:
            videos: One source that `decode_video` takes, a `VideoFrames`, or a list of these; see `batch_of_videos`.
            trajectories: Those of the sampled frames, one for each video, at any resolution of the same aspect; for
                these videos nothing is generated. None, or None in the list, has them generated; with
                `generate_trajectories=False`, either all videos have theirs or none has.
            return_trajectories: Whether to add "trajectories", the list of `Trajectories` at their own resolution,
                without those too small for the feature grid: trajectory m is the model's m-th.
            progress: Called as `progress(stage, done, total)`, with the stage "videos" after each video.

        Returns:
            `pixel_values_videos` (B, T, 3, 224, 224) float32, `trajectory_maps` (B, T, 56, 56) int64 and
            `trajectory_attention_mask` (B, M) int64; PyTorch tensors, or NumPy arrays with `return_tensors="np"`.
            T and M are the most of the batch. With `generate_trajectories=False` and none given,
            `pixel_values_videos` alone. Where videos differ in their numbers of frames, the shorter are padded
            at the end, and `frame_attention_mask` (B, T) int64 tells the model which frames are there.

        Raises:
            VideoDecodingError: If a video cannot be decoded; in a batch the message names which.
            ValueError: If trajectories do not fit their video, are wanted but neither given nor generated, or a setting
                is out of its range.
        """
        settings = self._settings(**kwargs)
        batch = batch_of_videos(videos)
        given = _one_for_each(trajectories, len(batch), "trajectories", Trajectories)
        if not settings["generate_trajectories"]:
            _require_all_or_none(given, return_trajectories)
        metadata = _one_for_each(settings["video_metadata"], len(batch), "video_metadata", Mapping)
        report = progress if progress is not None else no_progress

        pixel_values, used = [], []
        for position, source in enumerate(batch):
            name = source_name(source) if len(batch) == 1 else f"video {position} of {len(batch)}"
            report("videos", position, len(batch))
            video = self._decode(source, name, settings, given[position] is not None, metadata[position])
            if given[position] is not None:
                check_fit(given[position], video, name)
                used.append(given[position])
            elif settings["generate_trajectories"]:
                used.append(_generate(video, settings["generator"], progress))
            pixel_values.append(self._normalized(video.sampled, settings))
        report("videos", len(batch), len(batch))

        if len({tuple(frames.shape[1:]) for frames in pixel_values}) > 1:
            raise ValueError("The videos of a batch differ in height and width; expected one size, or do_resize=True.")
        grid = settings["feature_size"]
        inputs = pad_batch(pixel_values, [trajectories.resize(grid, grid) for trajectories in used] or None)
        seen = [_seen(trajectories, grid) for trajectories in used] if return_trajectories else None
        return _batch_feature(inputs, settings["return_tensors"], seen)

    def _settings(self, **kwargs: Any) -> dict[str, Any]:
        """The settings of one call: its own, and the processor's for the others."""
        unknown = sorted(set(kwargs) - set(self.valid_kwargs.__annotations__))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no setting {', '.join(unknown)}.")
        validate_typed_dict(self.valid_kwargs, kwargs)
        _refuse_unsupported(kwargs)
        settings = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__}
        settings.update({name: value for name, value in kwargs.items() if value is not None})
        settings["generator"] = _complete(settings["generator"], self.generator)
        _require_positive("feature_size", settings["feature_size"])
        settings = self._standardize_kwargs(**settings)
        self._validate_preprocess_kwargs(**settings)
        return settings

    def _decode(
        self, source: Any, name: str, settings: dict[str, Any], has_trajectories: bool, metadata: Any
    ) -> VideoFrames:
        """Frames at the generator's resolution, which is the same whether trajectories are generated or given.

        Where there will be none, frames are only as large as the model's inputs need.
        """
        to_be_tracked = settings["generate_trajectories"] and not has_trajectories
        short_side = None
        if settings["do_resize"]:
            short_side = _longest_side(settings["size"])
            if to_be_tracked or has_trajectories:
                short_side = max(_frame_short_side(settings["generator"]), short_side or 0)
        if isinstance(source, VideoFrames):
            return _scaled(source, short_side)
        try:
            return decode_video(
                source,
                num_frames=settings["num_frames"] if settings["do_sample_frames"] else None,
                frame_interval=_generator(settings["generator"]).frame_interval if to_be_tracked else None,
                short_side=short_side,
                fps=None if metadata is None else metadata.get("fps"),
                data_format=settings["input_data_format"],
            )
        except VideoDecodingError as error:
            if name == source_name(source):
                raise
            raise VideoDecodingError(f"{name} cannot be used: {error}") from error

    def _normalized(self, frames: np.ndarray, settings: dict[str, Any]) -> torch.Tensor:
        """(T, H, W, 3) uint8 -> (T, 3, height, width) float32 as the model takes them."""
        tensor = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
        if settings["device"] is not None:
            tensor = tensor.to(settings["device"])
        if settings["do_resize"]:
            tensor = self.resize(tensor, size=settings["size"], resample=settings["resample"])
        names = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
        return self.rescale_and_normalize(tensor, *[settings[name] for name in names]).to(torch.float32)


def _complete(generator: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """Settings of the generator, with defaults for those left out; options belong to the backend that is named."""
    generator = {} if generator is None else generator
    if isinstance(generator, TrajectoryGenerator):
        generator = generator.to_dict()
    if not isinstance(generator, dict):
        raise TypeError(f"generator must be a dict of TrajectoryGenerator's settings, got {type(generator).__name__}.")
    if generator.get("backend", defaults["backend"]) != defaults["backend"]:
        defaults = {name: value for name, value in defaults.items() if name in DEFAULT_GENERATOR}
    complete = {**defaults, **generator}
    complete["key_frame_detector"] = {**defaults["key_frame_detector"], **(generator.get("key_frame_detector") or {})}
    for name in ("max_trajectories", "short_side"):
        _require_positive(f"generator[{name!r}]", complete[name])
    return complete


def _seen(trajectories: Trajectories, grid: int) -> Trajectories:
    """Those that keep a cell of the grid."""
    ids = trajectories.ids_at(grid, grid)
    return trajectories if len(ids) == trajectories.num_trajectories else trajectories.select(ids)


def _generate(video: VideoFrames, settings: dict[str, Any], progress: Progress | None) -> Trajectories:
    return _generator(settings)(
        video.frames,
        video.sample_indices,
        frame_indices=video.frame_indices,
        timestamps=video.timestamps,
        progress=progress,
    )


def _generator(settings: dict[str, Any]) -> TrajectoryGenerator:
    return _built_generator(json.dumps(settings, sort_keys=True))


def _frame_short_side(settings: dict[str, Any]) -> int:
    """The generator's. With trajectories given, a backend need not be installed; it then asks for no larger frames."""
    if settings["backend"] not in backend_names():
        return settings["short_side"]
    return _generator(settings).frame_short_side


@lru_cache(maxsize=4)
def _built_generator(settings: str) -> TrajectoryGenerator:
    """Built when first needed and then kept, since a backend may have weights to load."""
    return TrajectoryGenerator.from_dict(json.loads(settings))


def _scaled(video: VideoFrames, short_side: int | None) -> VideoFrames:
    height, width = fit_short_side(video.frames.shape[1], video.frames.shape[2], short_side)
    if (height, width) == video.frames.shape[1:3]:
        return video
    frames = np.stack([scale_frame(frame, height, width) for frame in video.frames])
    return VideoFrames(frames, video.sample_indices, video.frame_indices, video.timestamps, video.fps)


def _longest_side(size: SizeDict) -> int | None:
    """The longest side that frames are resized to, where `size` tells it."""
    sides = (size.height, size.width, size.shortest_edge, size.longest_edge)
    return max((side for side in sides if side is not None), default=None)


def _require_all_or_none(given: list[Trajectories | None], wanted: bool) -> None:
    """Checks a call that generates no trajectories: a batch has a map for each video or no maps at all."""
    missing = [position for position, trajectories in enumerate(given) if trajectories is None]
    if missing and len(missing) < len(given):
        raise ValueError(
            f"trajectories has None for video {missing[0]} of {len(given)}, and generate_trajectories=False: expected "
            "trajectories of every video, or of none."
        )
    if missing and wanted:
        raise ValueError(
            "return_trajectories=True with generate_trajectories=False and no trajectories given: expected "
            "trajectories, or generate_trajectories=True."
        )


def _one_for_each(values: Any, count: int, name: str, kind: type) -> list[Any]:
    if values is None or isinstance(values, kind):
        values = [values] * (1 if values is not None else count)
    values = list(values)
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} entries for {count} videos; expected one for each.")
    return values


def _refuse_unsupported(settings: dict[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if settings.get(name):
            raise ValueError(f"{name}={settings[name]!r} is not supported: trajectories would not follow the frames.")


def _require_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")


def _batch_feature(
    inputs: dict[str, torch.Tensor], tensor_type: Any, trajectories: list[Trajectories] | None
) -> BatchFeature:
    if str(getattr(tensor_type, "value", tensor_type)) == "np":
        data: dict[str, Any] = {name: tensor.numpy(force=True) for name, tensor in inputs.items()}
    else:
        data = dict(inputs)
    if trajectories is not None:
        data["trajectories"] = trajectories
    return BatchFeature(data)
