"""What all commands of `trajvit` have in common."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from cli_runs import files_under, trajvit, write_videos
from generation_runs import heed_interrupts
from waiting import wait_for

from trajvit import __version__
from trajvit.cli import app
from trajvit.command_conventions import checked_device, ending_in_order, in_order, print_json, written_whole
from trajvit.processing.video_frames import VideoDecodingWarning
from trajvit.search_demo import CHECKPOINT

COMMANDS = {"app", "tokenize", "draw", "embed", "search", "generate", "info", "doctor"}
LAZY = [sys.executable, "-X", "trajvit_lazy", "-m", "trajvit.cli"]


def test_help_and_version():
    done = trajvit("--version")
    assert (done.exit_code, done.stdout) == (0, f"trajvit {__version__}\n")
    commands = typer.main.get_command(app).commands
    assert set(commands) == COMMANDS
    for name, command in commands.items():
        assert trajvit(name, "--help").exit_code == 0
        assert command.help.strip()
        assert name == "app" or "--json" in {option for each in command.params for option in each.opts}


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['/bin/trajvit', '--help']\n"
        "from trajvit.cli import app\n"
        "try: app()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('loaded', *{'torch', 'transformers', 'numpy', 'cv2', 'av', 'gradio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"
    assert "tokenize" in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["tokenize"], 2, "Missing argument"),
        (["tokenize", "{video}", "--frames", "0"], 2, "--frames"),
        (["tokenize", "{video}", "--backend", "magic"], 1, "Unknown backend 'magic'"),
        (["tokenize", "{video}", "--backend-option", "spam"], 2, "expected NAME=VALUE"),
        (["tokenize", "{video}", "--backend-option", "spam=1"], 1, "has no option 'spam'"),
        (["tokenize", "{folder}", "--media", "audio"], 2, "expected one of any, video, image"),
        (["tokenize", "nowhere.mp4"], 1, "nowhere.mp4 does not exist"),
        (["draw", "nowhere.mp4"], 1, "nowhere.mp4 does not exist"),
        (["draw", "{bad}"], 1, "bad.mp4 cannot be opened"),
        (["draw", "{video}", "-o", "a.txt"], 2, "expected a file that ends in .mp4"),
        (["draw", "{video}", "-o", "{video}"], 2, "is the video itself"),
        (["draw", "{video}", "--timeline", "t.mp4"], 2, "expected a .png, .pdf or .svg file"),
        (["draw", "{video}", "--trajectories", "nowhere.png"], 1, "nowhere.png: No such file or directory"),
        (["draw", "{video}", "--trajectories", "{video}"], 1, "is not a valid trajectories file"),
        (["draw", "{video}", "--alpha", "2"], 2, "--alpha"),
        (["embed", "{video}"], 2, "expected a .safetensors file, or --json"),
        (["embed", "{video}", "-o", "a.bin"], 2, "expected a .safetensors file"),
        (["embed", "{video}", "--json", "-m", "nowhere"], 1, "nowhere is no checkpoint"),
        (["embed", "{video}", "--json", "--device", "cuda:9"], 2, "'cuda:9' cannot be used"),
        (["embed", "{video}", "--json", "--device", "magic"], 2, "'magic' cannot be used"),
        (["embed", "{bad}", "-o", "a.safetensors"], 1, "bad.mp4 cannot be opened"),
        (["search", "{folder}"], 2, "nothing to look for"),
        (["search", "{folder}", ""], 2, "a text is empty"),
        (["search", "nowhere", "a dog"], 1, "there is no folder nowhere"),
        (["search", "{empty}", "a dog", "--device", "cpu"], 1, "has no video that can be used"),
        (["search", "{folder}", "a dog", "-m", "{empty}"], 1, "is no checkpoint"),
        (["info", "nowhere"], 1, "nowhere does not exist"),
        (["magic"], 2, "No such command"),
    ],
)
def test_what_is_wrong_is_one_message(tmp_path, monkeypatch, args, code, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_videos(tmp_path / "in", 1)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    places = {"{video}": "in/0.mp4", "{folder}": "in", "{bad}": "bad.mp4", "{empty}": "empty"}
    before = files_under(tmp_path)
    done = trajvit(*(places.get(arg, arg) for arg in args))
    assert done.exit_code == code, done.stderr
    assert done.stdout == ""
    # Typer draws a box around what is wrong with options.
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert {name for name in files_under(tmp_path) if not name.startswith("home")} == before


def test_results_alone_are_on_standard_output(capsys):
    def command():
        print("a library says something")
        warnings.warn("clip.mp4 is damaged", VideoDecodingWarning, stacklevel=2)
        warnings.warn("something for programmers", DeprecationWarning, stacklevel=2)
        print_json({"a": "ö"})

    in_order(command)()
    told = capsys.readouterr()
    assert told.out == '{"a": "ö"}\n'
    assert told.err == "a library says something\nwarning: clip.mp4 is damaged\n"


def test_ends_in_order(capsys):
    for raised, code, message in (
        (KeyboardInterrupt(), 130, "Stopped.\n"),
        (ValueError("a: expected b"), 1, "error: a: expected b\n"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 1, "error: x.png: No such file or directory\n"),
    ):
        with pytest.raises(typer.Exit) as ended, ending_in_order():
            raise raised
        assert ended.value.exit_code == code
        assert capsys.readouterr().err == message
    # A fault of the program itself is not dressed up as one of the user's.
    with pytest.raises(KeyError), ending_in_order():
        raise KeyError("fault")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, ending_in_order():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.png"

    def break_off():
        with written_whole(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert files_under(tmp_path) == set()
    path.write_text("before")
    with written_whole(path) as part:
        part.write_text("after")
        assert (path.read_text(), part.suffix, part.parent) == ("before", ".png", path.parent)
    assert path.read_text() == "after"
    assert files_under(tmp_path) == {"new/a.png"}


def test_the_best_device_is_one_that_works():
    import torch

    torch.empty(1, device=checked_device("auto"))
    assert checked_device("cpu") == "cpu"


def test_ctrl_c_leaves_whole_files_alone(tmp_path):
    write_videos(tmp_path / "in", 40)
    out = tmp_path / "out"
    command = [*LAZY, "tokenize", str(tmp_path / "in"), "-o", str(out)]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    wait_for("a finished file", lambda: list(Path(out).glob("*.traj.png")))
    os.kill(started.pid, signal.SIGINT)
    printed, told = started.communicate(timeout=60)
    assert (started.returncode, printed, told) == (130, "", "Stopped.\n")
    written = files_under(out)
    assert 0 < len(written) < 40
    from trajvit.processing.trajectories import Trajectories

    for name in written:
        assert Trajectories.load(out / name).num_frames == 8


def test_a_search_by_the_command_itself(tmp_path):
    """The lazy import is that of the installed command: the models must be known to transformers nevertheless."""
    write_videos(tmp_path / "in", 1)
    command = [
        *LAZY,
        "search",
        str(tmp_path / "in"),
        "a red star",
        "-m",
        str(CHECKPOINT),
        "--cache",
        str(tmp_path / "c"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\t")[0::2] == ["1", f"{tmp_path / 'in' / '0.mp4'}\n"]
    assert done.stderr.count("\n") == 1
