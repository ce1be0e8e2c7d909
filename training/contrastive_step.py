"""One step's forward and backward pass: the contrastive loss over all processes, in chunks where memory is short.

Chunks follow gradient caching, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (Gao et al.
2021): the loss depends on the whole batch through its embeddings alone. A first pass computes these chunk by chunk and
keeps no activations; the loss gives their gradients; a second pass computes each chunk again, with the same random
numbers, and carries its share of the gradients back. It costs one more forward pass, and memory is that of a chunk.

Shape letters: n samples of this process, k captions of each, c samples of a chunk, d width of the common space.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from .acceleration import backward, uses_deepspeed
from .batch_chunks import count_vision_tokens, cut_chunks, split_to, take_chunk, text_rows
from .config_file import ConfigError
from .global_contrastive import GlobalSimilarities, global_similarities, num_processes
from .run_config import LossSettings


@dataclass(frozen=True)
class StepResult:
    """What a step found, the same on all processes.

    Attributes:
        loss: Of the whole batch.
        finite: Whether it is a number; where it is not, there was no backward pass on any process.
        num_samples: Of all processes.
        num_tokens: Tokens of these samples that enter the vision tower's transformer (`count_vision_tokens`).
        accuracy: Share of the samples whose most similar text, among all texts, is one of their captions.
    """

    loss: float
    finite: bool
    num_samples: int
    num_tokens: int
    accuracy: float


class ContrastiveStep:
    """Forward pass, the loss over all processes, backward pass.

    Afterwards the gradients are in the parameters, or with DeepSpeed's engine, averaged over processes as the model's
    wrapper does it and scaled by a gradient scaler where there is one; `apply_gradients` takes the step.

    Args:
        accelerator: It wraps the model, scales the loss and knows how gradients are accumulated.
        model: A `TrajViTForContrastive`, as `accelerator.prepare` returned it.
        settings: The size of chunks.
        captions_per_sample: k.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, settings: LossSettings, captions_per_sample: int):
        self.accelerator = accelerator
        self.model = model
        self.settings = settings
        self.captions = captions_per_sample
        # Wrappers of distributed training hold the model as `module`.
        unwrapped: Any = getattr(model, "module", model)
        self.vision_config = unwrapped.config.vision_config

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> StepResult:
        """Runs the model on `inputs`, on its device: rows of n samples, texts (n * k, L) in the samples' order.

        Every process calls it with as many samples. Raises `ValueError` for another number of texts, and for chunks of
        a model whose batch norms are in training.
        """
        num_samples, num_texts = len(inputs["pixel_values_videos"]), len(inputs["input_ids"])
        if num_texts != num_samples * self.captions:
            raise ValueError(
                f"input_ids have {num_texts} rows for {num_samples} samples: expected captions_per_sample="
                f"{self.captions} for each."
            )
        tokens = count_vision_tokens(inputs, self.vision_config)
        chunks = self._cut(tokens)
        if len(chunks) == 1:
            return self._whole(inputs, sum(tokens))
        return self._chunked(inputs, chunks, sum(tokens))

    def _whole(self, inputs: Mapping[str, torch.Tensor], num_tokens: int) -> StepResult:
        outputs = self.model(**inputs)
        similarities = global_similarities(outputs.video_embeds, outputs.text_embeds, outputs.temperature)
        loss = similarities.info_nce()
        result = self._result(loss, similarities, num_tokens)
        if result.finite:
            backward(self.accelerator, self.model, loss)
        return result

    def _cut(self, tokens: Sequence[int]) -> list[list[int]]:
        chunks = cut_chunks(tokens, self.settings.chunk_size, self.settings.chunk_tokens)
        if num_processes() > 1 and self.settings.chunk_tokens is not None:
            # A process that had fewer passes would leave the others waiting for its weights (ZeRO-3) or buffers (DDP).
            most = torch.tensor(len(chunks), device=self.accelerator.device)
            dist.all_reduce(most, dist.ReduceOp.MAX)
            chunks = split_to(chunks, int(most))
        if len(chunks) > 1:
            self._check_norms()
        return chunks

    def _check_norms(self) -> None:
        for name, module in self.model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise ConfigError(
                    f"loss.chunk_size={self.settings.chunk_size}, loss.chunk_tokens={self.settings.chunk_tokens}: the "
                    f"batch norm {name} takes its statistics from a chunk, so that the loss depends on the chunks; "
                    "expected model.batch_norm=frozen, or neither of the two."
                )

    def _chunked(
        self, inputs: Mapping[str, torch.Tensor], chunks: Sequence[Sequence[int]], num_tokens: int
    ) -> StepResult:
        device = inputs["pixel_values_videos"].device
        samples = [torch.tensor(chunk, device=device) for chunk in chunks]
        rows = [text_rows(chunk, self.captions) for chunk in samples]
        videos, texts, temperature, states = self._embed(inputs, samples, rows)
        similarities = global_similarities(videos, texts, temperature)
        loss = similarities.info_nce()
        result = self._result(loss, similarities, num_tokens)
        if not result.finite:
            return result
        of_videos, of_texts, of_temperature = torch.autograd.grad(loss, (videos, texts, temperature))
        for number, state in enumerate(states):
            is_last = number == len(states) - 1
            # The last chunk leaves the generators where the first pass did.
            set_random_states(state, device)
            with self._gradients_exchanged(is_last):
                outputs = self.model(**take_chunk(inputs, samples[number], self.captions))
                # Its gradients are those of the loss. All chunks have every parameter in it, as wrappers expect.
                carrier = (outputs.video_embeds * of_videos[samples[number]]).sum()
                carrier = carrier + (outputs.text_embeds * of_texts[rows[number]]).sum()
                carrier = carrier + (outputs.temperature * (of_temperature if is_last else 0)).sum()
                backward(self.accelerator, self.model, carrier, last=is_last)
        return result

    @torch.no_grad()
    def _embed(
        self, inputs: Mapping[str, torch.Tensor], samples: Sequence[torch.Tensor], rows: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[list[torch.Tensor]]]:
        """Videos' embeddings (n, d), texts' (n * k, d) and the temperature (1,), to be differentiated by.

        And the states of the random number generators before each chunk.
        """
        states, outputs = [], []
        for chunk in samples:
            states.append(random_states(chunk.device))
            chunk_outputs = self.model(**take_chunk(inputs, chunk, self.captions))
            outputs.append((chunk_outputs.video_embeds, chunk_outputs.text_embeds, chunk_outputs.temperature))
        videos, texts, temperatures = zip(*outputs, strict=True)
        in_order = [
            torch.cat(parts)[torch.cat(list(places)).argsort()].requires_grad_()
            for parts, places in ((videos, samples), (texts, rows))
        ]
        return in_order[0], in_order[1], temperatures[0].clone().requires_grad_(), states

    @contextmanager
    def _gradients_exchanged(self, is_last: bool) -> Iterator[None]:
        """Lets processes exchange gradients in the last chunk alone; before it they add up in each."""
        if is_last or uses_deepspeed(self.accelerator):
            yield
        else:
            with self.accelerator.no_sync(self.model):
                yield

    @torch.no_grad()
    def _result(self, loss: torch.Tensor, similarities: GlobalSimilarities, num_tokens: int) -> StepResult:
        processes = num_processes()
        found = [loss.item(), similarities.accuracy().item(), len(similarities.of_videos), num_tokens]
        if processes > 1:
            # A loss that is no number on one process makes the sum none on all. Counts do not fit single precision.
            sums = torch.tensor(found, dtype=torch.float64, device=loss.device)
            dist.all_reduce(sums)
            found = sums.tolist()
        loss_sum, accuracy_sum, num_samples, all_tokens = found
        return StepResult(
            loss=loss_sum / processes,
            finite=math.isfinite(loss_sum),
            num_samples=int(num_samples),
            num_tokens=int(all_tokens),
            accuracy=accuracy_sum / processes,
        )


def random_states(device: torch.device) -> list[torch.Tensor]:
    """States of the generators that a model on `device` draws from: the CPU's and the device's own."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def set_random_states(states: Sequence[torch.Tensor], device: torch.device) -> None:
    """Random numbers as from `states` of `random_states` on."""
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], device)
