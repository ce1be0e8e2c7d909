"""What each of the two processes of `test_contrastive_processes.py` does: steps on its half of a batch."""

import os
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from contrastive_batches import gradients, make_batch, make_contrastive, select_samples
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

WORLD = 2
CAPTIONS = 2
BOUNDS = (0.001, 0.5)
COUNTS = (5, 4, 5, 1, 0, 1)  # trajectories: by tokens the first half has more chunks than the second


def own_samples(rank):
    return slice(3 * rank, 3 * rank + 3)


def embeddings():
    """Of the whole batch: (6, 5) videos, (12, 5) texts, a temperature; double, not normalised."""
    generator = torch.Generator().manual_seed(3)
    videos = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    texts = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    return videos, texts, torch.tensor([0.7], dtype=torch.float64)


def opposed_embeddings():
    """The first process's pairs match, which calls for a low temperature, the second's do not: for a high one."""
    videos = torch.eye(6, dtype=torch.float64)
    texts = videos.repeat_interleave(2, 0)
    return videos, torch.cat([texts[:6], -0.1 * texts[6:]]), torch.tensor([0.6], dtype=torch.float64)


def loss_of(embeddings, rank, bounds=None):
    """This process's share of the loss, its gradients, and what it gathers of the videos."""
    from trajvit.modeling_trajvit.contrastive_loss import bounded
    from trajvit.training.global_contrastive import gather_with_gradient, global_info_nce

    videos, texts, temperature = embeddings
    own = [videos[own_samples(rank)], texts[6 * rank : 6 * rank + 6], temperature]
    own = [tensor.clone().requires_grad_() for tensor in own]
    used = own[2] if bounds is None else bounded(own[2], *bounds)
    loss = global_info_nce(own[0], own[1], used)
    loss.backward()
    return {
        "loss": loss.detach(),
        "gathered": gather_with_gradient(own[0]).detach(),
        "gradients": [tensor.grad for tensor in own],
    }


def count_exchange(exchanges, bucket):
    """Averages a bucket of gradients over processes, as without a hook."""
    exchanges.append(1)
    return allreduce_hook(None, bucket)


class Trial:
    """A model as Accelerate prepares it for two processes, and the step on this one's samples."""

    def __init__(self, rank, accelerator, settings=None, **options):
        from trajvit.training.contrastive_step import ContrastiveStep
        from trajvit.training.run_config import LossSettings

        self.rank = rank
        self.model = accelerator.prepare(make_contrastive(**options).double())
        assert isinstance(self.model, torch.nn.parallel.DistributedDataParallel)
        self.forwards = []
        self.model.register_forward_pre_hook(lambda *_: self.forwards.append(1))
        self.exchanges = []
        self.model.register_comm_hook(self.exchanges, count_exchange)
        self.step = ContrastiveStep(accelerator, self.model, LossSettings(**(settings or {})), CAPTIONS)

    def run(self, inputs):
        """The step's result, how often it ran the model and exchanged gradients, and those there are afterwards."""
        self.forwards.clear()
        self.exchanges.clear()
        self.model.zero_grad(set_to_none=True)
        result = self.step(select_samples(inputs, own_samples(self.rank), CAPTIONS))
        passes = {"forwards": len(self.forwards), "exchanges": len(self.exchanges)}
        return {"result": asdict(result), **passes, "gradients": gradients(self.model.module)}


def spoiled(inputs):
    """Texts that the model cannot represent, on the second process alone: their embeddings are no numbers."""
    inputs = {name: values.clone() for name, values in inputs.items()}
    inputs["input_ids"][-1] = 98
    return inputs


def trials(rank, accelerator):
    inputs = make_batch(COUNTS, CAPTIONS)
    empty = make_batch((0,) * 6, CAPTIONS)
    half_empty = make_batch((3, 2, 4, 0, 0, 0), CAPTIONS)
    found = {}
    whole = Trial(rank, accelerator)
    found["whole"] = whole.run(inputs)
    found["empty"] = whole.run(empty)
    found["half empty"] = whole.run(half_empty)
    for name, settings in (("chunk_size", {"chunk_size": 2}), ("chunk_tokens", {"chunk_tokens": 6})):
        trial = Trial(rank, accelerator, settings)
        found[name] = trial.run(inputs)
    for name, settings in (("not finite", {}), ("not finite in chunks", {"chunk_size": 2})):
        trial = Trial(rank, accelerator, settings)
        with torch.no_grad():
            trial.model.module.text_model.embeddings.word_embeddings.weight[98] = float("nan")
        inputs["input_ids"][inputs["input_ids"] == 98] = 97
        found[name] = trial.run(spoiled(inputs))
        found[f"after {name}"] = trial.run(inputs)
    return found


def run_process(rank, folder):
    """Started for each rank; `folder` has a file for the processes to meet by, and gets `rank<rank>.pt`."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "ACCELERATE_USE_CPU": "true"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    found = {"world": accelerator.num_processes, **trials(rank, accelerator)}
    found["embeddings"] = loss_of(embeddings(), rank)
    found["opposed"] = loss_of(opposed_embeddings(), rank, BOUNDS)
    torch.save(found, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()
