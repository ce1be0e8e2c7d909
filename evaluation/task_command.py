"""What the scripts of all tasks have in common: options, processes, the result file, and errors in one line."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from .checkpoint_loading import DTYPES, CheckpointError
from .data_registry import IMAGE_DATASETS
from .evaluation_data import AnnotationError, MissingMediaError
from .feature_extraction import Extraction
from .probe_training import ProbeRecipe
from .result_files import Result, save_result

EXPECTED_ERRORS = (CheckpointError, AnnotationError, MissingMediaError, ValueError, OSError, ImportError)
"""What a message tells better than a traceback."""

_PATIENCE = timedelta(days=30)

CACHE = "features"
"""Where features are kept, in the folder of results, unless it is said where."""


class OptionError(ValueError):
    """An option of the command line that is not legal."""


@dataclass(frozen=True)
class TaskOptions:
    """The options that a task's script was given.

    Attributes:
        checkpoint: Folder or Hub id.
        data: Name of the data set, as `data_registry` knows it.
        annotations: Its annotation file or folder, or the id of a data set on the Hub.
        media: Folder of its videos or images.
        data_options: Of its reader.
        train_options: Of the reader for the training part, in place of or beside `data_options`, where a task trains a
            probe; `annotations` and `media` may be among them.
        device, dtype: Of the model.
        extraction: How features are computed.
        num_frames: Frames of a video; None for the processor's number.
        allow_missing: Whether to report on less than all media.
        name: Of the model in results; None for that of its folder or Hub id.
        trained_on: For the tables.
        recipe: Of a probe.
        templates: Name of the prompt templates.
    """

    checkpoint: str
    data: str
    annotations: str | None
    media: str | None
    data_options: dict[str, Any]
    device: str
    dtype: str
    extraction: Extraction
    num_frames: int | None = None
    allow_missing: bool = False
    name: str | None = None
    trained_on: str | None = None
    train_options: dict[str, Any] = field(default_factory=dict)
    recipe: ProbeRecipe = field(default_factory=ProbeRecipe)
    templates: str | None = None

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype]

    @property
    def reading(self) -> dict[str, Any]:
        """What opens the data set, beside its name."""
        return {"annotations": self.annotations, "media": self.media, **self.data_options}

    @property
    def frames(self) -> int | None:
        """Frames of an item: of an image 1, of a video as asked for."""
        return 1 if self.data in IMAGE_DATASETS and self.num_frames is None else self.num_frames

    def described(self, result: Result) -> Result:
        """A result with the model's name and with what the data set was read by, on which its numbers depend."""
        reading = {name: _last_name(value) for name, value in self.reading.items() if name != "media"}
        told = {"data": reading} | ({"train_data": self.train_options} if self.train_options else {})
        return replace(result, model=self.name or result.model, settings={**result.settings, **told})

    @property
    def train_reading(self) -> dict[str, Any]:
        """What opens its training part. Raises `OptionError` where that is not said."""
        if not self.train_options:
            raise OptionError(
                "--train-option is missing: a probe is trained on another part of the data set; expected what differs "
                "there, such as split=train or annotations=train.csv"
            )
        detections = {"detections", "min_detection_score"}
        shared = {name: value for name, value in self.reading.items() if name not in detections}
        return {**shared, **self.train_options}


