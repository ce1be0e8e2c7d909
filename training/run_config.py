"""What a training run is: validated dataclasses, filled from a YAML file (`config_file.py`).

Defaults are the supplement's Table 1. Every field is checked where it enters: its type, its range, its legal values.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]

_STRICT = ConfigDict(extra="forbid")


@dataclass(config=_STRICT)
class ModelSettings:
    """A `TrajViTForContrastive` and its processor.

    Args:
        tower: `model_type` of the vision tower.
        size: Its named configuration.
        vision: Fields of the tower's configuration that differ from it.
        text: Fields of the text encoder's configuration, its `model_type` among them; empty for BERT-base.
        text_checkpoint: Hub id or folder whose weights start the text tower and whose tokenizer is used; None starts
            from random weights with the vocabulary of the synthetic captions.
        pretrained_backbone: Whether a tower that has a backbone (TrajViT's ResNet) starts it from its checkpoint.
        checkpoint: Hub id or folder of a whole contrastive model to go on from, instead of all the above.
        projection_dim: Width of the common space.
        batch_norm: Where the batch norms of a backbone take their statistics from: `frozen` keeps the checkpoint's, so
            that a sample's tokens depend neither on the batch, nor on how it is cut into processes and chunks, nor on
            whether videos or images are in it; `batch` takes each process's own, `synchronised` those of all (CUDA).
        attention: Attention implementation, as in transformers; None for its default.
        gradient_checkpointing: Whether the transformers' activations are computed again in the backward pass.
    """

    tower: str = "trajvit"
    size: str = "large"
    vision: dict[str, Any] = Field(default_factory=dict)
    text: dict[str, Any] = Field(default_factory=dict)
    text_checkpoint: str | None = "google-bert/bert-base-uncased"
    pretrained_backbone: bool = True
    checkpoint: str | None = None
    projection_dim: Count = 256
    batch_norm: Literal["frozen", "batch", "synchronised"] = "frozen"
    attention: str | None = None
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _text_has_one_origin(self):
        if self.text and self.text_checkpoint is not None:
            raise ValueError(
                f"text={self.text!r} with text_checkpoint={self.text_checkpoint!r}: the checkpoint decides the text "
                "encoder, expected text_checkpoint=null"
            )
        return self


@dataclass(config=_STRICT)
class StreamSettings:
    """One stream of training samples.

    Args:
        name: What logs call it.
        source: `panda70m`, `datacomp`: shards as video2dataset and img2dataset write them; `table`: any folder, files
            or Hub data set that HF Datasets reads, by `columns`; `synthetic`: made on the fly.
        path: Files (a glob pattern, or a list of them), a folder or a Hub id; for `synthetic` None, or the folder of a
            rendered world (`rendered_world.py`).
        split: Split of the data set; for `synthetic`, `train` or `test`.
        media: Whether samples are videos or images (a video of one frame).
        columns: Which column or member holds what, for each of `media`, `captions`, `trajectories` and `key`; those
            left out have the source's own names.
        batch_size: Samples of a step, over all processes.
        weight: Share of the steps that this stream's batches get, relative to the others'; None for as many as it takes
            to see every stream's `num_samples` once an epoch.
        num_samples: Samples of an epoch; None where the source knows it.
        subset: Keep this many samples, chosen by the hash of their keys; None for all. Needs `num_samples`.
        num_frames: Frames sampled from a video.
        options: Settings of the source: of the synthetic world, or keyword arguments of `datasets.load_dataset`.
    """

    name: str
    source: Literal["panda70m", "datacomp", "table", "synthetic"]
    path: str | list[str] | None = None
    split: str = "train"
    media: Literal["video", "image"] = "video"
    columns: dict[Literal["media", "captions", "trajectories", "key"], str] = Field(default_factory=dict)
    batch_size: Count = 256
    weight: Positive | None = None
    num_samples: Count | None = None
    subset: Count | None = None
    num_frames: Count = 16
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_a_path(self):
        if self.path is None and self.source != "synthetic":
            raise ValueError(f"path=None with source={self.source!r}: expected a path")
        if self.subset is not None and (self.num_samples is None or self.subset > self.num_samples):
            raise ValueError(f"subset={self.subset} needs num_samples of at least as many, got {self.num_samples}")
        return self


@dataclass(config=_STRICT)
class LoaderSettings:
    """How samples reach a step; none of this changes which samples a step has, but for `shuffle_block`.

    Args:
        num_workers: Processes that decode and augment, for each training process; 0 for none.
        prefetch: Samples in flight for each of them.
        shuffle_block: Records that are read together and shuffled, beside the shuffling of whole shards; resuming reads
            at most so many again. 0 keeps the data set's order.
        trajectory_generator: Settings of `TrajectoryGenerator` for samples that bring no trajectories.
        max_trajectories: Cap of a sample's trajectories.
    """

    num_workers: CountOrZero = 8
    prefetch: Count = 8
    shuffle_block: CountOrZero = 1024
    trajectory_generator: dict[str, Any] = Field(default_factory=dict)
    max_trajectories: Count = 128


@dataclass(config=_STRICT)
class AugmentationSettings:
    """One random transform for all frames of a sample and its trajectory maps (supplement, section 1 and Table 1).

    Strengths of the colour jitter and of the blur are not in the paper.

    Args:
        enabled: False only resizes, as at testing.
        crop_scale: Share of the area that a random crop keeps.
        crop_ratio: Range of its aspect.
        flip: Probability of a horizontal flip.
        color_jitter: Probability of the colour jitter.
        brightness, contrast, saturation, hue: Its strengths.
        blur: Probability of the Gaussian blur.
        blur_sigma: Range of its standard deviation in pixels.
        grayscale: Probability of losing all colour.
    """

    enabled: bool = True
    crop_scale: tuple[Probability, Probability] = (0.2, 1.0)
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Probability = 0.5
    color_jitter: Probability = 0.8
    brightness: Probability = 0.4
    contrast: Probability = 0.4
    saturation: Probability = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    blur: Probability = 0.5
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    grayscale: Probability = 0.2

    @model_validator(mode="after")
    def _ranges_are_in_order(self):
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}={[low, high]}: expected [low, high] with 0 < low <= high")
        return self


@dataclass(config=_STRICT)
class OptimizerSettings:
    """AdamW, linear warm-up, cosine decay (Table 1; its section 1 says a weight decay of 1e-2 instead).

    Args:
        learning_rate: Highest learning rate.
        final_learning_rate: The last one.
        betas, eps, weight_decay: AdamW's. Norms, biases, the temperature and learned tokens and positions do not decay.
        epochs: Passes over the samples of all streams.
        warmup_epochs: Of these, passes with a rising learning rate; may be a fraction.
        max_steps: Steps of the run in place of `epochs`.
        warmup_steps: Steps with a rising learning rate in place of `warmup_epochs`.
        clip_norm: Largest norm of the gradient; None for any.
    """

    learning_rate: Positive = 1e-4
    final_learning_rate: NotNegative = 0.0
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.02
    epochs: Positive = 30
    warmup_epochs: NotNegative = 1
    max_steps: Count | None = None
    warmup_steps: CountOrZero | None = None
    clip_norm: Positive | None = 1.0


@dataclass(config=_STRICT)
class LossSettings:
    """Symmetric InfoNCE over the batch of all processes.

    Args:
        captions_per_sample: Captions of each sample in a step, drawn from those that it has.
        chunk_size: Samples that pass the model at once; the rest of the batch follows, and the loss does not change
            (gradient caching). None for all at once.
        chunk_tokens: Vision tokens that pass the model at once, likewise.
    """

    captions_per_sample: Count = 1
    chunk_size: Count | None = None
    chunk_tokens: Count | None = None


@dataclass(config=_STRICT)
class CheckpointSettings:
    """Args:
    every: Steps between checkpoints; one more follows the last step.
    keep: How many of the newest stay.
    """

    every: Count = 1000
    keep: Count = 3


@dataclass(config=_STRICT)
class LoggingSettings:
    """Args:
    every: Steps between lines of the log.
    trackers: Names of Accelerate's trackers (tensorboard, wandb, ...).
    peak_tflops: Of one device at the run's precision, for the model FLOPs utilisation; None where the device is known.
    """

    every: Count = 20
    trackers: list[str] = Field(default_factory=lambda: ["tensorboard"])
    peak_tflops: Positive | None = None


@dataclass(config=_STRICT)
class EvaluationSettings:
    """Zero-shot retrieval on held-out samples while training.

    Args:
        data: The stream; its `num_samples` (or `subset`) first samples are used, once each.
        every: Steps between evaluations; one more follows the last step.
    """

    data: StreamSettings
    every: Count = 1000


@dataclass(config=_STRICT)
class LoraSettings:
    """Low-rank adapters on a checkpoint, by peft.

    Args:
        rank, alpha, dropout: Theirs.
        target_modules: Which linear layers, a regular expression of full names or a list of last names; by default
            the projections of attention in both towers.
        train: Modules that are trained whole beside the adapters.
    """

    rank: Count = 16
    alpha: Positive = 32
    dropout: Probability = 0.0
    target_modules: str | list[str] | None = None
    train: list[str] = Field(default_factory=lambda: ["video_projection", "text_projection", "temperature"])


@dataclass(config=_STRICT)
class HubSettings:
    """Args:
    model_id: Repository that the model is uploaded to, `user/name`.
    private: Whether it is private.
    """

    model_id: str
    private: bool = True


@dataclass(config=_STRICT)
class RunConfig:
    """A training run.

    Args:
        output_dir: Folder of the run: resolved configuration, checkpoints, logs, the model.
        data: Streams; each step takes a batch of one of them.
        seed: Of the weights, the order of samples, augmentation and captions.
        mixed_precision: `bf16`, `fp16` or `no`.
        ema_decay: Decay of an exponential moving average of the weights, saved beside them; None for none.
        lora, hub: None for none.
    """

    output_dir: str
    data: Annotated[list[StreamSettings], Field(min_length=1)]
    seed: CountOrZero = 0
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    ema_decay: Probability | None = None
    model: ModelSettings = Field(default_factory=ModelSettings)
    loader: LoaderSettings = Field(default_factory=LoaderSettings)
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    loss: LossSettings = Field(default_factory=LossSettings)
    checkpoints: CheckpointSettings = Field(default_factory=CheckpointSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    evaluation: EvaluationSettings | None = None
    lora: LoraSettings | None = None
    hub: HubSettings | None = None

    @model_validator(mode="after")
    def _fits_together(self):
        names = [stream.name for stream in self.data]
        if len(set(names)) < len(names):
            raise ValueError(f"data has streams of the names {names}: expected one of each")
        if self.lora is not None and self.model.checkpoint is None:
            raise ValueError("lora adapts a checkpoint: expected model.checkpoint, a Hub id or a folder")
        return self
