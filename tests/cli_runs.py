"""The command `trajvit` in this process, and short videos for it."""

import json

import numpy as np
from evaluated_models import moving_square
from numbered_videos import write_video
from typer.testing import CliRunner

from trajvit.cli import app


def trajvit(*args):
    """Run the command; an exception that it did not turn into a message fails the test."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def result(*args, code=0):
    """What the command prints as JSON."""
    done = trajvit(*args, "--json")
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


def write_videos(folder, count, frames=8, side=64):
    """`count` short videos 0.mp4, 1.mp4, ... of squares that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_video(str(folder / f"{number}.mp4"), moving_square(number, frames, side))
    return folder


def files_under(folder):
    """All files by their paths in the folder, also hidden ones."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def noise(frames=8, side=64, seed=0):
    """(frames, side, side, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 255, (frames, side, side, 3), dtype=np.uint8)
