"""A trained model as others load it: a folder with weights, code, processor and model card, and its upload."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, get_token

from trajvit.modeling_trajvit import TrajViTForContrastive
from trajvit.processing.processing_trajvit import TrajViTProcessor

from .config_file import ConfigError
from .lora import add_lora, merge_lora
from .model_card import model_card
from .run_config import HubSettings, RunConfig
from .run_state import RunState

CARD = "README.md"


def plain_model(model: Any, state_dict: Mapping[str, torch.Tensor], config: RunConfig) -> TrajViTForContrastive:
    """A model on the CPU with the given weights, in float32, without any wrapper and with adapters merged.

    Args:
        model: The trained one, for its configuration alone; it stays as it is.
        state_dict: `acceleration.full_state_dict` of it, or its moving average's.
        config: Of the run, whose adapters it has.
    """
    with torch.random.fork_rng(devices=[]):
        plain: Any = TrajViTForContrastive(model.config)
        if config.lora is not None:
            plain = add_lora(plain, config.lora)
    plain.load_state_dict(state_dict)
    plain = plain.float()
    return (plain if config.lora is None else merge_lora(plain)).eval()


def save_model(
    folder: str | os.PathLike,
    model: TrajViTForContrastive,
    processor: TrajViTProcessor,
    config: RunConfig,
    state: RunState,
) -> Path:
    """Write what `AutoModel.from_pretrained` and `TrajViTProcessor.from_pretrained` read. Returns the folder.

    Args:
        model: A plain one, see `plain_model`.
        processor: That belongs to it.
        config: Of the run.
        state: Where it ended.
    """
    folder = Path(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / CARD).write_text(model_card(model, config, state), encoding="utf-8")
    return folder


def check_hub(settings: HubSettings) -> None:
    """Raises `ConfigError` where an upload could only fail: without a name, a token or a network."""
    what = f"hub.model_id={settings.model_id!r}"
    user, slash, name = settings.model_id.partition("/")
    if not (user and slash and name) or "/" in name:
        raise ConfigError(f"{what}: expected user/name")
    if get_token() is None:
        raise ConfigError(f"{what} needs a token: expected HF_TOKEN in the environment, or `hf auth login`")
    if constants.HF_HUB_OFFLINE:
        raise ConfigError(f"{what} needs the network: expected HF_HUB_OFFLINE not to be set")


def push(folder: str | os.PathLike, settings: HubSettings, step: int) -> str:
    """Upload a folder of `save_model`, as one commit. Returns the commit's address."""
    api = HfApi()
    api.create_repo(settings.model_id, private=settings.private, exist_ok=True)
    return api.upload_folder(
        repo_id=settings.model_id, folder_path=str(folder), commit_message=f"Model after {step} steps"
    ).commit_url
