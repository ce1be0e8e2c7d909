"""TrajViT models: configurations, modules and losses in pure PyTorch and transformers."""
