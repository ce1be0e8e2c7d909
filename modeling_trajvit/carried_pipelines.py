"""Which pipelines a checkpoint names, so that `transformers.pipeline` finds them where trajvit is not installed."""

from typing import TYPE_CHECKING, Any

from transformers import PreTrainedConfig

if TYPE_CHECKING:
    # Named for the code that travels with a checkpoint, which is found by its imports.
    from .video_pipelines import PIPELINES  # noqa: F401

_MODULE = "video_pipelines"
_IMPLEMENTATIONS = {
    "video-feature-extraction": "VideoFeatureExtractionPipeline",
    "zero-shot-video-classification": "ZeroShotVideoClassificationPipeline",
    "text-to-trajectory-search": "TextToTrajectorySearchPipeline",
}
_IS_INSTALLED = not __name__.startswith("transformers_modules.")


class ConfigWithPipelines(PreTrainedConfig):
    """A configuration that is saved with `custom_pipelines`, the tasks that its model serves.

    Where trajvit is installed, `import trajvit` registers the pipelines, and what a checkpoint names is not looked at:
    `pipeline(task, model=...)` then runs no code of the checkpoint, and needs no `trust_remote_code`.
    """

    def pipeline_tasks(self) -> tuple[str, ...]:
        """Tasks of the model, beside those of transformers."""
        return ("video-feature-extraction",)

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """As for every configuration; one that carries its code names its pipelines too."""
        if self._auto_class is None:
            super().save_pretrained(save_directory, push_to_hub, **kwargs)
            return
        own = {
            task: {"impl": f"{_MODULE}.{_IMPLEMENTATIONS[task]}", "pt": ["AutoModel"], "type": "multimodal"}
            for task in self.pipeline_tasks()
        }
        before = getattr(self, "custom_pipelines", {})
        self.custom_pipelines = {**before, **own}
        try:
            super().save_pretrained(save_directory, push_to_hub, **kwargs)
        finally:
            self.custom_pipelines = before
            if not before:
                del self.custom_pipelines

    def __post_init__(self, **kwargs: Any) -> None:
        named = kwargs.pop("custom_pipelines", None) or {}
        if _IS_INSTALLED:
            named = {task: info for task, info in named.items() if not info["impl"].startswith(f"{_MODULE}.")}
        super().__post_init__(**kwargs, **({"custom_pipelines": named} if named else {}))


__all__ = ["ConfigWithPipelines"]
