"""The command `trajvit`."""

from typing import Annotated

import typer

from trajvit import __version__
from trajvit.app_command import app as web_page
from trajvit.command_conventions import in_order, print_line
from trajvit.doctor_command import doctor
from trajvit.draw_command import draw
from trajvit.embed_command import embed
from trajvit.generate_command import generate
from trajvit.info_command import info
from trajvit.search_command import search
from trajvit.tokenize_command import tokenize

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for _command in (tokenize, draw, embed, search, generate, info, doctor):
    app.command()(in_order(_command))
app.command("app")(in_order(web_page))


def _show_version(wanted: bool) -> None:
    if wanted:
        print_line(f"trajvit {__version__}")
        raise typer.Exit


@app.callback()
def trajvit(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Videos as trajectories: one token for each part of the scene that is followed through time."""


if __name__ == "__main__":
    app()
