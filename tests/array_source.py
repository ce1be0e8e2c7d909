"""A data set of small arrays in memory, some of whose records are bad in ways that a test names."""

import os
import signal
import time
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerFast

from trajvit.processing.stored_values import SampleError
from trajvit.processing.trajectories import Trajectories
from trajvit.training.samples import Clip


@dataclass
class ArraySource:
    """Clips of `num_samples` records, drawn by their numbers. Keys of `faults` are numbers, values what happens there:
    "bad" a sample error, "bug" an error of another kind, "die" the worker is killed, "hang" it never returns.
    """

    num_samples: int = 20
    num_shards: int = 2
    name: str = "arrays"
    frames: tuple[int, ...] = (4,)
    height: int = 24
    width: int = 32
    has_trajectories: bool = True
    faults: dict[int, str] = field(default_factory=dict)

    def rows(self, shard):
        for number in range(shard, self.num_samples, self.num_shards):
            yield {"key": f"clip-{number:04d}", "number": number}

    def read(self, row):
        number = row["number"]
        fault = self.faults.get(number)
        if fault == "bad":
            raise SampleError(f"number {number} is bad")
        if fault == "bug":
            raise KeyError("a bug")
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        while fault == "hang":
            time.sleep(1)
        return self.clip(number)

    def clip(self, number):
        """The clip of a record: regions of distinct colours that move, and their trajectories."""
        random = np.random.default_rng(number)
        num_frames = self.frames[number % len(self.frames)]
        ids = random.integers(0, 6, (num_frames, self.height // 4, self.width // 4)).repeat(4, 1).repeat(4, 2)
        colors = random.integers(0, 256, (6, 3), dtype=np.uint8)
        trajectories = Trajectories.from_labels(ids) if self.has_trajectories else None
        captions = tuple(f"caption {word} of {number}" for word in ("one", "two", "three")[: 1 + number % 3])
        return Clip(f"clip-{number:04d}", colors[ids], trajectories, captions)


def word_tokenizer():
    """A tokenizer that knows the words of the captions above, and any other as [UNK]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "caption", "of", "one", "two", "three", *map(str, range(100))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
