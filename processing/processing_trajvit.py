"""`TrajViTProcessor`: text, videos and images to the inputs of the contrastive model."""

from collections.abc import Sequence
from typing import Any

from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin
from typing_extensions import Unpack

from .backends import Progress
from .decoding import decode_video
from .trajectories import Trajectories
from .video_batches import batch_of_images, batch_of_videos
from .video_frames import VideoDecodingError, VideoFrames
from .video_processing_trajvit import TrajViTVideoProcessorKwargs

MAX_TEXT_TOKENS = 77
"""Tokens of a text, special ones included (main paper, contrastive training)."""


_TEXT_SETTINGS = {"padding": True, "truncation": True, "max_length": MAX_TEXT_TOKENS}


class TrajViTProcessorKwargs(ProcessingKwargs, total=False):
    """Settings of a call to [`TrajViTProcessor`], by the part they are for."""

    # Where earlier releases of transformers 5 look for what later ones find in the processor's `text_kwargs`.
    _defaults = {"text_kwargs": _TEXT_SETTINGS}  # type: ignore[misc]  # noqa: RUF012

    videos_kwargs: TrajViTVideoProcessorKwargs  # type: ignore[misc]


class TrajViTProcessor(ProcessorMixin):
    """A tokenizer and a `TrajViTVideoProcessor` (with its trajectory generator) in one.

    Args:
        tokenizer: Any transformers tokenizer, that of the text tower. Texts are cut to 77 tokens and padded to the
            longest of the batch, unless a call says otherwise.
        video_processor: A `TrajViTVideoProcessor`.
    """

    valid_processor_kwargs: Any = TrajViTProcessorKwargs
    text_kwargs: Any = _TEXT_SETTINGS

    def __init__(self, tokenizer=None, video_processor=None, **kwargs):
        super().__init__(tokenizer, video_processor, **kwargs)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        trajectories: Trajectories | Sequence[Trajectories | None] | None = None,
        return_tensors: str | None = "pt",
        return_trajectories: bool = False,
        progress: Progress | None = None,
        **kwargs: Unpack[TrajViTProcessorKwargs],
    ) -> BatchFeature:
        """Turn texts, videos and images into model inputs.

        Args:
            images: One image or a list of them (PIL images, arrays, tensors, paths, URLs or bytes); each is a video of
                one frame, and comes after the videos in the batch.
            text: One text or a list of them.
            videos: One video or a list of them, see `TrajViTVideoProcessor.preprocess`.
            trajectories: Those of the videos, then of the images; None, or None in the list, has them generated (unless
                the video processor's `generate_trajectories` is False).
            return_tensors: "pt" or "np".
            return_trajectories: Whether to add "trajectories", the list of `Trajectories`.
            progress: Called as `progress(stage, done, total)`.
            kwargs: Settings of the tokenizer and of the video processor.

        Returns:
            `pixel_values_videos`, `trajectory_maps` and `trajectory_attention_mask` where there are videos or images,
            `input_ids`, `attention_mask` and whatever else the tokenizer gives where there is text.

        Raises:
            VideoDecodingError: If a video or an image cannot be decoded.
            ValueError: If nothing is given, trajectories do not fit, or a setting is out of its range.
        """
        if images is None and text is None and videos is None:
            raise ValueError("There is nothing to process; expected at least one of images, text and videos.")
        if trajectories is not None and images is None and videos is None:
            raise ValueError("trajectories are given without videos or images; expected what they belong to.")
        settings = self._merge_kwargs(
            self.valid_processor_kwargs,
            tokenizer_init_kwargs=self.tokenizer.init_kwargs,
            return_tensors=return_tensors,
            **kwargs,
        )
        inputs: dict[str, Any] = {}
        if text is not None:
            inputs.update(self.tokenizer(text, **settings["text_kwargs"]))
        batch = [] if videos is None else batch_of_videos(videos)
        if images is not None:
            batch += _decode_images(batch_of_images(images))
        if batch:
            inputs.update(
                self.video_processor(
                    batch,
                    trajectories=trajectories,
                    return_trajectories=return_trajectories,
                    progress=progress,
                    **settings["videos_kwargs"],
                )
            )
        return BatchFeature(inputs)


def _decode_images(images: list[Any]) -> list[VideoFrames]:
    """Each image as a video of one frame; of an animation, the frame in its middle."""
    videos = []
    for position, image in enumerate(images):
        try:
            videos.append(decode_video(image, num_frames=1))
        except VideoDecodingError as error:
            raise VideoDecodingError(f"image {position} of {len(images)} cannot be used: {error}") from error
    return videos
