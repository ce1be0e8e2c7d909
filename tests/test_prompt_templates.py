"""Prompts around class names, and class names in words."""

import pytest

from trajvit.evaluation.prompt_templates import (
    TEMPLATES,
    check_templates,
    fill,
    spoken_class_name,
)


@pytest.mark.parametrize("name", TEMPLATES)
def test_sets_are_legal_and_without_doubles(name):
    templates = TEMPLATES[name]
    check_templates(templates)
    assert len(set(templates)) == len(templates)
    assert len(templates) >= (1 if name == "plain" else 10)


def test_names_are_put_in_as_they_are():
    assert fill(["a {}.", "{}"], "dog {0} {}") == ("a dog {0} {}.", "dog {0} {}")


@pytest.mark.parametrize("template", ["a dog", "{} and {}", "a {0}", "a {name}", "a {}{", "{{}}", "", 7])
def test_templates_have_one_place_for_the_name(template):
    with pytest.raises(ValueError, match="expected a text with one") as caught:
        fill(["{}", template], "dog")
    assert repr(template) in str(caught.value)


@pytest.mark.parametrize("templates", [[], (), "a {}"])
def test_templates_come_in_a_sequence(templates):
    with pytest.raises(ValueError, match="at least one, in a sequence"):
        check_templates(templates)


def test_empty_names_are_refused():
    with pytest.raises(ValueError, match="class name ' '"):
        fill(["{}"], " ")


@pytest.mark.parametrize(
    ("dataset", "name", "spoken"),
    [
        ("ucf101", "ApplyEyeMakeup", "apply eye makeup"),
        ("ucf101", "YoYo", "yo yo"),
        ("ucf101", "TVShow", "tv show"),
        ("ucf101", "Archery", "archery"),
        ("ssv2", "Putting [something] on [something]", "putting something on something"),
        ("ssv2", "Showing something, then hiding it", "showing something, then hiding it"),
        ("imagenet", "tench, Tinca tinca", "tench"),
        ("imagenet", "great_white_shark", "great white shark"),
        ("kinetics400", "playing American football", "playing American football"),
        ("kinetics400", "shooting_goal_(soccer)", "shooting goal (soccer)"),
        ("mine", " two  words ", "two words"),
    ],
)
def test_class_names_in_words(dataset, name, spoken):
    assert spoken_class_name(dataset, name) == spoken
