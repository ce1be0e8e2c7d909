"""A tokenizer whose vocabulary is every word of the synthetic captions, made in memory."""

import re

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from trajvit.processing.scene_materials import MATERIALS
from trajvit.processing.scene_shapes import NAMED_SHAPES

from .synthetic_captions import BACKGROUNDS, CAMERAS, FRAMES, JOINTS, PRONOUN, VERBS
from .synthetic_world import COLORS, SIZES

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_LENGTH = 77

_ARTICLES = ("a", "an")
_PLACEHOLDER = re.compile(r"\{\w+\}")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def vocabulary() -> tuple[str, ...]:
    """Every word and sign that a caption of the synthetic world can have, sorted, without the special tokens."""
    templates = [*BACKGROUNDS.values(), *CAMERAS.values(), *FRAMES.values(), PRONOUN, *_ARTICLES]
    templates += [form for forms in (*VERBS.values(), *JOINTS.values()) for form in forms]
    templates += [*COLORS, *NAMED_SHAPES, *MATERIALS, *SIZES]
    return tuple(sorted({word for text in templates for word in _TOKEN.findall(_PLACEHOLDER.sub(" ", text))}))


def synthetic_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words in lower case that frames a text as BERT's does, [CLS] text [SEP].

    It can be saved and loaded as any other tokenizer; words that the synthetic captions lack become [UNK].
    """
    words = {word: number for number, word in enumerate((*SPECIAL_TOKENS, *vocabulary()))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, words[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()  # For its spaces: none before a comma.
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **named)
