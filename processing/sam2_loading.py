"""SAM 2.1 from the `sam2` package: built at any image size, with checked weights, and without global hydra state."""

from __future__ import annotations

import importlib.resources
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

SIZES = ("tiny", "small", "base_plus", "large")
"""The sizes of SAM 2.1's image encoder (Hiera), smallest first."""

# Hiera's stride, and the edge of the windows whose embedding it tiles over the stride-4 grid.
_IMAGE_SIZE_STEP = 32
_CONFIGS = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
# What tells the sizes apart: channels of the first stage, number of blocks.
_TRUNKS: dict[tuple[int, ...], str] = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
_FIRST_CONVOLUTION = "image_encoder.trunk.patch_embed.proj.weight"
_BLOCK = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
# Weights that SAM 2.1 has and SAM 2.0 has not.
_NEW_IN_2_1 = {"no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SUFFIXES = {".pt", ".pth", ".safetensors"}


def load_sam2(
    model: str | None = "small",
    checkpoint: str | os.PathLike | None = None,
    image_size: int = 512,
    device: str | torch.device = "cpu",
) -> SAM2Base:
    """Load SAM 2.1 for inference: evaluation mode, float32 weights that need no gradient.

    Args:
        model: "tiny", "small", "base_plus" or "large"; None reads the size off the checkpoint's tensors.
        checkpoint: A local `.pt` ({"model": weights} or the weights alone) or `.safetensors` file, or the id of a
            Hugging Face Hub repository that holds `sam2.1_hiera_<size>.pt`. None is facebook/sam2.1-hiera-<size>.
        image_size: Width and height in pixels at which SAM 2 sees a frame, a positive multiple of 32. Checkpoints fit
            every image size.
        device: Where the model shall lie.

    Raises:
        ImportError: The `sam2` package is not installed.
        ValueError: An argument is not among the values above, the file holds no SAM 2.1 weights, or they do not fit
            `model`.
        TypeError: `image_size` is no integer.
        RuntimeError: PyTorch knows no such `device`.
        FileNotFoundError: There is no such file, here or in the Hub repository.
        OSError: The Hub cannot be reached.

    Source: https://github.com/facebookresearch/sam2.
    """
    if model is not None:
        _check_model(model)
    elif checkpoint is None:
        raise ValueError("With model=None the size is read off the checkpoint, so a checkpoint must be given.")
    _check_image_size(image_size)
    device = torch.device(device)
    _import_sam2()
    path, source = _find_checkpoint(model, checkpoint)
    weights = _read_weights(path, source)
    found = _size_of(weights, source)
    if model is not None and model != found:
        raise ValueError(
            f"The checkpoint {source} does not fit model {model!r}: it is of size {found!r}. "
            f"Give model={found!r}, or model=None to read the size off the checkpoint."
        )
    network = build_sam2(found, image_size)
    _load_weights(network, weights, found, source)
    return network.to(device)


def build_sam2(
    model: str = "small", image_size: int = 512, *, target: str = "sam2.modeling.sam2_base.SAM2Base"
) -> SAM2Base:
    """Build SAM 2.1 with newly initialised weights, in evaluation mode, frozen, on the CPU.

    Args:
        model: "tiny", "small", "base_plus" or "large".
        image_size: As for `load_sam2`.
        target: The class to build; "sam2.sam2_video_predictor.SAM2VideoPredictor" for the package's own predictor.

    Raises:
        ImportError: The `sam2` package is not installed.
        ValueError: `model` or `image_size` is not among the values above.
    """
    _check_model(model)
    _check_image_size(image_size)
    _import_sam2()
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    file = importlib.resources.files("sam2") / "configs" / "sam2.1" / f"sam2.1_hiera_{_CONFIGS[model]}.yaml"
    config = OmegaConf.create(file.read_text(encoding="utf-8")).model
    config._target_ = target
    config.image_size = image_size
    for attention in ("self_attention", "cross_attention"):
        config.memory_attention.layer[attention].feat_sizes = [image_size // 16] * 2
    # The initial weights are drawn from the global generators, whose state is the caller's.
    with torch.random.fork_rng(devices=[]):
        network = instantiate(config, _convert_="all")
    return network.float().eval().requires_grad_(False)


def _check_model(model: str) -> None:
    if model not in SIZES:
        raise ValueError(f"model must be one of {', '.join(SIZES)}, got {model!r}.")


def _check_image_size(image_size: int) -> None:
    if isinstance(image_size, bool) or not isinstance(image_size, int):
        raise TypeError(f"image_size must be an integer, got {image_size!r}.")
    if image_size < 1 or image_size % _IMAGE_SIZE_STEP:
        raise ValueError(f"image_size must be a positive multiple of {_IMAGE_SIZE_STEP}, got {image_size}.")


def _import_sam2() -> None:
    """Import `sam2`, which sets up hydra for the whole process, and leave hydra as it was."""
    try:
        from hydra.core.global_hydra import GlobalHydra
        from hydra.version import VersionBase

        was_initialized = GlobalHydra.instance().is_initialized()
        version_base = VersionBase.instance().version_base
        try:
            import sam2.modeling.sam2_base  # noqa: F401
        finally:
            if not was_initialized:
                GlobalHydra.instance().clear()
                VersionBase.instance().version_base = version_base
    except ModuleNotFoundError as error:
        raise ImportError(f"SAM 2 needs {error.name!r}, which is not installed: pip install 'trajvit[sam2]'") from error


def _find_checkpoint(model: str | None, checkpoint: str | os.PathLike | None) -> tuple[Path, str]:
    """Return the local file of a checkpoint, and how to name it in errors."""
    if checkpoint is None:
        checkpoint = f"facebook/sam2.1-hiera-{str(model).replace('_', '-')}"
    path = Path(checkpoint)
    if path.is_file():
        return path, repr(os.fspath(checkpoint))
    is_hub_id = isinstance(checkpoint, str) and path.suffix not in _SUFFIXES and _HUB_ID.fullmatch(checkpoint)
    if not is_hub_id or path.is_dir():
        raise FileNotFoundError(
            f"There is no checkpoint file {os.fspath(checkpoint)!r}; expected a .pt or .safetensors file, "
            "or the id of a Hugging Face Hub repository (owner/name)."
        )
    return _download(str(checkpoint), [model] if model else list(SIZES))


def _download(repo: str, sizes: list[str]) -> tuple[Path, str]:
    """Return the first of the sizes' files that a Hub repository holds; what is in the local cache comes first."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    names = [f"sam2.1_hiera_{size}.pt" for size in sizes]
    for only_cached in (True, False):
        for name in names:
            try:
                return Path(hf_hub_download(repo, name, local_files_only=only_cached)), f"{repo}/{name}"
            except LocalEntryNotFoundError as error:
                if not only_cached:
                    raise OSError(
                        f"{name} of the Hub repository {repo!r} is not in the local cache, and the Hub cannot be "
                        f"reached. With a connection run `hf download {repo} {name}` once (unset HF_HUB_OFFLINE if it "
                        "is set), or give checkpoint= a local file; docs/sam2.md says where the files are."
                    ) from error
            except EntryNotFoundError:
                continue
            except HfHubHTTPError as error:
                raise OSError(f"The Hub gives no {name} of repository {repo!r}: {error}") from error
    raise FileNotFoundError(f"The Hub repository {repo!r} holds none of {', '.join(names)}.")


def _read_weights(path: Path, source: str) -> dict[str, torch.Tensor]:
    """Read a checkpoint's tensors; nothing that a file might want to run is run."""
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's message tells how to run the file's code all the same.
        raise _no_checkpoint(source, "it holds something else than tensors") from error
    except (RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise _no_checkpoint(source, f"it cannot be read ({error})") from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise _no_checkpoint(source, "it holds something else than named tensors")
    return dict(content)


def _size_of(weights: dict[str, torch.Tensor], source: str) -> str:
    """Return the size whose image encoder has this many channels and blocks."""
    if any(name.startswith("vision_encoder.") for name in weights):
        raise _no_checkpoint(source, "its tensors are named as in transformers' Sam2Model")
    if _FIRST_CONVOLUTION not in weights:
        raise _no_checkpoint(source, f"it has no tensor {_FIRST_CONVOLUTION}")
    shape = tuple(weights[_FIRST_CONVOLUTION].shape)
    blocks = len({match[1] for match in map(_BLOCK.match, weights) if match})
    size = _TRUNKS.get((*shape[:1], blocks))
    if size is None:
        raise _no_checkpoint(source, f"{_FIRST_CONVOLUTION} is {shape} and followed by {blocks} blocks, as in no size")
    return size


def _load_weights(network: SAM2Base, weights: dict[str, torch.Tensor], model: str, source: str) -> None:
    expected = network.state_dict()
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing and not unexpected and set(missing) <= _NEW_IN_2_1:
        raise ValueError(
            f"The checkpoint {source} does not fit model {model!r}: it is of SAM 2.0 (it lacks {', '.join(missing)}); "
            f"SAM 2.1 is needed, facebook/sam2.1-hiera-{model.replace('_', '-')} on the Hub."
        )
    misshapen = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    for names, what in ((missing, "lacks"), (unexpected, "has in addition"), (misshapen, "has")):
        if names:
            raise ValueError(
                f"The checkpoint {source} does not fit SAM 2.1 model {model!r}: it {what} {', '.join(names[:3])}"
                + (f" and {len(names) - 3} more." if len(names) > 3 else ".")
            )
    network.load_state_dict(weights)


def _no_checkpoint(source: str, reason: str) -> ValueError:
    return ValueError(
        f"{source} is not a SAM 2.1 checkpoint: {reason}. Expected sam2.1_hiera_<size>.pt as Meta publishes it, or a "
        ".safetensors file with the same tensors."
    )