def run_task(task: Callable[[TaskOptions], Result], description: str, arguments: Sequence[str] | None = None) -> None:
    """Run the script of a task with the options of its command line, and write its result file.

    Args:
        task: From options to a result; every process calls it.
        description: What `--help` says.
        arguments: In place of those of the process.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(help=description)
    def command(
        checkpoint: Annotated[str, typer.Argument(help="Folder or Hub id of the model.")],
        data: Annotated[str, typer.Option(help="Name of the data set: docs/evaluation_data.md lists them.")],
        annotations: Annotated[
            str | None, typer.Option(help="Its annotation file or folder, or a data set on the Hub.")
        ] = None,
        media: Annotated[str | None, typer.Option(help="Folder of its videos or images.")] = None,
        option: Annotated[
            list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Of the data set's reader.")
        ] = None,
        train_option: Annotated[
            list[str] | None,
            typer.Option("--train-option", metavar="KEY=VALUE", help="Of its training part, for a probe."),
        ] = None,
        output: Annotated[Path, typer.Option(help="Folder of result files.")] = Path("results"),
        cache: Annotated[Path | None, typer.Option(help="Folder of features; default: OUTPUT/features.")] = None,
        batch_size: Annotated[int, typer.Option(min=1, help="Videos that pass the model together.")] = 32,
        num_workers: Annotated[int, typer.Option(min=0, help="Processes that decode, for each of the launcher's.")] = 4,
        num_frames: Annotated[int | None, typer.Option(min=1, help="Of a video; default: the processor's.")] = None,
        dtype: Annotated[str, typer.Option(help=f"Precision: {', '.join(DTYPES)}.")] = "float32",
        device: Annotated[str | None, typer.Option(help="cpu or cuda; default: what the launcher gives.")] = None,
        templates: Annotated[str | None, typer.Option(help="Prompt templates of zero-shot classification.")] = None,
        learning_rate: Annotated[float, typer.Option(min=0, help="Of a probe.")] = 1e-4,
        weight_decay: Annotated[float, typer.Option(min=0, help="Of a probe.")] = 0.5,
        probe_batch_size: Annotated[int, typer.Option(min=1, help="Of a probe.")] = 128,
        epochs: Annotated[int, typer.Option(min=1, help="Of a probe.")] = 12,
        seed: Annotated[int, typer.Option(min=0, help="Of a probe.")] = 0,
        name: Annotated[
            str | None, typer.Option(help="Of the model in results; default: its folder's or Hub id.")
        ] = None,
        trained_on: Annotated[str | None, typer.Option(help="Pretraining data, for the tables: panda-8m, ...")] = None,
        allow_missing: Annotated[bool, typer.Option(help="Report on the media that can be used.")] = False,
    ) -> None:
        try:
            if dtype not in DTYPES:
                raise OptionError(f"--dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
            state = processes(device)
            options = TaskOptions(
                checkpoint=checkpoint,
                data=data,
                annotations=annotations,
                media=media,
                data_options=parsed_options(option or [], "--option"),
                train_options=parsed_options(train_option or [], "--train-option"),
                device=str(state.device),
                dtype=dtype,
                extraction=Extraction(
                    cache=output / CACHE if cache is None else cache,
                    batch_size=batch_size,
                    num_workers=num_workers,
                    process_index=state.process_index,
                    num_processes=state.num_processes,
                    wait=state.wait_for_everyone,
                ),
                num_frames=num_frames,
                allow_missing=allow_missing,
                name=name,
                trained_on=trained_on,
                recipe=ProbeRecipe(learning_rate, weight_decay, probe_batch_size, epochs, seed=seed),
                templates=templates,
            )
            result = options.described(task(options))
            if state.is_main_process:
                report(result, save_result(output, result))
            state.wait_for_everyone()
        except EXPECTED_ERRORS as error:
            if os.environ.get("RANK", "0") == "0":
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            raise typer.Exit(2) from None

    app(arguments)


def _last_name(value: Any) -> Any:
    """Of a path the last part: where files lie on one machine is nobody else's business."""
    return os.path.basename(value.rstrip("/")) if isinstance(value, str) and os.path.exists(value) else value


def processes(device: str | None) -> PartialState:
    """The processes that a launcher started, or this one alone. Raises `OptionError` for a device that is not there."""
    if device not in (None, "cpu", "cuda"):
        raise OptionError(f"--device is {device!r}; expected cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device is 'cuda', and PyTorch finds no CUDA device; expected cpu")
    # `accelerate launch --cpu` says so in the environment.
    asked_for_cpu = device == "cpu" or (device is None and parse_flag_from_env("ACCELERATE_USE_CPU"))
    # Those whose videos were decoded first wait for the others.
    return PartialState(cpu=asked_for_cpu or not torch.cuda.is_available(), timeout=_PATIENCE)


def parsed_options(given: Sequence[str], name: str) -> dict[str, Any]:
    """`KEY=VALUE` with a value in YAML. Raises `OptionError`."""
    options = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise OptionError(f"{name} is {text!r}; expected KEY=VALUE")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise OptionError(f"{name} is {text!r}, whose value is no YAML ({error}); expected KEY=VALUE") from None
    return options


def report(result: Result, path: Path) -> None:
    """Print a result as a line for each metric."""
    print(f"{result.task} of {result.model} ({result.tower}) on {result.dataset}: {result.num_items} items")
    for name, value in result.metrics.items():
        print(f"  {name:24} {value:.2f}")
    if result.missing:
        print(f"  {len(result.missing)} items could not be used; the result file lists them")
    print(f"Written to {path}")
