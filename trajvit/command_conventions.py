"""What all commands have in common: results, messages, progress, exit codes, and that none leaves half a file.

Results go to standard output, all else to standard error, also what libraries print. Exit codes: 0 all good, 1
something failed, 2 a wrong command line, 130 after Ctrl-C, 143 after SIGTERM.

Nothing heavy is imported here: `trajvit --help` reads this file.
"""

import errno
import functools
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, Optional, TextIO

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

FAILED = 1
INTERRUPTED = 130
TERMINATED = 128 + signal.SIGTERM

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Checkpoint: a folder or a Hub id. Default: the tiny one that is shipped.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto for the best there is.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Videos that pass the model together.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that decode; 0 for this one.")]
MediaOption = Annotated[str, typer.Option(help="Which files of a folder are read: any, video or image.")]
BackendOption = Annotated[str, typer.Option(help="Who tracks: classic, sam2, or one that is registered.")]
BackendOptionsOption = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it on Python 3.10
    typer.Option(
        "--backend-option", metavar="NAME=VALUE", help="Option of the backend, in JSON or as text; repeatable."
    ),
]
MaxTrajectoriesOption = Annotated[int, typer.Option(min=1, help="Most trajectories of a video.")]
ShortSideOption = Annotated[int, typer.Option(min=1, help="Pixels of the short side at which parts are followed.")]

SHIPPED_MODEL = "tiny_synthetic"
"""What `--model` is unless it is given: it knows moving shapes alone."""

_results: ContextVar[TextIO | None] = ContextVar("results", default=None)


def messages() -> Console:
    """The console for people, on standard error as it is now."""
    return Console(stderr=True, highlight=False)


def tell(text: str) -> None:
    """Write a line or more for people, as it is."""
    messages().print(text, markup=False, soft_wrap=True)


def tell_error(text: object) -> None:
    """Write what went wrong."""
    messages().print(f"[bold red]error:[/] {_escaped(text)}", soft_wrap=True)


def tell_failures(failures: Mapping[str, str]) -> None:
    """List the inputs that could not be used."""
    for name, reason in failures.items():
        tell_error(reason if name in reason else f"{name}: {reason}")


def print_json(value: Any) -> None:
    """Write a result as one JSON document."""
    print(json.dumps(value, ensure_ascii=False), file=_result_stream(), flush=True)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None, left: Sequence[str] = ()
) -> None:
    """Write a table on a terminal; elsewhere lines of values with tabs between them, which `cut` and `awk` take.

    Args:
        headings: Of the columns.
        rows: Their values.
        title: Shown on a terminal alone.
        left: Headings of columns that hold text and not numbers.
    """
    console = Console(file=_result_stream(), highlight=False)
    if not console.is_terminal:
        for row in rows:
            print(*row, sep="\t", file=_result_stream())
        return
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(value) for value in row))
    console.print(table)


def print_facts(title: str, facts: Mapping[str, object]) -> None:
    """Write what is known of one thing, a line for each name; without a terminal, name and value with a tab between."""
    console = Console(file=_result_stream(), highlight=False)
    if not console.is_terminal:
        print(title, file=_result_stream())
        for name, value in facts.items():
            print(name, value, sep="\t", file=_result_stream())
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        grid.add_row(_escaped(name), _escaped(value))
    console.print(f"[bold]{_escaped(title)}[/]")
    console.print(grid)


def print_line(text: str) -> None:
    """Write a line of results."""
    print(text, file=_result_stream(), flush=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, gone when it is done; give it the number done and the total."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = messages()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=total > 0)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Another name in the folder of a file, to write to: it becomes that file at the end, or else is removed.

    Missing folders are made. The name ends as the file's does. An `OSError` names the file, not what stands for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.urandom(4).hex()}.{path.name}")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        reason = (error.strerror or str(error)).replace(str(part), str(path))
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def pairs(given: Sequence[str] | None, flag: str, as_text: bool = False) -> dict[str, Any]:
    """Options such as `model=tiny`; values are JSON where they can be, and text elsewhere."""
    found: dict[str, Any] = {}
    for pair in given or []:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{pair!r}: expected NAME=VALUE", param_hint=flag)
        try:
            found[name] = value if as_text else json.loads(value)
        except ValueError:
            found[name] = value
    return found


def checked_device(name: str) -> str:
    """The device of that name, or the best one for `auto`; a wrong command line where there is none."""
    import torch

    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "auto":
        return best
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise typer.BadParameter(
            f"{name!r} cannot be used ({reason}); here auto is {best}", param_hint="--device"
        ) from None
    return name


def checkpoint_of(model: str) -> str:
    """The folder or Hub id of a model that was asked for; the shipped one has a name of its own."""
    if model != SHIPPED_MODEL or Path(model).exists():
        return model
    return str(Path(__file__).resolve().parent / "checkpoints" / SHIPPED_MODEL)


def know_models() -> None:
    """Have transformers know the models, which `import trajvit` leaves for later in the command."""
    from transformers.utils import logging

    import trajvit.public_names  # noqa: F401

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def in_order(command: Callable[..., None]) -> Callable[..., None]:
    """A command that ends in order: what is wrong is one line, and results alone are on standard output."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            # Names of files may be no text; an escape is legal in JSON too.
            sys.stdout.reconfigure(errors="backslashreplace")
        token = _results.set(sys.stdout)
        try:
            with redirect_stdout(sys.stderr), ending_in_order():
                command(*args, **kwargs)
        finally:
            _results.reset(token)

    return run


@contextmanager
def ending_in_order(stopped: str = "Stopped.") -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and what is wrong with inputs into a message and an exit code.

    Args:
        stopped: What is told after Ctrl-C.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _end) if is_main else None
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _shown_warning
            yield
    except KeyboardInterrupt:
        tell(stopped)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if not _is_expected(error):
            raise
        tell_error(described(error))
        raise typer.Exit(FAILED) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _is_expected(error: Exception) -> bool:
    """Whether an error is of the inputs or the machine, so that a message tells more than a traceback."""
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return False
    return isinstance(error, (ImportError, OSError, TypeError, ValueError)) or type(error).__name__ in (
        "SafetensorError",
        "OutOfMemoryError",
        "StrictDataclassClassValidationError",
        "StrictDataclassFieldValidationError",
    )


def described(error: Exception) -> str:
    """What an error says, without Python's numbers."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if type(error).__name__.startswith("StrictDataclass"):
        return " ".join(str(error).split())
    return str(error)


def without_preamble(reason: str) -> str:
    """Why a file cannot be used, where it is named beside it."""
    return reason.removeprefix("its media cannot be decoded: ")


def _shown_warning(message: Warning | str, category: type[Warning], *where: Any, **others: Any) -> None:
    # What is said to programmers is of no use here.
    if category.__name__ == "VideoDecodingWarning":
        tell(f"warning: {message}")


def _escaped(value: object) -> str:
    from rich.markup import escape

    return escape(str(value))


def _result_stream() -> TextIO:
    return _results.get() or sys.stdout


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """A scheduler's signal ends the command as Ctrl-C does: in order."""
    raise SystemExit(TERMINATED)
