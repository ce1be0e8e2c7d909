"""TrajViT: a video encoder with one token per panoptic sub-object trajectory."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout the rooms lie beside this package, not inside it: let `trajvit.processing` be found there, so that
# running from the repository's root works whatever is installed.
_checkout = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "processing").is_dir() and (_checkout / "modeling_trajvit").is_dir():
    __path__.append(str(_checkout))

__version__ = "0.1.0"

# A worker of a generation run (`process_pool.py`) needs no PyTorch unless its backend does, and transformers' Auto
# classes not at all: there the names, and those classes' knowledge of them, come when the first name is used. So it is
# in the command `trajvit`, which answers at once, and imports PyTorch in those of its commands that need it.
_is_command = Path(next(iter(sys.argv), "")).name in ("trajvit", "trajvit.exe")
# An actor of Ray can be given no option, but a variable.
_is_lazy = "trajvit_lazy" in sys._xoptions or "TRAJVIT_LAZY" in os.environ or _is_command
if TYPE_CHECKING or not _is_lazy:
    from trajvit.public_names import *  # noqa: F403 - the rooms are found from here on
    from trajvit.public_names import __all__ as __all__
if TYPE_CHECKING:
    from trajvit.video_search import VideoSearch as VideoSearch


def __getattr__(name: str) -> Any:
    from importlib import import_module

    # `VideoSearch` brings along how evaluation reads media, so it always waits until it is wanted. As a statement, this
    # import would ask the package for the name of the module, and so this function.
    return getattr(import_module("trajvit.video_search" if name == "VideoSearch" else "trajvit.public_names"), name)
