"""The command `trajvit`."""

import typer

from trajvit.generate_command import generate

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(generate)


@app.callback()
def trajvit() -> None:
    """Videos as trajectories: one token for each part of the scene that is followed through time."""


if __name__ == "__main__":
    app()
