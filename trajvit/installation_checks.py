"""What an installation has and lacks, and the command that mends each lack."""

import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, Literal

EXTRAS = {
    "sam2": "the paper's backend, sam2",
    "train": "training",
    "eval": "evaluation on data sets",
    "scale": "generation on a Ray cluster, Hub data sets",
    "app": "the web page, trajvit app",
}
"""Groups of packages that can be left out, with what they are for."""

# Import names that differ from those of packages, for what is tried by importing it.
_ESSENTIAL = {
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "safetensors": "safetensors.torch",
    "numpy": "numpy",
    "av": "av",
    "pillow": "PIL.Image",
    "opencv-python": "cv2",
    "scenedetect": "scenedetect",
    "scikit-image": "skimage.segmentation",
    "scipy": "scipy.ndimage",
    "pyarrow": "pyarrow",
    "matplotlib": "matplotlib.figure",
}
_DECODERS = {"h264": "H.264", "hevc": "H.265", "vp9": "VP9", "av1": "AV1", "mpeg4": "MPEG-4"}
_SAM2_REPOSITORY, _SAM2_FILE = "facebook/sam2.1-hiera-small", "sam2.1_hiera_small.pt"

Status = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Check:
    """What one look came to.

    Attributes:
        name: What was looked at.
        status: `ok`, `missing` for something that can be done without, or `broken` for something that cannot.
        found: What is there, or what is wrong.
        mend: The command that mends it; None where there is none, or nothing to mend.
    """

    name: str
    status: Status
    found: str
    mend: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def installation_checks() -> Iterator[Check]:
    """All checks, one after another as they are done; those of essentials first."""
    yield _python()
    for package, module in _ESSENTIAL.items():
        yield _essential(package, module)
    yield _guarded("video encoder", _encoder)
    yield _guarded("shipped model", _shipped_model)
    yield _guarded("video decoders", _decoders)
    yield _guarded("devices", _devices)
    for extra, purpose in EXTRAS.items():
        yield _extra(extra, purpose)
    yield _guarded("SAM 2 weights", _sam2_weights)


