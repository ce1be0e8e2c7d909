"""Low-rank adapters ("LoRA", Hu et al. 2021) on a contrastive model, by peft."""

import re
from typing import Any

from torch import nn

from trajvit.modeling_trajvit import TrajViTForContrastive

from .config_file import ConfigError
from .run_config import LoraSettings

_ATTENTION = re.compile(r"(?:^|\.)[^.]*(?:attention|attn)[^.]*\.")


def add_lora(model: TrajViTForContrastive, settings: LoraSettings) -> Any:
    """The model as a `PeftModel`, in which adapters and the modules of `settings.train` alone are trained.

    Raises `ConfigError` where `target_modules` or `train` name nothing in the model.
    """
    from peft import LoraConfig, get_peft_model

    targets = settings.target_modules or attention_projections(model)
    # peft divides it by the rank; it need not be whole, whatever its annotation says.
    alpha: Any = settings.alpha
    config = LoraConfig(r=settings.rank, lora_alpha=alpha, lora_dropout=settings.dropout, target_modules=targets)
    try:
        adapted: Any = get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"lora.target_modules={settings.target_modules!r}: {error}") from None
    for name in settings.train:
        _train(adapted, name)
    return adapted


def attention_projections(model: nn.Module) -> list[str]:
    """Full names of the linear layers of attention, whatever the towers call them."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and _ATTENTION.search(name)]


def merge_lora(model: Any) -> TrajViTForContrastive:
    """The plain model with the adapters added to its weights. `model` is used up."""
    merged = model.merge_and_unload()
    return merged.requires_grad_(True)


def _train(adapted: Any, name: str) -> None:
    """Train the module or the parameter of this full name whole."""
    # peft copies modules that it trains whole, and knows no parameters without a module; here they stay where they are.
    model = adapted.get_base_model()
    found = [
        parameter.requires_grad_(True)
        for full_name, parameter in model.named_parameters()
        if f"{full_name}.".startswith(f"{name}.")
    ]
    if not found:
        top = [child for child, _ in [*model.named_children(), *model.named_parameters(recurse=False)]]
        raise ConfigError(f"lora.train={name!r} is not in the model: expected full names, such as {top}")
