"""What captions of the synthetic world say is true in the pixels, and what hard negatives say is not."""

from collections import Counter
from itertools import pairwise

import cv2
import numpy as np
import pytest
from caption_claims import read_caption
from pixel_evidence import is_true

from trajvit.processing.scene_textures import BACKGROUND_PHOTOS, load_photo
from trajvit.training.synthetic_captions import caption, captions, hard_negatives
from trajvit.training.synthetic_rendering import Rendered, render_sample
from trajvit.training.synthetic_stories import Action, Shot, Story, Thing, draw_story
from trajvit.training.synthetic_world import CAMERAS, CAPTION_STYLES, MOTIONS, WorldOptions

PHOTO_WORDS = {
    "an astronaut": "astronaut.png",
    "a brick wall": "brick.png",
    "a cat": "chelsea.png",
    "a cup of coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "a slice of tissue": "ihc.png",
    "a motorcycle": "motorcycle_left.png",
    "a rocket": "rocket.jpg",
}


def holds(text: str, rendered: Rendered) -> bool:
    bounds = [0, *rendered.cuts, len(rendered.frames)]
    claims = read_caption(text)
    assert len(claims) == len(bounds) - 1
    spans = [slice(start, stop) for start, stop in pairwise(bounds)]
    return all(
        is_true(claim, rendered.frames[span], rendered.masks[span]) for claim, span in zip(claims, spans, strict=True)
    )


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("media", ["video", "image"])
def test_captions_are_true_and_hard_negatives_are_not(split, media):
    wrong = Counter()
    for index in range(45):
        rendered = render_sample(index, split, media, 16 if media == "video" else 1, WorldOptions())
        texts = captions(rendered.story, CAPTION_STYLES)
        for text in texts:
            assert holds(text, rendered), (index, text)
        for style in CAPTION_STYLES:
            negatives = hard_negatives(rendered.story, style)
            for kind, text in negatives.items():
                assert text not in texts
                if style == "short":
                    assert not holds(text, rendered), (index, kind, text)
                    wrong[kind] += 1
    assert wrong["color"] == 45
    assert wrong["motion"] > 25
    if media == "video":
        assert min(wrong["order"], wrong["role"]) > 8


@pytest.mark.parametrize("motion", MOTIONS[:-1])
def test_each_motion_is_seen_as_what_it_is_called(motion):
    """Every motion is in the captions of some clip, and there it is true."""
    found = 0
    for index in range(1000, 1600):
        rendered_options = WorldOptions(num_objects=(1, 2), cut_share=0.0)
        story = _story(index, rendered_options)
        if any(action.motion == motion for action in story.shots[0].actions):
            rendered = render_sample(index, "train", "video", 20, rendered_options)
            assert holds(caption(rendered.story, "short"), rendered)
            found += 1
        if found == 2:
            return
    pytest.fail(f"{motion} is in none of 600 clips")


def _story(index: int, options: WorldOptions) -> Story:
    # Without its pictures a story is cheap; it is drawn before them.
    return draw_story(np.random.default_rng([options.seed, 0, 0, index]), "train", 20, options)


def test_the_camera_moves_as_it_is_said():
    """By optical flow of the background: it goes to the left where the camera pans to the right."""
    signs = {"pans left": (0, 1), "pans right": (0, -1), "tilts up": (1, 1), "tilts down": (1, -1)}
    seen = Counter()
    options = WorldOptions(cut_share=0.0, moving_camera_share=0.6)
    for index in range(400):
        (shot,) = _story(index, options).shots
        # A sky has nothing that a flow could follow, and cells look like each other.
        if seen[shot.camera] == 3 or shot.background in ("rocket.jpg", "ihc.png"):
            continue
        seen[shot.camera] += 1
        rendered = render_sample(index, "train", "video", 20, options)
        (claim,) = read_caption(caption(rendered.story, "full"))
        shift, growth = _background_motion(rendered)
        if claim.camera is None:
            assert np.abs(shift).max() < 3
            assert abs(growth) < 0.03
        elif claim.camera in ("zooms in", "zooms out"):
            assert growth > 0.2 if claim.camera == "zooms in" else growth < -0.2
        else:
            axis, sign = signs[claim.camera]
            assert sign * shift[axis] > 0.25 * 112, (index, shift)
            assert abs(shift[1 - axis]) < 6
    assert seen == dict.fromkeys(CAMERAS, 3)


