"""Pipelines for videos, which a checkpoint on the Hub carries: PyTorch and transformers are all that they import.

A checkpoint's own processor turns a video into the model's inputs, so that a pipeline takes what the processor takes.

Shape letters: B videos, T frames, M trajectories, Q texts, K tokens, D width of a token, d of the common space.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

PIXELS, MAPS = "pixel_values_videos", "trajectory_maps"
TRAJECTORY_MASK, FRAME_MASK = "trajectory_attention_mask", "frame_attention_mask"

# Its annotations know neither flags that are set nor methods with arguments of their own.
_Pipeline: Any = Pipeline


class VideoPipeline(_Pipeline):
    """What the pipelines for videos have in common: their inputs, and how these become a batch.

    A list is a batch of videos, as in every pipeline; a video given as a list of its frames goes inside one. Keyword
    arguments that are not the task's own, such as `num_frames`, are settings of the video processor.
    """

    _load_processor: bool | None = False
    _load_video_processor = True
    _load_tokenizer: bool | None = False
    _load_image_processor = False
    _load_feature_extractor = False

    model: Any
    processor: Any
    video_processor: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if getattr(self, "video_processor", None) is None:
            # Such as `processor.video_processor`, where only the whole processor is given.
            self.video_processor = getattr(self.processor, "video_processor", None)
        if self.video_processor is None:
            raise ValueError(
                f"The {self.task} pipeline has no video processor: expected one in the checkpoint "
                f"{self.model.name_or_path!r}, or video_processor=."
            )

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """The results of a video, or the list of those of a list of videos.

        Args:
            inputs: A path or URL, bytes, an array or tensor (T, H, W, 3) or (T, 3, H, W), or a list, a generator or a
                data set of these.
            kwargs: What the task takes; `batch_size` and `num_workers`, as in every pipeline; settings of the video
                processor.

        Raises:
            ValueError: A video cannot be decoded or an argument is out of its range; the message names it.
        """
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def preprocess(self, input_: Any, **settings: Any) -> dict[str, Any]:
        """The model's inputs of one video."""
        return dict(self.video_processor([input_], return_tensors="pt", **settings))

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterable[Any]:
        """As in every pipeline, but videos of a batch are padded to its most frames and trajectories."""
        dataset: Any = PipelineDataset if hasattr(inputs, "__len__") else PipelineIterator
        loader: Any = DataLoader(
            dataset(inputs, self.preprocess, preprocess_params),
            num_workers=num_workers if hasattr(inputs, "__len__") else min(num_workers, 1),
            batch_size=batch_size,
            collate_fn=collate_videos,
        )
        outputs = PipelineIterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Write the model with its code, pipelines included, and the processor; `push_to_hub` uploads the same."""
        before = getattr(self.model.config, "custom_pipelines", {})
        super().save_pretrained(save_directory, **kwargs)
        # What was written names this pipeline among others; the model in memory is as it was.
        self.model.config.custom_pipelines = before
        (self.processor or self.video_processor).save_pretrained(save_directory, **kwargs)

    def _vision_inputs(self, model_inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What goes to the model, frames in its precision."""
        names = (PIXELS, MAPS, TRAJECTORY_MASK, FRAME_MASK)
        inputs = {name: model_inputs[name] for name in names if name in model_inputs}
        inputs[PIXELS] = inputs[PIXELS].to(self.model.dtype)
        return inputs

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """(Q, d) float32, normalised."""
        tokens = self._ensure_tensor_on_device(dict(self.processor(text=list(texts), return_tensors="pt")), self.device)
        return _normalized(self.model.get_text_features(**tokens).pooler_output)


class VideoFeatureExtractionPipeline(VideoPipeline):
    """One vector of each video, or all of its tokens, from a model of any kind.

    Called with `pool=True` (default) it gives the video's vector: in the space of texts for a contrastive model,
    normalised, else the tower's pooled output. With `pool=False` it gives the tower's tokens, CLS first. Lists of
    floats, (d,) or (K, D); with `return_tensors=True` float tensors.
    """

    def _sanitize_parameters(
        self, pool: bool | None = None, return_tensors: bool | None = None, **settings: Any
    ) -> Any:
        forward = {} if pool is None else {"pool": pool}
        return settings, forward, {} if return_tensors is None else {"return_tensors": return_tensors}

    def _forward(self, model_inputs: Any, pool: bool = True) -> dict[str, Any]:
        inputs = self._vision_inputs(model_inputs)
        if pool and hasattr(self.model, "get_video_features"):
            return {"features": _normalized(self.model.get_video_features(**inputs).pooler_output)}
        outputs = getattr(self.model, "vision_model", self.model)(**inputs)
        if pool:
            return {"features": outputs.pooler_output.float()}
        return {"features": outputs.last_hidden_state.float(), "mask": outputs.token_mask}

    def postprocess(self, model_outputs: Any, return_tensors: bool = False) -> Any:
        """A video's vector or tokens."""
        features = model_outputs["features"][0]
        if "mask" in model_outputs:
            features = features[model_outputs["mask"][0]]
        return features if return_tensors else features.tolist()


