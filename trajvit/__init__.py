"""TrajViT: a video encoder with one token per panoptic sub-object trajectory."""

from pathlib import Path

# In a checkout the rooms lie beside this package, not inside it: let `trajvit.processing` be found there, so that
# running from the repository's root works whatever is installed.
_checkout = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "processing").is_dir() and (_checkout / "modeling_trajvit").is_dir():
    __path__.append(str(_checkout))
