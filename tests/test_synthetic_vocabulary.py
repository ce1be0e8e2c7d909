"""The synthetic tokenizer knows all words of all captions and no others, and can be saved as any tokenizer."""

import re
from itertools import product

import numpy as np
import pytest
from transformers import AutoTokenizer

from trajvit.processing.scene_materials import MATERIALS
from trajvit.processing.scene_textures import BACKGROUND_PHOTOS
from trajvit.training.synthetic_captions import caption, hard_negatives
from trajvit.training.synthetic_stories import Action, Shot, Story, Thing, draw_story
from trajvit.training.synthetic_vocabulary import SPECIAL_TOKENS, synthetic_tokenizer, vocabulary
from trajvit.training.synthetic_world import CAMERAS, CAPTION_STYLES, MOTIONS, WorldOptions


@pytest.fixture(scope="module")
def tokenizer():
    return synthetic_tokenizer()


@pytest.fixture(scope="module")
def texts() -> list[str]:
    texts = []
    for index in range(400):
        for num_frames in (16, 1):
            story = draw_story(np.random.default_rng(index), ("train", "test")[index % 2], num_frames, WorldOptions())
            texts += [caption(story, style) for style in CAPTION_STYLES]
            texts += hard_negatives(story, "paraphrase").values()
    return texts


def test_the_vocabulary_is_what_captions_say(tokenizer, texts):
    said = {word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)}
    assert said == set(vocabulary())
    assert len(tokenizer) == len(said) + len(SPECIAL_TOKENS)
    ids = tokenizer(texts[:300]).input_ids
    assert not any(tokenizer.unk_token_id in row for row in ids)


def test_texts_are_framed_padded_and_read_back(tokenizer):
    batch = tokenizer(["A red DISC moves left, then", "a star"], padding=True, return_tensors="pt")
    assert batch.input_ids.shape == (2, 9)
    assert batch.attention_mask.sum(1).tolist() == [9, 4]
    assert tokenizer.convert_ids_to_tokens(batch.input_ids[1, :5].tolist()) == ["[CLS]", "a", "star", "[SEP]", "[PAD]"]
    assert tokenizer.decode(batch.input_ids[0], skip_special_tokens=True) == "a red disc moves left, then"
    assert tokenizer.pad_token_id == 0
    assert tokenizer("a quartz disc").input_ids[2] == tokenizer.unk_token_id
    pair = tokenizer.convert_ids_to_tokens(tokenizer("a star", "a disc").input_ids)
    assert pair == ["[CLS]", "a", "star", "[SEP]", "a", "disc", "[SEP]"]


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "an orange heart passes behind a blue ring, with a cat in the background"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert (loaded.model_max_length, loaded.mask_token, len(loaded)) == (77, "[MASK]", len(tokenizer))


def test_the_longest_caption_fits(tokenizer, texts):
    """Captions of two shots of two things each, of three things, and of a pair, in all that makes them longer."""

    def shot(things: int, motions: tuple[str, ...], background: str, camera: str, in_turn: bool = False) -> Shot:
        thing = Thing("disc", "orange", MATERIALS[0], "large")
        target = 1 if motions[0] in ("pass_front", "pass_behind", "hit") else None
        actions = tuple(Action(motion, number % things, target) for number, motion in enumerate(motions))
        return Shot(8, (thing,) * things, (), actions, in_turn, background, camera)

    def longest(shots: list[Shot]) -> tuple[Shot, ...]:
        return tuple(
            max(shots, key=lambda one: len(tokenizer(caption(Story((one,)), style)).input_ids))
            for style in CAPTION_STYLES
        )

    alone = [motion for motion in MOTIONS if motion not in ("pass_front", "pass_behind", "hit", "struck")]
    by_motion = [shot(1, (motion,), "grass.png", "still") for motion in alone]
    worst = {one.actions[0].motion for one in longest(by_motion)}
    scenes = [("ihc.png", "zoom_out"), *product(BACKGROUND_PHOTOS, CAMERAS)]
    worst_scene = longest([shot(1, ("left",), *scene) for scene in scenes])[1]
    place = (worst_scene.background, worst_scene.camera)
    stories = [Story((shot(2, motions, *place),) * 2) for motions in product(worst, repeat=2)]
    stories += [Story((shot(3, motions, *place),)) for motions in product(worst, repeat=3)]
    stories += [Story((shot(2, motions, *place, in_turn=True),)) for motions in product(worst, repeat=2)]
    stories += [Story((shot(2, (motion,), *place),)) for motion in ("pass_front", "pass_behind", "hit")]
    lengths = [len(tokenizer(caption(story, style)).input_ids) for story in stories for style in CAPTION_STYLES]
    assert max(lengths) <= 77
    assert max(len(row) for row in tokenizer(texts).input_ids) <= max(lengths)
