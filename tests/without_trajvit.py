"""Runs a program in a Python in which trajvit cannot be imported, as where it is not installed."""

import os
import subprocess
import sys

_PRELUDE = """
import sys

class NotInstalled:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "trajvit":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
import torch
torch.set_num_threads(1)
"""


def run_without_trajvit(program, *arguments, folder, environment=None):
    """Run it in a folder, which also keeps the code of checkpoints; `environment` stands in place of this process's."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"} if environment is None else environment
    return subprocess.run(
        [sys.executable, "-c", _PRELUDE + program, *map(str, arguments)],
        cwd=folder,
        env={**environment, "HF_MODULES_CACHE": str(folder / "modules")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
