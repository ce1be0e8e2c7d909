"""Sentences around class names for zero-shot classification, and class names as a sentence has them."""

import re
from collections.abc import Callable, Sequence

TEMPLATES: dict[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "video_actions": (
        "{}",
        "a video of a person {}.",
        "a video that shows {}.",
        "a short clip of someone {}.",
        "someone is {}.",
        "people {}.",
        "in this video a person is {}.",
        "this is what {} looks like.",
        "footage in which somebody is {}.",
        "an example of {}, filmed.",
        "a recording of the action {}.",
        "a scene with a person who is {}.",
    ),
    "objects": (
        "{}",
        "a picture of a {}.",
        "an image that shows the {}.",
        "a snapshot of one {}.",
        "a sharp photograph of a {}.",
        "a blurred photograph of a {}.",
        "a {} seen from nearby.",
        "a {} in the distance.",
        "a {} in its surroundings.",
        "several of the kind {}.",
        "part of a {}.",
        "a drawing of a {}.",
        "there is a {} in this picture.",
    ),
}
"""Sets of templates by name; each has one `{}`, where the class's name goes."""


def check_templates(templates: Sequence[str]) -> None:
    """Raises `ValueError` that names the template unless there is one at least, and each has one `{}` exactly."""
    if isinstance(templates, str) or not templates:
        raise ValueError(f"templates are {templates!r}; expected at least one, in a sequence")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1 or re.search(r"[{}]", template.replace("{}", "")):
            raise ValueError(f"template {template!r}; expected a text with one {{}}, and no other braces")


def fill(templates: Sequence[str], class_name: str) -> tuple[str, ...]:
    """The prompts of a class, one for each template. Raises `ValueError` as `check_templates`, or for an empty name."""
    check_templates(templates)
    if not class_name.strip():
        raise ValueError(f"class name {class_name!r}; expected a text that is not empty")
    return tuple(template.replace("{}", class_name) for template in templates)


def spoken_class_name(dataset: str, class_name: str) -> str:
    """A class's name in words.

    Args:
        dataset: `ucf101` (`ApplyEyeMakeup` becomes `apply eye makeup`), `ssv2` (`Putting [something] down` loses its
            brackets and its capital), `imagenet` (of `tench, Tinca tinca` the first name stays), or any other.
        class_name: As the data set writes it.

    Returns:
        The name with blanks for underscores and single blanks between its words.
    """
    words = _SPOKEN.get(dataset, str)(class_name)
    return " ".join(words.replace("_", " ").split())


def _apart(name: str) -> str:
    """The words of a name in which each starts with a capital."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).lower()


def _without_brackets(name: str) -> str:
    name = name.replace("[", "").replace("]", "")
    return name[:1].lower() + name[1:]


def _first_synonym(name: str) -> str:
    return name.split(",")[0]


_SPOKEN: dict[str, Callable[[str], str]] = {
    "ucf101": _apart,
    "ssv2": _without_brackets,
    "imagenet": _first_synonym,
}