def _python() -> Check:
    # An older one than the package needs does not get as far as this.
    return Check("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _essential(package: str, module: str) -> Check:
    needed = _requirement(package)
    try:
        import_module(module)
    # A library that breaks off while it is imported may raise anything.
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        if isinstance(error, ImportError) and "lib" in reason and ".so" in reason and package == "opencv-python":
            return Check(package, "broken", reason, "apt-get install libgl1 libglib2.0-0")
        return Check(package, "broken", reason, _install(needed))
    installed = _version(package)
    if installed is None:
        # Such as OpenCV's wheel without windows, which has another name.
        return Check(package, "ok", str(getattr(sys.modules[module.split(".")[0]], "__version__", "there")))
    if not _fits(needed, installed):
        return Check(package, "broken", f"{installed}; {needed} is needed", _install(needed))
    return Check(package, "ok", installed)


def _extra(extra: str, purpose: str) -> Check:
    needed = _requirements(extra)
    if not needed:
        told = f"{purpose}: unknown, as the installation does not say what it needs"
        return Check(f"extra {extra}", "missing", told, _install(f"trajvit[{extra}]"))
    lacking = []
    for requirement in needed:
        name = requirement.split("[")[0]
        for sign in "<>=!~;":
            name = name.split(sign)[0]
        installed = _version(name.strip())
        if installed is None or not _fits(requirement, installed):
            lacking.append(requirement)
    if lacking:
        return Check(f"extra {extra}", "missing", f"{purpose}: lacks {', '.join(lacking)}", _install(*lacking))
    return Check(f"extra {extra}", "ok", purpose)


def _encoder() -> Check:
    import av.codec

    if "libx264" in av.codec.codecs_available:
        return Check("video encoder", "ok", "libx264")
    return Check("video encoder", "broken", "PyAV's FFmpeg has no libx264, which writes mp4", _install("av", anew=True))


def _decoders() -> Check:
    import av
    import av.codec

    lacking = [name for codec, name in _DECODERS.items() if codec not in av.codec.codecs_available]
    have = [name for codec, name in _DECODERS.items() if codec in av.codec.codecs_available]
    library = ".".join(map(str, av.library_versions["libavcodec"]))
    if lacking:
        return Check("video decoders", "missing", f"no {', '.join(lacking)}", _install("av", anew=True))
    return Check("video decoders", "ok", f"{', '.join(have)} (PyAV {av.__version__}, libavcodec {library})")


def _devices() -> Check:
    import torch

    found = [f"cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)"]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found.append(f"cuda:{number} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)")
    if torch.backends.mps.is_available():
        found.append("mps")
    return Check("devices", "ok", ", ".join(found))


def _shipped_model() -> Check:
    """A few frames and a text, from pixels to a similarity."""
    import numpy as np
    import torch

    from trajvit.command_conventions import SHIPPED_MODEL, checkpoint_of, know_models

    know_models()
    from trajvit.modeling_trajvit import TrajViTForContrastive
    from trajvit.processing.processing_trajvit import TrajViTProcessor

    folder = checkpoint_of(SHIPPED_MODEL)
    model = TrajViTForContrastive.from_pretrained(folder).eval()
    processor = TrajViTProcessor.from_pretrained(folder)
    frames = np.full((4, 64, 64, 3), 40, np.uint8)
    for time, frame in enumerate(frames):
        frame[20:44, 8 * time : 8 * time + 24] = (220, 60, 60)
    inputs = processor(videos=[frames], text=["a red square moves right"])
    with torch.inference_mode():
        similarity = float((lambda out: out.video_embeds @ out.text_embeds.T)(model(**inputs)))
    if not -1.001 <= similarity <= 1.001:
        return Check("shipped model", "broken", f"its similarity is {similarity}; expected -1 to 1", _reinstall())
    return Check("shipped model", "ok", "finds trajectories, embeds a video and a text")


def _sam2_weights() -> Check:
    from huggingface_hub import try_to_load_from_cache

    from trajvit.processing.sam2_loading import SIZES

    there = []
    for size in SIZES:
        name = f"sam2.1_hiera_{size}.pt"
        if isinstance(try_to_load_from_cache(f"facebook/sam2.1-hiera-{size.replace('_', '-')}", name), str):
            there.append(size)
    if there:
        return Check("SAM 2 weights", "ok", f"{', '.join(there)} in the cache")
    mend = f"hf download {_SAM2_REPOSITORY} {_SAM2_FILE}"
    return Check("SAM 2 weights", "missing", "none in the cache, for the backend sam2", mend)


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    """A look that fails says why, and the others go on."""
    try:
        return look()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return Check(name, "broken", reason, _reinstall())


def _requirements(extra: str | None) -> list[str]:
    """What the package says that it, or one of its extras, needs."""
    from packaging.requirements import Requirement

    try:
        stated = [Requirement(line) for line in requires("trajvit") or ()]
    except PackageNotFoundError:
        return []
    own = []
    for requirement in stated:
        marker = requirement.marker
        if (marker is None) != (extra is None) or (marker is not None and not marker.evaluate({"extra": extra or ""})):
            continue
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        own.append(f"{requirement.name}{extras}{requirement.specifier}")
    return own


def _requirement(package: str) -> str:
    for requirement in _requirements(None):
        if requirement.startswith(package) and not requirement[len(package) : len(package) + 1].isalnum():
            return requirement
    return package


def _fits(requirement: str, installed: str) -> bool:
    from packaging.requirements import Requirement

    return Requirement(requirement).specifier.contains(installed, prereleases=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _install(*requirements: str, anew: bool = False) -> str:
    parts = [sys.executable, "-m", "pip", "install", *(["--force-reinstall"] if anew else []), *requirements]
    # SAM 2 comes as source and is built with the torch that is there; its CUDA extension is not used.
    if any(requirement.startswith("sam2") for requirement in requirements):
        parts.insert(4, "--no-build-isolation")
        return f"SAM2_BUILD_CUDA=0 {shlex.join(parts)}"
    return shlex.join(parts)


def _reinstall() -> str:
    return _install("trajvit", anew=True)
