"""Search by text, and the small trained model that the package brings for it."""

import json

import numpy as np
import pytest
import torch
from evaluated_models import make_contrastive, make_processor, moving_square
from PIL import Image
from typer.testing import CliRunner

from trajvit import demo, search_demo
from trajvit.modeling_trajvit import TrajViTForContrastive
from trajvit.processing.processing_trajvit import TrajViTProcessor
from trajvit.processing.trajectories import Trajectories
from trajvit.search import Similarities, search
from trajvit.search_demo import CHECKPOINT, draw_search, run_search
from trajvit.training.synthetic import SyntheticSource


@pytest.fixture(scope="module")
def shipped():
    return TrajViTForContrastive.from_pretrained(CHECKPOINT).eval(), TrajViTProcessor.from_pretrained(CHECKPOINT)


def test_similarities_are_cosines_of_the_models_features():
    model, processor = make_contrastive("trajvit"), make_processor("trajvit")
    ids = np.zeros((4, 32, 32), np.int32)
    ids[:, :16, :16] = 1
    two = ids.copy()
    two[1:, 20:] = 2
    inputs = processor(
        videos=[moving_square(number, 4) for number in (0, 1)],
        trajectories=[Trajectories(ids), Trajectories(two)],
    )
    texts = ["a red star", "a blue ring moves left"]
    found = search(model, processor, texts, inputs)
    with torch.no_grad():
        outputs = model(**processor(text=texts), **inputs)
        features, _ = model.get_trajectory_features(**inputs)
    assert torch.allclose(found.videos, outputs.text_embeds @ outputs.video_embeds.T, atol=1e-5)
    expected = outputs.text_embeds @ torch.nn.functional.normalize(features[1], dim=-1).T
    assert torch.allclose(found.trajectories[:, 1], expected, atol=1e-5)
    assert found.trajectories[:, 0, 1].tolist() == [-torch.inf] * 2
    assert found.best_trajectory(0, 0) == 1
    assert found.best_videos(1, 5) == found.videos[1].argsort(descending=True).tolist()


def test_a_video_without_trajectories_has_no_best():
    none = Similarities(torch.zeros(1, 2), torch.full((1, 2, 0), -torch.inf))
    assert none.best_trajectory(0, 1) is None
    assert Similarities(torch.zeros(1, 1), torch.full((1, 1, 3), -torch.inf)).best_trajectory(0, 0) is None


@pytest.mark.parametrize("texts", ["a red star", []])
def test_texts_come_in_a_list(texts):
    with pytest.raises(ValueError, match="expected at least one, in a list"):
        search(make_contrastive("trajvit"), make_processor("trajvit"), texts, {})


def test_the_shipped_model_is_small_and_says_what_it_is(shipped):
    files = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert sum(files.values()) < 12e6
    assert set(files) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    card = (CHECKPOINT / "README.md").read_text()
    for heading in ("## What it was trained on", "## Results", "## What it is not good for", "## License"):
        assert heading in card
    model, processor = shipped
    assert f"{model.num_parameters() / 1e6:.1f} M parameters" in card
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert "auto_map" not in config
    assert processor.video_processor.size["height"] == model.config.vision_config.image_size


def test_the_shipped_model_finds_held_out_clips_better_than_chance(shipped):
    model, processor = shipped
    size, count = model.config.vision_config.image_size, 60
    source = SyntheticSource("held", "test", "video", count, 8, {"image_size": size, "seed": 11})
    clips = [source.read({"key": str(index), "index": index}) for index in range(count)]
    inputs = processor(videos=[clip.frames for clip in clips], trajectories=[clip.trajectories for clip in clips])
    found = search(model, processor, [clip.captions[1] for clip in clips], inputs)
    own = found.videos.diagonal()[:, None]
    ranks = (found.videos >= own).sum(1).double()
    # At random the mean is 30.5, with a deviation of 2.2.
    assert ranks.mean() < 24


def test_the_demo_searches_clips_and_draws_what_it_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(search_demo, "NUM_CLIPS", 5)
    monkeypatch.setattr(search_demo, "QUERIES", (1, 3))
    run = run_search()
    assert run.frames.shape[0] == len(run.trajectories) == 5
    assert run.similarities.videos.shape == (2, 5)
    assert all(1 <= run.rank(text) <= 5 for text in range(2))
    draw_search(run, tmp_path / "search.png")
    assert Image.open(tmp_path / "search.png").size[0] > 600
    demo.summarize_search(run, tmp_path)


def test_the_default_demo_shows_the_search_in_its_report(tmp_path, monkeypatch):
    import typer

    monkeypatch.setattr(search_demo, "NUM_CLIPS", 4)
    monkeypatch.setattr(search_demo, "QUERIES", (0, 2))
    # The clip of the demo is long; what is tested here needs no long one.
    from trajvit.processing.drawing import write_video

    monkeypatch.setattr(demo, "write_demo_clip", lambda path: write_video(path, moving_square(3, 12, 96), fps=12))
    app = typer.Typer()
    app.command()(demo.main)
    done = CliRunner().invoke(app, ["--output", str(tmp_path), "--num-frames", "4"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "search.png").stat().st_size > 5000
    assert "Search by text" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "searched by a tiny trained model" in done.output