def _background_motion(rendered: Rendered) -> tuple[np.ndarray, float]:
    """Total shift in pixels (x, y) and growth (log) of what is behind the things."""
    shift, growth = np.zeros(2), 0.0
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in rendered.frames]
    for frame in range(len(grey) - 1):
        free = cv2.erode((rendered.masks[frame] == 0).astype(np.uint8), np.ones((9, 9)))
        corners = cv2.goodFeaturesToTrack(grey[frame], 150, 0.02, 4, mask=free)
        moved, status, _ = cv2.calcOpticalFlowPyrLK(grey[frame], grey[frame + 1], corners, None, winSize=(11, 11))
        followed = status.ravel() == 1
        change, _ = cv2.estimateAffinePartial2D(corners[followed], moved[followed], ransacReprojThreshold=1.0)
        middle = np.array([55.5, 55.5])
        shift += change[:, :2] @ middle + change[:, 2] - middle
        growth += np.log(np.hypot(change[0, 0], change[1, 0]))
    return shift, growth


def test_the_background_is_the_one_that_is_named():
    assert set(PHOTO_WORDS.values()) == set(BACKGROUND_PHOTOS)
    named = set()
    for index in range(40):
        rendered = render_sample(index, "test", "image", 1, WorldOptions(image_size=64))
        (claim,) = read_caption(caption(rendered.story, "full"))
        named.add(claim.background)
        free = rendered.masks[0] == 0
        error = {
            word: min(
                np.abs(_middle_of(load_photo(name)[:, ::side]).astype(int) - rendered.frames[0])[free].mean()
                for side in (1, -1)
            )
            for word, name in PHOTO_WORDS.items()
        }
        assert min(error, key=lambda word: error[word]) == claim.background, index
    assert len(named) >= 8


def _middle_of(photo: np.ndarray) -> np.ndarray:
    """The middle two thirds of the photo's shorter side, as a picture of 64 pixels."""
    side = min(photo.shape[:2]) / 1.5
    top, left = (round((extent - side) / 2) for extent in photo.shape[:2])
    return cv2.resize(photo[top : top + round(side), left : left + round(side)], (64, 64), interpolation=cv2.INTER_AREA)


def test_a_colour_is_swapped_between_things_and_across_a_cut():
    things = (Thing("disc", "red", "plain", "small"), Thing("ring", "blue", "brick", "large"))
    shots = [Shot(8, (thing,), (), (Action("left", 0),), False, "grass.png", "still") for thing in things]
    both = Shot(8, things, (), (Action("left", 0), Action("up", 1)), True, "grass.png", "still")
    assert (
        hard_negatives(Story(tuple(shots)))["color"] == "a blue disc moves left, then after a cut a red ring moves left"
    )
    assert hard_negatives(Story((both,))) == {
        "motion": "first a red disc moves right, then a blue ring moves up",
        "color": "first a blue disc moves left, then a red ring moves up",
        "order": "first a blue ring moves up, then a red disc moves left",
    }
    struck = Shot(8, things, (), (Action("pass_front", 1, 0),), False, "grass.png", "still")
    assert hard_negatives(Story((struck,)), "paraphrase") == {
        "motion": "we see that a blue ring goes past a red disc on the far side",
        "color": "we see that a red ring goes past a blue disc on the near side",
        "role": "we see that a red disc goes past a blue ring on the near side",
    }