class _TextPipeline(VideoPipeline):
    """A pipeline that compares videos with texts, so for contrastive checkpoints."""

    _load_processor = True
    _load_video_processor = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._embedded: tuple[tuple[str, ...], torch.Tensor] | None = None
        if not hasattr(self.model, "get_text_features") or getattr(self.processor, "tokenizer", None) is None:
            raise ValueError(
                f"The {self.task} pipeline compares videos with texts, and {type(self.model).__name__} has no text "
                "tower or no tokenizer: expected a checkpoint of TrajViTForContrastive with a TrajViTProcessor."
            )

    def _embedded_once(self, texts: tuple[str, ...]) -> torch.Tensor:
        """The embeddings of texts, kept for the next batch: they are the same for every video."""
        if self._embedded is None or self._embedded[0] != texts:
            self._embedded = texts, self._embed_texts(texts)
        return self._embedded[1]


class ZeroShotVideoClassificationPipeline(_TextPipeline):
    """Which of some labels a video shows, by a contrastive model.

    Called with `candidate_labels`, a list of texts or one text with commas, and `hypothesis_template`, in which a
    label replaces `{}`. Gives a list of `{"score", "label"}`, best first; scores are the softmax over the labels.
    """

    def _sanitize_parameters(
        self, candidate_labels: Any = None, hypothesis_template: str | None = None, **settings: Any
    ) -> Any:
        task: dict[str, Any] = {}
        if candidate_labels is not None:
            task["candidate_labels"] = _texts("candidate_labels", candidate_labels, commas=True)
        if hypothesis_template is not None:
            if hypothesis_template.count("{}") != 1:
                raise ValueError(f"hypothesis_template is {hypothesis_template!r}; expected a text with one {{}}.")
            task["hypothesis_template"] = hypothesis_template
        return settings, task, {name: task[name] for name in ("candidate_labels",) if name in task}

    def _forward(
        self, model_inputs: Any, candidate_labels: tuple[str, ...] = (), hypothesis_template: str = "{}"
    ) -> dict[str, Any]:
        if not candidate_labels:
            raise ValueError("candidate_labels are missing; expected at least one label.")
        labels = self._embedded_once(tuple(hypothesis_template.replace("{}", label) for label in candidate_labels))
        videos = _normalized(self.model.get_video_features(**self._vision_inputs(model_inputs)).pooler_output)
        temperature = self.model.temperature.float().clamp(
            self.model.config.temperature_min, self.model.config.temperature_max
        )
        return {"scores": (videos @ labels.T / temperature).softmax(-1)}

    def postprocess(self, model_outputs: Any, candidate_labels: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """The labels of a video, best first."""
        scores, order = model_outputs["scores"][0].sort(descending=True, stable=True)
        return [
            {"score": score, "label": candidate_labels[position]}
            for score, position in zip(scores.tolist(), order.tolist(), strict=True)
        ]


class TextToTrajectorySearchPipeline(_TextPipeline):
    """Which objects of a video match a phrase: its trajectories, ranked, with a box in each frame they are in.

    Called with `text`, one phrase or a list, and `top_k`, how many trajectories at most (5; None for all). Each
    trajectory is compared with the text as if its video had no other. Gives a list, best first, of

    - `score`: the cosine similarity;
    - `trajectory`: its number, from 1, among those that the model sees (`return_trajectories=True` gives these);
    - `boxes`: for each frame it is in, `frame` (position among the sampled ones), `frame_index` (number in the source),
      `timestamp` (seconds) and `box` with `xmin`, `ymin`, `xmax`, `ymax` as shares of width and height.

    A list of texts gives a list of such lists. With `return_trajectories=True` the result is a mapping with these as
    `matches` and the video's `trajectories`, a `Trajectories`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not hasattr(self.model.vision_model, "encode_each_trajectory"):
            raise ValueError(
                f"The {self.task} pipeline ranks trajectories, and the vision tower is "
                f"{self.model.config.vision_config.model_type!r}: expected 'trajvit'."
            )

    def _sanitize_parameters(
        self, text: Any = None, top_k: Any = -1, return_trajectories: bool | None = None, **settings: Any
    ) -> Any:
        post: dict[str, Any] = {}
        if top_k != -1:
            if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
                raise ValueError(f"top_k is {top_k!r}; expected an integer of at least 1, or None for all.")
            post["top_k"] = top_k
        if return_trajectories is not None:
            post["return_trajectories"] = return_trajectories
        if text is None:
            return settings, {}, post
        return settings, {"texts": _texts("text", text)}, {**post, "is_single": isinstance(text, str)}

    def preprocess(self, input_: Any, **settings: Any) -> dict[str, Any]:
        """The model's inputs of one video, and its trajectories."""
        return super().preprocess(input_, return_trajectories=True, **settings)

    def _forward(self, model_inputs: Any, texts: tuple[str, ...] = ()) -> dict[str, Any]:
        if not texts:
            raise ValueError("text is missing; expected a phrase, or a list of them.")
        queries = self._embedded_once(texts)
        features, mask = self.model.get_trajectory_features(**self._vision_inputs(model_inputs))
        similarities = torch.einsum("qd,bmd->bqm", queries, _normalized(features))
        return {
            "similarities": similarities.masked_fill(~mask[:, None], -torch.inf),
            "trajectories": model_inputs["trajectories"],
        }

    def postprocess(
        self,
        model_outputs: Any,
        top_k: int | None = 5,
        return_trajectories: bool = False,
        is_single: bool = True,
    ) -> Any:
        """The ranked trajectories of a video."""
        found = model_outputs["trajectories"]
        trajectories = found[0] if isinstance(found, list) else found
        matches = [_ranked(row, trajectories, top_k) for row in model_outputs["similarities"][0]]
        result = matches[0] if is_single else matches
        return {"matches": result, "trajectories": trajectories} if return_trajectories else result


def collate_videos(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join the inputs of single videos; what is shorter is padded with zeros, and masks tell.

    Raises `ValueError` where frames differ in size.
    """
    lengths = [item[PIXELS].shape[1] for item in items]
    batch: dict[str, Any] = {}
    for name in items[0]:
        values = [item[name] for item in items]
        if not isinstance(values[0], torch.Tensor):
            batch[name] = [value for own in values for value in own]
            continue
        sizes = {tuple(value.shape[2:]) for value in values}
        if len(sizes) > 1:
            raise ValueError(f"The videos of a batch differ in {name}: {sorted(sizes)}; expected one size.")
        most = max(value.shape[1] for value in values)
        batch[name] = torch.cat([_padded(value, most) for value in values])
    if min(lengths) < max(lengths):
        batch[FRAME_MASK] = torch.tensor([[1] * length + [0] * (max(lengths) - length) for length in lengths])
    return batch


PIPELINES: dict[str, type[VideoPipeline]] = {
    "video-feature-extraction": VideoFeatureExtractionPipeline,
    "zero-shot-video-classification": ZeroShotVideoClassificationPipeline,
    "text-to-trajectory-search": TextToTrajectorySearchPipeline,
}
"""The pipeline of each task."""


def register_pipelines() -> None:
    """Make `transformers.pipeline` know the tasks of `PIPELINES`."""
    for task, pipeline_class in PIPELINES.items():
        if task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=AutoModel, type="multimodal"
            )


def _texts(name: str, given: Any, commas: bool = False) -> tuple[str, ...]:
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",")] if commas else [given]
    texts = tuple(given) if isinstance(given, (list, tuple)) else ()
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{name} is {given!r}; expected a text, or a list of texts that are not empty.")
    return texts


def _ranked(similarities: torch.Tensor, trajectories: Any, top_k: int | None) -> list[dict[str, Any]]:
    """The trajectories of a video by their similarities (M,), best first."""
    own = similarities[: trajectories.num_trajectories]
    scores, order = own.sort(descending=True, stable=True)
    return [
        {"score": score, "trajectory": row + 1, "boxes": _boxes(trajectories, row)}
        for score, row in zip(scores[:top_k].tolist(), order[:top_k].tolist(), strict=True)
    ]


def _boxes(trajectories: Any, row: int) -> list[dict[str, Any]]:
    return [
        {
            "frame": frame,
            "frame_index": int(trajectories.frame_indices[frame]),
            "timestamp": float(trajectories.timestamps[frame]),
            "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), trajectories.boxes[row, frame].tolist(), strict=True)),
        }
        for frame in trajectories.presence[row].nonzero()[0].tolist()
    ]


def _padded(value: torch.Tensor, length: int) -> torch.Tensor:
    """(1, n, ...) -> (1, length, ...), zeros at the end."""
    missing = length - value.shape[1]
    return torch.cat([value, value.new_zeros(1, missing, *value.shape[2:])], dim=1) if missing else value


def _normalized(features: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(features.float(), dim=-1)


__all__ = [
    "PIPELINES",
    "TextToTrajectorySearchPipeline",
    "VideoFeatureExtractionPipeline",
    "VideoPipeline",
    "ZeroShotVideoClassificationPipeline",
    "register_pipelines",
]
