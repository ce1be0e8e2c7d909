"""What a run publishes: a folder that loads everywhere, its card, and the upload."""

import json
import os

import huggingface_hub
import pytest
import torch
import yaml
from hub_endpoint import hub_endpoint
from huggingface_hub import ModelCard, constants
from safetensors.torch import save_file
from tiny_run import make_run_config
from transformers import AutoModel, pipeline
from transformers.dynamic_module_utils import get_relative_import_files
from without_trajvit import run_without_trajvit

from trajvit import TrajViTForContrastive, TrajViTProcessor
from trajvit.training.acceleration import build_accelerator, full_state_dict
from trajvit.training.config_file import ConfigError
from trajvit.training.model_building import build_model
from trajvit.training.moving_average import MovingAverage
from trajvit.training.publishing import check_hub, plain_model, push, save_model
from trajvit.training.run_config import HubSettings
from trajvit.training.run_state import RunState

SMALL = {"image_size": 32, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
MODEL = {
    "tower": "vit3d",
    "size": "tiny",
    "vision": {**SMALL, "patch_size": 8},
    "text": TEXT,
    "text_checkpoint": None,
    "pretrained_backbone": False,
}
METRICS = {"txt2vid_R@1": 12.5, "vid2txt_median_rank": 7.0}
TEXTS = ["a red circle", "a blue square moves"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder, its configuration, and the model and processor that it is of."""
    folder = tmp_path_factory.mktemp("published")
    held_out = {"name": "held out", "source": "table", "path": "some/dataset", "batch_size": 4, "num_samples": 8}
    streams = [
        {"name": "videos", "source": "panda70m", "path": "/data/of/someone/*.tar", "batch_size": 4, "num_samples": 8},
        {"name": "images", "source": "table", "path": "user/images", "media": "image", "batch_size": 8},
    ]
    config = make_run_config(
        folder / "run", model=MODEL, data=streams, evaluation={"data": held_out}, hub={"model_id": "someone/model"}
    )
    model, processor = build_model(config.model, 4, seed=0)
    state = RunState(step=123, samples={"videos": 400, "images": 92}, skipped={"videos": 3}, metrics=METRICS)
    return save_model(folder / "model", model.eval(), processor, config, state), config, model, processor


def make_inputs(processor):
    video = torch.randint(0, 256, (4, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    return processor(videos=[video, video[::-1].copy()], text=TEXTS, return_tensors="pt")


def outputs_of(model, processor):
    with torch.no_grad():
        return model(**make_inputs(processor)).logits_per_video


def test_the_folder_loads_as_it_was(published):
    folder, _, model, processor = published
    expected = outputs_of(model, processor)
    again = TrajViTProcessor.from_pretrained(folder)
    for loader in (TrajViTForContrastive, AutoModel):
        assert torch.equal(outputs_of(loader.from_pretrained(folder).eval(), again), expected)


def test_the_folder_has_weights_code_processor_and_card_alone(published):
    folder, *_ = published
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.safetensors", "config.json", "processor_config.json", "tokenizer.json", "README.md"}
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    for entry in auto_map.values():
        main_file = folder / f"{entry.split('.')[0]}.py"
        assert all(os.path.exists(path) for path in get_relative_import_files(main_file))


def test_the_card_says_what_the_hub_and_readers_need(published):
    folder, config, model, _ = published
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag in ("feature-extraction", "zero-shot-image-classification")
    assert {"video-text", "trajvit", "vit3d"} <= set(card.data.tags)
    text = card.content
    assert 'from_pretrained("someone/model")' in text
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters" in text
    assert "123 steps on 492 samples" in text
    assert "| videos | panda70m | video | 16 | 4 | 400 | 3 |" in text
    assert "| images | table user/images | image | 1 | 8 | 92 | 0 |" in text
    assert "Zero-shot retrieval on table some/dataset" in text
    assert "| txt2vid_R@1 | 12.5 |" in text
    # Where things lie on someone's machine is not in it.
    assert "/data/of/someone" not in text
    assert str(config.output_dir) not in text
    settings = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert settings["optimizer"]["learning_rate"] == 1e-2
    assert settings["model"]["vision"]["patch_size"] == 8


def test_a_plain_model_is_the_trained_one_or_its_average(published, tmp_path):
    _, config, model, processor = published
    accelerator = build_accelerator(config)
    prepared = accelerator.prepare(model)
    states = torch.get_rng_state()
    weights = full_state_dict(accelerator, prepared)
    assert weights.keys() == model.state_dict().keys()
    plain = plain_model(model, weights, config)
    assert torch.equal(torch.get_rng_state(), states)
    assert torch.equal(outputs_of(plain, processor), outputs_of(model, processor))
    assert not {tensor.data_ptr() for tensor in plain.parameters()} & {p.data_ptr() for p in model.parameters()}
    average = MovingAverage(model, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
        average.update(model)
        plain = plain_model(model, average.state_dict(), config)
        for parameter in model.parameters():
            parameter -= 1
    torch.testing.assert_close(plain.text_projection.weight, model.text_projection.weight + 0.5)


@pytest.fixture
def endpoint(monkeypatch):
    """A Hub on this machine, with a token and the network."""
    with hub_endpoint() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # The client that transformers keeps once it is made, which then knows the endpoint of that time.
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield server


def test_a_folder_is_uploaded_as_one_commit(published, endpoint):
    folder, *_ = published
    hub = HubSettings("someone/model")
    check_hub(hub)
    url = push(folder, hub, 100)
    assert endpoint.private == {"someone/model": True}
    assert endpoint.tokens == {"Bearer hf_of_a_test"}
    ((message, files),) = endpoint.commits["someone/model"]
    assert message == "Model after 100 steps"
    assert url.endswith(f"{1:040x}")
    expected = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {name: files[name] for name in expected} == expected
    # A repository that is there already gets another commit.
    push(folder, HubSettings("someone/model", private=False), 200)
    assert [message for message, _ in endpoint.commits["someone/model"]][1:] == ["Model after 200 steps"]
    assert endpoint.private == {"someone/model": True}
    push(folder, HubSettings("someone/public", private=False), 200)
    assert endpoint.private["someone/public"] is False


USE_ELSEWHERE = """
from safetensors.torch import load_file
from transformers import pipeline

data = load_file(sys.argv[1])
classifier = pipeline("zero-shot-video-classification", model="someone/model", trust_remote_code=True)
assert all(type(part).__module__.startswith("transformers_modules.someone.") for part in (
    classifier, classifier.model, classifier.processor, classifier.processor.video_processor
))
(answers,) = classifier([data["video"].numpy()], candidate_labels=["a red circle", "a blue square moves"])
print(*(f"{answer['label']}: {answer['score']:.4f}" for answer in answers), sep="; ")
extractor = pipeline("video-feature-extraction", model="someone/model", trust_remote_code=True)
torch.testing.assert_close(extractor(data["video"], return_tensors=True), data["features"], rtol=0, atol=1e-5)
"""


def test_a_pushed_repository_works_where_trajvit_is_not_installed(published, endpoint, tmp_path):
    folder, _, model, processor = published
    here = pipeline("zero-shot-video-classification", model=str(folder))
    here.push_to_hub("someone/model")
    names = set(endpoint.files("someone/model"))
    assert {"model.safetensors", "processor_config.json", "tokenizer.json", "video_pipelines.py"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    inputs = make_inputs(processor)
    with torch.no_grad():
        outputs = model(**inputs)
    video = torch.randint(0, 256, (4, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_file({"video": video, "features": outputs.video_embeds[0].clone()}, tmp_path / "data.safetensors")
    home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": endpoint.url, "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    result = run_without_trajvit(
        USE_ELSEWHERE, tmp_path / "data.safetensors", folder=tmp_path, environment={**environment, **home}
    )
    assert result.returncode == 0, result.stderr[-3000:]
    best = sorted(zip(outputs.logits_per_video[0].softmax(-1).tolist(), TEXTS, strict=True), reverse=True)
    assert result.stdout.strip() == "; ".join(f"{text}: {score:.4f}" for score, text in best)


def test_what_could_not_be_uploaded_is_an_error_before_training(endpoint, monkeypatch):
    for model_id in ("model", "someone/", "/model", "a/b/c"):
        with pytest.raises(ConfigError, match=rf"hub\.model_id='{model_id}': expected user/name"):
            check_hub(HubSettings(model_id))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"needs the network: expected HF_HUB_OFFLINE not to be set"):
        check_hub(HubSettings("someone/model"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)
    assert huggingface_hub.get_token() is None
    with pytest.raises(ConfigError, match=r"hub\.model_id='someone/model' needs a token: expected HF_TOKEN"):
        check_hub(HubSettings("someone/model"))
    assert not endpoint.private
