"""TrajViT models: configurations, modules and losses in pure PyTorch and transformers."""


def register_auto_classes() -> None:
    """Makes transformers' Auto classes know the models, and has saved checkpoints carry the models' code.

    Afterwards `AutoConfig` and `AutoModel` open any TrajViT checkpoint, and `save_pretrained` copies this folder's
    modules beside the weights, so that `trust_remote_code=True` opens them where trajvit is not installed.
    """
    from transformers import AutoConfig, AutoModel

    from .configuration_trajvit import TrajViTConfig
    from .configuration_trajvit_contrastive import TrajViTContrastiveConfig
    from .modeling_trajvit import TrajViTModel
    from .modeling_trajvit_contrastive import TrajViTForContrastive

    for config_class, model_class in (
        (TrajViTConfig, TrajViTModel),
        (TrajViTContrastiveConfig, TrajViTForContrastive),
    ):
        AutoConfig.register(config_class.model_type, config_class)
        AutoModel.register(config_class, model_class)
        config_class.register_for_auto_class()
        model_class.register_for_auto_class("AutoModel")
